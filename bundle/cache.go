package bundle

import (
	"cmp"
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/modmirror/modmirror/index"
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

	el *list.Element // nil while it is on its way; guarded by the cache's mu

	mu    sync.Mutex
	file  *os.File      // while it is on its way
	users int           // of file
	n     int64         // bytes that are there
	more  chan struct{} // closed when n grew, or when done
	done  bool
	err   error    // when done: why it is not there
	id    Identity // when done: of the file that was verified
}

// OpenCache opens a cache of at most size bytes in a folder, which is made when it is not there.
func OpenCache(dir string, size int64) (*Cache, error) {
	if size < MinCache {
		return nil, fmt.Errorf("a cache of %d bytes is too small: want %d at least, for the largest modules", size, MinCache)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if st, err := os.Stat(dir); err != nil {
		return nil, err
	} else if st.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("others may write to %s, which holds what was verified: run chmod 700 on it", dir)
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
		e.size, e.done, e.n = st.Size(), true, st.Size()
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

// onItsWay returns the entry of a content that is about to be fetched, for who asked.
func onItsWay(f index.File) *cached {
	return &cached{sum: f.SHA256, size: f.Size, more: make(chan struct{}), users: 2} // the fetch and who asked
}

func (e *cached) cost() int64 { return e.size + cachedOverhead }

func (c *Cache) path(sum [32]byte) string {
	name := hex.EncodeToString(sum[:])
	return filepath.Join(c.dir, name[:2], name)
}

// evict removes what was used least recently until there is room for more bytes, and reports whether there is. c.mu is held.
func (c *Cache) evict(more int64) bool {
	for c.bytes+more > c.max || len(c.entries) >= maxCached {
		last := c.recent.Back()
		if last == nil {
			return false
		}
		c.drop(last.Value.(*cached))
	}
	return true
}

// drop removes an entry; who has its file open reads on. c.mu is held.
func (c *Cache) drop(e *cached) {
	if e.el != nil {
		c.recent.Remove(e.el)
		e.el = nil
	}
	if c.entries[e.sum] == e {
		delete(c.entries, e.sum)
		c.bytes -= e.cost()
		os.Remove(c.path(e.sum)) // what stays is found at the next start
	}
	close(c.room)
	c.room = make(chan struct{})
}

// A Fetched is a content of a cache that is there or on its way, open for reading.
type Fetched struct {
	c    *Cache
	e    *cached
	file *os.File
}

// fetch returns the content of f, which is in m from an offset. ctx is of who asks: the fetch goes on when it is done, for others.
func (c *Cache) fetch(ctx context.Context, f index.File, m *Medium, offset int64) (*Fetched, error) {
	if cost := f.Size + cachedOverhead; cost > c.max {
		return nil, fmt.Errorf("%s has %d bytes, more than the cache may have: give it a larger --cache-size", f.Path, f.Size)
	}
	for {
		c.mu.Lock()
		e := c.entries[f.SHA256]
		if e == nil {
			if !c.evict(f.Size + cachedOverhead) {
				room := c.room
				c.mu.Unlock()
				select { // for others to be fetched, which makes them removable
				case <-room:
					continue
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			e = onItsWay(f)
			c.entries[f.SHA256] = e
			c.bytes += e.cost()
			c.fetches++
			c.mu.Unlock()
			return c.begin(e, f, func() (io.ReadCloser, error) { return m.remote.NewReader(context.Background(), offset, f.Size), nil })
		}
		if e.size != f.Size { // of one SHA-256 there are no two sizes: the disk has a part
			c.drop(e)
			c.mu.Unlock()
			continue
		}
		c.hits++
		if e.el != nil {
			c.recent.MoveToFront(e.el)
		}
		c.mu.Unlock()
		switch got, again, err := c.open(e, f); {
		case err != nil:
			return nil, err
		case !again:
			return got, nil
		}
	}
}

// open opens an entry; again says to look anew.
func (c *Cache) open(e *cached, f index.File) (got *Fetched, again bool, err error) {
	e.mu.Lock()
	if !e.done {
		defer e.mu.Unlock()
		e.users++
		return &Fetched{c, e, nil}, false, nil
	}
	verified := e.id
	e.mu.Unlock()
	file, err := os.Open(c.path(e.sum))
	if err != nil { // removed, by us or others
		c.mu.Lock()
		if c.entries[e.sum] == e {
			c.drop(e)
		}
		c.mu.Unlock()
		return nil, true, nil
	}
	if verified != nil {
		if now, err := (&Medium{files: []*os.File{file}}).Identity(); err == nil && verified.Same(now) {
			return &Fetched{c, e, file}, false, nil
		}
	}
	// It is not known to be verified: hashed like one that is fetched, from the disk.
	c.mu.Lock()
	if c.entries[e.sum] != e || e.el == nil {
		c.mu.Unlock()
		file.Close()
		return nil, true, nil
	}
	c.recent.Remove(e.el)
	anew := onItsWay(f)
	c.entries[e.sum] = anew
	e.el = nil
	c.mu.Unlock()
	got, err = c.begin(anew, f, func() (io.ReadCloser, error) { return file, nil })
	return got, false, err
}

// begin fetches an entry in the background, from the bucket or, when src is a file of the cache, from there.
func (c *Cache) begin(e *cached, f index.File, open func() (io.ReadCloser, error)) (*Fetched, error) {
	src, err := open()
	if err != nil {
		return nil, err
	}
	file, there := src.(*os.File)
	var temp *safefile.File
	if !there {
		if temp, err = safefile.CreateIn(c.dir, c.path(e.sum), 0o600); err != nil {
			src.Close()
			err = fmt.Errorf("the cache: %w", err)
			c.finish(e, err)
			return nil, err
		}
		file = temp.File
	}
	e.mu.Lock()
	e.file = file
	e.mu.Unlock()
	go func() {
		err := c.copy(e, f, src, temp)
		if !there {
			src.Close()
		}
		c.finish(e, err)
		e.release()
	}()
	return &Fetched{c, e, nil}, nil
}

// copy reads src to its end, into temp unless that is nil, and verifies it.
func (c *Cache) copy(e *cached, f index.File, src io.Reader, temp *safefile.File) (err error) {
	c.slots <- struct{}{}
	defer func() { <-c.slots }()
	if temp != nil {
		defer func() {
			if err != nil {
				os.Remove(temp.Name()) // readers have it open
			}
		}()
	}
	sum := sha256.New()
	buf := make([]byte, min(256<<10, e.size))
	for n := int64(0); n < e.size; {
		k, err := src.Read(buf[:min(int64(len(buf)), e.size-n)])
		if k == 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("fetching %s: %w", f.Path, err)
		}
		sum.Write(buf[:k])
		if temp != nil {
			if _, err := temp.WriteAt(buf[:k], n); err != nil {
				return fmt.Errorf("the cache: %w", err)
			}
		}
		n += int64(k)
		e.grow(n)
	}
	if [32]byte(sum.Sum(nil)) != f.SHA256 {
		return &NotVerifiedError{f.Path, errHash}
	}
	if temp != nil {
		if err := os.MkdirAll(filepath.Dir(c.path(e.sum)), 0o700); err != nil {
			return fmt.Errorf("the cache: %w", err)
		}
		if err := os.Rename(temp.Name(), c.path(e.sum)); err != nil { // it is hashed after a crash, so nothing is synced
			return fmt.Errorf("the cache: %w", err)
		}
	}
	id, err := (&Medium{files: []*os.File{e.file}}).Identity()
	e.mu.Lock()
	e.id = id
	e.mu.Unlock()
	return err
}

// grow tells readers that n bytes are there.
func (e *cached) grow(n int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.n = n
	close(e.more)
	e.more = make(chan struct{})
}

// finish ends the way of an entry.
func (c *Cache) finish(e *cached, err error) {
	c.mu.Lock()
	if err != nil {
		c.failures++
		c.drop(e)
	} else if c.entries[e.sum] == e {
		e.el = c.recent.PushFront(e)
		close(c.room)
		c.room = make(chan struct{})
	}
	c.mu.Unlock()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.done, e.err = true, err
	close(e.more)
}

// release ends one use of the file of an entry that was on its way.
func (e *cached) release() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.users--; e.users == 0 && e.file != nil {
		e.file.Close()
		e.file = nil
	}
}

// Close ends the use.
func (f *Fetched) Close() error {
	if f.file != nil {
		return f.file.Close()
	}
	f.e.release()
	return nil
}

// wait waits until n bytes are there, or all of it is there and verified when n is beyond its size.
func (f *Fetched) wait(ctx context.Context, n int64) error {
	if f.file != nil {
		return nil
	}
	for {
		f.e.mu.Lock()
		there, done, err, more := f.e.n >= n, f.e.done, f.e.err, f.e.more
		f.e.mu.Unlock()
		if err != nil || there || done {
			return err
		}
		select {
		case <-more:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// ReadAt reads bytes, which it waits for. They are verified when Verify returned no error since.
func (f *Fetched) ReadAt(ctx context.Context, p []byte, at int64) (int, error) {
	if err := f.wait(ctx, min(at+int64(len(p)), f.e.size)); err != nil {
		return 0, err
	}
	return cmp.Or(f.file, f.e.file).ReadAt(p, at)
}

// Verify waits until all is there, and reports whether it is, and what was read is what was verified.
func (f *Fetched) Verify(ctx context.Context) error {
	if err := f.wait(ctx, f.e.size+1); err != nil {
		return err
	}
	now, err := (&Medium{files: []*os.File{cmp.Or(f.file, f.e.file)}}).Identity()
	f.e.mu.Lock()
	id := f.e.id
	f.e.mu.Unlock()
	if err == nil && !id.Same(now) {
		err = fmt.Errorf("the cache %s changed while a file was sent", strings.TrimSuffix(f.c.dir, "/"))
	}
	return err
}
