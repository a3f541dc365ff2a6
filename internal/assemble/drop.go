package assemble

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/hint"
)

// dropUnused is the pattern for every version that the sources do not need.
const dropUnused = "unused"

// patterns name the module versions that leave a line unless the sources need them. A pattern is as
// in GOPRIVATE, alone or with @version; or dropUnused.
type patterns []string

// check returns a usage error for a pattern that cannot match.
func (ps patterns) check() error {
	for _, p := range ps {
		glob, _, _ := strings.Cut(p, "@")
		if _, err := path.Match(glob, ""); err != nil || glob == "" {
			return hint.Usagef("--drop %q: want a module path or a pattern as in GOPRIVATE, perhaps with @version", glob)
		}
	}
	return nil
}

// match reports whether a module version leaves the line.
func (ps patterns) match(modPath, version string) bool {
	return slices.ContainsFunc(ps, func(p string) bool {
		glob, v, hasVersion := strings.Cut(p, "@")
		return p == dropUnused || (!hasVersion || v == version) && module.MatchPrefixPatterns(glob, modPath)
	})
}

// sayDropped reports which versions left the line, and which patterns matched none of them.
func (r *Run) sayDropped(c *bundle.Contents) {
	const some = 10
	if n := len(c.Dropped); n > 0 {
		more := ""
		if n > some {
			more = fmt.Sprintf(" and %d more", n-some)
		}
		r.o.Report.Say("%s left the line: %s%s", count(n, "version"), strings.Join(c.Dropped[:min(n, some)], ", "), more)
	}
	for _, pattern := range r.o.Drop {
		one := patterns{pattern}
		matches := func(name string) bool {
			path, version, _ := strings.Cut(name, "@")
			return one.match(path, version)
		}
		if pattern == dropUnused || slices.ContainsFunc(c.Dropped, matches) {
			continue
		}
		if slices.ContainsFunc(c.Versions, func(v bundle.Version) bool { return one.match(v.Path, v.Version.Version) }) {
			r.o.Report.Say("what --drop %s matches is carried, since the sources need it", pattern)
		} else {
			r.o.Report.Say("--drop %s matches nothing in the line", pattern)
		}
	}
}
