package serve

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestWatched changes a file: it is read again, at most once each recheck, and one that cannot be
// read leaves the value of before and is logged once.
func TestWatched(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	errBad := errors.New("bad text")
	synctest.Test(t, func(t *testing.T) {
		var out syncBuffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		w := &watched[string]{files: []string{"", file}}
		reads := 0
		get := func() (string, error) {
			return w.get(log, func() (string, error) {
				reads++
				data, err := os.ReadFile(file)
				if string(data) == "bad" {
					err = errBad
				}
				return string(data), err
			})
		}
		if _, err := get(); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a missing file: %v", err)
		}
		write("bad")
		if _, err := get(); err != errBad {
			t.Errorf("a file that was never good: %v", err)
		}
		for _, step := range []struct {
			name, text string
			wait       time.Duration
			want       string
			reads      int
		}{
			{"first", "one", 0, "one", 1},
			{"too early to look", "three", recheck / 2, "one", 0},
			{"later", "", recheck / 2, "three", 1},
			{"unchanged", "", recheck, "three", 0},
			{"bad", "bad", recheck, "three", 1},
			{"still bad", "", recheck, "three", 0},
			{"good again", "seven", recheck, "seven", 1},
		} {
			time.Sleep(step.wait)
			if step.text != "" {
				write(step.text)
			}
			before := reads
			if got, err := get(); err != nil || got != step.want || reads-before != step.reads {
				t.Errorf("%s: %q, %v after %d reads, want %q after %d", step.name, got, err, reads-before, step.want, step.reads)
			}
			if got := w.last(); got != step.want {
				t.Errorf("%s: last is %q", step.name, got)
			}
		}
		if n := strings.Count(out.String(), errBad.Error()); n != 1 {
			t.Errorf("the bad file was logged %d times:\n%s", n, out.String())
		}
		if n := strings.Count(out.String(), `msg="read again"`); n != 2 {
			t.Errorf("reading again was logged %d times:\n%s", n, out.String())
		}
	})
}
