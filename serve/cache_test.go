package serve

import (
	"fmt"
	"testing"

	"github.com/modmirror/modmirror/internal/modpath"
)

func TestCacheIsBounded(t *testing.T) {
	var c cache
	for i := range 10000 {
		c.put(&entry{path: fmt.Sprint(i), data: make([]byte, 10<<10)})
	}
	if c.bytes > cacheBytes || len(c.entries) != c.recent.Len() || len(c.entries) == 0 {
		t.Errorf("%d bytes in %d entries, %d in the list", c.bytes, len(c.entries), c.recent.Len())
	}
	if c.get("0") != nil || c.get("9999") == nil {
		t.Error("the oldest is still there, or the newest is not")
	}
}

// TestCacheControl expects immutable only for bodies that never change under their name.
func TestCacheControl(t *testing.T) {
	for _, k := range []modpath.Kind{modpath.Info, modpath.Mod, modpath.Zip} {
		if cacheControl(k, true) != immutable || cacheControl(k, false) != brief {
			t.Errorf("%v: %s for a version, %s for a query", k, cacheControl(k, true), cacheControl(k, false))
		}
	}
	if cacheControl(modpath.SumTile, false) != immutable {
		t.Error("a tile may change")
	}
	for _, k := range []modpath.Kind{modpath.List, modpath.Latest, modpath.SumLatest, modpath.SumLookup, modpath.Vuln, modpath.Self} {
		if cacheControl(k, true) != brief {
			t.Errorf("%v never changes", k)
		}
	}
}
