package modgraph

import (
	"path/filepath"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// A View is how a main module sees other modules: through its replacements and exclusions. The zero
// View changes nothing.
type View struct {
	replace   map[module.Version]module.Version // the path of a folder includes that of the module that names it
	exclude   map[module.Version]bool
	workspace *Workspace // the main module is a member of it; nil for none

	// start is the version that an imagined project starts from; see Loader.module. A real project
	// need not read all that an imagined one reads: if a go.mod other than that of start cannot be
	// used, its version is a leaf.
	start module.Version
}

func newView() *View {
	return &View{replace: make(map[module.Version]module.Version), exclude: make(map[module.Version]bool)}
}

// NewView returns the view of the main module with go.mod f in dir. w is the workspace that the
// module is a member of, or nil.
func NewView(dir string, f *modfile.File, w *Workspace) *View {
	v := newView()
	v.workspace = w
	for _, r := range f.Replace {
		v.replace[r.Old] = inFolder(dir, r.New)
	}
	for _, x := range f.Exclude {
		v.exclude[x.Mod] = true
	}
	return v
}

// inFolder returns a replacement; if it is a folder with a relative path, the path is taken from
// dir.
func inFolder(dir string, m module.Version) module.Version {
	if m.Version == "" && !filepath.IsAbs(m.Path) {
		m.Path = filepath.Join(dir, m.Path)
	}
	return m
}

// actual returns the replacement of m, or m itself without one. A replacement with an empty version
// is a folder.
func (v *View) actual(m module.Version) module.Version {
	if r, ok := v.replace[m]; ok {
		return r
	}
	if r, ok := v.replace[module.Version{Path: m.Path}]; ok {
		return r
	}
	return m
}
