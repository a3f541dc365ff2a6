package media

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A fakeObject is an object in memory that can hang and lie.
type fakeObject struct {
	data     []byte
	requests atomic.Int64
	hang     chan struct{} // closed: reads go on; nil: they never hang
	left     atomic.Int64  // readers that were cancelled while they hung
	wrong    atomic.Bool   // one byte of each read is wrong
}

func (o *fakeObject) String() string { return "memory" }

func (o *fakeObject) ReadAt(ctx context.Context, p []byte, at int64) (int, error) {
	r := o.NewReader(ctx, at, int64(len(p)))
	defer r.Close()
	return io.ReadFull(r, p)
}

func (o *fakeObject) NewReader(ctx context.Context, at, size int64) io.ReadCloser {
	o.requests.Add(1)
	data := o.data[at : at+size]
	if o.wrong.Load() {
		data = bytes.Clone(data)
		data[len(data)/2] ^= 1
	}
	return io.NopCloser(&fakeReader{o, ctx, bytes.NewReader(data)})
}

// A fakeReader reads from a fakeObject.
type fakeReader struct {
	o   *fakeObject
	ctx context.Context
	r   io.Reader
}

func (r *fakeReader) Read(p []byte) (int, error) {
	if r.o.hang != nil {
		select {
		case <-r.o.hang:
		case <-r.ctx.Done():
			r.o.left.Add(1)
			return 0, r.ctx.Err()
		}
	}
	return r.r.Read(p)
}

// open returns the media of the object, with a cache of its own.
func (o *fakeObject) open(t *testing.T) (*object, *Cache) {
	t.Helper()
	c, err := OpenCache(filepath.Join(t.TempDir(), "cache"), MinCache)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return NewObject(o, int64(len(o.data)), c).(*object), c
}

// ref returns the content of n bytes from an offset.
func (o *fakeObject) ref(at, n int) Ref {
	return Ref{fmt.Sprintf("at %d", at), int64(at), int64(n), sha256.Sum256(o.data[at : at+n])}
}

// noise returns bytes that are the same each time.
func noise(n int) []byte {
	data := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(data)
	return data
}

// TestCacheSharesAFetch has many readers ask for the same contents at once: each is fetched once,
// and all get its bytes.
func TestCacheSharesAFetch(t *testing.T) {
	o := &fakeObject{data: noise(4 << 20)}
	m, c := o.open(t)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			at := i % 4 << 20
			f := o.ref(at, 1<<20)
			got, err := m.Open(t.Context(), f)
			if err != nil {
				t.Error(err)
				return
			}
			defer got.Close()
			data := make([]byte, f.Size)
			if _, err := got.ReadAt(t.Context(), data, 0); err != nil {
				t.Error(err)
			}
			if err := got.Check(t.Context()); err != nil || !bytes.Equal(data, o.data[at:at+1<<20]) {
				t.Errorf("the bytes differ, or %v", err)
			}
		})
	}
	wg.Wait()
	if n := o.requests.Load(); n != 4 {
		t.Errorf("%d requests for 4 contents", n)
	}
	if s := c.Stats(); s.Fetches != 4 || s.Hits != 60 || s.Failures != 0 || s.Contents != 4 {
		t.Errorf("%+v", s)
	}
}

// TestCacheRefusesOtherBytes damages contents in the storage and on the disk: they are never given
// out as verified, and are fetched again.
func TestCacheRefusesOtherBytes(t *testing.T) {
	o := &fakeObject{data: noise(1 << 20)}
	m, c := o.open(t)
	f := o.ref(0, 1<<20)
	o.wrong.Store(true)
	if _, err := m.ReadContent(t.Context(), f); !isNotVerified(err) {
		t.Errorf("got %v", err)
	}
	o.wrong.Store(false)
	if data, err := m.ReadContent(t.Context(), f); err != nil || !bytes.Equal(data, o.data) {
		t.Errorf("afterwards: %v", err)
	}
	// The disk decays, as this process sees it, and as the next one finds it.
	for range 2 {
		file := c.path(f.SHA256)
		if err := os.WriteFile(file, o.data[:1<<19], 0o600); err != nil {
			t.Fatal(err)
		}
		if data, err := m.ReadContent(t.Context(), f); err != nil || !bytes.Equal(data, o.data) {
			t.Errorf("after damage: %v", err)
		}
		c.Close()
		again, err := OpenCache(c.dir, MinCache)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { again.Close() })
		c, m.cache = again, again
	}
}

// TestCacheEndsWhatNobodyWaitsFor has the storage hang and the client leave: the client's wait ends
// at once, the request to the storage ends soon, and the next client begins another fetch.
func TestCacheEndsWhatNobodyWaitsFor(t *testing.T) {
	for _, size := range []int{1000, 1 << 20} {
		o := &fakeObject{data: noise(1 << 20), hang: make(chan struct{})}
		m, c := o.open(t)
		f := o.ref(0, size)
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { _, err := m.ReadContent(ctx, f); done <- err }()
		eventually(t, "the request", func() bool { return o.requests.Load() == 1 })
		start := time.Now()
		leave()
		if err := <-done; !errors.Is(err, context.Canceled) || time.Since(start) > time.Second {
			t.Errorf("%d bytes: %v after %v", size, err, time.Since(start))
		}
		eventually(t, "the end of the request", func() bool { return o.left.Load() == 1 })
		eventually(t, "the end of the fetch", func() bool { return len(c.slots) == 0 && c.Stats().Bytes == 0 })
		close(o.hang)
		if data, err := m.ReadContent(t.Context(), f); err != nil || !bytes.Equal(data, o.data[:size]) {
			t.Errorf("%d bytes, the next client: %v", size, err)
		}
	}
}

// TestCacheKeepsItsBound fetches more than fits: the most recently used contents stay, an open one
// can be read to its end, and one that is larger than the cache is refused.
func TestCacheKeepsItsBound(t *testing.T) {
	o := &fakeObject{data: noise(1 << 20)}
	m, c := o.open(t)
	const n = 64 << 10
	c.max = 4 * (n + cachedOverhead)
	first, err := m.Open(t.Context(), o.ref(0, n))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	for i := range 10 {
		if _, err := m.ReadContent(t.Context(), o.ref(i*n, n)); err != nil {
			t.Fatal(err)
		}
		if s := c.Stats(); s.Bytes > c.max {
			t.Errorf("%d bytes of %d", s.Bytes, c.max)
		}
	}
	var onDisk int
	filepath.WalkDir(c.dir, func(name string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && len(filepath.Base(name)) == 64 {
			onDisk++
		}
		return err
	})
	if onDisk > 4 {
		t.Errorf("%d contents on the disk", onDisk)
	}
	data := make([]byte, n)
	if _, err := first.ReadAt(t.Context(), data, 0); err != nil || !bytes.Equal(data, o.data[:n]) {
		t.Errorf("what is open: %v", err)
	}
	if _, err := m.Open(t.Context(), Ref{Path: "large", Size: c.max}); err == nil || !strings.Contains(err.Error(), "--cache-size") {
		t.Errorf("larger than the cache: %v", err)
	}
}

// TestCacheOthersMayWrite has others be allowed to write to the folder: it is not used.
func TestCacheOthersMayWrite(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenCache(dir, MinCache); err == nil || !strings.Contains(err.Error(), "who could exchange what was verified") {
		t.Error(err)
	}
}

func isNotVerified(err error) bool {
	_, ok := errors.AsType[*NotVerifiedError](err)
	return ok
}

// eventually waits until a condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come", what)
		}
	}
}
