package mirror

import (
	"context"
	"os"
	"sync"
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
	Carried int   // zips that an earlier bundle has, which are in none of the above

	Missing    []Missing // what the upstream refuses, as far as it was asked
	Notes      []string  // as in Closure
	Toolchains []string  // as in Closure
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
	plan := new(Plan)
	var total, toFetch atomic.Int64
	var fetch, unknown atomic.Int32
	refused := make(map[*wanted]error)
	var mu sync.Mutex
	eg, egctx := errgroup.WithContext(ctx)
	eg.SetLimit(r.cfg.Parallel)
	list := p.sorted()
	for _, w := range list {
		if !w.zip {
			plan.ModOnly++
			eg.Go(func() error {
				_, err := r.fetch.stagedMod(egctx, w.mod)
				if isAbsent(err) {
					mu.Lock()
					defer mu.Unlock()
					refused[w] = err
				}
				return egctx.Err()
			})
			continue
		}
		if has, err := carried(w.mod); err != nil {
			eg.Wait()
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
			if _, err = r.fetch.stagedMod(egctx, w.mod); err == nil {
				if up, ok := r.fetch.source(w.mod).(*upstream.Client); ok {
					n, err = up.Size(egctx, rel)
				}
			}
			switch {
			case upstream.Refused(err) || isAbsent(err):
				mu.Lock()
				refused[w] = err
				mu.Unlock()
			case err != nil || n < 0:
				unknown.Add(1)
			default:
				total.Add(n)
				toFetch.Add(n)
			}
			return egctx.Err()
		})
	}
	err = eg.Wait()
	for _, w := range list {
		if bad := refused[w]; bad != nil {
			what := "zip"
			if isAbsent(bad) {
				what = "go.mod"
			}
			miss := r.missing(w.mod, what, w.chain, bad)
			miss.Allowed = miss.Allowed || w.spare || w.spareZip && what == "zip"
			r.out.Missing = append(r.out.Missing, miss)
		}
	}
	r.explainMissing(ctx)
	plan.Missing, plan.Notes, plan.Toolchains = r.out.Missing, r.out.Notes, r.out.Toolchains
	plan.Bytes, plan.ToFetch, plan.Fetch, plan.Unknown = total.Load(), toFetch.Load(), int(fetch.Load()), int(unknown.Load())
	return plan, err
}
