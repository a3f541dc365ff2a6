package mirror

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/testproxy"
)

// TestPrune removes versions that nobody has used for long, and what nothing needs any more.
func TestPrune(t *testing.T) {
	w := newWorld(t)
	if _, err := w.sync("example.com/text@v1.0.0", "example.com/text@v1.1.0", "example.com/old@v0.1.0"); err != nil {
		t.Fatal(err)
	}
	m := w.open()
	wanted, err := m.Wanted(t.Context(), job(t, "example.com/text@v1.1.0"))
	if err != nil || len(wanted) != 1 {
		t.Fatal(wanted, err)
	}
	if _, err := m.Wanted(t.Context(), job(t, "example.com/deep@v1.0.0")); err == nil || !strings.Contains(err.Error(), "deep@v1.0.0 is not in the mirror directory") {
		t.Errorf("a version that is not there: %v", err)
	}
	keep := map[module.Version]bool{wanted[0]: true}
	if err := os.MkdirAll(filepath.Join(w.dir, quarantineDir), 0o755); err != nil {
		t.Fatal(err)
	}
	evidence := filepath.Join(w.dir, quarantineDir, "evidence")
	if err := os.WriteFile(evidence, []byte("evidence"), 0o644); err != nil {
		t.Fatal(err)
	}
	if p, err := m.Prune(t.Context(), time.Hour, keep, false); err != nil || len(p.Versions) != 0 || p.Bytes != 0 {
		t.Errorf("nothing is old: %+v, %v", p, err)
	}
	would, err := m.Prune(t.Context(), -time.Hour, keep, true)
	if err != nil || len(would.Versions) != 2 || would.Bytes == 0 {
		t.Fatalf("%+v, %v", would, err)
	}
	did, err := m.Prune(t.Context(), -time.Hour, keep, false)
	if diff := gocmp.Diff(would, did); err != nil || diff != "" {
		t.Errorf("%v (-dry run +run):\n%s", err, diff)
	}
	if list, err := os.ReadFile(filepath.Join(w.dir, "example.com/text/@v/list")); err != nil || string(list) != "v1.1.0\n" {
		t.Errorf("list %q, %v", list, err)
	}
	for name, stays := range map[string]bool{
		"example.com/text/@v/v1.1.0.zip": true, "example.com/text/@v/v1.1.0.hashes": true, "example.com/text/@v/v1.0.0.zip": false,
		"example.com/text/@v/v1.0.0.hashes": false, "example.com/text/@v/v1.0.0.mod": false, "example.com/old": false,
		"sumdb/" + testproxy.DBName + "/lookup/example.com/text@v1.0.0": false, "quarantine/evidence": false,
	} {
		if _, err := os.Stat(m.Path(name)); (err == nil) != stays {
			t.Errorf("%s: %v, want it there: %v", name, err, stays)
		}
	}
}

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
	// Of the newest version only the go.mod was wanted, for its retractions.
	if err != nil || fmt.Sprint(p.Versions) != "[example.com/hello@v1.2.0]" {
		t.Fatal(p, err)
	}
	dir := project(t, "module x\n\ngo 1.20\n\nrequire example.com/hello v1.1.0\n", "x.go", "package x\n")
	if out, err := w.goFrom(dir, "file://"+w.dir, "mod", "download", "example.com/hello@v1.1.0"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
