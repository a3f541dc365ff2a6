package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modmirror/modmirror/bench/late"
)

// get returns the body at a URL.
func get(t *testing.T, url string) string {
	resp, err := http.Get(url)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return string(body)
}

// TestProxy checks that requests at once are delayed at once, and that the log has them.
func TestProxy(t *testing.T) {
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/none" {
			w.WriteHeader(http.StatusNotFound)
		}
		io.WriteString(w, r.URL.Path)
	}))
	defer up.Close()
	target, err := url.Parse(up.URL)
	if err != nil {
		t.Fatal(err)
	}
	p := httptest.NewServer(late.New(newProxy(target)))
	defer p.Close()
	get(t, p.URL+"/before")
	if body := get(t, p.URL+"/-/reset?delay=200ms"); body != "" {
		t.Fatal(body)
	}
	start := time.Now()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if body := get(t, p.URL+"/there"); body != "/there" {
				t.Errorf("body %q", body)
			}
		})
	}
	get(t, p.URL+"/none")
	wg.Wait()
	if took := time.Since(start); took < 200*time.Millisecond || took > 3*time.Second {
		t.Errorf("requests at once took %v", took)
	}
	log := get(t, p.URL+"/-/log")
	if n := strings.Count(log, "\t200\t6\t/there\n"); n != 20 || !strings.Contains(log, "\t404\t5\t/none\n") ||
		strings.Contains(log, "before") || !strings.Contains(log, "\tdelay\t200000\n") {
		t.Errorf("log\n%s", log)
	}
	if body := get(t, p.URL+"/-/reset?delay=fast"); !strings.Contains(body, "delay=50ms") {
		t.Errorf("a delay that is none: %q", body)
	}
}
