package review

import (
	"cmp"
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
const maxVulns = 20_000

const (
	// maxList bounds the lists of a Vuln.
	maxList = 100

	// maxWork bounds how many comparisons of versions are made: some seconds of them.
	maxWork = 50_000_000

	// maxRead bounds how many entries are read. The database has 4,300.
	maxRead = 50_000

	// briefly bounds the time that CarriedVulns and Contents.Vulns take: their callers do something
	// else.
	briefly = 20 * time.Second
)

// Vulns are the vulnerabilities of the carried versions.
type Vulns struct {
	Database  time.Time `json:"database"`  // when the newest entry of the database changed
	Carried   int       `json:"carried"`   // versions that were compared: those with a zip
	Affected  int       `json:"affected"`  // versions with a vulnerability
	Fixable   int       `json:"fixable"`   // affected versions for which each vulnerability has a fix that is carried
	Toolchain int       `json:"toolchain"` // of the affected versions, those of Go
	List      []Vuln    `json:"vulns"`     // by module, version and id
}

// A Vuln is a vulnerability of a carried version. Each of its lists has the first 100 elements.
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

	semver string // Version as semver.Compare has it
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

// CarriedVulns compares what bundles carry with the vulnerability database that one of them carries,
// for some seconds at most. It returns nil without one.
func CarriedVulns(ctx context.Context, bundles ...*bundle.Bundle) (*Vulns, error) {
	open := func(ctx context.Context) (*vulndb.DB, error) { return Database(ctx, bundles...) }
	return brief(ctx, open, Catalogs(bundles...))
}

// brief compares catalogs with the database that open returns, nil for none, by a deadline.
func brief(
	ctx context.Context, open func(context.Context) (*vulndb.DB, error), catalogs []Catalog,
) (found *Vulns, err error) {
	tooLong := fmt.Errorf("it takes longer than %v: modmirror vulns takes its time", briefly)
	short, cancel := context.WithTimeoutCause(ctx, briefly, tooLong)
	defer cancel()
	db, err := open(short)
	if db != nil && err == nil {
		found, err = FindVulns(short, catalogs, db)
	}
	if err != nil && ctx.Err() == nil && short.Err() != nil {
		err = tooLong
	}
	return found, err
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
	f := &vulnFinder{out: out, affected: make(map[module.Version][]int)}
	for _, m := range slices.Sorted(maps.Keys(carried)) {
		if err := f.module(ctx, db, m, carried[m]); err != nil {
			return nil, err
		}
	}
	for m, places := range f.affected {
		out.Affected++
		if m.Path == modpath.Toolchain {
			out.Toolchain++
		}
		if !slices.ContainsFunc(places, func(i int) bool { return out.List[i].FixCarried == "" }) {
			out.Fixable++
		}
	}
	return out, out.findRequirements(ctx, catalogs, f.affected)
}

// A vulnFinder finds the vulnerabilities of one module after the other.
type vulnFinder struct {
	out        *Vulns
	affected   map[module.Version][]int // places in out.List
	work, read int                      // bounded by maxWork and maxRead
}

// module compares the carried versions of a module.
func (f *vulnFinder) module(ctx context.Context, db *vulndb.DB, m string, versions []string) error {
	semver.Sort(versions)
	versions = slices.Compact(versions)
	begin := len(f.out.List)
	for e, err := range db.Entries(ctx, m) {
		if err != nil {
			return err
		}
		f.read, f.work = f.read+1, f.work+len(versions)*e.Work()
		if f.read > maxRead || f.work > maxWork {
			return fmt.Errorf("vulnerability database: more than %d entries, or %d comparisons", maxRead, maxWork)
		}
		f.entry(e, m, versions)
		if len(f.out.List) > maxVulns {
			return fmt.Errorf("more than %d vulnerabilities of carried versions", maxVulns)
		}
	}
	found := f.out.List[begin:] // by id until now
	slices.SortStableFunc(found, func(a, b Vuln) int {
		return cmp.Or(semver.Compare(a.semver, b.semver), strings.Compare(a.semver, b.semver))
	})
	for i := range found {
		v := &found[i]
		key := module.Version{Path: m, Version: v.Version}
		if v.IsGo() {
			key.Path = modpath.Toolchain // one version of Go, whatever is affected in it
		}
		f.affected[key] = append(f.affected[key], begin+i)
	}
	return nil
}

// entry compares the carried versions of a module, lowest first, with an entry.
func (f *vulnFinder) entry(e *vulndb.Entry, m string, versions []string) {
	var sound, affected []string
	for _, v := range versions {
		if e.Affects(m, v) {
			affected = append(affected, v)
		} else {
			sound = append(sound, v)
		}
	}
	if affected == nil {
		return
	}
	f.work += e.Work() * e.Work()
	fixes, about := e.Fixes(m), newVuln(e, m)
	for _, version := range affected[:min(len(affected), maxVulns+1-len(f.out.List))] {
		v := about
		v.Version, v.semver = version, version
		v.Packages = cleanAll(e.Packages(m, version))
		v.Fixed, v.FixCarried = vulndb.FirstAbove(fixes, version), vulndb.FirstAbove(sound, version)
		if v.IsGo() {
			for _, s := range []*string{&v.Version, &v.Fixed, &v.FixCarried} {
				if *s != "" {
					*s = vulndb.GoOfSemver(*s)
				}
			}
		}
		f.out.List = append(f.out.List, v)
	}
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

// GoRelease returns the Go release that a carried toolchain is, such as 1.27rc1, and "" for a module.
func GoRelease(v index.Version) string {
	release, ok := goRelease(v)
	if !ok {
		return ""
	}
	return vulndb.GoOfSemver(release)
}

// newVuln returns what an entry says about all versions of a module.
func newVuln(e *vulndb.Entry, m string) Vuln {
	v := Vuln{
		Module: m, ID: e.ID, Summary: oneLine(e.Summary), URL: oneLine(e.Database.URL),
		Unreviewed: e.Database.ReviewStatus == "UNREVIEWED", Aliases: cleanAll(e.Aliases),
		OwnFixed: cleanAll(e.FixedInOwnNumbering(m)),
	}
	for _, s := range e.Severity[:min(len(e.Severity), maxList)] {
		v.Severity = append(v.Severity, vulndb.Severity{Type: oneLine(s.Type), Score: oneLine(s.Score)})
	}
	return v
}

// oneLine returns a text of a database without characters that steer a terminal, on one line.
func oneLine(s string) string { return strings.Join(strings.Fields(index.CleanText(s)), " ") }

// cleanAll returns oneLine of each text, of the first maxList.
func cleanAll(list []string) []string {
	var out []string
	for _, s := range list[:min(len(list), maxList)] {
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
				if x := &v.List[i]; len(x.RequiredBy) < maxList && !slices.Contains(x.RequiredBy, from) {
					x.RequiredBy = append(x.RequiredBy, from)
				}
			}
		}
	}
	for i := range v.List {
		slices.Sort(v.List[i].RequiredBy)
	}
	return nil
}
