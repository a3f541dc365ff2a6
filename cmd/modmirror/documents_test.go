package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/modmirror/modmirror/review/provenance"
)

// TestOtherProvenance gives each command that shows or lets in a bundle one whose signed statement
// is about other files.
func TestOtherProvenance(t *testing.T) {
	tb := testbundle.Make(t, "../../testdata/mod", testbundle.WithoutLarge)
	tree, err := tb.Draft.TreeHash(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	in := &provenance.Inputs{Tree: tree, Sources: []string{"example.com/a"}}
	statement, err := provenance.Make(t.Context(), &tb.Draft.Manifest, in, tb.Key)
	if err != nil {
		t.Fatal(err)
	}
	m := newMachine(t, "GOSUMDB="+tb.GOSUMDB)
	m.trust(t, tb.Key.Verifier)
	if out, code := m.run("key", "new", "--name", "approver"); code != 0 {
		t.Fatal(out)
	}
	with := func(change func(*bundle.Contents)) string {
		return tb.Variant(t, func(c *bundle.Contents) {
			c.Reviews = []bundle.Source{bundle.DataSource(modpath.ReviewFile(modpath.Provenance), statement)}
			change(c)
		}).Path
	}
	good := with(func(*bundle.Contents) {})
	bad := with(func(c *bundle.Contents) { c.Versions, c.Sequence = c.Versions[1:], 8 }) // without the private module
	for _, args := range [][]string{
		{"verify"}, {"verify", "--deep"}, {"info"}, {"info", "--json"}, {"import", "--store", "store"}, {"sign"},
	} {
		out, code := m.run(append(args, bad)...)
		if code != exitNotVerified || !strings.Contains(out, "it is about other files") {
			t.Errorf("%s: %d\n%s", args, code, out)
		}
		if out, code := m.run(append(args, good)...); code != 0 {
			t.Errorf("%s of a good one: %d\n%s", args, code, out)
		}
	}
	if list, _ := filepath.Glob(filepath.Join(m.dir, "store", "*.tar")); len(list) != 1 {
		t.Errorf("in the store: %v", list)
	}
}
