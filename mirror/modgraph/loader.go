// Package modgraph loads module graphs as the go command does, and finds the closure of sources:
// the module versions whose files a go command reads or builds.
//
// It is pure: go.mod files come from the functions of a Loader, and it reads no disk and no
// network. References name the places of cmd/go that it follows.
package modgraph

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"go/version"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

// A GoMod is the part of a go.mod file that graphs, retractions and toolchains need.
type GoMod struct {
	Path       string // of the module line
	Require    []modfile.Require
	Go         string // version of the go line, "" without one
	Pruned     bool   // the go line is 1.17 or later, so its graph is pruned
	Deprecated string // deprecation message
	retract    []modfile.VersionInterval
	reasons    []string // of the retractions
}

// Summarize returns the GoMod of a parsed go.mod file.
func Summarize(f *modfile.File) *GoMod {
	g := &GoMod{}
	if f.Module != nil {
		g.Path, g.Deprecated = f.Module.Mod.Path, f.Module.Deprecated
	}
	if f.Go != nil {
		g.Go, g.Pruned = f.Go.Version, pruned(f.Go.Version)
	}
	for _, r := range f.Require {
		g.Require = append(g.Require, modfile.Require{Mod: r.Mod, Indirect: r.Indirect})
	}
	for _, r := range f.Retract {
		g.retract = append(g.retract, r.VersionInterval)
		g.reasons = append(g.reasons, r.Rationale)
	}
	return g
}

// Retracted reports whether the go.mod retracts a version, and why. A nil GoMod retracts nothing.
func (g *GoMod) Retracted(version string) (reason string, yes bool) {
	if g == nil {
		return "", false
	}
	for i, r := range g.retract {
		if semver.Compare(r.Low, version) <= 0 && semver.Compare(version, r.High) <= 0 {
			return g.reasons[i], true
		}
	}
	return "", false
}

// pruned reports whether the graph of a module with this go line is pruned
// (cmd/go/internal/modload/modfile.go pruningForGoVersion: 1.17 and later).
func pruned(goVersion string) bool { return goAtLeast(goVersion, "1.17") }

// goAtLeast reports whether the version of a go line is min or later, in the order of cmd/go
// (internal/gover): 1.17rc1 is before 1.17, and 1.17.1 is after it.
func goAtLeast(v, min string) bool {
	return version.Compare("go"+v, "go"+min) >= 0
}

// goLanguage returns the language version of a go line: 1.22 for 1.22rc1.
func goLanguage(v string) string {
	return strings.TrimPrefix(version.Lang("go"+v), "go")
}

// Compare orders versions by path and then by version, both as strings. It is a total order.
func Compare(a, b module.Version) int {
	return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Version, b.Version))
}

// A Loader loads module graphs. Its functions must be set. All graphs share the go.mod files that
// it reads. It is safe for concurrent use when its functions are.
type Loader struct {
	// Read returns the go.mod of a module version. It returns an *AbsentError when the upstream
	// refuses the file, which makes the version a leaf, and a *BadModError when the file is the one
	// that was published and cannot be used.
	Read func(ctx context.Context, m module.Version) (*GoMod, error)

	// ReadFile returns the content of the go.mod file in a folder that replaces a module.
	ReadFile func(name string) ([]byte, error)

	mu   sync.Mutex
	mods map[module.Version]*loadedMod // guarded by mu
}

// A loadedMod is the result of Loader.Read for a version.
type loadedMod struct {
	once sync.Once
	mod  *GoMod
	err  error
}

// summary returns the go.mod of m as v sees it.
func (l *Loader) summary(ctx context.Context, v *View, m module.Version) (*GoMod, error) {
	a := v.actual(m)
	if a.Version == "" {
		file := filepath.Join(a.Path, "go.mod")
		data, err := l.ReadFile(file)
		if err != nil {
			return nil, &folderError{fmt.Errorf("reading the replacement of %s: %w", m, err)}
		}
		f, err := modfile.ParseLax(file, data, nil)
		if err != nil {
			return nil, err
		}
		return Summarize(f), nil
	}
	l.mu.Lock()
	e := l.mods[a]
	if e == nil {
		e = new(loadedMod)
		if l.mods == nil {
			l.mods = make(map[module.Version]*loadedMod)
		}
		l.mods[a] = e
	}
	l.mu.Unlock()
	e.once.Do(func() { e.mod, e.err = l.Read(ctx, a) })
	if e.err == nil && e.mod.Path != m.Path && e.mod.Path != a.Path {
		// A replacement may declare either path (cmd/go/internal/modload/modfile.go goModSummary).
		return nil, &BadModError{fmt.Errorf("its go.mod declares its path as %s", e.mod.Path)}
	}
	return e.mod, e.err
}

// An AbsentError says that an upstream refuses a file.
type AbsentError struct{ Err error }

// Error says what the upstream answered.
func (e *AbsentError) Error() string { return e.Err.Error() }

// Unwrap returns e.Err.
func (e *AbsentError) Unwrap() error { return e.Err }

// IsAbsent reports whether err wraps an *AbsentError.
func IsAbsent(err error) bool {
	_, ok := errors.AsType[*AbsentError](err)
	return ok
}

// A BadModError says that a go.mod file cannot be used, although it is the one that the checksum
// database has. A go command that must read it fails too.
type BadModError struct{ Err error }

// Error says what is wrong with the file.
func (e *BadModError) Error() string { return e.Err.Error() }

// Unwrap returns e.Err.
func (e *BadModError) Unwrap() error { return e.Err }

// A folderError says that the folder that replaces a module cannot be read.
type folderError struct{ err error }

func (e *folderError) Error() string { return e.err.Error() }
func (e *folderError) Unwrap() error { return e.err }
