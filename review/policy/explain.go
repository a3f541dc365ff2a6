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
			return cmp.Or(strings.Compare(a.Module, b.Module), semver.Compare(a.Version, b.Version), strings.Compare(a.Version, b.Version))
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
	nearest := make(map[module.Version]string)
	for _, list := range lists {
		for i := range *list {
			v := &(*list)[i]
			if v.Module == "" {
				continue
			}
			m := module.Version{Path: v.Module, Version: v.Version}
			v.Chain = chains.Of(m)
			if v.Because != nil {
				continue
			}
			v.Except, v.ExceptRule = c.exceptLine(v, cmp.Or(v.ID, v.Rule)), c.exceptLine(v, v.Rule)
			if v.Rule == License || v.Rule == New { // nothing is known about zips that are not here
				continue
			}
			passes, ok := nearest[m]
			if !ok {
				if passes, err = c.nearest(ctx, m); err != nil {
					return err
				}
				nearest[m] = passes
			}
			v.Passes = passes
		}
	}
	return nil
}

// exceptLine returns the line that would let a violation pass, by the id of a vulnerability or a rule.
func (c *check) exceptLine(v *Violation, what string) string {
	end := c.in.Now.AddDate(0, 0, exceptDays).UTC().Format(time.DateOnly)
	return "except " + what + " " + v.Subject() + " until " + end + ` because "…"`
}

// nearest returns the nearest version of a module about which nothing is known that the rules are
// against, a higher one if there is any: of those that are carried, the newest that the upstream
// had, and those that the vulnerability database calls fixed. It returns "" when there is none, and
// for toolchains.
func (c *check) nearest(ctx context.Context, m module.Version) (string, error) {
	if m.Path == modpath.Toolchain {
		return "", nil
	}
	known := make(map[string]index.Version)
	candidates := make(map[string]bool)
	for _, v := range c.carried[m.Path] {
		known[v.Version] = v
		candidates[v.Version], candidates[v.Latest] = true, true
	}
	var entries []*vulndb.Entry
	if c.in.DB != nil && c.rules[Vulns] != nil {
		for e, err := range c.in.DB.Entries(ctx, m.Path) {
			if err != nil {
				return "", err
			}
			entries = append(entries, e)
			for _, fix := range e.Fixes(m.Path) {
				candidates[fix] = true
			}
		}
	}
	delete(candidates, m.Version)
	delete(candidates, "")
	higher, lower := "", ""
	for v := range candidates {
		if !semver.IsValid(v) || !c.passes(m.Path, v, known, entries) {
			continue
		}
		switch {
		case semver.Compare(v, m.Version) > 0 && (higher == "" || semver.Compare(v, higher) < 0):
			higher = v
		case semver.Compare(v, m.Version) < 0 && (lower == "" || semver.Compare(v, lower) > 0):
			lower = v
		}
	}
	return cmp.Or(higher, lower), nil
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
	alone := &check{Policy: &Policy{rules: make(map[string][]*rule)}, in: c.in, hasDB: c.hasDB, out: new(Report)}
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
