package media

import (
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/modmirror/modmirror/internal/safefile"
)

const (
	// MinCache is the smallest cache in bytes: the largest module zip, 500 MiB (x/mod/zip), and as
	// much room beside it.
	MinCache = 1 << 30

	// maxCached is the largest number of contents, which keeps the list of them below some 30 MiB.
	maxCached = 100_000

	// cachedOverhead is about what a content costs on a disk besides its bytes.
	cachedOverhead = 4 << 10

	// maxFetches is the largest number of contents that are fetched at once.
	maxFetches = 32

	// cacheLock is the name of the lock file in the folder.
	cacheLock = "lock"
)

// A Cache keeps contents of objects on the local disk by their SHA-256: the most recently used
// ones, up to a size. Readers of a content that is being fetched read along. The last bytes of a
// content are given out only when its SHA-256 is right; contents of an earlier process are hashed
// again first. A Cache is safe for concurrent use and needs a folder of its own.
//
//	XX/SHA256       contents
//	.modmirror-tmp- contents that are being fetched
type Cache struct {
	dir    string
	max    int64
	unlock func() error

	mu      sync.Mutex // guards all below
	entries map[[32]byte]*cached
	recent  list.List     // of *cached that are whole, the most recently used first
	bytes   int64         // cost of all entries, fetches in progress included
	room    chan struct{} // closed when there may be more room
	slots   chan struct{} // each fetch holds one

	hits, fetches, failures int64
}

// CacheStats counts what a cache holds, and what it did since it was opened.
type CacheStats struct {
	Bytes, Contents         int64
	Hits, Fetches, Failures int64 // contents found, fetched, and not to be had
}

// A cached is an entry of the cache: a content that is whole or is being fetched.
type cached struct {
	sum  [32]byte
	size int64 // of the content, in bytes

	// Guarded by the cache's mu.
	el      *list.Element // nil while it is being fetched, and after it was dropped
	users   int           // readers, and the fetch itself
	dropped bool          // the last user frees its bytes
	gone    chan struct{} // gets a value when the last reader leaves before the fetch began

	verifying sync.Mutex // held while contents of an earlier process are hashed

	mu   sync.Mutex    // guards all below
	file *os.File      // open while it is being fetched, and until the last user leaves
	n    int64         // bytes fetched
	more chan struct{} // closed when n grew, or when done
	done bool
	err  error    // when done: why the fetch failed
	id   Identity // when done: of the verified file; nil for one that an earlier process left
}

// OpenCache opens a cache of at most size bytes in a folder, and makes the folder. No two processes
// can use one folder.
func OpenCache(dir string, size int64) (*Cache, error) {
	if size < MinCache {
		return nil, fmt.Errorf("a cache of %d bytes is too small: want %d at least, for the largest modules", size, MinCache)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := safefile.CheckOwner(dir); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	holder := ""
	unlock, err := safefile.Lock(ctx, filepath.Join(dir, cacheLock), func(h string) { holder = h; cancel() })
	if holder != "" {
		return nil, fmt.Errorf("the cache %s is used by %s: each server needs its own", dir, holder)
	}
	if err != nil {
		return nil, err
	}
	c := &Cache{dir: dir, max: size, unlock: unlock, entries: make(map[[32]byte]*cached), room: make(chan struct{}), slots: make(chan struct{}, maxFetches)}
	if err := cmp.Or(safefile.Sweep(dir), c.scan()); err != nil {
		unlock()
		return nil, err
	}
	return c, nil
}

// Close releases the folder. Contents stay in it.
func (c *Cache) Close() error { return c.unlock() }

// Stats returns the counters of the cache.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CacheStats{c.bytes, int64(len(c.entries)), c.hits, c.fetches, c.failures}
}

// scan enters the contents that an earlier process left, the oldest as the least recently used.
func (c *Cache) scan() error {
	type found struct {
		e    *cached
		time int64
	}
	var all []found
	err := filepath.WalkDir(c.dir, func(name string, d fs.DirEntry, err error) error {
		if name == c.dir && err == nil {
			return nil
		}
		if d != nil && d.IsDir() && (len(d.Name()) != 2 || filepath.Dir(name) != c.dir) { // such as lost+found
			return fs.SkipDir
		}
		if err != nil || d.IsDir() || filepath.Dir(name) == c.dir {
			return err
		}
		e := new(cached)
		st, err := d.Info()
		if err != nil {
			return err
		}
		if raw, err := hex.DecodeString(d.Name()); err != nil || len(raw) != len(e.sum) || !d.Type().IsRegular() {
			return nil // none of ours
		} else {
			e.sum = [32]byte(raw)
		}
		e.size, e.done, e.n, e.more = st.Size(), true, st.Size(), make(chan struct{})
		all = append(all, found{e, st.ModTime().UnixNano()})
		return nil
	})
	if err != nil {
		return err
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Compare(a.time, b.time) })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range all {
		c.entries[f.e.sum] = f.e
		f.e.el = c.recent.PushFront(f.e)
		c.bytes += f.e.cost()
	}
	c.evict(0)
	return nil
}

// cost returns how many bytes of the cache's size the entry takes.
func (e *cached) cost() int64 { return e.size + cachedOverhead }

// path returns the file of a content.
func (c *Cache) path(sum [32]byte) string {
	name := hex.EncodeToString(sum[:])
	return filepath.Join(c.dir, name[:2], name)
}

// evict drops the least recently used contents that nobody has open until more bytes fit, and
// reports whether they do. c.mu is held.
func (c *Cache) evict(more int64) bool {
	for el := c.recent.Back(); c.bytes+more > c.max || len(c.entries) >= maxCached; {
		if el == nil {
			return false
		}
		e := el.Value.(*cached)
		if el = el.Prev(); e.users == 0 {
			c.drop(e)
		}
	}
	return true
}

// drop removes an entry and its file. Readers that have it open read on. c.mu is held.
func (c *Cache) drop(e *cached) {
	if e.el != nil {
		c.recent.Remove(e.el)
		e.el = nil
	}
	if e.dropped {
		return
	}
	e.dropped = true
	if c.entries[e.sum] == e {
		delete(c.entries, e.sum)
		os.Remove(c.path(e.sum)) // what stays is found at the next start
	}
	if e.users == 0 {
		c.free(e)
	}
}

// free subtracts the bytes of an entry. c.mu is held.
func (c *Cache) free(e *cached) {
	c.bytes -= e.cost()
	c.roomy()
}

// roomy wakes the fetches that wait for room. c.mu is held.
func (c *Cache) roomy() {
	close(c.room)
	c.room = make(chan struct{})
}

// A fetched is a Content in a cache: one that is whole, or is being fetched.
type fetched struct {
	c    *Cache
	e    *cached
	file *os.File // nil when it reads along with the fetch
}

// fetch opens the content r of an object. Cancelling ctx ends this caller's wait. A fetch in
// progress continues for other callers.
func (c *Cache) fetch(ctx context.Context, r Ref, from Object) (*fetched, error) {
	if cost := r.Size + cachedOverhead; cost > c.max {
		return nil, fmt.Errorf("%s has %d bytes, more than the cache may have: give it a larger --cache-size", r.Path, r.Size)
	}
	for {
		c.mu.Lock()
		e := c.entries[r.SHA256]
		if e != nil && e.size != r.Size { // the disk has a part: no two sizes have one SHA-256
			c.drop(e)
			e = nil
		}
		if e == nil {
			if !c.evict(r.Size + cachedOverhead) {
				room := c.room
				c.mu.Unlock()
				select { // until others are fetched or closed
				case <-room:
					continue
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			e = &cached{sum: r.SHA256, size: r.Size, more: make(chan struct{}), gone: make(chan struct{}, 1), users: 2} // the fetch and this caller
			c.entries[r.SHA256] = e
			c.bytes += e.cost()
			c.fetches++
			c.mu.Unlock()
			go c.run(e, r, from)
			return &fetched{c, e, nil}, nil
		}
		e.users++
		c.hits++
		if e.el != nil {
			c.recent.MoveToFront(e.el)
		}
		c.mu.Unlock()
		got, err := c.open(e)
		if got != nil {
			return got, nil
		}
		if err == nil { // the file changed: fetch it again
			c.mu.Lock()
			c.drop(e)
			c.mu.Unlock()
		}
		c.release(e)
		if err != nil {
			return nil, err
		}
	}
}

// open opens an entry. It returns nil when the file is gone or wrong.
func (c *Cache) open(e *cached) (*fetched, error) {
	e.mu.Lock()
	done := e.done
	e.mu.Unlock()
	if !done {
		return &fetched{c, e, nil}, nil
	}
	file, err := os.Open(c.path(e.sum))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("the cache: %w", err)
	}
	ok, err := e.verify(file)
	if err != nil || !ok {
		file.Close()
		return nil, err
	}
	return &fetched{c, e, file}, nil
}

// verify reports whether file is the one that was verified. One that an earlier process left is
// hashed.
func (e *cached) verify(file *os.File) (bool, error) {
	e.verifying.Lock()
	defer e.verifying.Unlock()
	now, err := IdentityOf(file)
	if err != nil {
		return false, err
	}
	e.mu.Lock()
	id := e.id
	e.mu.Unlock()
	if id != nil {
		return id.Same(now), nil
	}
	sum, err := Hash(file)
	if err != nil || sum != e.sum {
		return false, err
	}
	if again, err := IdentityOf(file); err != nil || !now.Same(again) {
		return false, err
	}
	e.mu.Lock()
	e.id = now
	e.mu.Unlock()
	return true, nil
}

// run fetches an entry to its end.
func (c *Cache) run(e *cached, r Ref, from Object) {
	err := c.begin(e)
	if err == nil {
		err = c.copy(e, r, from)
		<-c.slots
	}
	c.mu.Lock()
	if err != nil {
		c.failures++
		c.drop(e)
	} else if !e.dropped {
		e.el = c.recent.PushFront(e)
		c.roomy()
	}
	c.mu.Unlock()
	e.mu.Lock()
	e.done, e.err = true, err
	close(e.more)
	e.mu.Unlock()
	c.release(e)
}

// errGivenUp is the error of a fetch without readers.
var errGivenUp = errors.New("nobody waits for it any more")

// begin takes a slot, unless all readers left.
func (c *Cache) begin(e *cached) error {
	for {
		have := false
		select {
		case c.slots <- struct{}{}:
			have = true
		case <-e.gone:
		}
		c.mu.Lock()
		alone := e.users == 1 // this fetch
		if alone {
			c.drop(e) // so that nobody finds it
		}
		c.mu.Unlock()
		switch {
		case have && !alone:
			return nil
		case have:
			<-c.slots
		}
		if alone {
			return errGivenUp
		}
	}
}

// copy fetches the content into a temporary file, verifies it, and renames the file.
func (c *Cache) copy(e *cached, r Ref, from Object) (err error) {
	temp, err := safefile.CreateIn(c.dir, c.path(e.sum), 0o600)
	if err != nil {
		return fmt.Errorf("the cache: %w", err)
	}
	defer func() {
		if err != nil {
			os.Remove(temp.Name()) // readers have it open
		}
	}()
	e.mu.Lock()
	e.file = temp.File
	e.mu.Unlock()
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	go c.attend(ctx, e, cancel)
	src := from.NewReader(ctx, r.Offset, e.size)
	defer src.Close()
	sum := sha256.New()
	buf := make([]byte, min(256<<10, e.size))
	for n := int64(0); n < e.size; {
		k, err := src.Read(buf)
		if k == 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			} else if ctx.Err() != nil {
				err = context.Cause(ctx)
			}
			return fmt.Errorf("fetching %s: %w", r.Path, err)
		}
		sum.Write(buf[:k])
		if _, err := temp.WriteAt(buf[:k], n); err != nil {
			return fmt.Errorf("the cache: %w", err)
		}
		n += int64(k)
		e.grow(n)
	}
	if [32]byte(sum.Sum(nil)) != r.SHA256 {
		return &NotVerifiedError{r.Path, ErrHash}
	}
	if err := os.MkdirAll(filepath.Dir(c.path(e.sum)), 0o700); err != nil {
		return fmt.Errorf("the cache: %w", err)
	}
	if err := os.Rename(temp.Name(), c.path(e.sum)); err != nil { // not synced: after a crash it is hashed again
		return fmt.Errorf("the cache: %w", err)
	}
	id, err := IdentityOf(temp.File)
	e.mu.Lock()
	e.id = id
	e.mu.Unlock()
	return err
}

// attend ends a fetch that has no readers and makes no progress, since it must not keep a slot. A
// fetch that makes progress continues for later readers.
func (c *Cache) attend(ctx context.Context, e *cached, giveUp context.CancelCauseFunc) {
	tick := time.NewTicker(attendInterval)
	defer tick.Stop()
	for before := int64(-1); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		e.mu.Lock()
		n := e.n
		e.mu.Unlock()
		c.mu.Lock()
		alone := e.users == 1 && n == before // this fetch
		if alone {
			c.drop(e) // so that nobody finds it
		}
		c.mu.Unlock()
		if alone {
			giveUp(errGivenUp)
			return
		}
		before = n
	}
}

// attendInterval is how long a fetch without readers may hang.
const attendInterval = time.Second

// grow tells readers that n bytes are fetched.
func (e *cached) grow(n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n = n
	close(e.more)
	e.more = make(chan struct{})
}

// release ends one user's use of an entry.
func (c *Cache) release(e *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.users--; e.users > 0 {
		select {
		case e.gone <- struct{}{}: // the fetch may be the last user: it looks
		default: // there is no fetch, or it was told
		}
		return
	}
	e.mu.Lock()
	if e.file != nil {
		e.file.Close()
		e.file = nil
	}
	e.mu.Unlock()
	if e.dropped {
		c.free(e)
	} else {
		c.roomy() // it can be evicted now
	}
}

// Close releases the content.
func (f *fetched) Close() error {
	defer f.c.release(f.e)
	if f.file != nil {
		return f.file.Close()
	}
	return nil
}

// wait waits until n bytes are fetched, and returns the file. n beyond the size waits until the
// whole content is verified.
func (f *fetched) wait(ctx context.Context, n int64) (*os.File, error) {
	if f.file != nil {
		return f.file, nil
	}
	for {
		f.e.mu.Lock()
		file, there, done, err, more := f.e.file, f.e.n >= n && f.e.file != nil, f.e.done, f.e.err, f.e.more
		f.e.mu.Unlock()
		if err != nil || there || done {
			return file, err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// ReadAt waits for a range and reads it.
func (f *fetched) ReadAt(ctx context.Context, p []byte, at int64) (int, error) {
	file, err := f.wait(ctx, min(at+int64(len(p)), f.e.size))
	if err != nil {
		return 0, err
	}
	return file.ReadAt(p, at)
}

// Verifies returns true.
func (f *fetched) Verifies() bool { return true }

// Identity returns nil: Check compares identities itself.
func (f *fetched) Identity() Identity { return nil }

// Check waits until the content is whole and verified, and compares the file with the verified one.
func (f *fetched) Check(ctx context.Context) error {
	file, err := f.wait(ctx, f.e.size+1)
	if err != nil {
		return err
	}
	now, err := IdentityOf(file)
	f.e.mu.Lock()
	id := f.e.id
	f.e.mu.Unlock()
	if err == nil && !id.Same(now) {
		err = fmt.Errorf("the cache %s changed while a file was sent", f.c.dir)
	}
	return err
}
