package policy

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/vulndb"
)

// exceptDays is how long an exception holds that a report proposes.
const exceptDays = 30

// explain adds to each violation what brings the version in, the nearest version that may pass, and
// the line that would let it pass.
func (c *check) explain(ctx context.Context) error {
	lists := []*[]Violation{&c.out.Violations, &c.out.Warnings, &c.out.Excepted}
	n := 0
	for _, list := range lists {
		slices.SortStableFunc(*list, func(a, b Violation) int {
			return cmp.Or(strings.Compare(a.Module, b.Module), semver.Compare(a.Version, b.Version),
				strings.Compare(a.Version, b.Version))
		})
		n += len(*list)
	}
	if n == 0 {
		return nil
	}
	chains, err := review.NewChains(ctx, c.in.Zips)
	if err != nil {
		return err
	}
	passing := make(map[string][]string) // by module
	for _, list := range lists {
		for i := range *list {
			v := &(*list)[i]
			if v.Module == "" {
				continue
			}
			m := module.Version{Path: v.Module, Version: v.Version}
			v.Chain = chains.ShortOf(m)
			if v.Because != nil {
				continue
			}
			v.Except, v.ExceptRule = c.exceptLine(v, cmp.Or(v.ID, v.Rule)), c.exceptLine(v, v.Rule)
			if v.Rule == License || v.Rule == New { // nothing is known about zips that are not here
				continue
			}
			pass, ok := passing[m.Path]
			if !ok {
				if pass, err = c.passing(ctx, m.Path); err != nil {
					return err
				}
				passing[m.Path] = pass
			}
			v.Passes = nearest(pass, m.Version)
		}
	}
	return nil
}

// exceptLine returns the line that would let a violation pass, by the id of a vulnerability or a rule.
func (c *check) exceptLine(v *Violation, what string) string {
	end := c.in.Now.AddDate(0, 0, exceptDays).UTC().Format(time.DateOnly)
	return "except " + what + " " + v.Subject() + " until " + end + ` because "…"`
}

// nearest returns the lowest version of a sorted list above another one, or else the highest below,
// or "".
func nearest(list []string, version string) string {
	i, found := slices.BinarySearchFunc(list, version, semver.Compare)
	above := i
	if found {
		above++
	}
	switch {
	case above < len(list):
		return list[above]
	case i > 0:
		return list[i-1]
	}
	return ""
}

const (
	// maxCandidates bounds the versions of a module of which a report says whether they may pass.
	maxCandidates = 2_000

	// maxWork bounds the comparisons with ranges of vulnerabilities for one module: a second.
	maxWork = 10_000_000
)

// passing returns the versions of a module about which nothing is known that the rules are against,
// sorted: of those that are carried, the newest that the upstream had, and those that a vulnerability
// database calls fixed. It returns none for toolchains, and where it would take long to find out.
func (c *check) passing(ctx context.Context, path string) (list []string, err error) {
	if path == modpath.Toolchain {
		return nil, nil
	}
	known := make(map[string]index.Version)
	candidates := make(map[string]bool)
	for _, v := range c.carried[path] {
		known[v.Version] = v
		candidates[v.Version], candidates[v.Latest] = true, true
	}
	var entries []*vulndb.Entry
	work := 0
	for _, db := range c.in.DBs {
		if c.rules[Vulns] == nil {
			break
		}
		for e, err := range db.Entries(ctx, path) {
			if err != nil {
				return nil, ctx.Err() // the rule says what is wrong
			}
			work += e.Work()
			entries = append(entries, e)
			for _, fix := range e.Fixes(path) {
				candidates[fix] = true
			}
			if len(candidates) > maxCandidates || work*len(candidates) > maxWork {
				return nil, nil
			}
		}
	}
	if len(candidates) > maxCandidates {
		return nil, nil
	}
	for v := range candidates {
		if semver.IsValid(v) && c.passes(path, v, known, entries) {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b string) int { return cmp.Or(semver.Compare(a, b), strings.Compare(a, b)) })
	return list, ctx.Err()
}

// passes reports whether nothing is known against a version. Licenses and abilities do not count.
func (c *check) passes(path, version string, known map[string]index.Version, entries []*vulndb.Entry) bool {
	fixable := len(c.rules[Vulns]) > 0 && c.rules[Vulns][0].words[0] == vulnsUnlessFixMissing
	bad := func(e *vulndb.Entry) bool {
		return e.Affects(path, version) && (!fixable || vulndb.FirstAbove(e.Fixes(path), version) != "")
	}
	if slices.ContainsFunc(entries, bad) {
		return false
	}
	v, ok := known[version]
	if !ok {
		v = index.Version{Path: path, Version: version}
	}
	alone := &check{Policy: &Policy{rules: make(map[string][]*rule)}, in: c.in, out: new(Report)}
	for _, word := range []string{Deny, AllowOnly, Retracted, Deprecated} {
		alone.rules[word] = c.rules[word]
	}
	if ok { // else its age is not known
		alone.rules[Cooldown] = c.rules[Cooldown]
	}
	if c.in.Retraction != nil {
		if reason, is, known := c.in.Retraction(path, version); known && is {
			v.Retracted = &reason
		}
	}
	alone.version(v)
	return len(alone.out.Violations) == 0
}
