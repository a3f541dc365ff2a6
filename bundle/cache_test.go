package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/bucket"
)

// A fakeObject is an object of storage that can hang, cut and lie. It speaks as much of S3 as
// reading one object takes.
type fakeObject struct {
	data     []byte
	requests atomic.Int64
	hang     chan struct{} // closed: requests go on; nil: they never hang
	left     atomic.Int64  // clients that left while it hung
	cut      atomic.Bool   // each answer ends half way
	wrong    atomic.Bool   // a byte of each answer is another one
}

// ServeHTTP answers GET with a range and HEAD.
func (o *fakeObject) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"one"`)
	w.Header().Set("Last-Modified", time.Unix(1700000000, 0).UTC().Format(http.TimeFormat))
	if r.Method == "GET" {
		o.requests.Add(1)
		if o.hang != nil {
			select {
			case <-o.hang:
			case <-r.Context().Done():
				o.left.Add(1)
				return
			}
		}
	}
	data := o.data
	if o.wrong.Load() {
		data = bytes.Clone(data)
		data[len(data)/2] ^= 1
	}
	if o.cut.Load() {
		w = &cutWriter{ResponseWriter: w, left: len(data) / 2}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// A cutWriter breaks the connection behind so many bytes.
type cutWriter struct {
	http.ResponseWriter
	left int
}

func (w *cutWriter) Write(p []byte) (int, error) {
	if len(p) > w.left {
		w.ResponseWriter.Write(p[:w.left])
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	return w.ResponseWriter.Write(p)
}

// remote returns a medium of the object with a cache, and a file of it that spans n bytes from an
// offset.
func (o *fakeObject) remote(t *testing.T) (*Medium, *Cache) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "testtest")
	t.Setenv("AWS_REGION", "us-east-1")
	s := httptest.NewServer(o)
	t.Cleanup(s.Close)
	b, err := bucket.Open("s3://bundles/team", s.URL)
	if err != nil {
		t.Fatal(err)
	}
	object, err := b.Stat(t.Context(), "team.tar")
	if err != nil {
		t.Fatal(err)
	}
	c, err := OpenCache(filepath.Join(t.TempDir(), "cache"), MinCache)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return remoteMedium(context.Background(), object, c), c
}

func (o *fakeObject) file(at, n int) index.File {
	return index.File{Path: fmt.Sprintf("at %d", at), Size: int64(n), SHA256: sha256.Sum256(o.data[at : at+n])}
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
	m, c := o.remote(t)
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			at := i % 4 << 20
			f := o.file(at, 1<<20)
			got, err := c.fetch(t.Context(), f, m, int64(at))
			if err != nil {
				t.Error(err)
				return
			}
			defer got.Close()
			data := make([]byte, f.Size)
			if _, err := got.ReadAt(t.Context(), data, 0); err != nil {
				t.Error(err)
			}
			if err := got.Verify(t.Context()); err != nil || !bytes.Equal(data, o.data[at:at+1<<20]) {
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

// TestCacheGoesOnAfterACut: a connection that breaks is no failure, as long as bytes come.
func TestCacheGoesOnAfterACut(t *testing.T) {
	o := &fakeObject{data: noise(1 << 20)}
	o.cut.Store(true)
	m, c := o.remote(t)
	data := make([]byte, 900<<10)
	f := o.file(1000, len(data))
	if err := (Place{m, 1000}).readFetched(t.Context(), f, data); err != nil || !bytes.Equal(data, o.data[1000:1000+len(data)]) {
		t.Errorf("the bytes differ, or %v", err)
	}
	if n := o.requests.Load(); n < 2 {
		t.Errorf("%d requests: nothing was cut", n)
	}
	if s := c.Stats(); s.Failures != 0 {
		t.Errorf("%+v", s)
	}
}

// TestCacheRefusesOtherBytes: what is not what the index says is given to nobody as verified, and
// not kept.
func TestCacheRefusesOtherBytes(t *testing.T) {
	o := &fakeObject{data: noise(1 << 20)}
	m, c := o.remote(t)
	f := o.file(0, 1<<20)
	o.wrong.Store(true)
	data := make([]byte, f.Size)
	if err := (Place{m, 0}).readFetched(t.Context(), f, data); !isNotVerified(err) {
		t.Errorf("got %v", err)
	}
	o.wrong.Store(false)
	if err := (Place{m, 0}).readFetched(t.Context(), f, data); err != nil || !bytes.Equal(data, o.data) {
		t.Errorf("afterwards: %v", err)
	}
	// The disk decays, as this process sees it, and as the next one finds it.
	for range 2 {
		file := c.path(f.SHA256)
		if err := os.WriteFile(file, o.data[:1<<19], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := (Place{m, 0}).readFetched(t.Context(), f, data); err != nil || !bytes.Equal(data, o.data) {
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

// TestCacheEndsWhatNobodyWaitsFor: when the storage hangs and the client leaves, the client's wait
// ends at once, and the request to the storage soon; the next client has it fetched anew.
func TestCacheEndsWhatNobodyWaitsFor(t *testing.T) {
	for _, size := range []int{1000, 1 << 20} {
		o := &fakeObject{data: noise(1 << 20), hang: make(chan struct{})}
		m, c := o.remote(t)
		f := o.file(0, size)
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan error)
		data := make([]byte, size)
		go func() { done <- (Place{m, 0}).readFetched(ctx, f, data) }()
		eventually(t, "the request", func() bool { return o.requests.Load() == 1 })
		start := time.Now()
		leave()
		if err := <-done; !errors.Is(err, context.Canceled) || time.Since(start) > time.Second {
			t.Errorf("%d bytes: %v after %v", size, err, time.Since(start))
		}
		eventually(t, "the end of the request", func() bool { return o.left.Load() == 1 })
		eventually(t, "the end of the fetch", func() bool { return len(c.slots) == 0 && c.Stats().Bytes == 0 })
		close(o.hang)
		if err := (Place{m, 0}).readFetched(t.Context(), f, data); err != nil || !bytes.Equal(data, o.data[:size]) {
			t.Errorf("%d bytes, the next client: %v", size, err)
		}
	}
}

// TestCacheKeepsItsBound fetches more than the cache may have: what was used last stays, what is
// open can be read to its end, and what is larger than the cache is refused.
func TestCacheKeepsItsBound(t *testing.T) {
	o := &fakeObject{data: noise(1 << 20)}
	m, c := o.remote(t)
	const n = 64 << 10
	c.max = 4 * (n + cachedOverhead)
	first, err := c.fetch(t.Context(), o.file(0, n), m, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	for i := range 10 {
		data := make([]byte, n)
		if err := (Place{m, int64(i * n)}).readFetched(t.Context(), o.file(i*n, n), data); err != nil {
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
	if _, err := c.fetch(t.Context(), index.File{Path: "large", Size: c.max}, m, 0); err == nil || !strings.Contains(err.Error(), "--cache-size") {
		t.Errorf("larger than the cache: %v", err)
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
