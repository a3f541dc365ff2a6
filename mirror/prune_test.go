package mirror

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/mod/module"
)

// TestPruneKeepsProofs checks that Prune keeps the proofs of what it keeps, however old they are.
func TestPruneKeepsProofs(t *testing.T) {
	w := newWorld(t)
	c, err := w.sync("example.com/hello@v1.1.0")
	if err != nil {
		t.Fatal(err)
	}
	keep := make(map[module.Version]bool)
	for _, v := range c.Versions {
		keep[v.Mod] = true
	}
	old := time.Now().Add(-100 * 24 * time.Hour)
	err = filepath.WalkDir(w.dir, func(name string, _ fs.DirEntry, err error) error {
		return cmp.Or(err, os.Chtimes(name, old, old))
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(t.Context(), w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Prune(t.Context(), 90*24*time.Hour, keep, false)
	m.Close()
	if err != nil || len(p.Versions) > 0 {
		t.Fatal(p, err)
	}
	dir := project(t, "module x\n\ngo 1.20\n\nrequire example.com/hello v1.1.0\n", "x.go", "package x\n")
	if out, err := w.goFrom(dir, "file://"+w.dir, "mod", "download", "example.com/hello@v1.1.0"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
