package serve

import (
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// TestCommitsSideBySide asks for commits with more clients than there are connections to the index.
// No request waits for a connection while it holds one.
func TestCommitsSideBySide(t *testing.T) {
	tb := testbundle.Make(t, "../testdata/mod", func(c *bundle.Contents) {
		c.Queries = append(c.Queries, index.Query{Path: "example.com/tip", Query: "0123456789ab", Version: "v0.0.0-20200102030405-0123456789ab"})
	})
	v, err := store.OpenFiles(ctx, []string{tb.Path}, tb.Trusted, store.NoState())
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

func TestCommitOf(t *testing.T) {
	const hash = "0123456789abcdef0123456789abcdef01234567"
	for _, test := range []struct{ version, origin, want string }{
		{"v1.0.0", `{"VCS":"git","Hash":"` + hash + `"}`, hash},
		{"v0.0.0-20200102030405-0123456789ab", "", "0123456789ab"},
		{"v0.0.0-20200102030405-0123456789ab", `{"Hash":"` + hash + `"}`, hash},
		{"v1.0.0", "", ""},
		{"v1.0.0", "no JSON", ""},
	} {
		if got := commitOf(index.Version{Version: test.version, Origin: test.origin}); got != test.want {
			t.Errorf("%s, %s: %q", test.version, test.origin, got)
		}
	}
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{hash, hash[:7], true}, {hash[:12], hash, true}, {hash, hash[:6], false}, {hash, "", false}, {hash, "0123456f", false},
	} {
		if got := sameCommit(test.a, test.b); got != test.same {
			t.Errorf("%s, %s: %v", test.a, test.b, got)
		}
	}
}

// TestAbbreviatedCommits asks for commits by their abbreviations: one version, the highest of
// several tags, and none when versions of two commits begin so.
func TestAbbreviatedCommits(t *testing.T) {
	origins := map[string]string{
		"v1.0.0": `{"Hash":"aaaaaaa000000000000000000000000000000000"}`,
		"v1.1.0": `{"Hash":"aaaaaaa000000000000000000000000000000000"}`,
		"v1.2.0": `{"Hash":"bbbbbbb100000000000000000000000000000000"}`,
		"v1.3.0": `{"Hash":"bbbbbbb200000000000000000000000000000000"}`,
	}
	tb := testbundle.Make(t, "../testdata/mod", func(c *bundle.Contents) {
		hello := c.Versions[slices.IndexFunc(c.Versions, func(v bundle.Version) bool { return v.Path == "example.com/hello" })]
		c.Versions = slices.DeleteFunc(c.Versions, func(v bundle.Version) bool { return v.Path == "example.com/hello" })
		for _, version := range slices.Sorted(maps.Keys(origins)) {
			v := hello
			v.Version.Version, v.Origin, v.Record, v.Private = version, origins[version], nil, true
			rename := func(s bundle.Source) bundle.Source {
				s.Path = strings.Replace(s.Path, "v1.1.0", version, 1)
				return s
			}
			zip := rename(*v.Zip)
			v.GoMod, v.Info, v.Zip = rename(v.GoMod), rename(v.Info), &zip
			c.Versions = append(c.Versions, v)
		}
		slices.SortStableFunc(c.Versions, func(a, b bundle.Version) int { return strings.Compare(a.Path, b.Path) })
	})
	v, err := store.OpenFiles(ctx, []string{tb.Path}, tb.Trusted, store.NoState())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	h := newHandler(v, slog.New(slog.DiscardHandler), nil, newMetrics())
	for commit, want := range map[string]string{
		"aaaaaaa": "v1.1.0", "aaaaaaa0000": "v1.1.0", "bbbbbbb": "", "bbbbbbb1": "v1.2.0", "bbbbbbb2": "v1.3.0", "ccccccc": "",
	} {
		f, ok, err := h.byCommit(ctx, modpath.Request{Kind: modpath.Info, Path: "example.com/hello", Version: commit})
		if err != nil || ok != (want != "") || ok && f.Path != "example.com/hello/@v/"+want+".info" {
			t.Errorf("%s: %s, %v, %v; want %q", commit, f.Path, ok, err, want)
		}
	}
}
