package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
	Query   string // such as "latest"
	Version string
}

// latest resolves module@latest as the go command does (modload/query.go): the highest release
// in the list that is not retracted, else the highest prerelease, else what @latest
// says, else the newest version that the list names in any form.
func (f *fetcher) latest(ctx context.Context, path string) (string, error) {
	data, err := f.get(ctx, module.Version{Path: path}, modpath.Request{Kind: modpath.List, Path: path}.String(), 0)
	if err != nil {
		return "", err
	}
	var releases, prereleases, incompatible []string
	var newest string // by time, as proxies order what has no tag
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
	if err != nil {
		return "", err
	}
	for _, list := range [][]string{releases, prereleases} {
		if v, err := f.highest(ctx, path, list, releases, prereleases); v != "" || err != nil {
			return v, err
		}
	}
	if data, err = f.get(ctx, module.Version{Path: path}, modpath.Request{Kind: modpath.Latest, Path: path}.String(), maxInfo); err == nil {
		i, err := parseInfo(data, "")
		if err != nil {
			return "", fmt.Errorf("%s/@latest: %w", path, err)
		}
		v, err := f.highest(ctx, path, []string{i.Version}, []string{i.Version}, nil)
		if err == nil && v == "" {
			err = fmt.Errorf("%s: its only version, %s, is retracted", path, i.Version)
		}
		return v, err
	}
	if !upstream.IsNotFound(err) {
		return "", err
	}
	if newest == "" {
		return "", fmt.Errorf("%s: no version that latest could mean: %w", path, err)
	}
	return newest, nil
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

// highest returns the highest version in list that the module's newest go.mod does
// not retract; "" when there is none.
func (f *fetcher) highest(ctx context.Context, path string, list, releases, prereleases []string) (string, error) {
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
	list = slices.Clone(list)
	semver.Sort(list)
	for _, v := range slices.Backward(list) {
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

// resolve returns the version that a source's query means.
func (f *fetcher) resolve(ctx context.Context, s *Source) (module.Version, *Query, error) {
	m := s.Query
	if m.Version != "latest" {
		return m, nil, nil
	}
	v, err := f.latest(ctx, m.Path)
	if upstream.Refused(err) {
		return m, nil, &absentError{err}
	}
	if err == nil && v == "" {
		err = errors.New("no version")
	}
	if err != nil {
		return m, nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	return module.Version{Path: m.Path, Version: v}, &Query{m.Path, m.Version, v}, nil
}
