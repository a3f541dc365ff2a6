package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"
)

// A wanted version is one whose files belong to the closure.
type wanted struct {
	mod             module.Version
	zip             bool     // the .zip besides .mod and .info
	spare, spareZip bool     // it, or its zip, is only there for what a version without a go.mod imports, a line maybe, or a module of a workspace alone
	chain           []string // how it came in, from the source down to itself
}

// A plan is the closure of all sources, before anything but go.mod files was fetched.
type plan struct {
	versions map[module.Version]*wanted
	closed   map[module.Version]bool // versions whose own build list is in the plan, or will be
	compat   bool                    // go commands before 1.17 are served too
	spare    bool                    // what comes now is only there for what may be absent: see wanted
	requires map[Requirement]bool
	notes    []string // what is odd, and no reason to fail
}

// want adds a version; chain is called only when it is new.
func (p *plan) want(m module.Version, zip bool, chain func() []string) {
	w := p.versions[m]
	if w == nil {
		w = &wanted{mod: m, chain: chain(), spare: p.spare}
		p.versions[m] = w
	}
	w.spare = w.spare && p.spare
	if zip {
		w.spareZip = p.spare && (w.spareZip || !w.zip)
		w.zip = true
	}
}

// take adds what a graph read, and with zips its build list, which it returns.
func (p *plan) take(g *graph, from string, zips bool) (list []module.Version) {
	chain := func(m module.Version) func() []string {
		return func() []string {
			names := chainNames(g.chain(m))
			if len(names) > 0 && strings.HasSuffix(from, names[0]) { // the source is the module itself
				names = names[1:]
			}
			return append([]string{from}, names...)
		}
	}
	for _, m := range slices.SortedFunc(maps.Keys(g.require), compareMod) { // who is first gives the chain
		reqs := g.require[m]
		if a := g.view.actual(m); a.Version != "" && m.Version != "" && !g.forgiven(m) {
			p.want(a, false, chain(m))
		}
		for _, r := range reqs {
			p.requires[Requirement{From: m, To: r.Mod, Indirect: r.Indirect}] = true
		}
	}
	for _, m := range slices.SortedFunc(maps.Keys(g.refused), compareMod) {
		if !g.forgiven(m) {
			p.want(g.view.actual(m), false, chain(m))
		}
	}
	if zips {
		for _, m := range g.buildList() {
			a := g.view.actual(m)
			if a.Version != "" && !g.forgiven(m) {
				p.want(a, true, chain(m))
				list = append(list, a)
			}
		}
	}
	return list
}

// chainNames drops the main module of a synthetic graph, which has no name.
func chainNames(list []module.Version) []string {
	var names []string
	for _, m := range list {
		if m.Path != "" {
			names = append(names, m.String())
		}
	}
	return names
}

func chainString(list []module.Version) string { return strings.Join(chainNames(list), " → ") }

// addProject adds the build closure of a project: what its build list and the
// loading of its module graph need.
func (p *plan) addProject(ctx context.Context, l *loader, s *Source) ([]module.Version, error) {
	v := newView(s.Dir, s.Mod)
	v.work = s.work
	m := mainOf(s.Mod)
	g, err := l.loadConsistent(ctx, v, m, func(g *graph) { p.take(g, s.Name, false) })
	var gone *replacementError
	if s.work != nil && errors.As(err, &gone) { // no go command can work on it without the workspace
		p.notes = append(p.notes, fmt.Sprintf("%s is carried as a part of the workspace only: %v", s.Name, err))
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	added := p.take(g, s.Name, true)
	if err := p.addUnpruned(ctx, l, v, g, s.Name, []mainModule{m}); err != nil {
		return nil, err
	}
	if s.Mod.Go != nil && goLanguage(s.Mod.Go.Version) == "1.17" {
		// go mod tidy of a go 1.17 module checks that 1.16 would choose the same (modload/init.go,
		// tidy -compat). It reads the whole unpruned graph for it, and it looks for the packages under that graph, in the zips that it selects.
		m.deep = true
		_, err := l.loadConsistent(ctx, v, m, func(g *graph) { added = append(added, p.take(g, s.Name, true)...) })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return added, nil
}

// addUnpruned adds, if so wanted, what go commands before 1.17 read: they know nothing of pruning,
// so the go.mod of every version that anything names, and the zips of the modules of the build list
// in the versions that such a graph selects. g is the graph of commands since 1.17.
func (p *plan) addUnpruned(ctx context.Context, l *loader, v *view, g *graph, from string, mains []mainModule) error {
	if !p.compat {
		return nil
	}
	deep := slices.Clone(mains)
	pruned := false
	for i := range deep {
		pruned = pruned || !deep[i].deep
		deep[i].deep = true
	}
	if !pruned {
		return nil
	}
	old := newGraph(v, deep...)
	if err := old.read(ctx, l); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	p.take(old, from, false)
	for _, m := range old.buildList() {
		if a := v.actual(m); g.selected[m.Path] != "" && a.Version != "" && !old.forgiven(m) {
			p.want(a, true, func() []string { return append([]string{from}, chainNames(old.chain(m))...) })
		}
	}
	return nil
}

// mainOf returns a project's main module.
func mainOf(f *modfile.File) mainModule {
	m := mainModule{mod: module.Version{Path: f.Module.Mod.Path}}
	for _, r := range f.Require {
		m.require = append(m.require, *r)
	}
	// Without a go line cmd/go assumes 1.16.
	m.deep = f.Go == nil || !pruned(f.Go.Version)
	return m
}

// addWorkspace adds the build closure of a workspace. Those of its modules, each by itself, are added as
// projects: go mod tidy works on them, and go work sync reads their graphs.
func (p *plan) addWorkspace(ctx context.Context, l *loader, s *Source) ([]module.Version, error) {
	var mains []mainModule
	for _, m := range s.Members {
		mains = append(mains, mainOf(m.Mod))
	}
	g, err := l.loadWorkspace(ctx, workspaceView(s), mains)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return p.take(g, s.Name, true), nil // there were no workspaces before Go 1.18
}

// loadModule loads the graphs of a new project that requires m and uses all of it:
// m and everything m's go.mod names are its roots. The last one is consistent. A project
// cannot start from m when the error is a *badModError.
func loadModule(ctx context.Context, l *loader, m module.Version) ([]*graph, error) {
	roots := []modfile.Require{{Mod: m}}
	mod, err := l.summary(ctx, new(view), m)
	switch {
	case isAbsent(err): // what is known is that it is wanted
	case err != nil:
		return nil, fmt.Errorf("%s: %w", m, err)
	default:
		for _, r := range mod.require {
			if r.Mod.Path != m.Path {
				roots = append(roots, r)
			}
		}
	}
	var graphs []*graph
	_, err = l.loadConsistent(ctx, &view{start: m}, mainModule{require: roots}, func(g *graph) { graphs = append(graphs, g) })
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	return graphs, nil
}

// closeOver adds the own build list of every version in todo, which is what installing a command takes. If fixed is
// set it goes on with every version of those lists, until there is nothing new: a new project inside can
// then start from any of them. It returns the build lists. names says what a version of todo came from.
func (p *plan) closeOver(ctx context.Context, l *loader, todo []module.Version, names map[module.Version]string, fixed bool) (all []module.Version, err error) {
	// Graphs are loaded side by side and taken one after another, in order: the
	// chains in the result must not depend on which was faster.
	const together = 16
	if fixed {
		todo = p.open(todo)
	}
	for len(todo) > 0 {
		batch := todo[:min(together, len(todo))]
		todo = todo[len(batch):]
		graphs := make([][]*graph, len(batch))
		bad := make([]error, len(batch))
		eg, ctx := errgroup.WithContext(ctx)
		for i, m := range batch {
			eg.Go(func() (err error) {
				graphs[i], err = loadModule(ctx, l, m)
				var broken *badModError
				if errors.As(err, &broken) {
					bad[i], err = err, nil
				}
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			return nil, err
		}
		for i, m := range batch {
			from := names[m]
			if from != "" { // even if its own graph selects a newer one
				p.want(m, true, func() []string { return []string{from} })
			}
			if bad[i] != nil {
				p.notes = append(p.notes, fmt.Sprintf("no new project can start from %s, here or inside: %v", m, bad[i]))
				continue
			}
			if from == "" {
				from = strings.Join(p.versions[m].chain, " → ")
			}
			for _, g := range graphs[i] {
				p.take(g, from, false)
			}
			last := graphs[i][len(graphs[i])-1]
			list := p.take(last, from, true)
			if names[m] != "" {
				if err := p.addUnpruned(ctx, l, last.view, last, from, []mainModule{{require: []modfile.Require{{Mod: m}}}}); err != nil {
					return nil, err
				}
			}
			all = append(all, list...)
			if fixed {
				todo = append(todo, p.open(list)...)
			}
		}
	}
	return all, nil
}

// open returns those of a list that are not closed, and takes them for closed from now on.
func (p *plan) open(list []module.Version) (open []module.Version) {
	for _, m := range list {
		if !p.closed[m] {
			p.closed[m] = true
			open = append(open, m)
		}
	}
	return open
}

// size counts what is in the plan.
func (p *plan) size() (s Size) {
	for _, w := range p.versions {
		if w.zip {
			s.Versions++
		} else {
			s.ModOnly++
		}
	}
	return s
}

// sorted returns the wanted versions by path and version.
func (p *plan) sorted() []*wanted {
	list := make([]*wanted, 0, len(p.versions))
	for _, w := range p.versions {
		list = append(list, w)
	}
	slices.SortFunc(list, func(a, b *wanted) int { return compareMod(a.mod, b.mod) })
	return list
}

// compareMod orders versions by path, then as strings: a total order.
func compareMod(a, b module.Version) int {
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Version, b.Version))
}

// An absentError is the upstream's refusal of a go.mod that the graph needs.
type absentError struct{ err error }

func (e *absentError) Error() string { return e.err.Error() }

func (e *absentError) Unwrap() error { return e.err }

func isAbsent(err error) bool {
	var a *absentError
	return errors.As(err, &a)
}
