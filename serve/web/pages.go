package web

import (
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"sync"
)

// maxPages bounds the cache of pages in bytes: some hundred pages of packages.
const maxPages = 6 << 20

// pages keeps the pages that were asked for last. It is safe for concurrent use; the zero value is
// empty.
type pages struct {
	mu     sync.Mutex // guards what follows
	byKey  map[string]*list.Element
	recent list.List // of *kept, the most recent first
	bytes  int
}

type kept struct {
	key string
	*entry
}

func (k *kept) cost() int { return len(k.key) + len(k.zipped) + len(k.plain) + 500 }

// get returns the page of a key, nil for none.
func (p *pages) get(key string) *entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	el := p.byKey[key]
	if el == nil {
		return nil
	}
	p.recent.MoveToFront(el)
	return el.Value.(*kept).entry
}

// put adds a page, and drops old ones to make room.
func (p *pages) put(key string, e *entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byKey == nil {
		p.byKey = make(map[string]*list.Element)
	}
	k := &kept{key, e}
	if p.byKey[key] != nil || k.cost() > maxPages/4 {
		return
	}
	p.byKey[key] = p.recent.PushFront(k)
	for p.bytes += k.cost(); p.bytes > maxPages; {
		old := p.recent.Remove(p.recent.Back()).(*kept)
		delete(p.byKey, old.key)
		p.bytes -= old.cost()
	}
}

// tag returns the ETag of a page, a weak one: it is that of the page in gzip, too.
func tag(data []byte) string {
	sum := sha256.Sum256(data)
	return `W/"` + hex.EncodeToString(sum[:12]) + `"`
}
