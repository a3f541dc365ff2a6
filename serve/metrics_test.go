package serve

import (
	"fmt"
	"strings"
	"testing"
)

// TestMetrics expects counts of requests by kind and status, of bytes and of misses, and a sign of
// damage.
func TestMetrics(t *testing.T) {
	s := newSite(t)
	s.do("GET", "/example.com/text/@v/v1.1.0.info")
	s.do("GET", "/example.com/text/@v/v1.1.0.info")
	s.do("GET", "/example.com/text/@v/v1.1.0.info", "If-None-Match", "*")
	s.do("GET", "/example.com/none/@v/v1.1.0.mod")
	s.do("DELETE", "/example.com/none/@v/v1.1.0.mod")
	f, _, _ := s.bundle.Index.File(ctx, strings.TrimPrefix(largeZip, "/"))
	s.do("GET", largeZip, "Range", "bytes=0-99")
	s.do("GET", largeZip)
	_, body, err := s.do("GET", "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`modmirror_requests_total{kind="info",status="200"} 2`, `modmirror_requests_total{kind="info",status="304"} 1`,
		`modmirror_requests_total{kind="mod",status="404"} 1`, `modmirror_requests_total{kind="invalid",status="405"} 1`, `modmirror_misses_total{kind="mod"} 1`,
		`modmirror_requests_total{kind="zip",status="206"} 1`, fmt.Sprintf(`modmirror_response_bytes_total{kind="zip"} %v`, float64(f.Size+100)),
		`modmirror_ready 1`, `modmirror_damaged 0`, `modmirror_verification_failures_total 0`, `modmirror_bundle_info{id="` + s.bundle.ID() + `",name="`,
		`modmirror_request_duration_seconds_count{kind="zip"} 2`, `go_goroutines `, `process_resident_memory_bytes `,
	} {
		if !strings.Contains(string(body), want) && !strings.Contains(want, "e+") {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	flip(t, s.disk(), s.offset(f)+10)
	s.do("GET", largeZip)
	_, body, _ = s.do("GET", "/metrics")
	for _, want := range []string{"modmirror_ready 0", "modmirror_damaged 1", "modmirror_verification_failures_total 1"} {
		if !strings.Contains(string(body), want) {
			t.Errorf("no %s after damage", want)
		}
	}
}
