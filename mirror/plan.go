package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// plan resolves queries and loads graphs.
func (r *run) plan(ctx context.Context, l *loader) (*plan, error) {
	p := &plan{versions: make(map[module.Version]*wanted), closed: make(map[module.Version]bool), requires: make(map[Requirement]bool), notes: slices.Clone(r.src.Notes), compat: r.cfg.Compat}
	names, imports, perhaps := make(map[module.Version]string), make(map[module.Version]string), make(map[module.Version]string)
	var todo, roots, tools, imported, maybes []module.Version
	answers := r.fetch.resolveAll(ctx, r.src.List)
	resolved := make(map[int][]module.Version)
	for i := range r.src.List {
		s := &r.src.List[i]
		if s.Mod != nil || s.Work != nil {
			add := p.addProject
			if s.Work != nil {
				add = p.addWorkspace
			}
			p.spare = s.InWork // a workspace builds without what its modules need alone
			added, err := add(ctx, l, s)
			p.spare = false
			if err != nil {
				return nil, err
			}
			if r.cfg.Closed {
				todo = append(todo, added...)
			}
			continue
		}
		mods, qs, err := answers[i].versions, answers[i].queries, answers[i].err
		if s.imported && err != nil && ctx.Err() == nil && !errors.Is(err, proof.ErrMismatch) {
			// Not every package that an old file imports is still there, and not every one is needed: it is named.
			miss := r.missing(s.Query, askedFor(err), []string{s.Name}, err)
			miss.Allowed = true
			r.out.Missing = append(r.out.Missing, miss)
			continue
		}
		if s.maybe && err != nil && ctx.Err() == nil && !errors.Is(err, proof.ErrMismatch) {
			p.notes = append(p.notes, leftOut(s, err))
			continue
		}
		if isAbsent(err) {
			r.out.Missing = append(r.out.Missing, r.missing(s.Query, askedFor(err), []string{s.Name}, err))
			continue
		}
		if err != nil {
			return nil, err
		}
		r.out.Queries = append(r.out.Queries, qs...)
		if s.Tool != "" && !s.imported {
			r.tools[i] = mods
		}
		if !s.imported && !s.maybe { // of what is imported no go command inside need be able to build all
			resolved[i] = mods
		}
		for _, m := range mods {
			if s.maybe {
				if _, err := r.fetch.goMod(ctx, m); err != nil {
					if ctx.Err() != nil || errors.Is(err, proof.ErrMismatch) {
						return nil, err
					}
					p.notes = append(p.notes, leftOut(s, err))
					continue
				}
			}
			if s.Alone {
				p.spare = s.maybe
				p.want(m, !s.noZip, func() []string { return []string{s.Name} })
				p.spare = false
				continue
			}
			if s.maybe {
				resolved[i] = append(resolved[i], m)
				if perhaps[m] == "" {
					perhaps[m] = s.Name
					maybes = append(maybes, m)
				}
				continue
			}
			if s.imported {
				if names[m] == "" && imports[m] == "" {
					imports[m] = s.Name
					imported = append(imported, m)
				}
				continue
			}
			names[m] = s.Name
			if s.Tool != "" && !r.cfg.Closed {
				tools = append(tools, m)
			} else {
				roots = append(roots, m)
			}
		}
	}
	if _, err := p.closeOver(ctx, l, tools, names, false); err != nil {
		return nil, err
	}
	lists, err := p.closeOver(ctx, l, roots, names, false)
	if err != nil {
		return nil, err
	}
	var closing Size // what closed closures add
	closed := func(roots, lists []module.Version, names map[module.Version]string) error {
		before := p.size()
		p.open(roots) // their build lists are known
		_, err := p.closeOver(ctx, l, lists, names, true)
		after := p.size()
		closing.Versions += after.Versions - before.Versions
		closing.ModOnly += after.ModOnly - before.ModOnly
		return err
	}
	if err := closed(roots, append(lists, todo...), names); err != nil {
		return nil, err
	}
	if err := r.addBare(ctx, names, false); err != nil {
		return nil, err
	}
	if err := r.addBare(ctx, imports, true); err != nil {
		return nil, err
	}
	if err := r.addBare(ctx, perhaps, true); err != nil {
		return nil, err
	}
	p.spare = true
	if lists, err = p.closeOver(ctx, l, maybes, perhaps, false); err != nil {
		return nil, err
	}
	if err := closed(maybes, lists, perhaps); err != nil {
		return nil, err
	}
	if lists, err = p.closeOver(ctx, l, imported, imports, false); err != nil {
		return nil, err
	}
	if r.cfg.Closed {
		if err := closed(imported, lists, imports); err != nil {
			return nil, err
		}
	}
	p.spare = false
	if err := r.toolchains(ctx, p, resolved); err != nil {
		return nil, err
	}
	if err := r.selfToolchains(p); err != nil {
		return nil, err
	}
	for req := range p.requires {
		if req.From.Path != "" {
			r.out.Requirements = append(r.out.Requirements, req)
		}
	}
	slices.SortFunc(r.out.Requirements, func(a, b Requirement) int {
		return cmp.Or(compareMod(a.From, b.From), compareMod(a.To, b.To), cmp.Compare(fmt.Sprint(a.Indirect), fmt.Sprint(b.Indirect)))
	})
	slices.SortFunc(r.out.Queries, func(a, b Query) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Query, b.Query))
	})
	r.out.Queries = slices.Compact(r.out.Queries)
	var denied DeniedError
	for _, w := range p.sorted() {
		if line := r.src.denied(w.mod.Path); line != "" && w.zip && (w.spare || w.spareZip) {
			delete(p.versions, w.mod)
			p.notes = append(p.notes, fmt.Sprintf("%s is not carried, since it is denied: %s", w.mod, strings.Join(w.chain, " → ")))
		} else if line != "" && w.zip {
			denied.Modules = append(denied.Modules, Denied{w.mod, line, w.chain})
		}
	}
	if denied.Modules != nil {
		return nil, &denied
	}
	for m := range r.src.MissingOK {
		if p.versions[m] == nil {
			p.notes = append(p.notes, fmt.Sprintf("nothing requires %s, so its missing-ok line changes nothing", m))
		}
	}
	slices.Sort(p.notes)
	r.out.Notes = slices.Compact(p.notes)
	if r.cfg.Planned != nil {
		all := p.size()
		r.cfg.Planned(Size{all.Versions - closing.Versions, all.ModOnly - closing.ModOnly}, all)
	}
	return p, nil
}

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
