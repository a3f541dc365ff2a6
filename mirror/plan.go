package mirror

import (
	"context"
	"os"
	"sync/atomic"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// A Plan is what a Sync would do.
type Plan struct {
	Size
	Bytes   int64 // of the zips, as far as their sizes are known
	Fetch   int   // zips that are not in the mirror directory
	ToFetch int64 // their bytes
	Unknown int   // zips whose sizes the upstream does not say
	Missing int   // versions, or questions, that the upstream refuses
	Carried int   // zips that an earlier bundle has, which are in none of the above
}

// Plan finds out what Sync would do, and downloads nothing but go.mod files and lists. What versions without a go.mod import is not
// in it: that is known when their zips are there. carried says which zips an earlier bundle has.
func (m *Mirror) Plan(ctx context.Context, src *Sources, carried func(module.Version) (bool, error)) (*Plan, error) {
	r := m.newRun(src)
	defer r.fetch.discard()
	p, err := r.plan(ctx, &loader{read: r.fetch.goMod})
	if err != nil {
		return nil, err
	}
	plan := &Plan{Missing: len(r.out.Missing)}
	var total, toFetch atomic.Int64
	var fetch, unknown, missing atomic.Int32
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(r.cfg.Parallel)
	for _, w := range p.versions {
		if !w.zip {
			plan.ModOnly++
			continue
		}
		if has, err := carried(w.mod); err != nil {
			return nil, err
		} else if has {
			plan.Carried++
			continue
		}
		plan.Versions++
		rel := versionFile(modpath.Zip, w.mod.Path, w.mod.Version)
		if st, err := os.Stat(r.fetch.dir.Path(rel)); err == nil {
			total.Add(st.Size())
			continue
		}
		fetch.Add(1)
		eg.Go(func() error {
			n := int64(-1)
			var err error
			if up, ok := r.fetch.source(w.mod).(*upstream.Client); ok {
				n, err = up.Size(ctx, rel)
			}
			switch {
			case upstream.Refused(err):
				missing.Add(1)
			case err != nil || n < 0:
				unknown.Add(1)
			default:
				total.Add(n)
				toFetch.Add(n)
			}
			return ctx.Err()
		})
	}
	err = eg.Wait()
	plan.Bytes, plan.ToFetch, plan.Fetch, plan.Unknown = total.Load(), toFetch.Load(), int(fetch.Load()), int(unknown.Load())
	plan.Missing += int(missing.Load())
	return plan, err
}
