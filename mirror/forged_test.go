package mirror

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/testproxy"
)

var forgedText = module.Version{Path: "example.com/text", Version: "v1.1.0"}

// zipOf returns a valid zip of a module version with files: name, content, name, content, …
func zipOf(t *testing.T, m module.Version, files ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for i := 0; i < len(files); i += 2 {
		to, err := w.Create(m.String() + "/" + files[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := to.Write([]byte(files[i+1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// forgedZip returns a zip of example.com/text v1.1.0 with other contents.
func forgedZip(t *testing.T, goMod string) []byte {
	t.Helper()
	return zipOf(t, forgedText, "go.mod", goMod, "text.go", "package text\n\nfunc init() { evil() }\n")
}

func hashOfZip(t *testing.T, data []byte) string {
	t.Helper()
	z, err := h1.Zip(context.Background(), make(h1.Limiter, 1), forgedText, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return z.H1
}

// TestForgedFiles has the upstream serve valid files that differ from the logged ones, and records
// that match them.
func TestForgedFiles(t *testing.T) {
	const text = "example.com/text/@v/v1.1.0"
	lookup := "sumdb/" + testproxy.DBName + "/lookup/example.com/text@v1.1.0"
	for name, forge := range map[string]func(*testproxy.Server, string){
		"zip": func(s *testproxy.Server, mod string) { s.Override(text+".zip", content(string(forgedZip(t, mod)))) },
		"zip with its go.mod": func(s *testproxy.Server, mod string) {
			s.Override(text+".zip", content(string(forgedZip(t, mod+"\n// other\n"))))
		},
		"zip and its record": func(s *testproxy.Server, mod string) {
			data := forgedZip(t, mod)
			good, err := s.Get(lookup)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.SplitAfter(string(good), "\n")
			lines[1] = "example.com/text v1.1.0 " + hashOfZip(t, data) + "\n"
			s.Override(text+".zip", content(string(data)))
			s.Override(lookup, content(strings.Join(lines, "")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			mod, err := w.up.Get(text + ".mod")
			if err != nil {
				t.Fatal(err)
			}
			forge(w.up, string(mod))
			if _, err := w.sync("example.com/text@v1.1.0"); !errors.Is(err, proof.ErrMismatch) {
				t.Errorf("got %v, want a mismatch", err)
			}
			if _, err := os.Stat(filepath.Join(w.dir, text+".zip")); err == nil {
				t.Error("the zip is in the mirror directory")
			}
		})
	}
}

// TestForgedModCache checks that a valid zip in the module cache, with its hash beside it, does not
// count against the checksum database.
func TestForgedModCache(t *testing.T) {
	w := newWorld(t)
	const text = "example.com/text/@v/v1.1.0"
	mod, err := w.up.Get(text + ".mod")
	if err != nil {
		t.Fatal(err)
	}
	w.cfg.ModCache = t.TempDir()
	file := filepath.Join(w.cfg.ModCache, "cache", "download", text)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	data := forgedZip(t, string(mod))
	for ext, content := range map[string][]byte{".zip": data, ".ziphash": []byte(hashOfZip(t, data)), ".mod": mod} {
		if err := os.WriteFile(file+ext, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c, err := w.sync("example.com/text@v1.1.0")
	if err != nil || len(zips(c)) != 1 {
		t.Fatal(c, err)
	}
	got, err := os.ReadFile(filepath.Join(w.dir, text+".zip"))
	if err != nil || hashOfZip(t, got) == hashOfZip(t, data) {
		t.Errorf("the forged zip was taken (%v)", err)
	}
}

// TestForkInAnAnswer has a signed head in the answer to one lookup that is of another history.
func TestForkInAnAnswer(t *testing.T) {
	w := newWorld(t)
	lookup := "sumdb/" + testproxy.DBName + "/lookup/example.com/text@v1.1.0"
	good, err := w.up.Get(lookup)
	if err != nil {
		t.Fatal(err)
	}
	rec, head, err := w.cfg.DB.ParseLookup(forgedText, good)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(w.up.SignerKey)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{head.N, head.N - 1} { // the newest, and an older one
		tree := tlog.Tree{N: n, Hash: head.Hash}
		tree.Hash[3] ^= 1
		msg, err := note.Sign(&note.Note{Text: string(tlog.FormatTree(tree))}, signer)
		if err != nil {
			t.Fatal(err)
		}
		w.up.Override(lookup, content(string(rec.Lookup(proof.Head{Tree: tree, Note: msg}))))
		if _, err := w.sync("example.com/text@v1.1.0"); !errors.Is(err, proof.ErrMismatch) {
			t.Errorf("a head of %d: %v, want a mismatch", n, err)
		}
	}
}

// TestForgedToolchain checks that toolchains are verified like other modules: a forged zip or
// record is refused.
func TestForgedToolchain(t *testing.T) {
	m := module.Version{Path: "golang.org/toolchain", Version: "v0.0.1-go1.99.1.linux-amd64"}
	file := "golang.org/toolchain/@v/" + m.Version + ".zip"
	const text = "module golang.org/toolchain\n"
	forged := zipOf(t, m, "go.mod", text, "bin/go", text, "VERSION", text)
	w := newWorld(t)
	w.up.Override(file, content(string(forged)))
	if _, err := w.sync(m.String()); !errors.Is(err, proof.ErrMismatch) {
		t.Errorf("got %v, want a mismatch", err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, file)); err == nil {
		t.Error("the zip is in the mirror directory")
	}
	w.up.Override(file, nil)
	if c, err := w.sync(m.String()); err != nil || len(zips(c)) != 1 {
		t.Errorf("the logged one: %v, %v", c, err)
	}
}
