package serve

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/testbundle"
)

func TestEveryFileIsServed(t *testing.T) {
	s := newSite(t)
	n := 0
	for f, err := range s.bundle.Index.Files(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Path == "README.txt" {
			continue
		}
		n++
		for _, again := range []bool{false, true} { // not verified yet, then verified
			resp, body, err := s.do("GET", "/"+f.Path)
			if err != nil || resp.StatusCode != 200 || sha256.Sum256(body) != f.SHA256 {
				t.Errorf("GET %s (again %v): %v, %v, %d bytes of %d", f.Path, again, resp.StatusCode, err, len(body), f.Size)
			}
			head, body, err := s.do("HEAD", "/"+f.Path)
			if err != nil || head.StatusCode != 200 || len(body) != 0 || head.ContentLength != f.Size {
				t.Errorf("HEAD %s: %v, length %d, %v", f.Path, head.StatusCode, head.ContentLength, err)
			}
			for _, name := range []string{"Etag", "Last-Modified", "Content-Type", "Cache-Control", "Content-Length", "Accept-Ranges"} {
				if head.Header.Get(name) != resp.Header.Get(name) || head.Header.Get(name) == "" {
					t.Errorf("%s: %s is %q for HEAD, %q for GET", f.Path, name, head.Header.Get(name), resp.Header.Get(name))
				}
			}
			immutable := strings.Contains(resp.Header.Get("Cache-Control"), "immutable")
			if want := strings.Contains(f.Path, "/@v/v") || strings.Contains(f.Path, "/tile/"); immutable != want {
				t.Errorf("%s: Cache-Control %q", f.Path, resp.Header.Get("Cache-Control"))
			}
		}
	}
	if n != int(s.bundle.Manifest.Counts.Files)-1 {
		t.Errorf("saw %d files", n)
	}
	resp, _, _ := s.do("HEAD", largeZip)
	if got := resp.Header.Get("Last-Modified"); got != "Thu, 02 Jan 2020 03:04:05 GMT" {
		t.Errorf("Last-Modified %q, want the version's time", got)
	}
}

func TestConditionalAndRange(t *testing.T) {
	for _, path := range []string{"/example.com/hello/@v/v1.1.0.mod", largeZip} {
		for _, verified := range []bool{false, true} {
			s := newSite(t)
			if verified {
				s.do("GET", path)
			}
			resp, _, err := s.do("HEAD", path)
			if err != nil {
				t.Fatal(err)
			}
			etag, size := resp.Header.Get("Etag"), resp.ContentLength
			var whole []byte
			for f, err := range s.bundle.Index.Files(ctx) {
				if err == nil && "/"+f.Path == path {
					whole, _ = s.bundle.Read(t.Context(), f, f.Size)
				}
			}
			for _, tc := range []struct {
				headers []string
				status  int
				body    []byte
			}{
				{[]string{"If-None-Match", etag}, 304, nil},
				{[]string{"If-None-Match", `"other", ` + etag}, 304, nil},
				{[]string{"If-None-Match", "*"}, 304, nil},
				{[]string{"If-None-Match", `"other"`}, 200, whole},
				{[]string{"If-Match", `"other"`}, 412, nil},
				{[]string{"If-Modified-Since", "Thu, 02 Jan 2120 03:04:05 GMT"}, 304, nil},
				{[]string{"If-Modified-Since", "Thu, 02 Jan 1990 03:04:05 GMT"}, 200, whole},
				{[]string{"Range", "bytes=0-9"}, 206, whole[:10]},
				{[]string{"Range", "bytes=-7"}, 206, whole[size-7:]},
				{[]string{"Range", "bytes=5-"}, 206, whole[5:]},
				{[]string{"Range", fmt.Sprintf("bytes=%d-", size)}, 416, nil},
				{[]string{"Range", "bytes=99999999999999999999-"}, 416, nil},
				{[]string{"Range", "bytes=3-1"}, 416, nil},
				{[]string{"Range", "bytes=0-9", "If-Range", etag}, 206, whole[:10]},
				{[]string{"Range", "bytes=0-9", "If-Range", `"other"`}, 200, whole},
				{[]string{"Range", "bytes=" + strings.Repeat("0-,", 1000) + "0-"}, 200, whole},
			} {
				resp, body, err := s.do("GET", path, tc.headers...)
				if err != nil {
					t.Fatalf("%s %.60v (verified %v): %v", path, tc.headers, verified, err)
				}
				if resp.StatusCode != tc.status || (tc.body != nil && !bytes.Equal(body, tc.body)) {
					t.Errorf("%s %.60v (verified %v): %v, %d bytes, %v; want %d", path, tc.headers, verified, resp.StatusCode, len(body), err, tc.status)
				}
			}
		}
	}
}

// TestNoCompleteWrongBody changes bytes of every file under a running server. Every complete answer
// with status 200 is the original.
func TestNoCompleteWrongBody(t *testing.T) {
	s := newSite(t)
	type file struct {
		path     string
		off, len int64
		sum      [32]byte
	}
	var files []file
	for f, err := range s.bundle.Index.Files(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if f.Path != "README.txt" && f.Size > 0 {
			files = append(files, file{f.Path, s.offset(f), f.Size, f.SHA256})
		}
	}
	disk := s.disk()
	for _, f := range files {
		step := max(f.len/20, 1)
		for at := int64(0); at < f.len; at += step {
			s := freshHandler(t, s) // with nothing verified and nothing cached
			flip(t, disk, f.off+at)
			status, body, err := get(s, f.path)
			if strings.Contains(f.path, "/lookup/") || strings.HasSuffix(f.path, "/latest") && strings.HasPrefix(f.path, "sumdb/") { // composed of the index, never read from the file
				if status != 200 {
					t.Fatalf("%s: %d", f.path, status)
				}
			} else if err == nil && status == 200 {
				t.Fatalf("%s with byte %d changed: a complete answer of %d bytes", f.path, at, len(body))
			} else if f.len > smallFile && int64(len(body)) > f.len-smallFile {
				t.Fatalf("%s: %d of %d bytes went out before the hash was known", f.path, len(body), f.len)
			} else if s.Damage() == "" {
				t.Fatalf("%s: still ready", f.path)
			}
			flip(t, disk, f.off+at)
		}
		if status, body, err := get(freshHandler(t, s), f.path); err != nil || status != 200 || (sha256.Sum256(body) != f.sum) {
			t.Fatalf("%s, original again: %d, %v", f.path, status, err)
		}
	}
}

// FuzzRange asks for ranges and conditions of all sorts. The answer is the file, the part of it
// that the answer names, or nothing.
func FuzzRange(f *testing.F) {
	data := make([]byte, 3000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	h := &handler{}
	e := &entry{path: "x", data: data, etag: `"x"`, contentType: "text/plain", control: brief, modified: time.Unix(1700000000, 0)}
	h.cache.put(e)
	f.Add("bytes=0-0", "", "")
	f.Add("bytes=-5,0-", `"x"`, "")
	f.Add("bytes=10-5", "", `"y"`)
	f.Add("bytes=2999-99999999999999999999", "Tue, 14 Nov 2023 22:13:20 GMT", "*")
	f.Fuzz(func(t *testing.T, ranges, ifRange, ifNoneMatch string) {
		r := httptest.NewRequest("GET", "/x", nil)
		r.Header.Set("Range", ranges)
		r.Header.Set("If-Range", ifRange)
		r.Header.Set("If-None-Match", ifNoneMatch)
		w := httptest.NewRecorder()
		e.serve(w, r)
		body := w.Body.Bytes()
		switch w.Code {
		case http.StatusOK:
			if !bytes.Equal(body, data) {
				t.Errorf("%d bytes of %d", len(body), len(data))
			}
		case http.StatusPartialContent:
			var from, to, size int
			if n, _ := fmt.Sscanf(w.Header().Get("Content-Range"), "bytes %d-%d/%d", &from, &to, &size); n == 3 && (size != len(data) || from < 0 || to >= size || to-from+1 != len(body) || !bytes.Equal(body, data[from:to+1])) {
				t.Errorf("%s: %d bytes", w.Header().Get("Content-Range"), len(body))
			} else if n != 3 && !strings.HasPrefix(w.Header().Get("Content-Type"), "multipart/byteranges") {
				t.Errorf("%v", w.Header())
			}
			if len(body) > 2*len(data)+10_000 {
				t.Errorf("%d bytes of ranges of %d", len(body), len(data))
			}
		case http.StatusNotModified, http.StatusRequestedRangeNotSatisfiable, http.StatusPreconditionFailed:
		default:
			t.Errorf("status %d", w.Code)
		}
	})
}

// A sink is a response that discards everything.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header { return s.header }

func (s *sink) Write(p []byte) (int, error) { return len(p), nil }

func (s *sink) WriteHeader(int) {}

// BenchmarkSmall answers a request for a small file that was verified before.
func BenchmarkSmall(b *testing.B) {
	tb := testbundle.Make(b, "../testdata/mod", nil)
	v, err := store.OpenFiles(ctx, []string{tb.Path}, tb.Trusted, store.NoState())
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	h := newHandler(v, slog.New(slog.DiscardHandler), nil, newMetrics())
	r := httptest.NewRequest("GET", "/example.com/hello/@v/v1.1.0.mod", nil)
	w := &sink{make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}
