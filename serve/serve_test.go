package serve

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/testbundle"
)

var ctx = context.Background()

// A site is a served test bundle.
type site struct {
	*testbundle.TB
	t      *testing.T
	url    string
	server *Server
	bundle *bundle.Bundle
	stop   func() error // ends the server and returns its error, each time

	mu     sync.Mutex
	misses []string
}

// newSite serves a test bundle by a server that set may change.
func newSite(t *testing.T, set ...func(*Server)) *site {
	t.Helper()
	s := &site{TB: testbundle.Make(t, "../testdata/mod", func(c *bundle.Contents) {
		for _, name := range []string{"ID/GO-2021-0113.json", "index/db.json", "index/modules.json", "index/vulns.json"} {
			c.Vulns = append(c.Vulns, bundle.DataSource("vulndb/"+name, []byte(`{"name":"`+name+`"}`)))
		}
	}), t: t}
	ready := make(chan struct{})
	s.server = &Server{
		Open: func(ctx context.Context) (*bundle.View, error) {
			return bundle.OpenFiles(ctx, []string{s.Path}, s.Trusted, bundle.NoState())
		},
		Log:   slog.New(slog.DiscardHandler),
		Ready: func(v *bundle.View) { s.bundle = v.Lines[0]; close(ready) },
		Miss: func(r modpath.Request, _ netip.Addr) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.misses = append(s.misses, r.String())
		},
	}
	for _, f := range set {
		f(s.server)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.server.Serve(ctx, l) }()
	s.stop = sync.OnceValue(func() error {
		http.DefaultClient.CloseIdleConnections()
		stop()
		return <-done
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	s.url = "http://" + l.Addr().String()
	<-ready
	return s
}

// do makes a request. headers are name, value pairs. The error is that of reading the body.
func (s *site) do(method, path string, headers ...string) (*http.Response, []byte, error) {
	s.t.Helper()
	req, err := http.NewRequest(method, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, body, err
}

// offset returns where in the bundle the content of f is.
func (s *site) offset(f index.File) int64 {
	s.t.Helper()
	p, err := s.bundle.Find(f)
	if err != nil {
		s.t.Fatal(err)
	}
	return p.Offset
}

// disk opens the bundle for writing, until the test ends.
func (s *site) disk() *os.File {
	s.t.Helper()
	f, err := os.OpenFile(s.Path, os.O_RDWR, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { f.Close() })
	return f
}

const largeZip = "/example.com/large/@v/v1.0.0.zip"

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
		for _, again := range []bool{false, true} { // cold, then from the cache or by sendfile
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

// TestLookupsAreComposed compares the answers to lookups with the files in the tar.
func TestLookupsAreComposed(t *testing.T) {
	s := newSite(t)
	lookup := "/sumdb/" + s.DB.Name + "/lookup/"
	_, body, err := s.do("GET", lookup+"example.com/text@v1.0.0") // carried with its go.mod only
	if err != nil {
		t.Fatal(err)
	}
	want, err := s.bundle.ReadFile(ctx, strings.TrimPrefix(lookup, "/")+"example.com/text@v1.0.0", 1<<20)
	if err != nil || !bytes.Equal(body, want) {
		t.Errorf("served %q, the tar has %q (%v)", body, want, err)
	}
	for _, path := range []string{lookup + "corp.example/secret@v1.0.0", "/sumdb/sum.golang.org/supported", "/sumdb/other.example/lookup/example.com/text@v1.0.0"} {
		if resp, body, _ := s.do("GET", path); resp.StatusCode != 404 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

func TestNotFoundSaysWhatAndHow(t *testing.T) {
	s := newSite(t)
	for path, words := range map[string][]string{
		"/example.com/hello/@v/v1.2.0.info":         {"example.com/hello@v1.2.0 is not in bundle test of 2023-11-14", "carried: v1.1.0", "add this line to the list outside: example.com/hello@v1.2.0"},
		"/example.com/text/@v/v1.0.0.zip":           {"of this version only the go.mod is carried", "carried: v1.1.0"},
		"/example.com/gone/@v/v1.0.0.zip":           {"its zip could not be had when the bundle was made (status 404)", "no version of this module is carried"},
		"/example.com/nowhere/@v/list":              {"no version of this module is carried", "example.com/nowhere@latest"},
		"/example.com/nowhere/@latest":              {"no version of this module is carried"},
		"/sumdb/sum.golang.org/supported":           {"the checksum database in bundle test of 2023-11-14 is sum.test.example/db, not sum.golang.org"},
		"/sumdb/" + s.DB.Name + "/tile/8/3/000.p/9": {"up to record", "remove $(go env GOPATH)/pkg/sumdb/" + s.DB.Name + "/latest"},
	} {
		resp, body, err := s.do("GET", path)
		if err != nil || resp.StatusCode != 404 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %v %v", path, resp.StatusCode, err)
		}
		for _, w := range words {
			if !strings.Contains(string(body), w) {
				t.Errorf("%s: %q is not in\n%s", path, w, body)
			}
		}
		if len(body) > maxDetailBytes+1 || bytes.Count(body, []byte("\n")) > maxDetailLines {
			t.Errorf("%s: %d bytes, cmd/go prints %d:\n%s", path, len(body), maxDetailBytes, body)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.misses) != 7 {
		t.Errorf("misses: %q", s.misses)
	}
}

func TestHostilePaths(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{
		"/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%252e%252e/etc/passwd", "//etc/passwd", "/./README.txt",
		"/README.txt", "/MANIFEST", "/index.sqlite", "/example.com/hello/@v/../@v/list", "/example.com//hello/@v/list", "/example.com/hello/@v/list/",
		"/example.com/!!hello/@v/list", "/example.com/UpperCase/@v/list", "/example.com/hello%00/@v/list", "/example.com/%c0%ae%c0%ae/@v/list",
		"/example.com/hello/@v/v1.1.0.ZIP", "/example.com/hello/@v/v1.1.0", "/example.com/hello/@v/v1.zip", "/" + strings.Repeat("a", 10000),
		"/example.com/hello/@v/%2e%2e%2fv1.1.0.info", "/example.com/hello\\@v\\list", "/sumdb/../README.txt", "/sumdb/x/tile/8/0/000", "/file:///etc/passwd",
		"/example.com/hello/@v/v1.1.0.info%0a", "/example.com/hello/@v/v1.1.0.info%20", "/%", "/@v/list", "/@latest",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
		answer, _ := io.ReadAll(conn)
		conn.Close()
		status := ""
		if f := strings.Fields(string(answer)); len(f) > 1 {
			status = f[1]
		}
		if status != "404" && status != "400" && status != "414" {
			t.Errorf("%.80s: %.200s", path, answer)
		}
		if bytes.Contains(answer, []byte("root:")) || bytes.Contains(answer, []byte("modmirror trust add")) {
			t.Errorf("%.80s gave a file away", path)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "CONNECT"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://")) // net/http refuses to send some
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s /example.com/hello/@v/list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method)
		answer, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 405 ")) || !bytes.Contains(answer, []byte("\r\nAllow: GET, HEAD\r\n")) {
			t.Errorf("%s: %.200s, %v", method, answer, err)
		}
	}
	// Upper case is reached by its escaped path, with the ! as it is or in percent.
	for _, path := range []string{"/example.com/!upper!case/@v/list", "/example.com/%21upper%21case/@v/list"} {
		if resp, body, _ := s.do("GET", path); resp.StatusCode != 200 || string(body) != "v1.0.0\n" {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}

// TestNoCompleteWrongBody changes every 61st byte of the payload under a running server. Whatever a client
// gets in full with status 200 is the original.
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

// TestOverwrittenInPlace verifies a large file first, so that the kernel would send it, and then changes it.
func TestOverwrittenInPlace(t *testing.T) {
	s := newSite(t)
	for range 2 {
		if resp, _, err := s.do("GET", largeZip); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp.StatusCode, err)
		}
	}
	f, _, err := s.bundle.Index.File(ctx, largeZip[1:])
	if err != nil {
		t.Fatal(err)
	}
	disk := s.disk()
	flip(t, disk, s.offset(f)+1000)
	if _, body, err := s.do("GET", largeZip); err == nil {
		t.Errorf("a complete answer of %d bytes", len(body))
	}
	if resp, _, err := s.do("GET", largeZip, "Range", "bytes=0-9"); err == nil && resp.StatusCode == 206 {
		t.Error("a range of a file that does not verify")
	}
	resp, body, _ := s.do("GET", "/readyz")
	if resp.StatusCode != 503 || !strings.Contains(string(body), "example.com/large/@v/v1.0.0.zip does not verify") {
		t.Errorf("/readyz: %d %s", resp.StatusCode, body)
	}
	if resp, _, _ := s.do("GET", "/healthz"); resp.StatusCode != 200 {
		t.Errorf("/healthz: %d", resp.StatusCode)
	}
	// Truncated: an error, not a crash.
	if err := disk.Truncate(s.offset(f) + 100); err != nil {
		t.Fatal(err)
	}
	if resp, _, err := s.do("GET", largeZip); err == nil && resp.StatusCode != 500 {
		t.Error("a complete answer from a truncated bundle")
	}
}

// TestChangeDuringARange changes the bundle after a large file was verified and before it is read.
func TestChangeDuringARange(t *testing.T) {
	s := newSite(t)
	f, _, err := s.bundle.Index.File(ctx, largeZip[1:])
	if err != nil {
		t.Fatal(err)
	}
	l := s.server.handler.Load().large[s.bundle]
	src, err := l.open(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	g := &part{SectionReader: io.NewSectionReader(readerAt{ctx, src}, 0, f.Size), ctx: ctx, renew: func() {}, src: src}
	if _, err := g.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	disk := s.disk()
	flip(t, disk, s.offset(f)+2000)
	if n, err := g.Read(make([]byte, 5000)); n != 0 || !errors.Is(err, media.ErrChanged) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// TestOverwrittenInFlight overwrites the bundle while a client that was promised a verified file does not read:
// what waits in buffers of the kernel must not be pages of the file.
func TestOverwrittenInFlight(t *testing.T) {
	s := newSite(t)
	_, want, err := s.do("GET", largeZip)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", largeZip)
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil { // it has begun
		t.Fatal(err)
	}
	f, _, err := s.bundle.Index.File(ctx, largeZip[1:])
	if err != nil {
		t.Fatal(err)
	}
	disk := s.disk()
	if _, err := disk.WriteAt(bytes.Repeat([]byte("EVIL"), int(f.Size/4)), s.offset(f)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(first), conn)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); err == nil && !bytes.Equal(got, want) {
		t.Errorf("a complete body of %d bytes, %d times EVIL", len(got), bytes.Count(got, []byte("EVIL")))
	}
}

// TestReplacedByName moves another file over the served bundle: what is open goes on being served.
func TestReplacedByName(t *testing.T) {
	s := newSite(t)
	for i := range 3 {
		_, body, err := s.do("GET", largeZip)
		if err != nil || len(body) <= smallFile {
			t.Fatalf("request %d: %d bytes, %v", i, len(body), err)
		}
		other := s.Path + ".new"
		if err := os.WriteFile(other, []byte("another bundle"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(other, s.Path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestConditionsNeedNoHash: an answer that has no body hashes nothing.
func TestConditionsNeedNoHash(t *testing.T) {
	s := newSite(t)
	resp, _, err := s.do("HEAD", largeZip)
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range [][]string{
		{"GET", "If-None-Match", resp.Header.Get("Etag")},
		{"HEAD", "If-None-Match", `"x"`},
		{"HEAD", "Range", "bytes=0-9"},
	} {
		if _, _, err := s.do(req[0], largeZip, req[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	for _, bits := range s.server.handler.Load().large[s.bundle].verified {
		if bits != 0 {
			t.Error("a file was hashed")
		}
	}
}

// freshHandler returns a handler over the same bundle that has seen nothing yet.
func freshHandler(t *testing.T, s *site) *handler {
	t.Helper()
	v, err := bundle.OpenFiles(ctx, []string{s.Path}, s.Trusted, bundle.NoState())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return newHandler(v, slog.New(slog.DiscardHandler), nil, newMetrics())
}

func get(h *handler, path string) (status int, body []byte, err error) {
	srv := httptest.NewServer(h)
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/" + path)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, body, err
}

func flip(t *testing.T, f *os.File, at int64) {
	t.Helper()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}

// TestHealthBeforeReady asks while the bundle is still being opened.
func TestHealthBeforeReady(t *testing.T) {
	release := make(chan struct{})
	s := &Server{
		Open: func(ctx context.Context) (*bundle.View, error) {
			<-release
			return nil, errors.New("cannot be opened")
		},
		Log: slog.New(slog.DiscardHandler),
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/example.com/text/@v/list": 503, "/": 503} {
		resp, err := http.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
	close(release)
	if err := <-done; err == nil || err.Error() != "cannot be opened" {
		t.Errorf("Serve = %v", err)
	}
}

func TestLandingPage(t *testing.T) {
	s := newSite(t)
	req, _ := http.NewRequest("GET", s.url+"/", nil)
	req.Host = `x"><script>alert(1)</script>`
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if bytes.Contains(body, []byte("<script>")) {
			t.Error("a Host header reached the page as markup")
		}
	}
	resp, body, err := s.do("GET", "/")
	if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), "GOPROXY="+s.url) || !strings.Contains(string(body), "corp.example/secret") {
		t.Errorf("%d %v\n%s", resp.StatusCode, err, body)
	}
	if _, body, _ := s.do("GET", "/settings.json"); !strings.Contains(string(body), `"private":["corp.example/secret"]`) {
		t.Errorf("settings: %s", body)
	}
}

// TestManyClients has many clients pull everything at once while others sit idle.
func TestManyClients(t *testing.T) {
	s := newSite(t)
	for range 200 { // idle connections, and half a request each
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET / HT")
	}
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for _, path := range []string{largeZip, "/example.com/hello/@v/v1.1.0.zip", "/example.com/hello/@v/list"} {
				if resp, _, err := s.do("GET", path); err != nil || resp.StatusCode != 200 {
					t.Errorf("%s: %v", path, err)
				}
			}
		})
	}
	wg.Wait()
	// A header that is too large is refused, not remembered.
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("a", 1<<20))
	}()
	line, _ := bufio.NewReader(conn).ReadString('\n')
	if !strings.Contains(line, "431") {
		t.Errorf("1 MiB of headers: %q", line)
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c cache
	for i := range 10000 {
		c.put(&entry{path: fmt.Sprint(i), data: make([]byte, 10<<10)})
	}
	if c.bytes > cacheBytes || len(c.entries) != c.recent.Len() || len(c.entries) == 0 {
		t.Errorf("%d bytes in %d entries, %d in the list", c.bytes, len(c.entries), c.recent.Len())
	}
	if c.get("0") != nil || c.get("9999") == nil {
		t.Error("the oldest is still there, or the newest is not")
	}
}

// TestVulnDB asks for the vulnerability database as govulncheck does, packed, and as it is.
func TestVulnDB(t *testing.T) {
	s := newSite(t)
	for _, name := range []string{"ID/GO-2021-0113.json", "index/modules.json"} {
		want := `{"name":"` + name + `"}`
		resp, body, err := s.do("GET", "/vulndb/"+name)
		if err != nil || resp.StatusCode != 200 || string(body) != want || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s, %v", name, resp.StatusCode, body, err)
		}
		for range 2 {
			resp, body, err = s.do("GET", "/vulndb/"+name+".gz")
			if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != "" {
				t.Fatalf("%s.gz: %d, %v", name, resp.StatusCode, err)
			}
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(z); err != nil || string(got) != want {
				t.Errorf("%s.gz: %s, %v", name, got, err)
			}
		}
	}
	for _, path := range []string{"/vulndb/ID/GO-2021-9999.json", "/vulndb/ID/GO-2021-9999.json.gz"} {
		if resp, body, _ := s.do("GET", path); resp.StatusCode != 404 || !strings.Contains(string(body), "no such entry") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	for _, path := range []string{"/vulndb/", "/vulndb/ID/", "/vulndb/ID/../index/db.json", "/vulndb/index/db.json.gz.gz", "/vulndb/ID/GO-1-1.json"} {
		if resp, _, _ := s.do("GET", path); resp.StatusCode != 404 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}

// TestCommitsSideBySide asks for commits by more clients than there are connections to the index: nobody waits for one while he holds one.
func TestCommitsSideBySide(t *testing.T) {
	tb := testbundle.Make(t, "../testdata/mod", func(c *bundle.Contents) {
		c.Queries = append(c.Queries, index.Query{Path: "example.com/tip", Query: "0123456789ab", Version: "v0.0.0-20200102030405-0123456789ab"})
	})
	v, err := bundle.OpenFiles(ctx, []string{tb.Path}, tb.Trusted, bundle.NoState())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	srv := httptest.NewServer(newHandler(v, slog.New(slog.DiscardHandler), nil, newMetrics()))
	defer srv.Close()
	client := http.Client{Timeout: 20 * time.Second}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := range 40 {
				resp, err := client.Get(fmt.Sprintf("%s/example.com/tip/@v/0123456789ab%08x.info", srv.URL, i<<16+j))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
}

// FuzzRange asks for ranges and conditions of all sorts: what comes is the file, a part of it that
// the answer names, or nothing.
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
