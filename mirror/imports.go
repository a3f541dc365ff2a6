package mirror

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/build/constraint"
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
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/modgraph"
	"github.com/modmirror/modmirror/mirror/sources"
)

const (
	// maxSource is the longest Go file in bytes whose imports are read. The longest known ones,
	// which are generated, have some 10 MiB.
	maxSource = 32 << 20

	// maxImports bounds the packages that versions without a go.mod import in all. docker, which is
	// large, imports some hundred.
	maxImports = 5000
)

// A version that a source names may be older than modules and have no go.mod, like docker/docker
// and many commands. A go command that gets or installs it finds the module of each imported
// package by asking for the latest version of every path above it (modload/import.go queryImport).
// So those latest versions belong to the closure, as far as they exist: old files import packages
// that are gone. go mod tidy wants the tests of such a version too, but not those of what it
// imports.

// addImports adds the packages that carried versions without a go.mod import to the sources, as
// commands in their latest version. It reports whether any was new.
func (r *run) addImports(to *sources.Sources) (added bool, err error) {
	carried := make(map[module.Version]bool)
	for _, v := range r.out.Versions {
		carried[v.Mod] = v.Zip != nil
	}
	known := make(map[string]bool)
	for _, s := range to.List {
		if s.Imported {
			known[s.Tool] = true
		}
	}
	for _, b := range r.noGoMod {
		if !carried[b.mod] {
			continue
		}
		zip := r.fetch.dir.Path(versionFile(modpath.Zip, b.mod.Path, b.mod.Version))
		imports, err := importsOf(zip, b.mod, !b.imported)
		if err != nil {
			return added, fmt.Errorf("reading what %s imports: %w", b.mod, err)
		}
		for _, p := range imports {
			if known[p] {
				continue
			}
			if known[p] = true; len(known) > maxImports {
				return added, fmt.Errorf("%s, which has no go.mod, and what it leads to import more than %d packages: "+
					"a line \"only %[1]s\" carries it alone", r.out.NoGoMod[0], maxImports)
			}
			to.List = append(to.List, sources.Source{
				Name: fmt.Sprintf("%s imports %s", b.mod, p), Tool: p, Imported: true,
				Query: module.Version{Path: p, Version: "latest"},
			})
			added = true
		}
	}
	return added, nil
}

// importsOf returns, sorted, the packages of other modules that the packages of a module zip import
// under any build constraints but ignore. With tests, imports of test files count too.
func importsOf(file string, m module.Version, tests bool) ([]string, error) {
	z, err := zip.OpenReader(file)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	found, own := make(map[string]bool), make(map[string]bool)
	for _, e := range z.File {
		name := strings.TrimPrefix(e.Name, m.String()+"/")
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		own[path.Join(m.Path, path.Dir(name))] = true
		if strings.HasSuffix(name, "_test.go") && !tests || ignored(path.Dir(name)) {
			continue
		}
		src, err := e.Open()
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(io.LimitReader(src, maxSource+1))
		src.Close()
		if err != nil {
			return nil, err
		}
		if len(data) > maxSource {
			return nil, fmt.Errorf("%s has more than %d bytes", name, maxSource)
		}
		f, _ := parser.ParseFile(token.NewFileSet(), "", data, parser.ImportsOnly|parser.ParseComments)
		if f == nil || neverBuilt(f) { // the go command skips it too
			continue
		}
		for _, i := range f.Imports {
			p, err := strconv.Unquote(i.Path.Value)
			first, _, _ := strings.Cut(p, "/")
			if err == nil && strings.Contains(first, ".") && module.CheckImportPath(p) == nil {
				found[p] = true
			}
		}
	}
	// A package below the module's path may belong to another module.
	maps.DeleteFunc(found, func(p string, _ bool) bool { return own[p] })
	return slices.Sorted(maps.Keys(found)), nil
}

// neverBuilt reports whether a file has a build constraint that holds for no platform and no tag
// but ignore. go mod tidy takes ignore for unset too (cmd/go/internal/imports/build.go).
func neverBuilt(f *ast.File) bool {
	for _, group := range f.Comments {
		for _, c := range group.List {
			if c.Pos() > f.Package {
				return false
			}
			if x, err := constraint.Parse(c.Text); err == nil && constraint.IsGoBuild(c.Text) {
				return !mayHold(x, true)
			}
		}
	}
	return false
}

// mayHold reports whether a constraint can evaluate to want for some values of its tags. The tag
// ignore is never set.
func mayHold(x constraint.Expr, want bool) bool {
	switch x := x.(type) {
	case *constraint.TagExpr:
		return x.Tag != "ignore" && want
	case *constraint.NotExpr:
		return !mayHold(x.X, !want)
	case *constraint.AndExpr:
		return mayHold(x.X, want) && mayHold(x.Y, want)
	case *constraint.OrExpr:
		return mayHold(x.X, want) || mayHold(x.Y, want)
	}
	return true
}

// hasPackage reports whether a module zip has Go files in the folder of a package.
func hasPackage(file string, m module.Version, pkg string) (bool, error) {
	rel, ok := strings.CutPrefix(pkg, m.Path)
	if !ok {
		return false, nil
	}
	z, err := zip.OpenReader(file)
	if err != nil {
		return false, err
	}
	defer z.Close()
	dir := m.String() + rel
	return slices.ContainsFunc(z.File, func(e *zip.File) bool {
		return path.Dir(e.Name) == dir && strings.HasSuffix(e.Name, ".go")
	}), nil
}

// checkTools returns an error when a command is in none of the modules that were carried for it.
func (r *run) checkTools() error {
	for i, mods := range r.tools {
		s, found, whole := &r.job.List[i], false, true
		for _, m := range mods {
			at, carried := slices.BinarySearchFunc(r.out.Versions, m, func(v Version, m module.Version) int {
				return modgraph.Compare(v.Mod, m)
			})
			if whole = whole && carried && r.out.Versions[at].Zip != nil; !whole {
				break // r.out.Missing has it
			}
			has, err := hasPackage(r.fetch.dir.Path(versionFile(modpath.Zip, m.Path, m.Version)), m, s.Tool)
			if err != nil {
				return err
			}
			found = found || has
		}
		if !found && whole {
			return fmt.Errorf("%s: no package %s in %s", s.Name, s.Tool, mods[0])
		}
	}
	return nil
}

// ignored reports whether the go command ignores a folder: an element of its path is testdata or
// vendor, or begins with a dot or an underscore (go help packages).
func ignored(dir string) bool {
	for elem := range strings.SplitSeq(dir, "/") {
		hidden := strings.HasPrefix(elem, "_") || strings.HasPrefix(elem, ".") && elem != "."
		if hidden || elem == "testdata" || elem == "vendor" {
			return true
		}
	}
	return false
}

// A noGoMod is a version that was asked for by name and has no go.mod.
type noGoMod struct {
	mod      module.Version
	imported bool // another such version imports it
}

// findNoGoMod records the versions in names that have no go.mod.
func (r *run) findNoGoMod(ctx context.Context, names map[module.Version]string, imported bool) error {
	for _, m := range slices.SortedFunc(maps.Keys(names), modgraph.Compare) {
		if m.Path == modpath.Toolchain {
			continue
		}
		real, err := r.fetch.hasGoMod(ctx, m)
		if modgraph.IsAbsent(err) || imported && err != nil && ctx.Err() == nil && !errors.Is(err, proof.ErrMismatch) {
			continue
		}
		if err != nil {
			return err
		}
		if !real {
			r.noGoMod = append(r.noGoMod, noGoMod{m, imported})
			if !imported {
				r.out.NoGoMod = append(r.out.NoGoMod, m)
			}
		}
	}
	return nil
}
