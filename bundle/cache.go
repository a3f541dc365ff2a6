package bundle

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

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/bucket"
	"github.com/modmirror/modmirror/internal/safefile"
)

const (
	// MinCache is the least size of a cache in bytes: the largest module zip, 500 MiB (x/mod/zip), and some room beside it.
	MinCache = 1 << 30

	// maxCached is how many contents a cache has at most, so that its list stays below some 30 MiB.
	maxCached = 100_000

	// cachedOverhead is what a content costs on a disk besides its bytes, about.
	cachedOverhead = 4 << 10

	// maxFetches is how many contents are fetched at once.
	maxFetches = 32
)

// A Cache keeps contents of bundles that are in a bucket on the local disk, by SHA-256: the most recently used ones, of a bounded size. Who asks for
// what is being fetched already reads along. A content is handed out to its end when its SHA-256 is right, and
// one from an earlier process is hashed again before that. It is safe for concurrent use, and has its folder for itself.
//
//	XX/SHA256       contents
//	.modmirror-tmp- what is being fetched
type Cache struct {
	dir    string
	max    int64
	unlock func() error

	mu      sync.Mutex
	entries map[[32]byte]*cached
	recent  list.List     // of *cached that are whole; the one used last first
	bytes   int64         // of all entries, those that are being fetched included
	room    chan struct{} // closed when there may be more room
	slots   chan struct{} // held by fetches

	hits, fetches, failures int64
}

// CacheStats is what a cache has and did since it was opened.
type CacheStats struct {
	Bytes, Contents         int64
	Hits, Fetches, Failures int64 // contents that were there, that were fetched, and that could not be
}

// A cached is a content that is there or on its way.
type cached struct {
	sum  [32]byte
	size int64 // of the content, in bytes

	// Guarded by the cache's mu.
	el      *list.Element // nil while it is on its way, and when it was dropped
	users   int           // who has it open
	dropped bool          // its bytes count until the last user has closed it
	gone    chan struct{} // has a value when, before it is fetched, nobody waits for it any more

	verifying sync.Mutex // held by who hashes what an earlier process left

	// Guarded by mu.
	mu   sync.Mutex
	file *os.File      // while it is on its way, and for who read along
	n    int64         // bytes that are there
	more chan struct{} // closed when n grew, or when done
	done bool
	err  error    // when done: why it is not there
	id   Identity // when done: of the file that was verified; nil for one that an earlier process left
}

// OpenCache opens a cache of at most size bytes in a folder, which is made when it is not there.
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
	unlock, err := safefile.Lock(ctx, filepath.Join(dir, storeLock), func(h string) { holder = h; cancel() })
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

// Close ends the use of the folder. What was cached stays.
func (c *Cache) Close() error { return c.unlock() }

// Stats returns what the cache has.
func (c *Cache) Stats() CacheStats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return CacheStats{c.bytes, int64(len(c.entries)), c.hits, c.fetches, c.failures}
}

// scan finds what is there, the oldest first.
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

func (e *cached) cost() int64 { return e.size + cachedOverhead }

func (c *Cache) path(sum [32]byte) string {
	name := hex.EncodeToString(sum[:])
	return filepath.Join(c.dir, name[:2], name)
}

// evict removes what was used least recently, and is not open, until there is room for more bytes, and reports whether there is. c.mu is held.
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

// drop removes an entry; who has it open reads on. c.mu is held.
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

// free counts the bytes of an entry no more. c.mu is held.
func (c *Cache) free(e *cached) {
	c.bytes -= e.cost()
	c.roomy()
}

// roomy wakes who waits for room. c.mu is held.
func (c *Cache) roomy() {
	close(c.room)
	c.room = make(chan struct{})
}

// A Fetched is a content of a cache that is there or on its way, open for reading.
type Fetched struct {
	c    *Cache
	e    *cached
	file *os.File // nil when the entry's is read along
}

// fetch returns the content of f, which is in m from an offset. ctx is of who asks: a fetch that has begun goes on when it is done, for others.
func (c *Cache) fetch(ctx context.Context, f index.File, m *Medium, offset int64) (*Fetched, error) {
	if cost := f.Size + cachedOverhead; cost > c.max {
		return nil, fmt.Errorf("%s has %d bytes, more than the cache may have: give it a larger --cache-size", f.Path, f.Size)
	}
	for {
		c.mu.Lock()
		e := c.entries[f.SHA256]
		if e != nil && e.size != f.Size { // of one SHA-256 there are no two sizes: the disk has a part
			c.drop(e)
			e = nil
		}
		if e == nil {
			if !c.evict(f.Size + cachedOverhead) {
				room := c.room
				c.mu.Unlock()
				select { // for others to be fetched or closed
				case <-room:
					continue
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			e = &cached{sum: f.SHA256, size: f.Size, more: make(chan struct{}), gone: make(chan struct{}, 1), users: 2} // the fetch and who asks
			c.entries[f.SHA256] = e
			c.bytes += e.cost()
			c.fetches++
			c.mu.Unlock()
			go c.run(e, f, m.remote, offset)
			return &Fetched{c, e, nil}, nil
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
		if err == nil { // it is not what it was: drop it, and fetch it anew
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

// open opens an entry; it returns nothing when the content is not there or not right any more.
func (c *Cache) open(e *cached) (*Fetched, error) {
	e.mu.Lock()
	done := e.done
	e.mu.Unlock()
	if !done {
		return &Fetched{c, e, nil}, nil
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
	return &Fetched{c, e, file}, nil
}

// verify reports whether an open file is the one that was verified, or is right when an earlier process left it.
func (e *cached) verify(file *os.File) (bool, error) {
	e.verifying.Lock()
	defer e.verifying.Unlock()
	now, err := identityOf(file)
	if err != nil {
		return false, err
	}
	e.mu.Lock()
	id := e.id
	e.mu.Unlock()
	if id != nil {
		return id.Same(now), nil
	}
	sum, err := hashOf(file)
	if err != nil || sum != e.sum {
		return false, err
	}
	if again, err := identityOf(file); err != nil || !now.Same(again) {
		return false, err
	}
	e.mu.Lock()
	e.id = now
	e.mu.Unlock()
	return true, nil
}

// run fetches an entry.
func (c *Cache) run(e *cached, f index.File, from *bucket.Object, offset int64) {
	err := c.begin(e)
	if err == nil {
		err = c.copy(e, f, from, offset)
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

// errGivenUp is the error of a fetch that nobody waits for.
var errGivenUp = errors.New("nobody waits for it any more")

// begin takes a slot, unless nobody waits for the content any more.
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

// copy fetches the content into a file, verifies it, and gives the file its name.
func (c *Cache) copy(e *cached, f index.File, from *bucket.Object, offset int64) (err error) {
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
	src := from.NewReader(ctx, offset, e.size)
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
			return fmt.Errorf("fetching %s: %w", f.Path, err)
		}
		sum.Write(buf[:k])
		if _, err := temp.WriteAt(buf[:k], n); err != nil {
			return fmt.Errorf("the cache: %w", err)
		}
		n += int64(k)
		e.grow(n)
	}
	if [32]byte(sum.Sum(nil)) != f.SHA256 {
		return &NotVerifiedError{f.Path, errHash}
	}
	if err := os.MkdirAll(filepath.Dir(c.path(e.sum)), 0o700); err != nil {
		return fmt.Errorf("the cache: %w", err)
	}
	if err := os.Rename(temp.Name(), c.path(e.sum)); err != nil { // it is hashed after a crash, so nothing is synced
		return fmt.Errorf("the cache: %w", err)
	}
	id, err := identityOf(temp.File)
	e.mu.Lock()
	e.id = id
	e.mu.Unlock()
	return err
}

// attend gives up a fetch that nobody waits for any more, and that nothing came of lately: one that
// goes on is kept for the next who asks, and one that hangs must not keep a slot.
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

// attendInterval is how long a fetch may hang that nobody waits for.
const attendInterval = time.Second

// grow tells readers that n bytes are there.
func (e *cached) grow(n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n = n
	close(e.more)
	e.more = make(chan struct{})
}

// release ends one use of an entry.
func (c *Cache) release(e *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e.users--; e.users > 0 {
		select {
		case e.gone <- struct{}{}: // perhaps: the fetch looks
		default: // there is no fetch, or it knows
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

// Close ends the use.
func (f *Fetched) Close() error {
	defer f.c.release(f.e)
	if f.file != nil {
		return f.file.Close()
	}
	return nil
}

// wait waits until n bytes are there, or all of it is there and verified when n is beyond its size, and returns the file.
func (f *Fetched) wait(ctx context.Context, n int64) (*os.File, error) {
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

// ReadAt reads bytes, which it waits for. They are verified when Verify returned no error since.
func (f *Fetched) ReadAt(ctx context.Context, p []byte, at int64) (int, error) {
	file, err := f.wait(ctx, min(at+int64(len(p)), f.e.size))
	if err != nil {
		return 0, err
	}
	return file.ReadAt(p, at)
}

// Verify waits until all is there, and reports whether it is, and what was read is what was verified.
func (f *Fetched) Verify(ctx context.Context) error {
	file, err := f.wait(ctx, f.e.size+1)
	if err != nil {
		return err
	}
	now, err := identityOf(file)
	f.e.mu.Lock()
	id := f.e.id
	f.e.mu.Unlock()
	if err == nil && !id.Same(now) {
		err = fmt.Errorf("the cache %s changed while a file was sent", f.c.dir)
	}
	return err
}
