package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

var ctx = context.Background()

func newClient(t *testing.T, goproxy string) *Client {
	t.Helper()
	c, err := New(goproxy, "off", 4)
	if err != nil {
		t.Fatal(err)
	}
	c.retry.First = time.Millisecond
	return c
}

func serve(t *testing.T, f http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(f)
	t.Cleanup(s.Close)
	return s.URL
}

func answer(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}
}

func TestRefused(t *testing.T) {
	for status, want := range map[int]bool{403: true, 404: true, 410: true, 451: true, 400: false, 500: false, 429: false} {
		c := newClient(t, serve(t, answer(status, "no")))
		if _, err := c.Get(ctx, "x", 0); Refused(err) != want {
			t.Errorf("%d: Refused(%v) = %v", status, err, !want)
		}
	}
}

func TestHostileAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		f    http.HandlerFunc
		want string
	}{
		"login page": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			io.WriteString(w, "<html>")
		}, "a login or block page"},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		}, "longer than the limit of 1000 bytes"},
		"too long": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1001")
			w.WriteHeader(200)
		}, "more than the limit of 1000"},
		"redirect loop": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }, "stopped after 10 redirects"},
		"redirect to a file": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		}, "refused a redirect to the scheme file"},
		"control characters": {answer(404, "a\x1b[31mb\u202ec\r\nsecond line"), "404 Not Found: a[31mbc"},
	} {
		_, err := newClient(t, serve(t, tc.f)).Get(ctx, "x", 1000)
		if err == nil || !strings.HasSuffix(err.Error(), tc.want) && !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\x1b\n\u202e") {
			t.Errorf("%s: %q steers a terminal", name, err)
		}
	}
}

func TestUntrustedCertificate(t *testing.T) {
	s := httptest.NewTLSServer(answer(200, "good"))
	defer s.Close()
	start := time.Now()
	if _, err := newClient(t, s.URL).Get(ctx, "x", 0); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("got %v", err)
	}
	if time.Since(start) > time.Second {
		t.Error("it was tried again, which cannot help")
	}
}

func TestPasswordsAreNotPrinted(t *testing.T) {
	url := strings.Replace(serve(t, answer(403, "no")), "http://", "http://user:hunter2@", 1)
	_, err := newClient(t, url).Get(ctx, "x", 0)
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("got %v", err)
	}
}

func TestFileProxy(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/example.com/x/@v", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/example.com/x/@v/list", []byte("v1.0.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, "file://"+dir)
	if data, err := c.Get(ctx, "example.com/x/@v/list", 0); err != nil || string(data) != "v1.0.0\n" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := c.Get(ctx, "example.com/y/@v/list", 0); !IsNotFound(err) {
		t.Errorf("not there: %v", err)
	}
}

// TestNameThatDoesNotResolve checks that a failure of name servers is retried, and their answer
// that there is no such name is not. The error contains theirs.
func TestNameThatDoesNotResolve(t *testing.T) {
	good := serve(t, answer(200, "good"))
	for _, test := range []struct {
		fail  net.DNSError
		times int32
		want  int32 // attempts
		ok    bool
	}{
		{net.DNSError{Err: "server misbehaving", IsTemporary: true}, 2, 3, true},
		{net.DNSError{Err: "i/o timeout", IsTimeout: true}, 2, 3, true},
		{net.DNSError{Err: "server misbehaving", IsTemporary: true}, 1000, int32(policy.Tries), false},
		{net.DNSError{Err: "no such host", IsNotFound: true}, 1000, 1, false},
	} {
		c := newClient(t, strings.Replace(good, "127.0.0.1", "proxy.example", 1))
		var tries atomic.Int32
		c.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if tries.Add(1) <= test.times {
				fail := test.fail
				fail.Name = "proxy.example"
				return nil, &net.OpError{Op: "dial", Net: network, Err: &fail}
			}
			return dial(ctx, network, strings.TrimPrefix(good, "http://"))
		}
		_, err := c.Get(ctx, "x", 0)
		if (err == nil) != test.ok || tries.Load() != test.want || err != nil && !strings.Contains(err.Error(), "proxy.example") {
			t.Errorf("%s: %v after %d policy.Tries", test.fail.Err, err, tries.Load())
		}
	}
}

func TestSize(t *testing.T) {
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/known":
			w.Header().Set("Content-Length", "12345")
		case "/unknown":
			w.(http.Flusher).Flush()
		default:
			http.NotFound(w, r)
		}
	})
	for path, want := range map[string]int64{"known": 12345, "unknown": -1} {
		if n, err := newClient(t, url).Size(ctx, path); err != nil || n != want {
			t.Errorf("%s: %d, %v, want %d", path, n, err, want)
		}
	}
	if _, err := newClient(t, url).Size(ctx, "absent"); !IsNotFound(err) {
		t.Errorf("absent: %v", err)
	}
	if n, err := newClient(t, url+"/absent,"+url).Size(ctx, "known"); err != nil || n != 12345 {
		t.Errorf("at the second proxy: %d, %v", n, err)
	}
}

// TestErrorSaysWhat checks the texts of errors, which people and Missing.Reason show.
func TestErrorSaysWhat(t *testing.T) {
	for _, tc := range []struct {
		err          *Error
		text, reason string
	}{
		{&Error{URL: "http://x/y", Status: 404, Text: "not here"}, "GET http://x/y: 404 Not Found: not here", "404 Not Found: not here"},
		{&Error{URL: "http://x/y", Status: 401, Err: errors.New("no token")}, "GET http://x/y: 401 Unauthorized: no token", "401 Unauthorized: no token"},
		{&Error{URL: "http://x/y", Err: io.ErrUnexpectedEOF}, "GET http://x/y: unexpected EOF", "unexpected EOF"},
	} {
		if tc.err.Error() != tc.text || tc.err.Reason() != tc.reason {
			t.Errorf("%q and %q, want %q and %q", tc.err, tc.err.Reason(), tc.text, tc.reason)
		}
	}
	if got := Redact("https://ann:secret@x.example/y?z"); got != "https://x.example/y?z" {
		t.Errorf("Redact: %s", got)
	}
	if got := Redact("https://ann:secret@x\x7f/"); strings.Contains(got, "secret") {
		t.Errorf("Redact: %s", got)
	}
}

// TestLongBodiesOneByOne has more long bodies at once than may be in memory.
func TestLongBodiesOneByOne(t *testing.T) {
	long := bytes.Repeat([]byte("x"), bigBody+1000)
	c := newClient(t, serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Write(long) }))
	var eg errgroup.Group
	for range 4 {
		eg.Go(func() error {
			data, err := c.Get(ctx, "x", 0)
			if err == nil && !bytes.Equal(data, long) {
				err = errors.New("another body")
			}
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		t.Error(err)
	}
	c.big <- struct{}{} // somebody has a long body, and keeps it
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := c.Get(ctx, "x", 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while there is no room: %v", err)
	}
}
