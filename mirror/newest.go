package mirror

import (
	"context"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/mirror/modgraph"
)

// A Newest is what the upstream says of a module now. Nothing proves it: it is advice.
type Newest struct {
	Version    string // the newest release, or else prerelease; "" when there is none
	Deprecated string // message of its go.mod
	Unread     bool   // its go.mod cannot be had, so that neither that nor retractions are known

	mod *modgraph.GoMod
}

// Retracted reports whether the go.mod of the newest version retracts a version, and why.
func (n Newest) Retracted(version string) (reason string, is bool) { return n.mod.Retracted(version) }

// Newest asks the upstream for the newest versions of modules, and for their go.mod files. It leaves
// out modules of which the upstream says nothing. It calls asked, which may be nil, after each.
func (m *Mirror) Newest(ctx context.Context, modules []string, asked func()) (map[string]Newest, error) {
	r := m.newRun(new(Job))
	defer r.fetch.discard()
	found := make(map[string]Newest)
	var mu sync.Mutex
	var eg errgroup.Group
	eg.SetLimit(readsInFlight)
	for _, path := range slices.Compact(slices.Sorted(slices.Values(modules))) {
		if path == modpath.Toolchain {
			continue
		}
		eg.Go(func() error {
			n := r.newestVersion(ctx, path)
			mu.Lock()
			defer mu.Unlock()
			if n.version != "" {
				x := Newest{Version: n.version, Unread: n.mod == nil, mod: n.mod}
				if n.mod != nil {
					x.Deprecated = n.mod.Deprecated
				}
				found[path] = x
			}
			if asked != nil {
				asked()
			}
			return nil
		})
	}
	eg.Wait()
	return found, ctx.Err()
}
