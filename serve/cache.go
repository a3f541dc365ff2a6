package serve

import (
	"container/list"
	"sync"
)

// entryOverhead is what an entry costs besides its path and data, in bytes, about.
const entryOverhead = 512

// cache keeps verified small bodies, the most recently used ones, cacheBytes in all.
type cache struct {
	mu      sync.Mutex
	entries map[string]*list.Element // of *entry
	recent  list.List                // most recent first
	bytes   int
}

func (e *entry) cost() int { return len(e.path) + len(e.data) + entryOverhead }

func (c *cache) get(path string) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	el := c.entries[path]
	if el == nil {
		return nil
	}
	c.recent.MoveToFront(el)
	return el.Value.(*entry)
}

func (c *cache) put(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = make(map[string]*list.Element)
	}
	if c.entries[e.path] != nil {
		return // another request was faster
	}
	c.entries[e.path] = c.recent.PushFront(e)
	for c.bytes += e.cost(); c.bytes > cacheBytes; {
		old := c.recent.Remove(c.recent.Back()).(*entry)
		delete(c.entries, old.path)
		c.bytes -= old.cost()
	}
}

const (
	// immutable is for what can never change under its name; brief for what a new
	// bundle may change.
	immutable = "public, max-age=31536000, immutable"
	brief     = "public, max-age=60"
)

// cacheBytes bounds the cache of verified small files.
const cacheBytes = 12 << 20
