package sources

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/internal/modpath"
)

// All is the query for every released version of a module.
const All = "all"

// A Matcher says which versions of a list a query allows, and which of them it prefers
// (cmd/go/internal/modload/query.go newQueryMatcher).
type Matcher struct {
	Lower     bool // prefer the lowest version, not the highest
	MayLatest bool // ask for @latest when the list has no version that matches

	version string              // that the query names, "" for none
	allows  func(v string) bool // nil for every version
}

// NewMatcher returns the matcher of a query. ok is false, and the matcher of no use, for a query
// that names a revision, such as a branch, which no list answers.
func NewMatcher(query string) (q Matcher, ok bool, err error) {
	compare := func(op string, allows func(c int) bool) (Matcher, bool, error) {
		v := query[len(op):]
		switch {
		case !semver.IsValid(v):
			return q, false, fmt.Errorf("invalid semantic version %q in range %q", v, query)
		case semver.Canonical(v) != v && (op == "<=" || op == ">"):
			return q, false, fmt.Errorf("ambiguous semantic version %q in range %q", v, query)
		}
		return Matcher{
			allows: func(w string) bool { return allows(semver.Compare(w, v)) }, Lower: op[0] == '>', version: v,
		}, true, nil
	}
	switch {
	case query == "latest", query == "upgrade": // there is no version to upgrade from
		return Matcher{MayLatest: true}, true, nil
	case query == "patch":
		return q, false, errors.New("patch needs a version to start from")
	case strings.HasPrefix(query, "<="):
		return compare("<=", func(c int) bool { return c <= 0 })
	case strings.HasPrefix(query, "<"):
		return compare("<", func(c int) bool { return c < 0 })
	case strings.HasPrefix(query, ">="):
		return compare(">=", func(c int) bool { return c >= 0 })
	case strings.HasPrefix(query, ">"):
		return compare(">", func(c int) bool { return c > 0 })
	case semver.IsValid(query) && strings.Count(query, ".") < 2 && semver.Canonical(query) != query:
		// v1.2 does not mean prereleases of v1.2.0.
		return Matcher{
			allows:  func(v string) bool { return strings.HasPrefix(v, query+".") && semver.Compare(v, query) >= 0 },
			version: query,
		}, true, nil
	}
	return q, false, nil
}

// Allows reports whether the query allows version v.
func (q Matcher) Allows(v string) bool { return q.allows == nil || q.allows(v) }

// Incompatible reports whether the query names a major version that a module of this path does not
// have.
func (q Matcher) Incompatible(path string) bool {
	_, major, ok := module.SplitPathVersion(path)
	return q.version != "" && !(ok && module.CheckPathMajor(q.version, major) == nil)
}

// checkQuery checks the form of a query.
func checkQuery(query string) error {
	if query == All {
		return nil
	}
	_, list, err := NewMatcher(query)
	if err != nil || list {
		return err
	}
	return modpath.CheckRevision(query)
}
