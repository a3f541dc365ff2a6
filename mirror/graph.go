package mirror

import (
	"context"
	"errors"
	"fmt"
	"go/version"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/proof"
)

// maxGraph is the largest number of module versions that a graph may have. The
// largest real graphs have some ten thousand; a hostile go.mod can name endless ones.
const maxGraph = 200_000

// A goMod is what graph loading needs of a go.mod file.
type goMod struct {
	path       string // as its module line says
	require    []modfile.Require
	goLine     string
	pruned     bool // go 1.17 or later: what it requires needs no further reading
	retract    []modfile.VersionInterval
	reasons    []string // of the retractions
	deprecated string
}

func summarize(f *modfile.File) *goMod {
	g := &goMod{}
	if f.Module != nil {
		g.path, g.deprecated = f.Module.Mod.Path, f.Module.Deprecated
	}
	if f.Go != nil {
		g.goLine, g.pruned = f.Go.Version, pruned(f.Go.Version)
	}
	for _, r := range f.Require {
		g.require = append(g.require, modfile.Require{Mod: r.Mod, Indirect: r.Indirect})
	}
	for _, r := range f.Retract {
		g.retract = append(g.retract, r.VersionInterval)
		g.reasons = append(g.reasons, r.Rationale)
	}
	return g
}

// pruned reports whether a module with this go line has a pruned graph
// (cmd/go/internal/modload/modfile.go pruningForGoVersion: 1.17 and later).
func pruned(goVersion string) bool { return goAtLeast(goVersion, "1.17") }

// goAtLeast reports whether a go line's version is min or later, as cmd/go orders them
// (internal/gover): 1.17rc1 is before 1.17, and 1.17.1 after it.
func goAtLeast(v, min string) bool {
	return version.Compare("go"+v, "go"+min) >= 0
}

// goLanguage returns the language version of a go line: 1.22rc1 → 1.22.
func goLanguage(v string) string {
	return strings.TrimPrefix(version.Lang("go"+v), "go")
}

// A view is how a main module sees other modules: its replacements and exclusions.
// The zero view changes nothing.
type view struct {
	dir     string // that local replacements are relative to
	replace map[module.Version]module.Version
	exclude map[module.Version]bool
	work    *Source // of which the main module is a member, nil for none

	// start is, for a project that is only imagined, what it starts from. Not all that such a project might
	// read is read by a real one: a go.mod besides start's that cannot be read makes a leaf.
	start module.Version
}

func newView(dir string, f *modfile.File) *view {
	v := &view{dir: dir, replace: make(map[module.Version]module.Version), exclude: make(map[module.Version]bool)}
	for _, r := range f.Replace {
		v.replace[r.Old] = r.New
	}
	for _, x := range f.Exclude {
		v.exclude[x.Mod] = true
	}
	return v
}

// workspaceView is how a workspace sees other modules: what go.work replaces, and then what any of its modules
// replaces or excludes (modload/modfile.go replacementFrom).
func workspaceView(s *Source) *view {
	v := &view{dir: s.Dir, replace: make(map[module.Version]module.Version), exclude: make(map[module.Version]bool)}
	for _, m := range s.Members {
		for _, r := range m.Mod.Replace {
			if r.New.Version == "" && !filepath.IsAbs(r.New.Path) {
				if abs, err := filepath.Abs(m.Dir); err == nil {
					r.New.Path = filepath.Join(abs, r.New.Path)
				}
			}
			if _, ok := v.replace[r.Old]; !ok {
				v.replace[r.Old] = r.New
			}
		}
		for _, x := range m.Mod.Exclude {
			v.exclude[x.Mod] = true
		}
	}
	for _, r := range s.Work.Replace {
		if r.Old.Version == "" { // it goes before what the modules say of one version
			maps.DeleteFunc(v.replace, func(old, _ module.Version) bool { return old.Path == r.Old.Path })
		}
	}
	for _, r := range s.Work.Replace {
		v.replace[r.Old] = r.New
	}
	return v
}

// has reports whether a workspace has something else in the place of a version: one of its modules, or a replacement.
func (w *Source) has(m module.Version) bool {
	return w != nil && (slices.ContainsFunc(w.Members, func(o Member) bool { return o.Mod.Module.Mod.Path == m.Path }) || workspaceView(w).actual(m) != m)
}

// forgiven reports whether the upstream's refusal of m is of no account, since the workspace has something else in its place.
func (g *graph) forgiven(m module.Version) bool { return g.refused[m] && g.view.work.has(m) }

// actual returns the module that stands in for m, m itself without a replacement.
// One with an empty version is a folder.
func (v *view) actual(m module.Version) module.Version {
	if r, ok := v.replace[m]; ok {
		return r
	}
	if r, ok := v.replace[module.Version{Path: m.Path}]; ok {
		return r
	}
	return m
}

// A graph is the module graph of a main module. Its nodes are the versions whose
// go.mod was read and those that were only named.
type graph struct {
	view     *view
	mains    map[string]bool                      // paths of the main modules
	require  map[module.Version][]modfile.Require // of the versions that were read
	selected map[string]string                    // highest version of each path
	parent   map[module.Version]module.Version    // what named a version first, on a shortest way
	refused  map[module.Version]bool              // versions whose go.mod the upstream does not hand out

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

// A loader loads module graphs. The go.mod files that it reads are shared by all of them.
type loader struct {
	// read returns the go.mod of a version that is not a folder. An upstream's
	// refusal is returned as an *absentError and makes the version a leaf.
	read func(ctx context.Context, m module.Version) (*goMod, error)

	mu   sync.Mutex
	mods map[module.Version]*loadedMod
}

type loadedMod struct {
	once sync.Once
	mod  *goMod
	err  error
}

// summary returns the go.mod of m as v sees it.
func (l *loader) summary(ctx context.Context, v *view, m module.Version) (*goMod, error) {
	a := v.actual(m)
	if a.Version == "" {
		file := a.Path
		if !filepath.IsAbs(file) {
			file = filepath.Join(v.dir, file)
		}
		file = filepath.Join(file, "go.mod")
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, &replacementError{fmt.Errorf("reading the replacement of %s: %w", m, err)}
		}
		f, err := modfile.ParseLax(file, data, nil)
		if err != nil {
			return nil, err
		}
		return summarize(f), nil
	}
	l.mu.Lock()
	e := l.mods[a]
	if e == nil {
		e = new(loadedMod)
		if l.mods == nil {
			l.mods = make(map[module.Version]*loadedMod)
		}
		l.mods[a] = e
	}
	l.mu.Unlock()
	e.once.Do(func() { e.mod, e.err = l.read(ctx, a) })
	if e.err == nil && e.mod.path != m.Path && e.mod.path != a.Path {
		// As cmd/go has it (modload/modfile.go goModSummary): a replacement may declare either path.
		return nil, &badModError{fmt.Errorf("its go.mod declares its path as %s", e.mod.path)}
	}
	return e.mod, e.err
}

// A replacementError is a folder that stands in for a module and cannot be read.
type replacementError struct{ err error }

func (e *replacementError) Error() string { return e.err.Error() }

func (e *replacementError) Unwrap() error { return e.err }

// A badModError is a go.mod that is what the checksum database says, and of no use: a go
// command that must read it fails too.
type badModError struct{ err error }

func (e *badModError) Error() string { return e.err.Error() }

func (e *badModError) Unwrap() error { return e.err }

// A mainModule is a main module with what its go.mod requires.
type mainModule struct {
	mod     module.Version // without a version
	require []modfile.Require
	deep    bool // its graph is not pruned
}

// How much is read below a version.
type depth int

const (
	shallow  depth = iota // what it requires, if its own graph is unpruned
	oneLevel              // what it requires
	deep                  // everything: unpruned is inherited by all below
)

// A visit is a version to be read.
type visit struct {
	mod   module.Version
	depth depth
}

// load loads the graph of a project, as readModGraph of cmd/go/internal/modload/buildlist.go does: the go.mod
// of each version that main requires, and what they require below one whose own graph is
// unpruned, or everywhere when main's is.
func (l *loader) load(ctx context.Context, v *view, m mainModule) (*graph, error) {
	g := newGraph(v, m)
	return g, g.read(ctx, l)
}

// loadWorkspace loads the graph of a workspace. It goes deeper than the graphs of its modules: what one of them requires
// in a version that another outbids is read in the selected version too, with what that requires.
func (l *loader) loadWorkspace(ctx context.Context, v *view, mains []mainModule) (*graph, error) {
	g := newGraph(v, mains...)
	again := make(map[module.Version]bool) // whose requirements are looked at for ones that are outbid
	for _, m := range mains {
		again[m.mod] = true
	}
	for grown := true; grown; {
		if err := g.read(ctx, l); err != nil {
			return nil, err
		}
		grown = false
		for _, m := range slices.SortedFunc(maps.Keys(again), compareMod) {
			for _, r := range g.require[m] {
				s := module.Version{Path: r.Mod.Path, Version: g.selected[r.Mod.Path]}
				if !g.mains[s.Path] && semver.Compare(s.Version, r.Mod.Version) > 0 && !again[s] {
					again[s] = true
					g.enqueue(s, oneLevel)
					grown = true
				}
			}
		}
	}
	return g, nil
}

// newGraph returns the graph of main modules, of which nothing is read yet.
func newGraph(v *view, mains ...mainModule) *graph {
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

// name says that from requires m.
func (g *graph) name(from, m module.Version) {
	// An older version of a main module is read like any other, but never selected.
	if !g.mains[m.Path] && semver.Compare(m.Version, g.selected[m.Path]) > 0 {
		g.selected[m.Path] = m.Version
	}
	if _, ok := g.parent[m]; !ok && !(g.mains[m.Path] && m.Version == "") {
		g.parent[m] = from
	}
}

// enqueue has read visit m.
func (g *graph) enqueue(m module.Version, d depth) {
	if k := (visit{m, d}); !(g.mains[m.Path] && m.Version == "") && !g.seen[k] {
		g.seen[k] = true
		g.wave = append(g.wave, k)
	}
}

// read visits what is enqueued, and what that leads to.
func (g *graph) read(ctx context.Context, l *loader) error {
	v := g.view
	for len(g.wave) > 0 {
		if len(g.seen) > maxGraph {
			return fmt.Errorf("module graph has more than %d versions", maxGraph)
		}
		this := g.wave
		g.wave = nil
		mods := make([]*goMod, len(this))
		eg, ctx := errgroup.WithContext(ctx)
		eg.SetLimit(readsInFlight)
		for i, k := range this {
			eg.Go(func() error {
				mod, err := l.summary(ctx, v, k.mod)
				var bad *badModError
				var gone *replacementError
				if err != nil && ctx.Err() == nil && !errors.Is(err, proof.ErrMismatch) && !errors.As(err, &gone) && v.work.has(k.mod) {
					return nil // whatever is the matter with it: the workspace has it whole
				}
				if isAbsent(err) || v.start.Path != "" && k.mod != v.start && errors.As(err, &bad) {
					return nil
				}
				if err != nil {
					return fmt.Errorf("%s: %w", chainString(g.chain(k.mod)), err)
				}
				mods[i] = mod
				return nil
			})
		}
		if err := eg.Wait(); err != nil {
			return err
		}
		for i, k := range this {
			mod := mods[i]
			if mod == nil {
				g.refused[k.mod] = true
				continue
			}
			if _, ok := g.require[k.mod]; !ok {
				var reqs []modfile.Require
				for _, r := range mod.require {
					if !v.exclude[r.Mod] {
						reqs = append(reqs, r)
						g.name(k.mod, r.Mod)
					}
				}
				g.require[k.mod] = reqs
			}
			below := shallow
			switch {
			case k.depth == deep || !mod.pruned:
				below = deep
			case k.depth == shallow:
				continue
			}
			for _, r := range g.require[k.mod] {
				g.enqueue(r.Mod, below)
			}
		}
	}
	return nil
}

// loadConsistent is load, repeated with every root at its selected version until
// all are, as expandGraph of modload/buildlist.go does. It calls use with each graph.
func (l *loader) loadConsistent(ctx context.Context, v *view, m mainModule, use func(*graph)) (*graph, error) {
	var before *graph
	for {
		g, err := l.load(ctx, v, m)
		if err != nil {
			return nil, err
		}
		if before != nil { // a root that was promoted came in by what named that version first
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
