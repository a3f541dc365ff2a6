package modgraph

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

// A Wanted is a module version whose files belong to a closure: always the .mod and the .info.
type Wanted struct {
	Mod         module.Version
	Zip         bool     // the zip belongs to it too
	Optional    bool     // the version may be absent; see Closure.Optional
	OptionalZip bool     // the zip may be absent
	Chain       []string // how the version came in, from the source down to itself
}

// A Requirement is an edge of a module graph. From has no version when it is a project.
type Requirement struct {
	From, To module.Version
	Indirect bool
}

// A Size is the number of module versions in a closure.
type Size struct {
	Versions int // versions with their zip
	ModOnly  int // versions of which only .mod and .info are wanted
}

// A Closure collects the module versions that sources need. Set Loader and Compat before the first
// call. It is not safe for concurrent use.
type Closure struct {
	Loader *Loader
	Compat bool // collect what go commands before 1.17 read too

	// Optional marks what is added while it is set as something that may be absent: a project or a
	// go command inside works without it.
	Optional bool

	Notes []string // oddities that do not fail the run

	wanted   map[module.Version]*Wanted
	closed   map[module.Version]bool // versions whose own build list was added, or will be
	requires map[Requirement]bool
}

// A Project is a main module and the name of its source.
type Project struct {
	Name      string
	Dir       string
	Mod       *modfile.File
	Workspace *Workspace // the module is a member of it; nil for none
}

// Want adds a version, with its zip or without it. chain says how it came in.
func (c *Closure) Want(m module.Version, zip bool, chain ...string) {
	c.want(m, zip, func() []string { return chain })
}

// want adds a version. It calls chain only when the version is new.
func (c *Closure) want(m module.Version, zip bool, chain func() []string) {
	w := c.wanted[m]
	if w == nil {
		if c.wanted == nil {
			c.wanted = make(map[module.Version]*Wanted)
		}
		w = &Wanted{Mod: m, Chain: chain(), Optional: c.Optional}
		c.wanted[m] = w
	}
	w.Optional = w.Optional && c.Optional
	if zip {
		w.OptionalZip = c.Optional && (w.OptionalZip || !w.Zip)
		w.Zip = true
	}
}

// take adds the versions whose go.mod a graph read and, with zips, its build list, which it
// returns.
func (c *Closure) take(g *graph, from string, zips bool) (list []module.Version) {
	chain := func(m module.Version) func() []string {
		return func() []string {
			names := chainNames(g.chain(m))
			if len(names) > 0 && strings.HasSuffix(from, names[0]) { // the source is the module itself
				names = names[1:]
			}
			return append([]string{from}, names...)
		}
	}
	for _, m := range slices.SortedFunc(maps.Keys(g.require), Compare) { // the first version gives the chain
		if a := g.view.actual(m); a.Version != "" && m.Version != "" && !g.coveredByWorkspace(m) {
			c.want(a, false, chain(m))
		}
		if c.requires == nil {
			c.requires = make(map[Requirement]bool)
		}
		for _, r := range g.require[m] {
			c.requires[Requirement{From: m, To: r.Mod, Indirect: r.Indirect}] = true
		}
	}
	for _, m := range slices.SortedFunc(maps.Keys(g.refused), Compare) {
		if !g.coveredByWorkspace(m) {
			c.want(g.view.actual(m), false, chain(m))
		}
	}
	if zips {
		for _, m := range g.buildList() {
			a := g.view.actual(m)
			if a.Version != "" && !g.coveredByWorkspace(m) {
				c.want(a, true, chain(m))
				list = append(list, a)
			}
		}
	}
	return list
}

// AddProject adds the build closure of a project: its build list, and what the go command reads to
// load its graph. It returns the build list.
func (c *Closure) AddProject(ctx context.Context, p Project) ([]module.Version, error) {
	v, m := NewView(p.Dir, p.Mod, p.Workspace), mainOf(p.Mod)
	g, err := c.Loader.loadConsistent(ctx, v, m, func(g *graph) { c.take(g, p.Name, false) })
	// Without the workspace, no go command can work on such a module.
	if _, ok := errors.AsType[*folderError](err); ok && p.Workspace != nil {
		c.Notes = append(c.Notes, fmt.Sprintf("%s is carried only as a member of its workspace: %v", p.Name, err))
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.Name, err)
	}
	added := c.take(g, p.Name, true)
	if err := c.addUnpruned(ctx, v, g, p.Name, m); err != nil {
		return nil, err
	}
	if p.Mod.Go != nil && goLanguage(p.Mod.Go.Version) == "1.17" {
		// For a go 1.17 module, go mod tidy checks that Go 1.16 would select the same versions
		// (modload/init.go, tidy -compat). It reads the whole unpruned graph and looks for packages
		// in the zips that this selects.
		m.deep = true
		_, err := c.Loader.loadConsistent(ctx, v, m, func(g *graph) {
			added = append(added, c.take(g, p.Name, true)...)
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", p.Name, err)
		}
	}
	return added, nil
}

// addUnpruned adds, when c.Compat is set, what go commands before 1.17 read. They ignore pruning,
// so they read the go.mod of every version that any go.mod names, and use the zips of the build
// list in the versions that the whole graph selects. g is the graph of commands since 1.17.
func (c *Closure) addUnpruned(ctx context.Context, v *View, g *graph, from string, main mainModule) error {
	if !c.Compat || main.deep {
		return nil
	}
	main.deep = true
	old, err := c.Loader.load(ctx, v, main)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	c.take(old, from, false)
	for _, m := range old.buildList() {
		if a := v.actual(m); g.selected[m.Path] != "" && a.Version != "" && !old.coveredByWorkspace(m) {
			c.want(a, true, func() []string { return append([]string{from}, chainNames(old.chain(m))...) })
		}
	}
	return nil
}

// AddWorkspace adds the build closure of a workspace and returns its build list. Callers add each
// member as a project too: go mod tidy works on members alone, and go work sync reads their graphs.
func (c *Closure) AddWorkspace(ctx context.Context, name string, w *Workspace) ([]module.Version, error) {
	g, err := c.Loader.workspace(ctx, w)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return c.take(g, name, true), nil // there were no workspaces before Go 1.18
}

// AddModules adds the own build list of each version in list, which is what installing a command
// takes, and returns the build lists. names has the sources of the versions.
func (c *Closure) AddModules(
	ctx context.Context, list []module.Version, names map[module.Version]string,
) ([]module.Version, error) {
	return c.addModules(ctx, list, names, false)
}

// Close adds the own build list of each version in lists, and of each version of those, until
// nothing is new: then a new project inside can start from any of them. The build lists of roots
// have been added already. names has the sources of the versions that were asked for.
func (c *Closure) Close(ctx context.Context, roots, lists []module.Version, names map[module.Version]string) error {
	c.open(roots)
	_, err := c.addModules(ctx, c.open(lists), names, true)
	return err
}

// together is how many graphs are loaded at once.
const together = 16

// addModules implements AddModules and, with fixed, Close.
func (c *Closure) addModules(
	ctx context.Context, todo []module.Version, names map[module.Version]string, fixed bool,
) (all []module.Version, err error) {
	// Graphs are loaded side by side and taken one after another, in order: the chains in the
	// result must not depend on which graph was loaded first.
	for len(todo) > 0 {
		batch := todo[:min(together, len(todo))]
		todo = todo[len(batch):]
		graphs := make([][]*graph, len(batch))
		bad := make([]error, len(batch))
		eg, egctx := errgroup.WithContext(ctx)
		for i, m := range batch {
			eg.Go(func() (err error) {
				graphs[i], err = c.Loader.module(egctx, m)
				if _, ok := errors.AsType[*BadModError](err); ok {
					bad[i], err = err, nil
				}
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			return nil, err
		}
		for i, m := range batch {
			list, err := c.takeModule(ctx, m, names[m], graphs[i], bad[i])
			if err != nil {
				return nil, err
			}
			all = append(all, list...)
			if fixed {
				todo = append(todo, c.open(list)...)
			}
		}
	}
	return all, nil
}

// takeModule adds the graphs of m, and returns its build list. name is the source that asked for m,
// "" when it is only part of a build list. bad says why no project can start from m.
func (c *Closure) takeModule(
	ctx context.Context, m module.Version, name string, graphs []*graph, bad error,
) ([]module.Version, error) {
	if name != "" { // even if its own graph selects a newer version
		c.Want(m, true, name)
	}
	if bad != nil {
		c.Notes = append(c.Notes, fmt.Sprintf("no new project can start from %s, here or inside: %v", m, bad))
		return nil, nil
	}
	from := name
	if from == "" {
		from = strings.Join(c.wanted[m].Chain, " → ")
	}
	for _, g := range graphs {
		c.take(g, from, false)
	}
	last := graphs[len(graphs)-1]
	list := c.take(last, from, true)
	if name == "" {
		return list, nil
	}
	return list, c.addUnpruned(ctx, last.view, last, from, mainModule{require: []modfile.Require{{Mod: m}}})
}

// open returns the versions of a list that are not closed, and marks them as closed.
func (c *Closure) open(list []module.Version) (open []module.Version) {
	if c.closed == nil {
		c.closed = make(map[module.Version]bool)
	}
	for _, m := range list {
		if !c.closed[m] {
			c.closed[m] = true
			open = append(open, m)
		}
	}
	return open
}

// Has reports whether the closure has a version.
func (c *Closure) Has(m module.Version) bool { return c.wanted[m] != nil }

// Remove takes a version out.
func (c *Closure) Remove(m module.Version) { delete(c.wanted, m) }

// Size returns the size of the closure.
func (c *Closure) Size() (s Size) {
	for _, w := range c.wanted {
		if w.Zip {
			s.Versions++
		} else {
			s.ModOnly++
		}
	}
	return s
}

// Versions returns the wanted versions in the order of Compare.
func (c *Closure) Versions() []*Wanted {
	return slices.SortedFunc(maps.Values(c.wanted), func(a, b *Wanted) int { return Compare(a.Mod, b.Mod) })
}

// Requirements returns the edges of all graphs, sorted, without those of imagined projects.
func (c *Closure) Requirements() []Requirement {
	var list []Requirement
	for r := range c.requires {
		if r.From.Path != "" {
			list = append(list, r)
		}
	}
	slices.SortFunc(list, func(a, b Requirement) int {
		indirect := cmp.Compare(fmt.Sprint(a.Indirect), fmt.Sprint(b.Indirect))
		return cmp.Or(Compare(a.From, b.From), Compare(a.To, b.To), indirect)
	})
	return list
}
