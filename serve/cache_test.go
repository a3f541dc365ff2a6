package serve

import (
	"fmt"
	"testing"
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
