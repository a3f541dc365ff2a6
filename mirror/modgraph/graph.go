package modgraph

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/proof"
)

// maxGraph is the largest number of module versions in a graph. The largest real graphs have some
// ten thousand; a hostile go.mod can name endless ones.
const maxGraph = 200_000

// readsInFlight bounds the goroutines that read go.mod files for one graph.
const readsInFlight = 64

// A graph is the module graph of a main module, or of the members of a workspace. Its nodes are the
// versions whose go.mod was read and the versions that those name.
type graph struct {
	view     *View
	mains    map[string]bool                      // paths of the main modules
	require  map[module.Version][]modfile.Require // of the versions that were read
	selected map[string]string                    // highest version of each path
	parent   map[module.Version]module.Version    // the version that named a version first, on a shortest path
	refused  map[module.Version]bool              // versions whose go.mod the upstream refuses

	seen map[visit]bool
	wave []visit // to be read next
}

// chain returns the requirements that bring m in, from the main module to m.
func (g *graph) chain(m module.Version) []module.Version {
	list := []module.Version{m}
	for {
		p, ok := g.parent[m]
		if !ok || len(list) > len(g.parent) {
			return list
		}
		list = append([]module.Version{p}, list...)
		m = p
	}
}

// buildList returns the selected versions.
func (g *graph) buildList() []module.Version {
	var list []module.Version
	for path, version := range g.selected {
		list = append(list, module.Version{Path: path, Version: version})
	}
	module.Sort(list)
	return list
}

// coveredByWorkspace reports whether it does not matter that the upstream refuses m, because the
// workspace has something else in its place.
func (g *graph) coveredByWorkspace(m module.Version) bool {
	return g.refused[m] && g.view.workspace.covers(m)
}

// A mainModule is a main module with what its go.mod requires.
type mainModule struct {
	mod     module.Version // without a version
	require []modfile.Require
	deep    bool // its graph is not pruned
}

// mainOf returns the main module of a project.
func mainOf(f *modfile.File) mainModule {
	m := mainModule{mod: module.Version{Path: f.Module.Mod.Path}}
	for _, r := range f.Require {
		m.require = append(m.require, *r)
	}
	// Without a go line cmd/go assumes 1.16.
	m.deep = f.Go == nil || !pruned(f.Go.Version)
	return m
}

// A depth says how much is read below a version.
type depth int

const (
	shallow  depth = iota // what it requires, if its own graph is unpruned
	oneLevel              // what it requires
	deep                  // everything: all versions below an unpruned graph count as unpruned
)

// A visit is a version to be read.
type visit struct {
	mod   module.Version
	depth depth
}

// load loads the graph of a project, as readModGraph of cmd/go/internal/modload/buildlist.go does.
// It reads the go.mod of each version that main requires. It goes on below a version whose own
// graph is unpruned, and everywhere when main's graph is.
func (l *Loader) load(ctx context.Context, v *View, m mainModule) (*graph, error) {
	g := newGraph(v, m)
	return g, g.read(ctx, l)
}

// newGraph returns the graph of main modules before any go.mod but theirs is read.
func newGraph(v *View, mains ...mainModule) *graph {
	g := &graph{
		view:     v,
		mains:    make(map[string]bool),
		require:  make(map[module.Version][]modfile.Require),
		selected: make(map[string]string),
		parent:   make(map[module.Version]module.Version),
		refused:  make(map[module.Version]bool),
		seen:     make(map[visit]bool),
	}
	for _, m := range mains {
		g.mains[m.mod.Path] = true
	}
	for _, m := range mains {
		g.require[m.mod] = nil
		for _, r := range m.require {
			if !v.exclude[r.Mod] {
				g.require[m.mod] = append(g.require[m.mod], r)
				g.name(m.mod, r.Mod)
			}
		}
		for _, r := range g.require[m.mod] {
			if m.deep {
				g.enqueue(r.Mod, deep)
			} else {
				g.enqueue(r.Mod, shallow)
			}
		}
	}
	return g
}

// name records that from requires m.
func (g *graph) name(from, m module.Version) {
	// An older version of a main module is read like any other, but never selected.
	if !g.mains[m.Path] && semver.Compare(m.Version, g.selected[m.Path]) > 0 {
		g.selected[m.Path] = m.Version
	}
	if _, ok := g.parent[m]; !ok && !(g.mains[m.Path] && m.Version == "") {
		g.parent[m] = from
	}
}

// enqueue makes read visit m.
func (g *graph) enqueue(m module.Version, d depth) {
	if k := (visit{m, d}); !(g.mains[m.Path] && m.Version == "") && !g.seen[k] {
		g.seen[k] = true
		g.wave = append(g.wave, k)
	}
}

// read visits the enqueued versions, and those that they lead to.
func (g *graph) read(ctx context.Context, l *Loader) error {
	for len(g.wave) > 0 {
		if len(g.seen) > maxGraph {
			return fmt.Errorf("module graph has more than %d versions", maxGraph)
		}
		this := g.wave
		g.wave = nil
		mods := make([]*GoMod, len(this))
		eg, ctx := errgroup.WithContext(ctx)
		eg.SetLimit(readsInFlight)
		for i, k := range this {
			eg.Go(func() (err error) {
				mods[i], err = g.readMod(ctx, l, k.mod)
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			return err
		}
		for i, k := range this {
			g.visited(k, mods[i])
		}
	}
	return nil
}

// readMod returns the go.mod of m, or nil when m is a leaf because its go.mod cannot be had.
func (g *graph) readMod(ctx context.Context, l *Loader, m module.Version) (*GoMod, error) {
	v := g.view
	mod, err := l.summary(ctx, v, m)
	_, bad := errors.AsType[*BadModError](err)
	_, folder := errors.AsType[*folderError](err)
	switch {
	case err == nil:
		return mod, nil
	case ctx.Err() == nil && !errors.Is(err, proof.ErrMismatch) && !folder && v.workspace.covers(m):
		return nil, nil // whatever is wrong with it: the workspace has it whole
	case IsAbsent(err), v.start.Path != "" && m != v.start && bad:
		return nil, nil
	}
	return nil, fmt.Errorf("%s: %w", chainString(g.chain(m)), err)
}

// visited records what the go.mod of a visited version requires. mod is nil for a leaf.
func (g *graph) visited(k visit, mod *GoMod) {
	if mod == nil {
		g.refused[k.mod] = true
		return
	}
	if _, ok := g.require[k.mod]; !ok {
		var reqs []modfile.Require
		for _, r := range mod.Require {
			if !g.view.exclude[r.Mod] {
				reqs = append(reqs, r)
				g.name(k.mod, r.Mod)
			}
		}
		g.require[k.mod] = reqs
	}
	below := shallow
	switch {
	case k.depth == deep || !mod.Pruned:
		below = deep
	case k.depth == shallow:
		return
	}
	for _, r := range g.require[k.mod] {
		g.enqueue(r.Mod, below)
	}
}

// loadConsistent loads a graph again and again, with every root at its selected version, until all
// roots are at theirs, as expandGraph of modload/buildlist.go does. It calls use with each graph
// and returns the last.
func (l *Loader) loadConsistent(ctx context.Context, v *View, m mainModule, use func(*graph)) (*graph, error) {
	var before *graph
	for {
		g, err := l.load(ctx, v, m)
		if err != nil {
			return nil, err
		}
		if before != nil { // a root that was raised came in by the version that named it first
			maps.Copy(g.parent, before.parent)
		}
		before = g
		use(g)
		changed := false
		next := make([]modfile.Require, len(m.require))
		for i, r := range m.require {
			next[i] = r
			if s := g.selected[r.Mod.Path]; s != "" && s != r.Mod.Version && !v.exclude[r.Mod] {
				next[i].Mod.Version = s
				changed = true
			}
		}
		if !changed {
			return g, nil
		}
		m.require = next
	}
}

// module loads the graphs of an imagined project that requires m and uses all of it: its roots are
// m and the versions that m's go.mod names. The last graph is the consistent one. The error is a
// *BadModError when no project can start from m.
func (l *Loader) module(ctx context.Context, m module.Version) ([]*graph, error) {
	roots := []modfile.Require{{Mod: m}}
	mod, err := l.summary(ctx, new(View), m)
	switch {
	case IsAbsent(err): // it is wanted all the same
	case err != nil:
		return nil, fmt.Errorf("%s: %w", m, err)
	default:
		for _, r := range mod.Require {
			if r.Mod.Path != m.Path {
				roots = append(roots, r)
			}
		}
	}
	var graphs []*graph
	_, err = l.loadConsistent(ctx, &View{start: m}, mainModule{require: roots}, func(g *graph) {
		graphs = append(graphs, g)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", m, err)
	}
	return graphs, nil
}

// chainNames returns the names of a chain. The main module of an imagined project has none.
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
