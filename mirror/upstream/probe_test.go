package upstream

import (
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestProbe has a slow proxy, one that fails sometimes, and a good one.
func TestProbe(t *testing.T) {
	proxy := func(wait time.Duration, failing bool) string {
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(wait)
			if failing && strings.HasSuffix(r.URL.Path, ".mod") {
				http.Error(w, "oops", 500)
				return
			}
			w.Write([]byte("v1.0.0\nv1.1.0-pre\nnonsense\n"))
		})
	}
	slow, flaky, good, gone := proxy(100*time.Millisecond, false), proxy(0, true), proxy(0, false), serve(t, answer(404, "no"))
	c := newClient(t, gone+","+flaky+","+slow+","+good)
	got := c.Probe(t.Context(), "example.com/m", 20)
	var order []string
	for _, m := range got {
		order = append(order, m.URL)
	}
	if want := []string{good, slow, flaky, gone}; strings.Join(order, " ") != strings.Join(want, " ") {
		t.Errorf("order %v, want %v", order, want)
	}
	if m := got[0]; m.Requests != 20 || m.Failed != 0 || m.Rate == 0 || m.P50 > m.P90 || m.P90 > m.P99 || m.P99 == 0 {
		t.Errorf("good: %+v", m)
	}
	if m := got[1]; m.P50 < 100*time.Millisecond {
		t.Errorf("slow: %+v", m)
	}
	if m := got[2]; m.Failed == 0 || !strings.Contains(m.Trouble, "500") {
		t.Errorf("flaky: %+v", m)
	}
}
