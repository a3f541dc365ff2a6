package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var ctx = context.Background()

func newClient(t *testing.T, goproxy string) *Client {
	t.Helper()
	c, err := New(goproxy, "off", 4)
	if err != nil {
		t.Fatal(err)
	}
	c.wait = time.Millisecond
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

// TestListRules is the table of GOPROXY: "," goes on after 404 and 410 only, "|" after everything.
func TestListRules(t *testing.T) {
	good := serve(t, answer(200, "good"))
	gone := serve(t, answer(410, "gone"))
	missing := serve(t, answer(404, "missing"))
	forbidden := serve(t, answer(403, "forbidden"))
	broken := serve(t, answer(500, "broken"))
	dead := "http://127.0.0.1:1"
	for _, tc := range []struct{ goproxy, want, wantErr string }{
		{good, "good", ""},
		{missing + "," + good, "good", ""},
		{gone + "," + good, "good", ""},
		{forbidden + "," + good, "", "403 Forbidden: forbidden"},
		{broken + "," + good, "", "500 Internal Server Error"},
		{dead + "," + good, "", "connection refused"},
		{forbidden + "|" + good, "good", ""},
		{broken + "|" + good, "good", ""},
		{dead + "|" + good, "good", ""},
		{missing + ",off," + good, "", "404 Not Found"},
		{missing + ",direct", "", "404 Not Found: missing"},
		{missing + "," + forbidden, "", "403 Forbidden"},
		{" " + missing + " , " + good + "/ ", "good", ""},
		{"," + good, "good", ""},
		{"off", "", "GOPROXY=off"},
		{"direct", "", "only what GOPRIVATE or GONOPROXY names is fetched directly"},
	} {
		data, err := newClient(t, tc.goproxy).Get(ctx, "x/@v/list", 0)
		switch {
		case tc.wantErr == "" && (err != nil || string(data) != tc.want):
			t.Errorf("%s: %q, %v", tc.goproxy, data, err)
		case tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)):
			t.Errorf("%s: %v, want %s", tc.goproxy, err, tc.wantErr)
		}
	}
	for bad, want := range map[string]string{
		"": "empty", ",": "empty", "ftp://x": "invalid", "proxy": "invalid", "://": "invalid",
		"file:///no/such/folder": "no such file",
	} {
		if _, err := New(bad, "", 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New(%q): %v, want %s", bad, err, want)
		}
	}
	if c, err := New("proxy.example/x", "", 1); err != nil || c.proxies[0].url != "https://proxy.example/x" {
		t.Errorf("a host without a scheme: %v", err)
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

// TestRetries has a server that fails three times.
func TestRetries(t *testing.T) {
	for name, fail := range map[string]http.HandlerFunc{
		"429":              answer(429, ""),
		"500":              answer(500, ""),
		"503, Retry-After": func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "0"); w.WriteHeader(503) },
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, "half")
		},
		"no answer": func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) },
	} {
		var n atomic.Int32
		c := newClient(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1) <= 3 {
				fail(w, r)
				return
			}
			io.WriteString(w, "good")
		}))
		if data, err := c.Get(ctx, "x", 0); err != nil || string(data) != "good" {
			t.Errorf("%s: %q, %v", name, data, err)
		}
	}
	var n atomic.Int32
	c := newClient(t, serve(t, func(w http.ResponseWriter, _ *http.Request) { n.Add(1); w.WriteHeader(500) }))
	if _, err := c.Get(ctx, "x", 0); err == nil || n.Load() != attempts {
		t.Errorf("always 500: %v after %d attempts, want %d", err, n.Load(), attempts)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Get(ctx, "x", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestResume cuts a download again and again; what came is kept when the file is still the same.
func TestResume(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 10000)
	for _, tc := range []struct {
		name    string
		etag    func(n int32) string
		resumed bool
	}{
		{"same file", func(int32) string { return `"one"` }, true},
		{"changed file", func(n int32) string { return fmt.Sprintf(`"%d"`, n) }, false},
		{"no ETag", func(int32) string { return "" }, false},
	} {
		var n, sent atomic.Int32
		c := newClient(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
			k := n.Add(1)
			if e := tc.etag(k); e != "" {
				w.Header().Set("ETag", e)
			}
			cut := &cutter{ResponseWriter: w, left: 40000, sent: &sent}
			if k > 2 {
				cut.left = len(content)
			}
			http.ServeContent(cut, r, "x.zip", time.Time{}, bytes.NewReader(content))
		}))
		f, err := os.Create(filepath.Join(t.TempDir(), "x"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		var total int64
		if err := c.Download(ctx, "x.zip", f, 1<<20, func(n int64) { total += n }); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		got, err := os.ReadFile(f.Name())
		if err != nil || !bytes.Equal(got, content) || total != int64(len(content)) {
			t.Errorf("%s: %d bytes, progress %d, %v", tc.name, len(got), total, err)
		}
		if resumed := sent.Load() < int32(len(content))+40000; resumed != tc.resumed {
			t.Errorf("%s: %d bytes were sent for %d", tc.name, sent.Load(), len(content))
		}
	}
}

// A cutter drops the connection after some bytes.
type cutter struct {
	http.ResponseWriter
	left int
	sent *atomic.Int32
}

func (c *cutter) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.ResponseWriter.Write(p[:n])
	c.sent.Add(int32(n))
	if c.left -= n; c.left == 0 && n < len(p) {
		c.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	return n, nil
}

// TestContentTypeDoesNotCount has the bytes of an answer decide what it is: some proxies call all
// files text/html, and login pages may be called anything.
func TestContentTypeDoesNotCount(t *testing.T) {
	for _, tc := range []struct {
		contentType, body string
		page              bool
	}{
		{"text/html; charset=utf-8", "v1.0.0\nv1.1.0\n", false},
		{"text/html", "PK\x03\x04 and what follows", false},
		{"text/html", "module example.com/x // <html> in a comment\n", false},
		{"text/html", "", false},
		{"text/html", "  <!DOCTYPE html><title>Log in</title>", true},
		{"text/plain", "<html><body>blocked</body></html>", true},
		{"application/json", "\n<!-- of the firewall --><html>", true},
		{"application/json", `{"Version":"v1.0.0"}`, false},
		{"text/html", "\ufeff<!DOCTYPE html><title>Log in</title>", true},
	} {
		c := newClient(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", tc.contentType)
			io.WriteString(w, tc.body)
		}))
		data, err := c.Get(t.Context(), "x", 1000)
		if tc.page != errors.Is(err, errHTML) || !tc.page && (err != nil || string(data) != tc.body) {
			t.Errorf("%s %q: %q, %v", tc.contentType, tc.body, data, err)
		}
	}
}

// TestRetryAfter reads the header in both forms, and bounds it.
func TestRetryAfter(t *testing.T) {
	for _, tc := range []struct {
		status     int
		retryAfter string
		least, max time.Duration
	}{
		{503, "7", 7 * time.Second, 7 * time.Second},
		{429, "0", 0, 0},
		{429, "-5", 0, 0},
		{503, "100000", maxRetryAfter, maxRetryAfter},
		{503, time.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat), 20 * time.Second, 30 * time.Second},
		{503, time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), 0, 0},
		{503, "soon", 0, 0},
		{404, "7", -1, -1},
		{403, "", -1, -1},
	} {
		resp := &http.Response{StatusCode: tc.status, Header: http.Header{}, Body: http.NoBody}
		if tc.retryAfter != "" {
			resp.Header.Set("Retry-After", tc.retryAfter)
		}
		if pause, err := statusError("http://x/", resp); pause < tc.least || pause > tc.max || err.Status != tc.status {
			t.Errorf("%d, Retry-After %s: pause of %v, want %v to %v", tc.status, tc.retryAfter, pause, tc.least, tc.max)
		}
	}
}

// TestRetryAfterIsObeyed has a server that wants a second to itself.
func TestRetryAfterIsObeyed(t *testing.T) {
	var first time.Time
	c := newClient(t, serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if first.IsZero() {
			first = time.Now()
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(503)
			return
		}
		if d := time.Since(first); d < 900*time.Millisecond {
			t.Errorf("asked again after %v", d)
		}
		io.WriteString(w, "good")
	}))
	if data, err := c.Get(t.Context(), "x", 0); err != nil || string(data) != "good" {
		t.Errorf("%q, %v", data, err)
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

func TestRedirectRules(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		ok       bool
	}{
		{"https://a.example/x", "https://b.example/x", true},
		{"https://a.example/x", "http://a.example/x", false},
		{"http://a.example/x", "http://127.0.0.1/x", false},
		{"http://a.example/x", "http://169.254.169.254/latest/meta-data", false},
		{"http://a.example/x", "http://[::1]/x", false},
		{"http://a.example/x", "http://localhost/x", false},
		{"http://a.example/x", "http://0.0.0.0/x", false},
		{"http://a.example/x", "http://LOCALHOST/x", false},
		{"http://a.example/x", "http://[fe80::1%25eth0]/x", false},
		{"http://a.example/x", "http://[::ffff:127.0.0.1]/x", false},
		{"http://127.0.0.1:1/x", "http://127.0.0.1:2/x", true},
	} {
		from, _ := http.NewRequest("GET", tc.from, nil)
		to, _ := http.NewRequest("GET", tc.to, nil)
		if err := checkRedirect(to, []*http.Request{from}); (err == nil) != tc.ok {
			t.Errorf("%s → %s: %v", tc.from, tc.to, err)
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

// TestTooSlow: a body has its time to begin, and then a rate to keep.
func TestTooSlow(t *testing.T) {
	for _, test := range []struct {
		n    int64
		d    time.Duration
		slow bool
	}{
		{1, time.Second, false},
		{1, patience, false},
		{1, patience + time.Second, true},
		{minRate * 3600, time.Hour, false},
		{minRate*3600 - 1, time.Hour, true},
	} {
		if got := tooSlow(test.n, test.d); got != test.slow {
			t.Errorf("%d bytes in %v: %v", test.n, test.d, got)
		}
	}
}

// TestRedirectRebinds: a name that stood for an address elsewhere when a redirect to it was
// checked, and stands for this machine when it is connected to, is not connected to.
func TestRedirectRebinds(t *testing.T) {
	far := context.WithValue(ctx, afar{}, true)
	local := strings.TrimPrefix(serve(t, answer(200, "secret")), "http://")
	_, port, err := net.SplitHostPort(local)
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{local, "localhost:" + port} { // what the name stands for now
		if c, err := dial(far, "tcp", to); err == nil || !strings.Contains(err.Error(), "which is the local address") {
			if c != nil {
				c.Close()
			}
			t.Errorf("%s after a redirect: %v", to, err)
		}
		c, err := dial(ctx, "tcp", to)
		if err != nil {
			t.Fatalf("%s without one: %v", to, err)
		}
		c.Close()
	}
	// A redirect from elsewhere marks its request, and one of a proxy on this machine does not.
	for from, want := range map[string]bool{"http://192.0.2.1/x": true, "http://127.0.0.1:1/x": false} {
		a, _ := http.NewRequest("GET", from, nil)
		b, _ := http.NewRequest("GET", "http://192.0.2.2/x", nil)
		if err := checkRedirect(b, []*http.Request{a}); err != nil || (b.Context().Value(afar{}) != nil) != want {
			t.Errorf("a redirect from %s: marked %v, %v", from, b.Context().Value(afar{}), err)
		}
	}
}

// TestPackedAnswers: an answer that is packed, although nobody asked for that, is taken as the
// bytes that it is, and never unpacked.
func TestPackedAnswers(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(make([]byte, 8<<20))
	z.Close()
	for name, data := range map[string][]byte{"a bomb": bomb.Bytes(), "cut": bomb.Bytes()[:bomb.Len()/2]} {
		c := newClient(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept-Encoding") != "" {
				t.Errorf("asked for %s", r.Header.Get("Accept-Encoding"))
			}
			w.Header().Set("Content-Encoding", "gzip")
			w.Write(data)
		}))
		got, err := c.Get(ctx, "x", 1<<20)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}

// TestNameThatDoesNotResolve: as long as name servers fail it is tried again, and not when they say
// that there is no such name. The error has it.
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
		{net.DNSError{Err: "server misbehaving", IsTemporary: true}, 1000, attempts, false},
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
			t.Errorf("%s: %v after %d attempts", test.fail.Err, err, tries.Load())
		}
	}
}
