package serve

import (
	"bufio"
	"bytes"
	"context"
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
	"github.com/modmirror/modmirror/bundle/store"
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
		Open: func(ctx context.Context) (*store.View, error) {
			return store.OpenFiles(ctx, []string{s.Path}, s.Trusted, store.NoState())
		},
		Log:   slog.New(slog.DiscardHandler),
		Ready: func(v *store.View) { s.bundle = v.Lines[0]; close(ready) },
		Wants: MissFunc(func(r modpath.Request, _ netip.Addr) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.misses = append(s.misses, r.String())
		}),
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

// freshHandler returns a handler over the same bundle that has seen nothing yet.
func freshHandler(t *testing.T, s *site) *handler {
	t.Helper()
	v, err := store.OpenFiles(ctx, []string{s.Path}, s.Trusted, store.NoState())
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

// A syncBuffer is a buffer for concurrent writers.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// truncate drops what was written after the first n bytes.
func (b *syncBuffer) truncate(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Truncate(n)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func first[T any](v T, _ bool, _ error) T { return v }

// TestHealthBeforeReady asks while the bundle is still being opened.
func TestHealthBeforeReady(t *testing.T) {
	release := make(chan struct{})
	s := &Server{
		Open: func(ctx context.Context) (*store.View, error) {
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

// TestBasePath expects everything below the base path, and health and metrics also without it.
func TestBasePath(t *testing.T) {
	s := newSite(t, func(s *Server) { s.BasePath = "/go" })
	for path, want := range map[string]int{
		"/go/example.com/text/@v/list": 200, "/example.com/text/@v/list": 404, "/go/": 200, "/go": 200, "/": 404, "/gopher/example.com/text/@v/list": 404,
		"/healthz": 200, "/go/healthz": 200, "/readyz": 200, "/go/readyz": 200, "/metrics": 200, "/go/metrics": 200, "/go/go/example.com/text/@v/list": 404,
	} {
		resp, body, err := s.do("GET", path)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %d, %v, want %d", path, resp.StatusCode, err, want)
		}
		if path == "/go/" && !strings.Contains(string(body), "modmirror env "+s.url+"/go") {
			t.Errorf("the page does not say the base path:\n%s", body)
		}
	}
}

// TestBusy has a request over HTTP/2 wait for a slot.
func TestBusy(t *testing.T) {
	s := &Server{slots: make(chan struct{}, 1)}
	x := newExchange(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if !s.slot(x) {
		t.Fatal("the first has to wait")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	second := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	got := make(chan bool)
	go func() { got <- s.slot(newExchange(httptest.NewRecorder(), second)) }()
	select {
	case <-got:
		t.Fatal("the second did not wait")
	case <-time.After(100 * time.Millisecond):
	}
	<-s.slots
	if !<-got {
		t.Error("the second did not get its turn")
	}
	cancel()
	if s.slot(newExchange(httptest.NewRecorder(), second)) {
		t.Error("a client that has gone gets a turn")
	}
}

// TestManyClients has many clients fetch at once while others are idle.
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
