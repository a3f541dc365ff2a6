package bundle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
)

// TestHeldIsBounded holds back as many damages as may be, and one more, which waits.
func TestHeldIsBounded(t *testing.T) {
	var got []string
	h := newHeld(func(d Damage) { got = append(got, d.Path) })
	for i := range maxHeld {
		if !h.hold(t.Context(), Damage{Path: fmt.Sprintf("%04d", maxHeld-i)}) {
			t.Fatal("not held")
		}
	}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if h.hold(done, Damage{Path: "more"}) {
		t.Error("more are held")
	}
	waited := make(chan bool)
	go func() { waited <- h.hold(t.Context(), Damage{Path: "last"}) }()
	h.report(Damage{Path: "first"})
	h.release()
	if !<-waited {
		t.Error("the one that waited is lost")
	}
	if len(got) != maxHeld+2 || got[0] != "first" || got[len(got)-1] != "last" || !slices.IsSorted(got[1:maxHeld+1]) {
		t.Errorf("%d damages: %q", len(got), got)
	}
}

// TestSoundness waits for files, and tells damaged ones.
func TestSoundness(t *testing.T) {
	s := newSoundness()
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.wait(done, 1, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("a file that was not read: %v", err)
	}
	found := make(chan bool)
	go func() {
		sound, err := s.wait(t.Context(), 1, 100)
		found <- sound && err == nil
	}()
	s.pass(50, nil)
	s.pass(200, []int64{64, 130})
	if !<-found {
		t.Error("a file that was read is not sound")
	}
	for id, want := range map[int64]bool{1: true, 63: true, 64: false, 65: true, 130: false, 131: true, 5000: true} {
		if sound, err := s.wait(done, id, 200); sound != want || err != nil {
			t.Errorf("file %d: %v, %v", id, sound, err)
		}
	}
}
