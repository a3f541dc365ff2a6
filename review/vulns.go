package review

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize/english"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/review/vulndb"
)

// maxVulns bounds the vulnerabilities that Vulns finds, which are in memory together. The closure of
// a large project has some hundred.
const maxVulns = 100_000

// Vulns are the vulnerabilities of the carried versions.
type Vulns struct {
	Database  time.Time `json:"database"`  // when the newest entry of the database changed
	Carried   int       `json:"carried"`   // versions that were compared: those with a zip
	Affected  int       `json:"affected"`  // versions with a vulnerability
	Fixable   int       `json:"fixable"`   // affected versions for which each vulnerability has a fix that is carried
	Toolchain int       `json:"toolchain"` // of the affected versions, those of Go
	List      []Vuln    `json:"vulns"`     // by module, version and id
}

// A Vuln is a vulnerability of a carried version.
type Vuln struct {
	Module     string            `json:"module"`  // path, or vulndb.Stdlib or vulndb.Toolchain
	Version    string            `json:"version"` // v1.2.3; of Go 1.27rc1
	ID         string            `json:"id"`
	Aliases    []string          `json:"aliases,omitempty"`
	Summary    string            `json:"summary"`
	URL        string            `json:"url,omitempty"`
	Severity   []vulndb.Severity `json:"severity,omitempty"`   // the Go database has none
	Unreviewed bool              `json:"unreviewed,omitempty"` // nobody of the Go team looked at the entry
	Packages   []string          `json:"packages,omitempty"`   // none when the whole module is affected
	Fixed      string            `json:"fixed,omitempty"`      // lowest version that is not affected; "" when there is none
	FixCarried string            `json:"fixCarried,omitempty"` // lowest carried version that is not affected; "" when there is none
	OwnFixed   []string          `json:"ownFixed,omitempty"`   // fixed in the project's own numbering
	RequiredBy []string          `json:"requiredBy,omitempty"` // PATH@VERSION, or PATH of a project, sorted
}

// IsGo reports whether the vulnerability is one of Go itself.
func (v *Vuln) IsGo() bool { return v.Module == vulndb.Stdlib || v.Module == vulndb.Toolchain }

// String returns the version as people write it: golang.org/x/net@v0.20.0, go1.22.1.
func (v *Vuln) String() string {
	if v.IsGo() {
		return "go" + v.Version
	}
	return v.Module + "@" + v.Version
}

// Summary returns one sentence: how many versions are affected, and how many have a carried fix.
func (v *Vulns) Summary() string {
	carried := fmt.Sprintf("%d %s", v.Carried, english.PluralWord(v.Carried, "carried version", ""))
	switch {
	case v.Affected == 0:
		return fmt.Sprintf("none of %s is affected by a known vulnerability", carried)
	case v.Affected == 1:
		return fmt.Sprintf("1 of %s is affected by a known vulnerability, and its fix is %scarried",
			carried, map[int]string{0: "not "}[v.Fixable])
	}
	return fmt.Sprintf("%d of %s are affected by known vulnerabilities; fixes for %d of them are carried",
		v.Affected, carried, v.Fixable)
}

// CarriedVulns compares what bundles carry with the vulnerability database that one of them carries.
// It returns nil without one.
func CarriedVulns(ctx context.Context, bundles ...*bundle.Bundle) (*Vulns, error) {
	db, err := Database(ctx, bundles...)
	if db == nil || err != nil {
		return nil, err
	}
	return FindVulns(ctx, Catalogs(bundles...), db)
}

// FindVulns compares all versions that are carried with their zip with a database. A version that
// several catalogs have counts once. A toolchain counts once for all platforms, and is compared with
// entries about the standard library and the go command.
func FindVulns(ctx context.Context, catalogs []Catalog, db *vulndb.DB) (*Vulns, error) {
	out := &Vulns{Database: db.Modified, List: []Vuln{}}
	carried, err := carriedOf(ctx, catalogs, db, out)
	if err != nil {
		return nil, err
	}
	affected := make(map[module.Version][]int) // places in out.List
	for _, m := range slices.Sorted(maps.Keys(carried)) {
		versions := carried[m]
		slices.SortFunc(versions, semver.Compare)
		versions = slices.Compact(versions)
		entries, err := db.Entries(ctx, m)
		if err != nil {
			return nil, err
		}
		for _, version := range versions {
			for _, e := range entries {
				if !e.Affects(m, version) {
					continue
				}
				if len(out.List) == maxVulns {
					return nil, fmt.Errorf("more than %d vulnerabilities of carried versions", maxVulns)
				}
				v := newVuln(e, m, version, versions)
				key := module.Version{Path: m, Version: version}
				if v.IsGo() {
					key.Path = modpath.Toolchain // one version of Go, whatever is affected in it
				}
				affected[key] = append(affected[key], len(out.List))
				out.List = append(out.List, v)
			}
		}
	}
	for m, places := range affected {
		out.Affected++
		if m.Path == modpath.Toolchain {
			out.Toolchain++
		}
		if !slices.ContainsFunc(places, func(i int) bool { return out.List[i].FixCarried == "" }) {
			out.Fixable++
		}
	}
	return out, out.findRequirements(ctx, catalogs, affected)
}

// carriedOf counts the carried versions, and returns those of modules that the database has entries
// about.
func carriedOf(ctx context.Context, catalogs []Catalog, db *vulndb.DB, out *Vulns) (map[string][]string, error) {
	carried := make(map[string][]string)
	one := len(catalogs) == 1
	seen := make(map[module.Version]bool) // of several catalogs, and Go releases
	add := func(v index.Version) {
		m := module.Version{Path: v.Path, Version: v.Version}
		release, ok := goRelease(v)
		if ok {
			m.Version = release
		}
		if !one || ok {
			if seen[m] {
				return
			}
			seen[m] = true
		}
		out.Carried++
		names := []string{m.Path}
		if ok {
			names = []string{vulndb.Stdlib, vulndb.Toolchain}
		}
		for _, name := range names {
			if db.Has(name) {
				carried[name] = append(carried[name], m.Version)
			}
		}
	}
	for _, c := range catalogs {
		for v, err := range c.Versions(ctx, "") {
			if err != nil {
				return nil, err
			}
			if v.ZipSize != nil {
				add(v)
			}
		}
	}
	return carried, nil
}

// goRelease returns the Go release that a carried version is, as vulndb.SemverOfGo has it.
func goRelease(v index.Version) (release string, ok bool) {
	if v.Path != modpath.Toolchain {
		return "", false
	}
	name, _ := strings.CutPrefix(v.Version, "v0.0.1-go") // 1.26.0.linux-amd64
	if i := strings.LastIndex(name, "."); i > 0 {
		return vulndb.SemverOfGo(name[:i])
	}
	return "", false
}

// newVuln returns what an entry says about a version of a module. versions are the carried ones,
// lowest first.
func newVuln(e *vulndb.Entry, m, version string, versions []string) Vuln {
	v := Vuln{
		Module: m, Version: version, ID: e.ID, Summary: oneLine(e.Summary), URL: oneLine(e.Database.URL),
		Unreviewed: e.Database.ReviewStatus == "UNREVIEWED", Aliases: cleanAll(e.Aliases),
		Packages: cleanAll(e.Packages(m, version)),
		Fixed:    e.Fixed(m, version), OwnFixed: cleanAll(e.FixedInOwnNumbering(m)),
	}
	for _, s := range e.Severity {
		v.Severity = append(v.Severity, vulndb.Severity{Type: oneLine(s.Type), Score: oneLine(s.Score)})
	}
	for _, other := range versions {
		if semver.Compare(other, version) > 0 && !e.Affects(m, other) {
			v.FixCarried = other
			break
		}
	}
	if v.IsGo() {
		v.Version = vulndb.GoOfSemver(v.Version)
		for _, s := range []*string{&v.Fixed, &v.FixCarried} {
			if *s != "" {
				*s = vulndb.GoOfSemver(*s)
			}
		}
	}
	return v
}

// oneLine returns a text of a database without characters that steer a terminal, on one line.
func oneLine(s string) string { return strings.Join(strings.Fields(index.CleanText(s)), " ") }

// cleanAll returns oneLine of each text.
func cleanAll(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, oneLine(s))
	}
	return out
}

// findRequirements enters what requires the affected versions.
func (v *Vulns) findRequirements(ctx context.Context, catalogs []Catalog, affected map[module.Version][]int) error {
	for _, c := range catalogs {
		for r, err := range c.Requirements(ctx) {
			if err != nil {
				return err
			}
			from := r.Path
			if r.Version != "" {
				from += "@" + r.Version
			}
			for _, i := range affected[module.Version{Path: r.Requires, Version: r.Wanted}] {
				x := &v.List[i]
				x.RequiredBy = append(x.RequiredBy, from)
			}
		}
	}
	for i := range v.List {
		x := &v.List[i]
		slices.Sort(x.RequiredBy)
		x.RequiredBy = slices.Compact(x.RequiredBy)
	}
	return nil
}
