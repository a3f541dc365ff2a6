package modgraph

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

func TestGoAtLeast(t *testing.T) {
	for v, want := range map[string]bool{"1.17": true, "1.16": false, "1.9": false, "1.21.3": true, "1.22rc1": true, "1.17beta1": false, "1.17rc1": false, "1.18rc1": true, "2": true} {
		if got := goAtLeast(v, "1.17"); got != want {
			t.Errorf("goAtLeast(%q) = %v", v, got)
		}
	}
}

// FuzzClosure loads the graph of a module whose go.mod may be anything, as may be those of what it
// requires. It must end, and select for each path that it requires that version or a higher one.
func FuzzClosure(f *testing.F) {
	f.Add("module example.com/a\n\ngo 1.20\n\nrequire example.com/b v1.0.0\n", "module example.com/b\n\nrequire example.com/a v1.5.0\n")
	f.Add("module example.com/a\n\nrequire (\n\texample.com/a v1.0.1\n\texample.com/b v1.1.0 // indirect\n)\n", "module example.com/b\n\ngo 1.16\n\nretract v1.1.0 // bad\n")
	f.Add("module x\n\ngo 99.9\n\nexclude example.com/b v1.0.0\n\nreplace example.com/b => ../b\n", "")
	start := module.Version{Path: "example.com/a", Version: "v1.0.0"}
	f.Fuzz(func(t *testing.T, first, others string) {
		reads := 0
		l := &Loader{Read: func(_ context.Context, m module.Version) (*GoMod, error) {
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
				return nil, &BadModError{err}
			}
			return Summarize(mod), nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		graphs, err := l.module(ctx, start)
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
