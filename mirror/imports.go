package mirror

import (
	"archive/zip"
	"context"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
)

// maxSource is the longest Go file in bytes whose imports are read; the rest of a longer one is not looked at.
const maxSource = 1 << 20

// A version that was asked for by name may be older than modules, and have no go.mod: docker/docker is, and many commands are. A go
// command that gets or installs it finds the module of each package that it imports by asking for the latest version of every
// path above that (modload/import.go queryImport). So that is what belongs to its closure, as far as it is to be had: not every
// package that some old file imports is still there. go mod tidy wants the tests of such a version too, but not of what it imports.

// addImports adds to the sources what carried bare versions import, as commands whose modules are wanted in their latest version. It
// reports whether there was something new.
func (r *run) addImports(to *Sources) (added bool, err error) {
	carried := make(map[module.Version]bool)
	for _, v := range r.out.Versions {
		carried[v.Mod] = v.Zip != nil
	}
	for _, b := range r.bare {
		if !carried[b.mod] {
			continue
		}
		imports, err := importsOf(r.fetch.dir.Path(versionFile(modpath.Zip, b.mod.Path, b.mod.Version)), b.mod, !b.imported)
		if err != nil {
			return added, fmt.Errorf("reading what %s imports: %w", b.mod, err)
		}
		for _, p := range imports {
			query := module.Version{Path: p, Version: "latest"}
			if !slices.ContainsFunc(to.List, func(have Source) bool { return have.Tool == p && have.Query == query }) {
				to.List = append(to.List, Source{Name: fmt.Sprintf("%s imports %s", b.mod, p), Tool: p, Query: query, maybe: true, imported: true})
				added = true
			}
		}
	}
	return added, nil
}

// importsOf returns the packages of other modules that a module's packages import, and their tests if those count, under any build
// constraints, sorted.
func importsOf(file string, m module.Version, tests bool) ([]string, error) {
	z, err := zip.OpenReader(file)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	found := make(map[string]bool)
	for _, e := range z.File {
		name := strings.TrimPrefix(e.Name, m.String()+"/")
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") && !tests || ignored(path.Dir(name)) {
			continue
		}
		src, err := e.Open()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(src, maxSource))
		src.Close()
		if err != nil {
			return nil, err
		}
		f, _ := parser.ParseFile(token.NewFileSet(), "", data, parser.ImportsOnly)
		if f == nil { // nor can a go command read it
			continue
		}
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			first, _, _ := strings.Cut(p, "/")
			if err == nil && strings.Contains(first, ".") && module.CheckImportPath(p) == nil && p != m.Path && !strings.HasPrefix(p, m.Path+"/") {
				found[p] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// ignored reports whether go commands pass over a folder: one with an element that is testdata or vendor, or that begins with a
// dot or an underscore (go help packages).
func ignored(dir string) bool {
	for elem := range strings.SplitSeq(dir, "/") {
		if elem == "testdata" || elem == "vendor" || strings.HasPrefix(elem, "_") || strings.HasPrefix(elem, ".") && elem != "." {
			return true
		}
	}
	return false
}

// A bare version was asked for by name and has no go.mod of its own.
type bare struct {
	mod      module.Version
	imported bool // by another one
}

// addBare remembers which of some versions are bare.
func (r *run) addBare(ctx context.Context, names map[module.Version]string, imported bool) error {
	for _, m := range slices.SortedFunc(maps.Keys(names), compareMod) {
		if m.Path == ToolchainPath {
			continue
		}
		real, err := r.fetch.hasGoMod(ctx, m)
		if isAbsent(err) {
			continue
		}
		if err != nil {
			return err
		}
		if !real {
			r.bare = append(r.bare, bare{m, imported})
			if !imported {
				r.out.Bare = append(r.out.Bare, m)
			}
		}
	}
	return nil
}
