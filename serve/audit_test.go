package serve

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// auditLines parses the lines of an audit. It checks the fields that depend on the time and the
// bundle, and leaves them out.
func (s *site) auditLines(text string) (lines []auditLine) {
	s.t.Helper()
	for line := range strings.Lines(text) {
		var l auditLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			s.t.Fatalf("%q: %v", line, err)
		}
		if l.Request == "" || l.Duration <= 0 || l.Bundle != s.bundle.ID() {
			s.t.Errorf("%+v", l)
		}
		if when, err := time.Parse(time.RFC3339Nano, l.Time); err != nil || time.Since(when) > time.Minute {
			s.t.Errorf("time %q", l.Time)
		}
		l.Time, l.Duration, l.Bundle = "", 0, ""
		lines = append(lines, l)
	}
	return lines
}

// TestAudit expects one line for each request, whatever the request says, with the connection that
// was cut marked as such.
func TestAudit(t *testing.T) {
	var out, log syncBuffer
	s := newSite(t, func(s *Server) {
		s.Audit = NewAudit(&out)
		s.Log = slog.New(slog.NewTextHandler(&log, nil))
		s.Proxies, _ = ParseProxies("127.0.0.1")
	})
	forged := "/x%0a{%22client%22:%221.2.3.4%22}%e2%80%a8%0d%00%1b[31m%ff/@v/v1.0.0.info"
	for _, path := range []string{"/example.com/text/@v/v1.1.0.info", "/example.com/text/@v/v1.9.9.zip", forged, "/" + strings.Repeat("a", 10000)} {
		s.do("GET", path, "X-Forwarded-For", "192.0.2.9", "X-Request-Id", "abc")
	}
	s.do("POST", "/example.com/text/@v/list")
	for n, kept := range map[int]bool{maxRequestID: true, maxRequestID + 1: false} {
		id := strings.Repeat("x", n)
		before := len(out.String())
		s.do("GET", "/example.com/text/@v/v1.1.0.info", "X-Request-Id", id)
		if said := out.String()[before:]; strings.Contains(said, `"request":"`+id+`"`) != kept {
			t.Errorf("a name of %d bytes: %s", n, said)
		}
		out.truncate(before)
	}
	f, _, _ := s.bundle.Index.File(ctx, strings.TrimPrefix(largeZip, "/"))
	flip(t, s.disk(), s.offset(f)+10)
	if _, _, err := s.do("GET", largeZip); err == nil {
		t.Error("a damaged file was sent whole")
	}
	lines := s.auditLines(out.String())
	if len(lines) != 6 {
		t.Fatalf("%d lines for 6 requests:\n%s", len(lines), out.String())
	}
	first := auditLine{
		Client: "192.0.2.9", Method: "GET", Path: "/example.com/text/@v/v1.1.0.info", Module: "example.com/text",
		Version: "v1.1.0", Status: 200, Bytes: lines[0].Bytes, Request: "abc",
	}
	if lines[0] != first {
		t.Errorf("%+v, want %+v", lines[0], first)
	}
	if l := lines[2]; l.Status != 404 || l.Client != "192.0.2.9" || strings.Contains(out.String(), "\u2028") {
		t.Errorf("the forged one: %+v", l)
	}
	if l := lines[3]; len(l.Path) > 2048 {
		t.Errorf("%d bytes of a path", len(l.Path))
	}
	if l := lines[4]; l.Status != 405 || l.Method != "POST" || l.Client != "127.0.0.1" {
		t.Errorf("%+v", l)
	}
	if l := lines[5]; !l.Cut || l.Bytes >= f.Size {
		t.Errorf("the one that was cut: %+v", l)
	}
	for _, want := range []string{`msg="not carried" path=/example.com/text/@v/v1.9.9.zip client=192.0.2.9`, `msg="cut a connection" path=` + strings.TrimPrefix(largeZip, "/")} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, log.String())
		}
	}
	if n := strings.Count(log.String(), "\n"); n > 10 {
		t.Errorf("%d lines of log:\n%s", n, log.String())
	}
}

// TestAuditReopened renames the file of an audit. It also closes the file: /readyz and the metric
// tell of lines that cannot be written.
func TestAuditReopened(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.json")
	a, err := OpenAudit(file)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(s *Server) { s.Audit = a })
	s.do("GET", "/example.com/text/@v/list")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	s.do("GET", "/example.com/text/@v/list")
	if err := a.Reopen(); err != nil {
		t.Fatal(err)
	}
	s.do("GET", "/example.com/text/@v/list")
	for name, want := range map[string]int{file + ".1": 2, file: 1} {
		if data, err := os.ReadFile(name); err != nil || bytes.Count(data, []byte("\n")) != want {
			t.Errorf("%s: %q, %v; want %d lines", name, data, err, want)
		}
	}
	a.Close()
	s.do("GET", "/example.com/text/@v/list")
	if _, body, _ := s.do("GET", "/readyz"); !strings.Contains(string(body), "the audit cannot be written") {
		t.Errorf("/readyz: %s", body)
	}
	if _, body, _ := s.do("GET", "/metrics"); !regexp.MustCompile(`(?m)^modmirror_audit_failures_total [1-9]`).Match(body) {
		t.Error("the metric says nothing of it")
	}
}

// TestAuditAfterAFullDisk expects a whole line after one that was written in part.
func TestAuditAfterAFullDisk(t *testing.T) {
	w := &fullDisk{room: 400}
	s := newSite(t, func(s *Server) { s.Audit = NewAudit(w) })
	for range 3 {
		s.do("GET", "/example.com/text/@v/list")
	}
	w.mu.Lock()
	w.room = 100000
	w.mu.Unlock()
	s.do("GET", "/example.com/text/@v/v1.1.0.info")
	whole := 0
	for line := range strings.Lines(w.b.String()) {
		var l auditLine
		if json.Unmarshal([]byte(line), &l) == nil {
			whole++
			if l.Version == "v1.1.0" {
				return
			}
		}
	}
	t.Errorf("the line after a full disk is lost, %d are whole:\n%s", whole, w.b.String())
}

// A fullDisk is a writer that fails after room bytes.
type fullDisk struct {
	syncBuffer
	room int
}

func (d *fullDisk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(p), d.room)
	d.room -= n
	d.b.Write(p[:n])
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}
