package mirror

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// FuzzClosure loads the graph of a module whose go.mod may be anything, as may be those of what it
// requires: it ends, and selects of each path that it requires that version, or a higher one.
func FuzzClosure(f *testing.F) {
	f.Add("module example.com/a\n\ngo 1.20\n\nrequire example.com/b v1.0.0\n", "module example.com/b\n\nrequire example.com/a v1.5.0\n")
	f.Add("module example.com/a\n\nrequire (\n\texample.com/a v1.0.1\n\texample.com/b v1.1.0 // indirect\n)\n", "module example.com/b\n\ngo 1.16\n\nretract v1.1.0 // bad\n")
	f.Add("module x\n\ngo 99.9\n\nexclude example.com/b v1.0.0\n\nreplace example.com/b => ../b\n", "")
	start := module.Version{Path: "example.com/a", Version: "v1.0.0"}
	f.Fuzz(func(t *testing.T, first, others string) {
		reads := 0
		l := &loader{read: func(_ context.Context, m module.Version) (*goMod, error) {
			if reads++; reads > 1000 {
				return nil, errors.New("it does not end")
			}
			text := others
			if m == start {
				text = first
			}
			mod, err := modfile.ParseLax(m.String()+"/go.mod", []byte(text), nil)
			if err == nil && mod.Module == nil {
				err = errors.New("no module line")
			}
			if err != nil {
				return nil, &badModError{err}
			}
			return summarize(mod), nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		graphs, err := loadModule(ctx, l, start)
		if ctx.Err() != nil || err != nil && strings.Contains(err.Error(), "does not end") {
			t.Fatalf("%v, %v", err, ctx.Err())
		}
		for _, g := range graphs {
			for _, r := range g.require[start] {
				if got := g.selected[r.Mod.Path]; semver.Compare(got, r.Mod.Version) < 0 {
					t.Errorf("%s is required, and %q was selected", r.Mod, got)
				}
			}
		}
	})
}
