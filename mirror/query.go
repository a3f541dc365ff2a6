package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/mirror/modgraph"
	"github.com/modmirror/modmirror/mirror/sources"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// A Query says to which version a question about a module was resolved.
type Query struct {
	Path    string
	Query   string // such as latest, v1, >=v1.2.0, a branch or a commit
	Version string
}

// maxList is the longest list of versions in bytes: ten times that of golang.org/toolchain, the
// longest known.
const maxList = 4 << 20

// versions asks for the list of a module. It returns the tagged versions, lowest first, and the
// newest of the pseudo-versions, by their time.
func (f *fetcher) versions(ctx context.Context, path string) (list []string, newest string, err error) {
	data, from, err := f.get(ctx, module.Version{Path: path}, versionFile(modpath.List, path, ""), maxList)
	if err != nil {
		return nil, "", err
	}
	if bytes.IndexByte(data, 0) >= 0 || !utf8.Valid(data) {
		return nil, "", answered(from, errors.New("not a list of versions: it is not text"))
	}
	var newestTime time.Time
	for line := range strings.Lines(string(data)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || module.CanonicalVersion(fields[0]) != fields[0] || module.Check(path, fields[0]) != nil {
			continue // the go command ignores illegal versions too
		}
		if v := fields[0]; !module.IsPseudoVersion(v) {
			list = append(list, v)
		} else if t, err := module.PseudoVersionTime(v); err == nil && t.After(newestTime) {
			newest, newestTime = v, t
		}
	}
	if len(bytes.TrimSpace(data)) > 0 && !slices.ContainsFunc(strings.Fields(string(data)), semver.IsValid) {
		return nil, "", answered(from, errors.New("not a list of versions: none of its words is one"))
	}
	semver.Sort(list)
	return list, newest, nil
}

// filter splits the versions of a sorted list that allows accepts into releases and prereleases.
// Versions marked +incompatible count when incompatible is set or the last compatible version that
// is allowed has no go.mod file; else they are left over from the time before modules
// (modload/query.go filterVersions).
func (f *fetcher) filter(
	ctx context.Context, path string, list []string, allows func(string) bool, incompatible bool,
) (releases, prereleases []string, err error) {
	lastCompatible := ""
	for _, v := range list {
		if allows != nil && !allows(v) {
			continue
		}
		if !incompatible {
			if !strings.HasSuffix(v, "+incompatible") {
				lastCompatible = v
			} else if lastCompatible != "" {
				real, err := f.hasGoMod(ctx, module.Version{Path: path, Version: lastCompatible})
				if real || err != nil {
					return releases, prereleases, err
				}
				incompatible = true
			}
		}
		if semver.Prerelease(v) != "" {
			prereleases = append(prereleases, v)
		} else {
			releases = append(releases, v)
		}
	}
	return releases, prereleases, nil
}

// hasGoMod reports whether a version has a go.mod file, and not one that proxies make up.
func (f *fetcher) hasGoMod(ctx context.Context, m module.Version) (bool, error) {
	s, err := f.stagedMod(ctx, m)
	if err != nil {
		return false, err
	}
	return s.h1 != h1.GoMod([]byte("module "+modfile.AutoQuote(m.Path)+"\n")), nil
}

// A noMatchError says that a module has no version that a query allows.
type noMatchError struct {
	path, query string
	why         string // says what the module has instead
}

func (e *noMatchError) Error() string {
	return fmt.Sprintf("%s: no version matches %s%s", e.path, e.query, e.why)
}

// noMatch returns the error about a query that allows nothing in a list of versions.
func noMatch(path, query string, list []string, retracts *modgraph.GoMod, q sources.Matcher) *noMatchError {
	e := &noMatchError{path: path, query: query}
	n, reason := 0, ""
	for _, v := range list {
		if why, yes := retracts.Retracted(v); yes && q.Allows(v) {
			n++
			reason = why
		}
	}
	switch {
	case n > 0:
		e.why = fmt.Sprintf(": all %d that do are retracted", n)
		if reason != "" {
			e.why += " (" + reason + ")"
		}
		e.why += "; one that is named in full is carried all the same"
	case len(list) > 0:
		e.why = "; the newest is " + list[len(list)-1]
	default:
		e.why = "; it has no tagged version"
	}
	return e
}

// query resolves a query by the list of a module, as the go command does (modload/query.go): to the
// highest release that it allows and that is not retracted, or else to the highest prerelease; for
// latest, else to the answer of @latest, or else to the newest pseudo-version of the list.
func (f *fetcher) query(ctx context.Context, path, query string, q sources.Matcher) (string, error) {
	list, newest, err := f.versions(ctx, path)
	if err != nil {
		return "", err
	}
	retracts, err := f.newestGoMod(ctx, path, list)
	if err != nil {
		return "", err
	}
	allows := func(v string) bool {
		_, yes := retracts.Retracted(v)
		return !yes && q.Allows(v)
	}
	releases, prereleases, err := f.filter(ctx, path, list, allows, q.Incompatible(path))
	if err != nil {
		return "", err
	}
	matching := releases
	if len(matching) == 0 {
		matching = prereleases
	}
	if len(matching) > 0 {
		if !q.Lower {
			slices.Reverse(matching)
		}
		return f.oldEnough(ctx, module.Version{Path: path, Version: query}, matching)
	}
	if !q.MayLatest {
		return "", noMatch(path, query, list, retracts, q)
	}
	data, from, err := f.get(ctx, module.Version{Path: path}, versionFile(modpath.Latest, path, ""), maxInfo)
	if err == nil {
		i, err := parseInfo(data, "")
		if err != nil {
			return "", answered(from, err)
		}
		if len(list) == 0 {
			if retracts, err = f.newestGoMod(ctx, path, []string{i.Version}); err != nil {
				return "", err
			}
		}
		if _, yes := retracts.Retracted(i.Version); yes {
			return "", fmt.Errorf("%s: its only version, %s, is retracted", path, i.Version)
		}
		return f.onlyVersion(ctx, path, i.Version)
	}
	if !upstream.IsNotFound(err) {
		return "", err
	}
	switch {
	case newest != "":
		return f.onlyVersion(ctx, path, newest)
	case len(list) > 0: // all are retracted
		return "", noMatch(path, query, list, retracts, q)
	}
	return "", fmt.Errorf("%s: no version that %s could mean: %w", path, query, err)
}

// maxYoung is how many versions a query passes over because they are too young. Each costs a lookup.
const maxYoung = 200

// oldEnough returns the first version of a list, which match a query, that is not too young.
func (f *fetcher) oldEnough(ctx context.Context, query module.Version, list []string) (string, error) {
	for _, v := range list[:min(len(list), maxYoung)] {
		why, err := f.young(ctx, module.Version{Path: query.Path, Version: v})
		if why == "" || err != nil {
			return v, err
		}
	}
	return "", fmt.Errorf("%s: all %d versions that match %s are too young for the policy's cooldown; "+
		"one that is named in full is carried all the same", query.Path, min(len(list), maxYoung), query.Version)
}

// onlyVersion returns the only version that a query can mean, unless it is too young.
func (f *fetcher) onlyVersion(ctx context.Context, path, version string) (string, error) {
	why, err := f.young(ctx, module.Version{Path: path, Version: version})
	if err == nil && why != "" {
		err = fmt.Errorf("%s: its only version, %s, is too young for the policy's cooldown: %s", path, version, why)
	}
	return version, err
}

// revision resolves a branch, a tag or a commit by the .info file of that name.
func (f *fetcher) revision(ctx context.Context, m module.Version) (string, error) {
	data, from, err := f.get(ctx, m, versionFile(modpath.Info, m.Path, m.Version), maxInfo)
	if err != nil {
		return "", err
	}
	i, err := parseInfo(data, "")
	if err == nil {
		err = module.Check(m.Path, i.Version)
	}
	if err != nil {
		return "", answered(from, err)
	}
	return i.Version, nil
}

// An answer says what a module or a command of the sources was resolved to.
type answer struct {
	versions []module.Version
	queries  []Query
	err      error
}

// resolveAll resolves the modules and commands of a list side by side. The answers of projects and
// workspaces are empty.
func (f *fetcher) resolveAll(ctx context.Context, list []sources.Source) []answer {
	answers := make([]answer, len(list))
	var eg errgroup.Group
	eg.SetLimit(readsInFlight)
	for i := range list {
		if s, a := &list[i], &answers[i]; s.Mod == nil && s.Work == nil {
			eg.Go(func() error {
				a.versions, a.queries, a.err = f.resolve(ctx, s)
				return nil
			})
		}
	}
	eg.Wait()
	return answers
}

// resolve returns the versions that a source's query means, and the queries that the upstream
// answered.
func (f *fetcher) resolve(
	ctx context.Context, s *sources.Source,
) (versions []module.Version, queries []Query, err error) {
	if s.Tool != "" {
		return f.resolveTool(ctx, s)
	}
	versions, query, err := f.resolveModule(ctx, s.Query)
	if upstream.Refused(err) {
		return nil, nil, &modgraph.AbsentError{Err: err}
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	if query {
		queries = []Query{{s.Query.Path, s.Query.Version, versions[0].Version}}
	}
	return versions, queries, nil
}

// A resolution is the result of a query. It is kept, because a branch may move during a sync.
type resolution struct {
	once     sync.Once
	versions []module.Version
	query    bool // the query asked for one version, and not for all or a version in full
	err      error
}

// resolveModule returns the versions that m means, where m.Version is a query. query reports
// whether it was a question for one version.
func (f *fetcher) resolveModule(ctx context.Context, m module.Version) ([]module.Version, bool, error) {
	if module.CanonicalVersion(m.Version) == m.Version && module.Check(m.Path, m.Version) == nil {
		return []module.Version{m}, false, nil
	}
	r := entry(&f.mu, f.resolved, m)
	r.once.Do(func() {
		if f.lock != nil {
			f.resolveLocked(m, r)
		} else {
			f.resolveOnce(ctx, m, r)
		}
	})
	return r.versions, r.query, r.err
}

// resolveLocked answers a query with the lock's versions.
func (f *fetcher) resolveLocked(m module.Version, r *resolution) {
	versions, ok := f.lock.Queries[m.String()]
	switch {
	case !ok:
		r.err = &LockError{fmt.Sprintf("%s was not asked for when the lock was made: the sources changed", m)}
	case len(versions) == 0:
		r.err = &modgraph.AbsentError{Err: errors.New("there was none when the lock was made")}
	default:
		for _, v := range versions {
			r.versions = append(r.versions, module.Version{Path: m.Path, Version: v})
		}
		r.query = m.Version != sources.All
	}
}

// resolutions returns the results of all queries, by module@query.
func (f *fetcher) resolutions() map[string][]string {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make(map[string][]string, len(f.resolved))
	for m, r := range f.resolved {
		versions := []string{}
		if r.err == nil { // an error that did not end the sync means that there is none
			for _, v := range r.versions {
				versions = append(versions, v.Version)
			}
		}
		all[m.String()] = versions
	}
	return all
}

func (f *fetcher) resolveOnce(ctx context.Context, m module.Version, r *resolution) {
	match, isList, err := sources.NewMatcher(m.Version)
	switch {
	case m.Version == sources.All:
		var list, releases []string
		if list, _, r.err = f.versions(ctx, m.Path); r.err == nil {
			releases, _, r.err = f.filter(ctx, m.Path, list, nil, false)
		}
		if r.err == nil && len(releases) == 0 {
			r.err = errors.New("it has no released version")
		}
		for _, v := range releases {
			r.versions = append(r.versions, module.Version{Path: m.Path, Version: v})
		}
	case err != nil:
		r.err = err
	default:
		r.query = true
		var v string
		if isList {
			v, r.err = f.query(ctx, m.Path, m.Version, match)
		} else {
			v, r.err = f.revision(ctx, m)
		}
		r.versions = []module.Version{{Path: m.Path, Version: v}}
	}
}

// resolveTool returns the modules that a command may be in: one for each path above the package's
// that the upstream has. go install asks for all of them too, and looks into their zips
// (modload/query.go QueryPattern).
func (f *fetcher) resolveTool(
	ctx context.Context, s *sources.Source,
) (versions []module.Version, queries []Query, err error) {
	var first error
	for p := s.Tool; p != "." && p != "/" && module.CheckPath(p) == nil; p = path.Dir(p) {
		m := module.Version{Path: p, Version: s.Query.Version}
		if module.CanonicalVersion(m.Version) == m.Version && module.Check(p, m.Version) != nil {
			continue // the path has another major version
		}
		found, query, err := f.resolveModule(ctx, m)
		if err == nil && !query { // the version was named; check that it exists
			_, err = f.goMod(ctx, m)
		}
		_, none := errors.AsType[*noMatchError](err)
		switch {
		case err == nil:
			versions = append(versions, found...)
			if query {
				queries = append(queries, Query{p, m.Version, found[0].Version})
			}
		case !upstream.Refused(err) && !modgraph.IsAbsent(err) && !none:
			// A path above a module's may be no more than a host (modload/query.go
			// queryPrefixModules).
			if versions != nil {
				continue
			}
			return nil, nil, fmt.Errorf("%s: %w", s.Name, err)
		case first == nil:
			first = err
		}
	}
	if versions == nil {
		return nil, nil, &modgraph.AbsentError{Err: first}
	}
	return versions, queries, nil
}
