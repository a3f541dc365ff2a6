package mirror

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestWarmSyncAsksForNothing(t *testing.T) {
	w := newWorld(t)
	dir := project(t, head+"require example.com/hello v1.1.0\n")
	first, err := w.sync(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := w.up.Asked("example.com/text/@v/v1.1.0.zip")
	second, err := w.sync(dir)
	if err != nil {
		t.Fatal(err)
	}
	if after := w.up.Asked("example.com/text/@v/v1.1.0.zip"); after != before || before != 1 {
		t.Errorf("zip asked for %d times, then %d, want 1", before, after)
	}
	opts := gocmp.FilterPath(func(p gocmp.Path) bool { return p.String() == "Stats" || p.String() == "newestMods" }, gocmp.Ignore())
	if diff := gocmp.Diff(first, second, opts); diff != "" {
		t.Errorf("closure (-cold +warm):\n%s", diff)
	}
}
