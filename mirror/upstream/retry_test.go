package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

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
	if _, err := c.Get(ctx, "x", 0); err == nil || int(n.Load()) != policy.Tries {
		t.Errorf("always 500: %v after %d attempts, want %d", err, n.Load(), policy.Tries)
	}
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Get(ctx, "x", 0); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestResume cuts a download again and again. What arrived is kept while the server has the same
// file.
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

// TestRetryAfter reads the header in both forms and checks its bound.
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

// A roundTripper is a transport without a network, so that it works in a bubble.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestRetryAfterIsObeyed has a server that is busy and asks for a wait of a minute.
func TestRetryAfterIsObeyed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New("http://proxy.example", "off", 1)
		if err != nil {
			t.Fatal(err)
		}
		start, asked := time.Now(), 0
		c.http.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			if asked++; asked == 1 {
				w.Header().Set("Retry-After", "60")
				w.WriteHeader(503)
			} else {
				io.WriteString(w, "good")
			}
			return w.Result(), nil
		})
		data, err := c.Get(t.Context(), "x", 0)
		if err != nil || string(data) != "good" || time.Since(start) != time.Minute || asked != 2 {
			t.Errorf("%q, %v after %v and %d requests", data, err, time.Since(start), asked)
		}
	})
}

// TestStall has a body stop in the middle. The attempt ends after the time that a body has, and the
// next one resumes it.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := New("http://proxy.example", "off", 1)
		if err != nil {
			t.Fatal(err)
		}
		start, asked := time.Now(), 0
		c.http.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			asked++
			header := http.Header{"Etag": {`"1"`}, "Accept-Ranges": {"bytes"}}
			if asked == 2 {
				header.Set("Content-Range", "bytes 4-7/8")
				return &http.Response{StatusCode: 206, Header: header, Body: io.NopCloser(strings.NewReader("rest")), ContentLength: 4}, nil
			}
			pr, pw := io.Pipe()
			go func() {
				io.WriteString(pw, "half")
				<-r.Context().Done()
				pw.CloseWithError(r.Context().Err())
			}()
			return &http.Response{StatusCode: 200, Header: header, Body: pr, ContentLength: 8}, nil
		})
		data, err := c.Get(t.Context(), "x", 0)
		if d := time.Since(start); err != nil || string(data) != "halfrest" || d < stall || d > stall+2*policy.First || asked != 2 {
			t.Errorf("%q, %v after %v and %d requests", data, err, d, asked)
		}
	})
}
