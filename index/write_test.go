package index

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSameRowsSameBytes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/one")
	write(t, dir+"/two")
	one, err1 := os.ReadFile(dir + "/one")
	two, err2 := os.ReadFile(dir + "/two")
	if err1 != nil || err2 != nil || string(one) != string(two) {
		t.Errorf("%d and %d bytes differ (%v, %v)", len(one), len(two), err1, err2)
	}
}

func TestCreateRefusesToReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	write(t, path)
	if w, err := Create(path); err == nil {
		w.Close()
		t.Error("Create over an index succeeded")
	}
}

// TestFirstError expects that a Writer does nothing after an error, and that Close returns it.
func TestFirstError(t *testing.T) {
	w, err := Create(filepath.Join(t.TempDir(), "x"))
	if err != nil {
		t.Fatal(err)
	}
	w.Head(Head{Size: 1, Hash: "x", Note: "x"})
	w.Head(Head{Size: 1, Hash: "y", Note: "y"}) // sizes are unique
	if n := w.Bundle(Bundle{Name: "team"}); n != 0 {
		t.Errorf("bundle %d after an error", n)
	}
	if err := w.Close(); err == nil || !strings.Contains(err.Error(), "writing index: UNIQUE constraint failed: head.size") {
		t.Errorf("Close: %v", err)
	}
	w.Discard()
}

// TestDiscard expects that a discarded index has no rows.
func TestDiscard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w.Head(Head{Size: 1, Hash: "x", Note: "x"})
	w.Discard()
	w.Discard()
	if x, err := Open(path); err == nil {
		for h := range x.Heads(ctx) {
			t.Errorf("it has head %d", h.Size)
		}
		x.Close()
	}
}
