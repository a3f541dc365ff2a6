package modgraph

import (
	"maps"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

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
