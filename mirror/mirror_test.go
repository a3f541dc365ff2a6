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

func TestGoAtLeast(t *testing.T) {
	for v, want := range map[string]bool{"1.17": true, "1.16": false, "1.9": false, "1.21.3": true, "1.22rc1": true, "1.17beta1": false, "1.17rc1": false, "1.18rc1": true, "2": true} {
		if got := goAtLeast(v, "1.17"); got != want {
			t.Errorf("goAtLeast(%q) = %v", v, got)
		}
	}
}
