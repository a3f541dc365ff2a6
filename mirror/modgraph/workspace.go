package modgraph

import (
	"context"
	"maps"
	"slices"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// A Workspace is a go.work file with its members.
type Workspace struct {
	view  *View
	mains []mainModule
	paths map[string]bool // of the members
}

// A Member is a module that a workspace uses.
type Member struct {
	Dir string
	Mod *modfile.File
}

// covers reports whether the workspace has a member or a replacement in the place of m. A nil
// workspace covers nothing.
func (w *Workspace) covers(m module.Version) bool {
	return w != nil && (w.paths[m.Path] || w.view.actual(m) != m)
}

// workspace loads the graph of a workspace. It goes deeper than the graphs of the members: where a
// member requires a version that loses against a higher one, the go.mod of the selected version is
// read too, with what that requires.
func (l *Loader) workspace(ctx context.Context, w *Workspace) (*graph, error) {
	g := newGraph(w.view, w.mains...)
	again := make(map[module.Version]bool) // versions whose requirements may have lost
	for _, m := range w.mains {
		again[m.mod] = true
	}
	for grown := true; grown; {
		if err := g.read(ctx, l); err != nil {
			return nil, err
		}
		grown = false
		for _, m := range slices.SortedFunc(maps.Keys(again), Compare) {
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
