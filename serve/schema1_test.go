package serve

import (
	"crypto/sha256"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// TestSchema1 serves a bundle with version 1 of the schema, made by an older modmirror, from a new
// copy of its index and from the one in the state folder.
func TestSchema1(t *testing.T) {
	const from = "../index/testdata/schema1"
	key, err := os.ReadFile(filepath.Join(from, "team.pub"))
	if err != nil {
		t.Fatal(err)
	}
	name, state := filepath.Join(t.TempDir(), "team.tar"), t.TempDir()
	testbundle.WriteFile(t, name, testbundle.Gunzip(t, filepath.Join(from, "team.tar.gz")))
	keyring := trust.NewKeyring(strings.TrimSpace(string(key)))
	for _, seen := range []bool{false, true} {
		b, err := bundle.Open(ctx, name, keyring, state)
		if err != nil {
			t.Fatal(err)
		}
		if b.Seen != seen {
			t.Errorf("seen is %v, want %v", b.Seen, seen)
		}
		b.Close()
	}
	v, err := store.OpenFiles(ctx, []string{name}, keyring, store.NoState())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	h := NewHandler(v, slog.New(slog.DiscardHandler), nil)
	ask := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/"+path, nil))
		return w
	}
	n := 0
	for f, err := range v.Lines[0].Index.Files(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Path == "README.txt" {
			continue
		}
		n++
		if w := ask(f.Path); w.Code != 200 || sha256.Sum256(w.Body.Bytes()) != f.SHA256 {
			t.Errorf("%s: %d, %d bytes", f.Path, w.Code, w.Body.Len())
		}
	}
	if n < 6 {
		t.Errorf("%d files", n)
	}
	if w := ask("example.com/one/@v/v1.1.0.zip"); w.Code != 404 || !strings.Contains(w.Body.String(), "carried: v1.0.0") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
