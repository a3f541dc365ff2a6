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

// TestAskedOnce checks that a cold sync asks for each file once: graphs, newest versions, proofs and
// the bundle want some of them at the same time.
func TestAskedOnce(t *testing.T) {
	w := newWorld(t)
	before := w.up.Requests() // the world looked its records up
	if _, err := w.sync(project(t, head+"require (\n\texample.com/hello v1.1.0\n\texample.com/text v1.0.0\n)\n")); err != nil {
		t.Fatal(err)
	}
	asked := w.up.Requests()
	for path, n := range asked {
		if n -= before[path]; n > 1 {
			t.Errorf("%s was asked for %d times", path, n)
		}
	}
	if len(asked) < 10 {
		t.Errorf("only %d files were asked for", len(asked))
	}
}
