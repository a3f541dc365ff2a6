package object

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modmirror/modmirror/bundle/media"
)

// A fakeStorage is storage with one object. It speaks as much of S3 as reading that takes, and can
// hang and cut.
type fakeStorage struct {
	data     []byte
	requests atomic.Int64  // GETs
	hang     chan struct{} // closed: requests go on; nil: they never hang
	left     atomic.Int64  // clients that left while a request hung
	cut      atomic.Bool   // each answer ends in the middle
}

// ServeHTTP answers GET with a range and HEAD.
func (s *fakeStorage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", `"one"`)
	w.Header().Set("Last-Modified", time.Unix(1700000000, 0).UTC().Format(http.TimeFormat))
	if r.Method == "GET" {
		s.requests.Add(1)
		if s.hang != nil {
			select {
			case <-s.hang:
			case <-r.Context().Done():
				s.left.Add(1)
				return
			}
		}
	}
	if s.cut.Load() {
		w = &cutWriter{ResponseWriter: w, left: len(s.data) / 2}
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.data))
}

// A cutWriter breaks the connection after left bytes.
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

// open returns the media of the object, and the cache that they are read through.
func (s *fakeStorage) open(t *testing.T) (media.Media, *media.Cache) {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "testtest")
	t.Setenv("AWS_REGION", "us-east-1")
	s.data = make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{7}).Read(s.data)
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	cache, err := media.OpenCache(filepath.Join(t.TempDir(), "cache"), media.MinCache)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cache.Close() })
	b, err := Open("s3://bundles/team", server.URL, cache)
	if err != nil {
		t.Fatal(err)
	}
	m, err := b.Open(t.Context(), "team.tar")
	if err != nil {
		t.Fatal(err)
	}
	return m, cache
}

// ref returns the content of n bytes from an offset.
func (s *fakeStorage) ref(at, n int) media.Ref {
	return media.Ref{Path: "content", Offset: int64(at), Size: int64(n), SHA256: sha256.Sum256(s.data[at : at+n])}
}

// TestReadGoesOnAfterACut breaks connections in the middle: reading resumes as long as bytes come.
func TestReadGoesOnAfterACut(t *testing.T) {
	s := new(fakeStorage)
	s.cut.Store(true)
	m, cache := s.open(t)
	const at, n = 1000, 900 << 10
	if data, err := m.ReadContent(t.Context(), s.ref(at, n)); err != nil || !bytes.Equal(data, s.data[at:at+n]) {
		t.Errorf("the bytes differ, or %v", err)
	}
	if n := s.requests.Load(); n < 2 {
		t.Errorf("%d requests: nothing was cut", n)
	}
	if stats := cache.Stats(); stats.Failures != 0 {
		t.Errorf("%+v", stats)
	}
}

// TestRequestEndsWithItsReaders has the storage hang and the only reader leave: the request to the
// storage ends too.
func TestRequestEndsWithItsReaders(t *testing.T) {
	s := &fakeStorage{hang: make(chan struct{})}
	m, _ := s.open(t)
	ctx, leave := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { _, err := m.ReadContent(ctx, s.ref(0, 1000)); done <- err }()
	eventually(t, "the request", func() bool { return s.requests.Load() == 1 })
	leave()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	eventually(t, "the end of the request", func() bool { return s.left.Load() == 1 })
	close(s.hang)
	if data, err := m.ReadContent(t.Context(), s.ref(0, 1000)); err != nil || !bytes.Equal(data, s.data[:1000]) {
		t.Errorf("the next reader: %v", err)
	}
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
