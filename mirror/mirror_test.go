package mirror

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

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
	if diff := gocmp.Diff(first, second, sameClosure); diff != "" {
		t.Errorf("closure (-cold +warm):\n%s", diff)
	}
}

// TestAskedOnce checks that a cold sync asks for each file once: graphs, newest versions, proofs
// and the bundle want some of them at the same time.
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

// TestRecent makes no request when all is pinned and an earlier sync has just asked for the rest.
func TestRecent(t *testing.T) {
	w := newWorld(t)
	dir := project(t, head+"require example.com/hello v1.1.0\n") // v1.2.0 is newer
	w.cfg.MaxAge = time.Hour
	first, err := w.sync(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := w.up.Requests()
	second, err := w.sync(dir)
	if err != nil {
		t.Fatal(err)
	}
	if after := w.up.Requests(); !maps.Equal(before, after) {
		t.Errorf("requests (-before +after):\n%s", gocmp.Diff(before, after))
	}
	if diff := gocmp.Diff(first, second, sameClosure); diff != "" {
		t.Errorf("closure (-first +second):\n%s", diff)
	}
	const list = "example.com/hello/@v/list"
	asks := func() int {
		before := w.up.Asked(list)
		if _, err := w.sync(dir); err != nil {
			t.Fatal(err)
		}
		return w.up.Asked(list) - before
	}
	name := filepath.Join(w.dir, recentFile)
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"damaged":         string(data[:len(data)/2]),
		"from the future": regexp.MustCompile(`"Asked":"20`).ReplaceAllString(string(data), `"Asked":"21`),
		"too old":         regexp.MustCompile(`"Asked":"20`).ReplaceAllString(string(data), `"Asked":"19`),
		"no version":      strings.ReplaceAll(string(data), `"v1.2.0"`, `"../../x"`),
	} {
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
		if n := asks(); n != 1 {
			t.Errorf("what is remembered is %s: %d requests for a list, want 1", what, n)
		}
	}
	w.cfg.MaxAge = 0
	if n := asks(); n != 1 {
		t.Errorf("with MaxAge 0: %d requests for a list, want 1", n)
	}
}
