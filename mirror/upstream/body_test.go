package upstream

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"
)

// TestContentTypeDoesNotCount checks that the bytes of an answer decide what it is: some proxies
// call all files text/html, and login pages may have any type.
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

// TestTooSlow checks that a body has time to begin, and then a minimum rate.
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

// TestPackedAnswers checks that a compressed answer, which nobody asked for, is taken as it is and
// never decompressed.
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
