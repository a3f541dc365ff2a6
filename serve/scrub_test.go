package serve

import (
	"os"
	"path/filepath"
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

// TestScrubHashesIndex damages the copy of the index that a server reads: the scrub finds it.
func TestScrubHashesIndex(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	s := newSite(t)
	copies, err := filepath.Glob(filepath.Join(tmp, "*", s.bundle.ID()+".sqlite"))
	if err != nil || len(copies) != 1 {
		t.Skipf("the copy of the index is not below TMPDIR: %v, %v", copies, err)
	}
	f, err := os.OpenFile(copies[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	h := s.server.current()
	defer h.release()
	if !h.pass(ctx) || h.Damage() != "" {
		t.Fatalf("damage before there is any: %q", h.Damage())
	}
	flip(t, f, st.Size()-100)
	if !h.pass(ctx) || h.Damage() != indexCopy {
		t.Errorf("damage: %q", h.Damage())
	}
	if resp, body, _ := s.do("GET", "/readyz"); resp.StatusCode != 503 || !strings.Contains(string(body), "start serve again") {
		t.Errorf("/readyz: %d %s", resp.StatusCode, body)
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
