package vulndb

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// Names under which entries are about Go itself. The version is that of SemverOfGo.
const (
	Stdlib    = "stdlib"
	Toolchain = "toolchain" // the go command and its tools
)

// An Entry is a vulnerability, in the OSV format (https://ossf.github.io/osv-schema). Its texts
// come from outside: they may hold anything.
type Entry struct {
	SchemaVersion string     `json:"schema_version"`
	ID            string     `json:"id"`        // GO-2024-2687
	Withdrawn     *time.Time `json:"withdrawn"` // nil unless it is void
	Aliases       []string   `json:"aliases"`   // CVE-2023-45288, GHSA-4v7x-pqxf-cx7m
	Summary       string     `json:"summary"`
	Severity      []Severity `json:"severity"` // the Go database has none
	Affected      []Affected `json:"affected"`
	Database      struct {
		URL          string `json:"url"`
		ReviewStatus string `json:"review_status"` // REVIEWED or UNREVIEWED
	} `json:"database_specific"`
}

// A Severity is a CVSS vector.
type Severity struct {
	Type  string `json:"type"`  // CVSS_V3
	Score string `json:"score"` // CVSS:3.1/AV:N/…
}

// An Affected says which versions and packages of a module an entry is about.
type Affected struct {
	Package struct {
		Name string `json:"name"` // module path, Stdlib or Toolchain
	} `json:"package"`
	Ranges    []Range `json:"ranges"`
	Ecosystem struct {
		Imports []Import `json:"imports"`
		// Custom has ranges in the project's own numbering, for a module whose versions say nothing:
		// Ranges then names all versions.
		Custom []Range `json:"custom_ranges"`
	} `json:"ecosystem_specific"`
}

// An Import is an affected package.
type Import struct {
	Path string `json:"path"`
}

// typeSemver is the Range.Type of semantic versions.
const typeSemver = "SEMVER"

// A Range is a list of events. Those of a DB are in the order of their versions.
type Range struct {
	Type   string  `json:"type"` // SEMVER counts; others are ignored
	Events []Event `json:"events"`
}

// An Event has one version, without v, from which on versions are affected or not affected any
// more. Introduced may be 0, which comes before all versions.
type Event struct {
	Introduced string `json:"introduced"`
	Fixed      string `json:"fixed"`
}

// version returns the version of the event as semver.Compare has it; "" for 0 and for an event of
// another kind, which comes before all others.
func (e Event) version() string {
	if e.Introduced == "0" {
		return ""
	}
	if v := cmp.Or(e.Fixed, e.Introduced); v != "" {
		return "v" + strings.TrimPrefix(v, "v")
	}
	return ""
}

// contains reports whether a version is in the range (govulncheck: semver.ContainsSemver).
func (r Range) contains(version string) bool {
	if len(r.Events) == 0 {
		return true
	}
	affected := false
	for _, e := range r.Events {
		switch {
		case !affected && e.Introduced != "":
			affected = semver.Compare(version, e.version()) >= 0
		case affected && e.Fixed != "":
			affected = semver.Compare(version, e.version()) < 0
		}
	}
	return affected
}

// contains reports whether a version is affected. Without a range of semantic versions all are
// (govulncheck: semver.Affects).
func (a *Affected) contains(version string) bool {
	ranges := false
	for _, r := range a.Ranges {
		if r.Type != typeSemver {
			continue
		}
		if ranges = true; r.contains(version) {
			return true
		}
	}
	return !ranges
}

// of returns what the entry says about a module.
func (e *Entry) of(module string) (list []*Affected) {
	for i := range e.Affected {
		if a := &e.Affected[i]; a.Package.Name == module {
			list = append(list, a)
		}
	}
	return list
}

// Affects reports whether the entry affects a version of a module, such as v1.2.3.
func (e *Entry) Affects(module, version string) bool {
	return slices.ContainsFunc(e.of(module), func(a *Affected) bool { return a.contains(version) })
}

// Packages returns the affected packages of a version, sorted; none when the whole module is.
func (e *Entry) Packages(module, version string) []string {
	var list []string
	for _, a := range e.of(module) {
		if !a.contains(version) {
			continue
		}
		for _, p := range a.Ecosystem.Imports {
			list = append(list, p.Path)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// Fixes returns the versions that events name as fixed and that are not affected themselves, lowest
// first. The first one above an affected version fixes it (govulncheck: vulncheck.FixedVersion).
func (e *Entry) Fixes(module string) []string {
	var list []string
	for _, a := range e.of(module) {
		for _, r := range a.Ranges {
			for _, event := range r.Events {
				if event.Fixed != "" && r.Type == typeSemver && !e.Affects(module, event.version()) {
					list = append(list, event.version())
				}
			}
		}
	}
	slices.SortFunc(list, semver.Compare)
	return slices.Compact(list)
}

// FirstAbove returns the lowest of versions, which are sorted, that is above a version; "" when none
// is.
func FirstAbove(versions []string, version string) string {
	i, found := slices.BinarySearchFunc(versions, version, semver.Compare)
	for found && i < len(versions) && semver.Compare(versions[i], version) == 0 { // equal but for build metadata
		i++
	}
	if i < len(versions) {
		return versions[i]
	}
	return ""
}

// Work returns how many comparisons a call of Affects takes at most. Fixes takes its square.
func (e *Entry) Work() int {
	n := len(e.Affected)
	for i := range e.Affected {
		for _, r := range e.Affected[i].Ranges {
			n += len(r.Events) + 1
		}
	}
	return n
}

// check bounds the lists of an entry.
func (e *Entry) check() error {
	events, parts := 0, len(e.Aliases)+len(e.Severity)+len(e.Affected)
	for i := range e.Affected {
		a := &e.Affected[i]
		parts += len(a.Ecosystem.Imports) + len(a.Ranges) + len(a.Ecosystem.Custom)
		for _, r := range slices.Concat(a.Ranges, a.Ecosystem.Custom) {
			events += len(r.Events)
		}
	}
	if events > maxEvents {
		return fmt.Errorf("it has more than %d events", maxEvents)
	}
	if parts > maxParts {
		return fmt.Errorf("its lists have more than %d elements", maxParts)
	}
	return nil
}

// FixedInOwnNumbering returns the versions that the entry names as fixed in the project's own
// numbering, which cannot be compared with those of its module.
func (e *Entry) FixedInOwnNumbering(module string) []string {
	var list []string
	for _, a := range e.of(module) {
		for _, r := range a.Ecosystem.Custom {
			for _, event := range r.Events {
				if event.Fixed != "" && !slices.Contains(list, event.Fixed) {
					list = append(list, event.Fixed)
				}
			}
		}
	}
	return list
}

// reGo matches the version of a Go release, without "go".
var reGo = regexp.MustCompile(`^(\d+\.\d+)(\.\d+)?(?:(rc|beta)(\d+))?$`)

// SemverOfGo returns the version of a Go release, such as 1.27rc1, as entries about Stdlib and
// Toolchain name it: v1.27.0-rc.1. ok is false for a version of another form.
func SemverOfGo(version string) (v string, ok bool) {
	m := reGo.FindStringSubmatch(version)
	if m == nil {
		return "", false
	}
	v = "v" + m[1] + cmp.Or(m[2], ".0")
	if m[3] != "" {
		v += "-" + m[3] + "." + m[4]
	}
	return v, semver.IsValid(v)
}

// GoOfSemver is the reverse of SemverOfGo, but that a release .0 from before Go 1.21 gets its .0.
func GoOfSemver(v string) string {
	release, pre, _ := strings.Cut(strings.TrimPrefix(v, "v"), "-")
	if pre = strings.Replace(pre, ".", "", 1); pre != "" {
		release = strings.TrimSuffix(release, ".0")
	}
	return release + pre
}
