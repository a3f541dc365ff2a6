package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// A Query is a question about a module that was resolved to a version.
type Query struct {
	Path    string
	Query   string // such as latest, v1, >=v1.2.0, a branch or a commit
	Version string
}

// A matcher says which versions a query allows (cmd/go/internal/modload/query.go newQueryMatcher).
type matcher struct {
	allows    func(v string) bool // nil for every version
	lower     bool                // prefer the lowest one
	mayLatest bool                // ask @latest when the list has none
}

// newMatcher returns the matcher of a query about a list of versions; ok is false for a query that names
// a revision, such as a branch.
func newMatcher(query string) (q matcher, ok bool, err error) {
	compare := func(op string, allows func(c int) bool) (matcher, bool, error) {
		v := query[len(op):]
		switch {
		case !semver.IsValid(v):
			return q, false, fmt.Errorf("invalid semantic version %q in range %q", v, query)
		case semver.Canonical(v) != v && (op == "<=" || op == ">"):
			return q, false, fmt.Errorf("ambiguous semantic version %q in range %q", v, query)
		}
		return matcher{allows: func(w string) bool { return allows(semver.Compare(w, v)) }, lower: op[0] == '>'}, true, nil
	}
	switch {
	case query == "latest", query == "upgrade": // with nothing to upgrade from
		return matcher{mayLatest: true}, true, nil
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
		return matcher{allows: func(v string) bool { return strings.HasPrefix(v, query+".") && semver.Compare(v, query) >= 0 }}, true, nil
	}
	return q, false, nil
}

// checkQuery checks the form of a query.
func checkQuery(query string) error {
	if query == allQuery {
		return nil
	}
	_, list, err := newMatcher(query)
	if err != nil || list {
		return err
	}
	if _, err := module.EscapeVersion(query); err != nil {
		return fmt.Errorf("no proxy can be asked for %q", query)
	}
	return nil
}

// allQuery asks for every released version.
const allQuery = "all"

// versions reads the list of a module: its releases, its prereleases, and the newest of what else
// it names, by time, as proxies order what has no tag.
func (f *fetcher) versions(ctx context.Context, path string) (releases, prereleases []string, newest string, err error) {
	data, err := f.get(ctx, module.Version{Path: path}, modpath.Request{Kind: modpath.List, Path: path}.String(), 0)
	if err != nil {
		return nil, nil, "", err
	}
	var incompatible []string
	var newestTime time.Time
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || module.CanonicalVersion(fields[0]) != fields[0] || module.Check(path, fields[0]) != nil {
			continue // illegal versions are not there, as for cmd/go
		}
		v := fields[0]
		switch {
		case module.IsPseudoVersion(v):
			if t, err := module.PseudoVersionTime(v); err == nil && t.After(newestTime) {
				newest, newestTime = v, t
			}
		case strings.HasSuffix(v, "+incompatible"):
			incompatible = append(incompatible, v)
		case semver.Prerelease(v) != "":
			prereleases = append(prereleases, v)
		default:
			releases = append(releases, v)
		}
	}
	releases, err = f.withIncompatible(ctx, path, releases, incompatible)
	return releases, prereleases, newest, err
}

// query resolves a query about the list of a module as the go command does (modload/query.go): the highest release
// that it allows and that is not retracted, else the highest prerelease; for latest else what @latest
// says, else the newest version that the list names in any form.
func (f *fetcher) query(ctx context.Context, path, query string, q matcher) (string, error) {
	releases, prereleases, newest, err := f.versions(ctx, path)
	if err != nil {
		return "", err
	}
	for _, list := range [][]string{releases, prereleases} {
		if v, err := f.choose(ctx, path, q, list, releases, prereleases); v != "" || err != nil {
			return v, err
		}
	}
	if !q.mayLatest {
		return "", fmt.Errorf("%s: no version matches %s", path, query)
	}
	data, err := f.get(ctx, module.Version{Path: path}, modpath.Request{Kind: modpath.Latest, Path: path}.String(), maxInfo)
	if err == nil {
		i, err := parseInfo(data, "")
		if err != nil {
			return "", fmt.Errorf("%s/@latest: %w", path, err)
		}
		v, err := f.choose(ctx, path, q, []string{i.Version}, []string{i.Version}, nil)
		if err == nil && v == "" {
			err = fmt.Errorf("%s: its only version, %s, is retracted", path, i.Version)
		}
		return v, err
	}
	if !upstream.IsNotFound(err) {
		return "", err
	}
	if newest == "" {
		return "", fmt.Errorf("%s: no version that %s could mean: %w", path, query, err)
	}
	return newest, nil
}

// revision resolves a branch, a tag or a commit: the upstream says which version it is.
func (f *fetcher) revision(ctx context.Context, m module.Version) (string, error) {
	data, err := f.get(ctx, m, versionFile(modpath.Info, m.Path, m.Version), maxInfo)
	if err != nil {
		return "", err
	}
	i, err := parseInfo(data, "")
	if err == nil {
		err = module.Check(m.Path, i.Version)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", m, err)
	}
	return i.Version, nil
}

// withIncompatible adds the +incompatible versions to the releases, unless the highest
// compatible one has a go.mod file: then they are left overs from before modules
// (modfetch/coderepo.go, appendIncompatibleVersions).
func (f *fetcher) withIncompatible(ctx context.Context, path string, releases, incompatible []string) ([]string, error) {
	if len(incompatible) == 0 {
		return releases, nil
	}
	if len(releases) > 0 {
		last := slices.MaxFunc(releases, semver.Compare)
		_, data, err := f.small(ctx, modpath.Mod, module.Version{Path: path, Version: last}, maxInfo, func([]byte) error { return nil })
		if err != nil {
			return nil, err
		}
		if made := "module " + modfile.AutoQuote(path) + "\n"; !bytes.Equal(data, []byte(made)) {
			return releases, nil
		}
	}
	return append(slices.Clone(releases), incompatible...), nil
}

// choose returns the version in list that a query prefers, of those that the module's newest go.mod does
// not retract; "" when there is none.
func (f *fetcher) choose(ctx context.Context, path string, q matcher, list, releases, prereleases []string) (string, error) {
	list = slices.DeleteFunc(slices.Clone(list), func(v string) bool { return q.allows != nil && !q.allows(v) })
	if len(list) == 0 {
		return "", nil
	}
	newest := releases
	if len(newest) == 0 {
		newest = prereleases
	}
	mod, err := f.goMod(ctx, module.Version{Path: path, Version: slices.MaxFunc(newest, semver.Compare)})
	if err != nil && !isAbsent(err) {
		return "", err
	}
	semver.Sort(list)
	if !q.lower {
		slices.Reverse(list)
	}
	for _, v := range list {
		if _, yes := retracted(mod, v); !yes {
			return v, nil
		}
	}
	return "", nil
}

// retracted reports whether mod retracts version, and why.
func retracted(mod *goMod, version string) (reason string, yes bool) {
	if mod == nil {
		return "", false
	}
	for i, r := range mod.retract {
		if semver.Compare(r.Low, version) <= 0 && semver.Compare(version, r.High) <= 0 {
			return mod.reasons[i], true
		}
	}
	return "", false
}

// resolve returns the versions that a source's query means, and the query when it was one.
func (f *fetcher) resolve(ctx context.Context, s *Source) (versions []module.Version, q *Query, err error) {
	m := s.Query
	if module.CanonicalVersion(m.Version) == m.Version && m.Version != "" {
		return []module.Version{m}, nil, nil
	}
	var v string
	if m.Version == allQuery {
		var list []string
		if list, _, _, err = f.versions(ctx, m.Path); err == nil && len(list) == 0 {
			err = errors.New("it has no released version")
		}
		for _, v := range list {
			versions = append(versions, module.Version{Path: m.Path, Version: v})
		}
	} else if match, isList, err1 := newMatcher(m.Version); err1 != nil {
		err = err1
	} else if isList {
		v, err = f.query(ctx, m.Path, m.Version, match)
	} else {
		v, err = f.revision(ctx, m)
	}
	if upstream.Refused(err) {
		return nil, nil, &absentError{err}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	if versions != nil {
		return versions, nil, nil
	}
	return []module.Version{{Path: m.Path, Version: v}}, &Query{m.Path, m.Version, v}, nil
}

// resolveTool resolves the module that a command is in: the longest path above the package's that the upstream has
// (modload/query.go QueryPattern).
func (f *fetcher) resolveTool(ctx context.Context, s *Source) (versions []module.Version, q *Query, err error) {
	var first error
	for p := s.Tool; p != "." && p != "/"; p = path.Dir(p) {
		if module.CheckPath(p) != nil {
			break
		}
		in := *s
		in.Query.Path = p
		if module.CanonicalVersion(in.Query.Version) == in.Query.Version { // does the module have it?
			if module.Check(p, in.Query.Version) != nil {
				continue
			}
			_, err = f.goMod(ctx, in.Query)
			versions = []module.Version{in.Query}
		} else {
			versions, q, err = f.resolve(ctx, &in)
		}
		if err == nil {
			return versions, q, nil
		}
		if !isAbsent(err) {
			return nil, nil, err
		}
		if first == nil {
			first = err
		}
	}
	return nil, nil, first
}
