package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/mirror/modgraph"
	"github.com/modmirror/modmirror/mirror/sources"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// A Missing is a file of the closure that an upstream refuses.
type Missing struct {
	Mod     module.Version
	What    string   // "go.mod", "info", "zip", "record" or "list"
	Status  int      // HTTP status of the refusal
	Reason  string   // answer of the upstream
	Asked   string   // the whole error, with the URL
	Chain   []string // the requirements that bring it in, from the source
	Allowed bool     // a missing-ok line allows it, or only something optional brings it in

	Named bool   `json:"-"` // a source names the version itself
	Near  string `json:"-"` // a question that names what may be meant, or ""
}

// maxMissing bounds the missing files of a sync. Nobody reads a longer list, and one go.mod can
// name a hundred thousand versions that do not exist.
const maxMissing = 5_000

// maxExplained bounds the missing versions for which explainMissing asks the upstream.
const maxExplained = 10

// explainMissing removes duplicates from the missing files, and asks the upstream what may be meant
// by versions that a source names and that do not exist.
func (r *run) explainMissing(ctx context.Context) {
	seen := make(map[string]bool)
	r.out.Missing = slices.DeleteFunc(r.out.Missing, func(m Missing) bool {
		key := m.Mod.String() + " " + m.What
		defer func() { seen[key] = true }()
		return seen[key]
	})
	slices.Sort(r.out.Toolchains)
	r.out.Toolchains = slices.Compact(r.out.Toolchains)
	named := make(map[string]*sources.Source)
	for i := range r.job.List {
		if s := &r.job.List[i]; s.Query.Path != "" && !s.Optional && !s.Imported {
			named[s.Name] = s
		}
	}
	n := 0
	for i := range r.out.Missing {
		m := &r.out.Missing[i]
		if len(m.Chain) != 1 {
			continue
		}
		s := named[m.Chain[0]]
		m.Named = s != nil && (s.Query == m.Mod || s.Tool != "")
		if !m.Named || m.Allowed || s.Tool != "" || m.What == "zip" {
			continue
		}
		if n++; n <= maxExplained {
			m.Near = r.near(ctx, m.Mod)
		}
	}
}

// near returns a question or a hint about what may be meant by m, or "".
func (r *run) near(ctx context.Context, m module.Version) string {
	prefix, pathMajor, ok := module.SplitPathVersion(m.Path)
	if major := semver.Major(m.Version); ok && pathMajor == "" && len(major) > 1 && major != "v0" && major != "v1" {
		other := prefix + "/" + major
		if list, _, err := r.fetch.versions(ctx, other); err == nil && len(list) > 0 {
			return fmt.Sprintf("did you mean %s@%s?", other, modpath.Nearest(list, m.Version))
		}
	}
	if list, newest, err := r.fetch.versions(ctx, m.Path); err == nil {
		prerelease := func(v string) bool { return semver.Prerelease(v) != "" }
		if releases := slices.DeleteFunc(slices.Clone(list), prerelease); len(releases) > 0 {
			list = releases
		}
		if v := "v" + m.Version; slices.Contains(list, v) {
			return fmt.Sprintf("did you mean %s@%s? Versions begin with v", m.Path, v)
		} else if semver.Canonical(v) == v {
			return fmt.Sprintf("did you mean %s@%s? Versions begin with v", m.Path, cmp.Or(modpath.Nearest(list, v), v))
		}
		switch v := modpath.Nearest(list, m.Version); {
		case v != "":
			return fmt.Sprintf("did you mean %s@%s?", m.Path, v)
		case len(list) > 0:
			return fmt.Sprintf("it has versions: %s@latest, or one of them", m.Path)
		case newest != "":
			return fmt.Sprintf("it has no tags; its newest commit is %s@%s", m.Path, newest)
		}
		return ""
	}
	for p, levels := path.Dir(m.Path), 0; modpath.CanBeModule(p) && levels < 4; p, levels = path.Dir(p), levels+1 {
		if list, newest, err := r.fetch.versions(ctx, p); err == nil && len(list)+len(newest) > 0 {
			return fmt.Sprintf("is that a package of the module %s? Name the module, or a command with a line: tool %s@%s",
				p, m.Path, m.Version)
		}
	}
	return ""
}

// missingOf returns the Missing for a file of a wanted version that an upstream refuses.
func (r *run) missingOf(w *modgraph.Wanted, what string, err error) Missing {
	m := r.missing(w.Mod, what, w.Chain, err)
	m.Allowed = m.Allowed || w.Optional || w.OptionalZip && what == "zip"
	return m
}

// missing returns the Missing for a file that an upstream refuses.
func (r *run) missing(m module.Version, what string, chain []string, err error) Missing {
	miss := Missing{
		Mod: m, What: what, Chain: chain, Reason: err.Error(), Asked: err.Error(), Allowed: r.job.MissingOK[m],
	}
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		miss.Status, miss.Reason = e.Status, e.Reason()
	}
	return miss
}

// askedFor returns, as in Missing.What, which file an upstream refused when a query was resolved. A
// branch or a commit is resolved by its .info file.
func askedFor(err error) string {
	if e, ok := errors.AsType[*upstream.Error](err); ok && strings.HasSuffix(e.URL, ".info") {
		return "info"
	}
	return "list"
}

// leftOut returns the note about an optional source of which nothing is carried.
func leftOut(s *sources.Source, err error) string {
	return fmt.Sprintf("left out: maybe %s: %s", s.Name, strings.TrimPrefix(err.Error(), s.Name+": "))
}
