package serve

import (
	"strings"
	"testing"
)

// TestScrub damages a file that no client asks for: the scrub finds it.
func TestScrub(t *testing.T) {
	s := newSite(t)
	flip(t, s.disk(), s.offset(first(s.bundle.Index.File(ctx, strings.TrimPrefix(largeZip, "/"))))+10)
	h := s.server.current()
	defer h.release()
	if !h.pass(ctx) {
		t.Fatal("the pass did not come to the end")
	}
	if h.Damage() != strings.TrimPrefix(largeZip, "/") || h.scrubbed.Load() != h.files {
		t.Errorf("damage %q after %d of %d files", h.Damage(), h.scrubbed.Load(), h.files)
	}
	if resp, _, _ := s.do("GET", "/readyz"); resp.StatusCode != 503 {
		t.Errorf("/readyz: %d", resp.StatusCode)
	}
}

// TestDamageStays damages two files. Requests that need no byte of a file do not clear its damage,
// and each file is cleared on its own. Several ranges are answered with the whole file.
func TestDamageStays(t *testing.T) {
	s := newSite(t)
	f, _, _ := s.bundle.Index.File(ctx, strings.TrimPrefix(largeZip, "/"))
	small, _, _ := s.bundle.Index.File(ctx, "example.com/text/@v/v1.1.0.mod")
	resp, _, err := s.do("GET", largeZip, "Range", "bytes=0-9,20-29")
	if err != nil || resp.StatusCode != 200 || resp.ContentLength != f.Size {
		t.Errorf("several ranges: %d, %d bytes, %v", resp.StatusCode, resp.ContentLength, err)
	}
	disk := s.disk()
	flip(t, disk, s.offset(f)+10)
	flip(t, disk, s.offset(small)+2)
	s.do("GET", largeZip)
	s.do("GET", "/example.com/text/@v/v1.1.0.mod")
	for _, headers := range [][]string{{"If-None-Match", resp.Header.Get("ETag")}, {"If-Match", `"other"`}, {"Range", "bytes=999999999-"}} {
		s.do("GET", largeZip, headers...)
		s.do("HEAD", largeZip)
		if resp, _, _ := s.do("GET", "/readyz"); resp.StatusCode != 503 {
			t.Errorf("%q made it ready: %d", headers, resp.StatusCode)
		}
	}
	flip(t, disk, s.offset(f)+10)
	s.do("GET", largeZip)
	if resp, body, _ := s.do("GET", "/readyz"); resp.StatusCode != 503 || !strings.Contains(string(body), "v1.1.0.mod") {
		t.Errorf("the other one is forgotten: %d %s", resp.StatusCode, body)
	}
	flip(t, disk, s.offset(small)+2)
	s.do("GET", "/example.com/text/@v/v1.1.0.mod")
	if resp, _, _ := s.do("GET", "/readyz"); resp.StatusCode != 200 {
		t.Errorf("both are right again: %d", resp.StatusCode)
	}
}
