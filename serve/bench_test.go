package serve

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// A sink is a response that nobody reads.
type sink struct{ header http.Header }

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(int)             {}

// BenchmarkSmall answers a request for a small file that was verified before.
func BenchmarkSmall(b *testing.B) {
	tb := testbundle.Make(b, "../testdata/mod", nil)
	v, err := bundle.OpenFiles(ctx, []string{tb.Path}, tb.Trusted, bundle.NoState())
	if err != nil {
		b.Fatal(err)
	}
	defer v.Close()
	h := newHandler(v, slog.New(slog.DiscardHandler), nil, newMetrics())
	r := httptest.NewRequest("GET", "/example.com/hello/@v/v1.1.0.mod", nil)
	w := &sink{make(http.Header)}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		h.ServeHTTP(w, r)
	}
}
