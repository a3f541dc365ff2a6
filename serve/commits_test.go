package serve

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// TestCommitsSideBySide asks for commits by more clients than there are connections to the index: nobody waits for one while he holds one.
func TestCommitsSideBySide(t *testing.T) {
	tb := testbundle.Make(t, "../testdata/mod", func(c *bundle.Contents) {
		c.Queries = append(c.Queries, index.Query{Path: "example.com/tip", Query: "0123456789ab", Version: "v0.0.0-20200102030405-0123456789ab"})
	})
	v, err := bundle.OpenFiles(ctx, []string{tb.Path}, tb.Trusted, bundle.NoState())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	srv := httptest.NewServer(newHandler(v, slog.New(slog.DiscardHandler), nil, newMetrics()))
	defer srv.Close()
	client := http.Client{Timeout: 20 * time.Second}
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := range 40 {
				resp, err := client.Get(fmt.Sprintf("%s/example.com/tip/@v/0123456789ab%08x.info", srv.URL, i<<16+j))
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
}
