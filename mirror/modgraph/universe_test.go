package modgraph

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// A universe holds the modules that there are, as lines "PATH VERSION GO: PATH@VERSION ...", where
// GO is the version of the go line, or "-" for none. Tests of this package need no network and no
// disk: every go.mod comes from a universe.
type universe map[module.Version]*modfile.File

func parseUniverse(t *testing.T, text string) universe {
	t.Helper()
	u := make(universe)
	for line := range strings.Lines(text) {
		head, reqs, ok := strings.Cut(line, ":")
		f := strings.Fields(head)
		if len(f) == 0 {
			continue
		}
		if !ok || len(f) != 3 {
			t.Fatalf("cannot read %q", line)
		}
		u[module.Version{Path: f[0], Version: f[1]}] = parseMod(t, goMod(f[0], f[2], strings.Fields(reqs)...))
	}
	return u
}

// goMod returns the text of a go.mod file.
func goMod(path, goVersion string, reqs ...string) string {
	text := "module " + path + "\n"
	if goVersion != "-" {
		text += "go " + goVersion + "\n"
	}
	for _, r := range reqs {
		text += "require " + strings.Replace(r, "@", " ", 1) + "\n"
	}
	return text
}

func parseMod(t *testing.T, text string) *modfile.File {
	t.Helper()
	f, err := modfile.Parse("go.mod", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// closure returns an empty closure over the universe. folders holds the go.mod files of folders.
func (u universe) closure(folders map[string]string) *Closure {
	return &Closure{Loader: &Loader{
		Read: func(ctx context.Context, m module.Version) (*GoMod, error) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			f := u[m]
			if f == nil {
				return nil, &AbsentError{fmt.Errorf("%s: not found", m)}
			}
			if f.Module == nil {
				return nil, &BadModError{errors.New("no module line")}
			}
			return Summarize(f), nil
		},
		ReadFile: func(name string) ([]byte, error) {
			if text, ok := folders[name]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
	}}
}

// zips and mods return the versions of a closure with their zip, and those without.
func zips(c *Closure) string { return join(c, true) }
func mods(c *Closure) string { return join(c, false) }

func join(c *Closure, zip bool) string {
	var list []string
	for _, w := range c.Versions() {
		if w.Zip == zip {
			list = append(list, strings.TrimPrefix(w.Mod.String(), "example.com/"))
		}
	}
	return strings.Join(list, " ")
}
