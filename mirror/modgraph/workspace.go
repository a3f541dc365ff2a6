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

// NewWorkspace returns the workspace of a go.work file in dir. It sees other modules through the
// replacements of go.work, and then through those of any member, and without what any member
// excludes (cmd/go/internal/modload/modfile.go replacementFrom).
func NewWorkspace(dir string, work *modfile.WorkFile, members []Member) *Workspace {
	w := &Workspace{view: newView(), paths: make(map[string]bool)}
	replace := w.view.replace
	for _, m := range members {
		w.mains = append(w.mains, mainOf(m.Mod))
		w.paths[m.Mod.Module.Mod.Path] = true
		for _, r := range m.Mod.Replace {
			if _, ok := replace[r.Old]; !ok {
				replace[r.Old] = inFolder(m.Dir, r.New)
			}
		}
		for _, x := range m.Mod.Exclude {
			w.view.exclude[x.Mod] = true
		}
	}
	for _, r := range work.Replace {
		if r.Old.Version == "" { // it outranks what members say of single versions
			maps.DeleteFunc(replace, func(old, _ module.Version) bool { return old.Path == r.Old.Path })
		}
	}
	for _, r := range work.Replace {
		replace[r.Old] = inFolder(dir, r.New)
	}
	return w
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
