package serve

import (
	"container/list"
	"sync"
)

// cacheBytes bounds the cache of verified small bodies.
const cacheBytes = 12 << 20

// entryOverhead estimates the memory of an entry beside its path and data, in bytes.
const entryOverhead = 512

// cache keeps the most recently used verified small bodies, cacheBytes in all. It is safe for
// concurrent use; the zero value is empty.
type cache struct {
	mu      sync.Mutex               // guards what follows
	entries map[string]*list.Element // of *entry
	recent  list.List                // most recent first
	bytes   int
}

// cost returns the memory that an entry takes, in bytes.
func (e *entry) cost() int { return len(e.path) + len(e.data) + entryOverhead }

// get returns the entry of a path, nil for none.
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

// put adds an entry, unless its path has one already. It drops old entries to make room.
func (c *cache) put(e *entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = make(map[string]*list.Element)
	}
	if c.entries[e.path] != nil {
		return
	}
	c.entries[e.path] = c.recent.PushFront(e)
	for c.bytes += e.cost(); c.bytes > cacheBytes; {
		old := c.recent.Remove(c.recent.Back()).(*entry)
		delete(c.entries, old.path)
		c.bytes -= old.cost()
	}
}
