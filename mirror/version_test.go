package mirror

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/testproxy"
)

// TestMismatch has an upstream that answers with the wrong bytes.
func TestMismatch(t *testing.T) {
	const text = "example.com/text/@v/v1.1.0"
	lookup := "sumdb/" + testproxy.DBName + "/lookup/example.com/text@v1.1.0"
	dir := project(t, head+"require example.com/hello v1.1.0\n")
	for name, spoil := range map[string]func(*testing.T, *testproxy.Server){
		"zip of another version": func(t *testing.T, s *testproxy.Server) {
			s.Override(text+".zip", copyOf(t, s, "example.com/text/@v/v1.0.0.zip"))
		},
		"not a zip": func(t *testing.T, s *testproxy.Server) { s.Override(text+".zip", content("hello")) },
		"other go.mod": func(t *testing.T, s *testproxy.Server) {
			s.Override(text+".mod", content("module example.com/text\n\ngo 1.19\n"))
		},
		"info of another version": func(t *testing.T, s *testproxy.Server) { s.Override(text+".info", content(`{"Version":"v1.0.0"}`)) },
		"record of another version": func(t *testing.T, s *testproxy.Server) {
			s.Override(lookup, copyOf(t, s, strings.Replace(lookup, "v1.1.0", "v1.0.0", 1)))
		},
		"record with another hash": func(t *testing.T, s *testproxy.Server) {
			good, err := s.Get(lookup)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.SplitAfter(string(good), "\n")
			lines[1] = "example.com/text v1.1.0 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
			s.Override(lookup, content(strings.Join(lines, "")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			spoil(t, w.up)
			_, err := w.sync(dir)
			if !errors.Is(err, proof.ErrMismatch) || !strings.Contains(err.Error(), "example.com/text") {
				t.Errorf("got %v, want a mismatch that names example.com/text", err)
			}
			for _, f := range []string{".zip", ".mod", ".info"} {
				if strings.Contains(name, "record") || strings.HasPrefix(name, map[string]string{".zip": "zip", ".mod": "other", ".info": "info"}[f]) {
					if _, err := os.Stat(filepath.Join(w.dir, text+f)); err == nil {
						t.Errorf("%s is in the mirror directory", text+f)
					}
				}
			}
		})
	}
}

func TestGoSumMismatch(t *testing.T) {
	w := newWorld(t)
	dir := project(t, head+"require example.com/text v1.1.0\n", "go.sum", "example.com/text v1.1.0 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
	if _, err := w.sync(dir); !errors.Is(err, proof.ErrMismatch) || !strings.Contains(err.Error(), "go.sum says") {
		t.Errorf("got %v, want a mismatch with go.sum", err)
	}
	// A private module is verified by go.sum alone. Its file goes to quarantine when go.sum
	// disagrees.
	dir = project(t, head+"require corp.example/secret v1.0.0\n", "go.sum", "corp.example/secret v1.0.0 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
	if _, err := w.sync(dir); !errors.Is(err, proof.ErrMismatch) {
		t.Errorf("private: got %v, want a mismatch with go.sum", err)
	}
	if q, err := filepath.Glob(w.dir + "/quarantine/*.reason"); err != nil || len(q) != 1 {
		t.Errorf("quarantine holds %q, %v", q, err)
	}
}

// TestModOfAnotherModule checks that a go.mod that graph loading cannot use is compared with the
// checksum database first.
func TestModOfAnotherModule(t *testing.T) {
	for _, text := range []string{"module example.com/other\n", "require ("} {
		w := newWorld(t)
		w.up.Override("example.com/text/@v/v1.1.0.mod", content(text))
		if _, err := w.sync(project(t, head+"require example.com/text v1.1.0\n")); !errors.Is(err, proof.ErrMismatch) {
			t.Errorf("got %v, want a mismatch", err)
		}
	}
}

func TestOldHashOfMadeUpGoMod(t *testing.T) {
	w := newWorld(t)
	if _, err := w.sync(project(t, head+"require example.com/text v1.1.0\n", "go.sum", "example.com/text v1.1.0/go.mod h1:G7mAYYxgmS0lVkHyy2hEOLQCFB0DlQFTMLWggykrydY=\n")); err != nil {
		t.Error(err)
	}
}
