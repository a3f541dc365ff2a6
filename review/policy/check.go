package policy

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/facts"
	"github.com/modmirror/modmirror/review/vulndb"
)

// Input is what a policy is compared with.
type Input struct {
	Zips review.Zips
	Size int64 // of the file that is carried across, in bytes
	Now  time.Time

	// Before is what is there already; empty for nothing. What a version can do is new beside that.
	// BeforeCounts says that a version crosses unless it is there; else Zips.Crosses says so. A bundle
	// from elsewhere must not decide that about itself.
	Before       []review.Zips
	BeforeCounts bool

	// DBs are the vulnerability databases to compare with. All count: a new one may know less. DBErr
	// says why one cannot be read.
	DBs   []*vulndb.DB
	DBErr error

	// Sums says that there is a checksum database. What has no record in it is private then.
	Sums bool
	// Seen are the heads of the checksum database that are known here, for cooldown.
	Seen []proof.Sighting
	// Retraction, which may be nil, reports whether a version is retracted that is perhaps not
	// carried, and whether that is known.
	Retraction func(path, version string) (reason string, is, known bool)
	// Named has the versions that were asked for in full: no cooldown applies to them.
	Named map[module.Version]bool
}

// A Report is the result of a comparison.
type Report struct {
	Checked    int         `json:"checked"` // versions that cross
	Violations []Violation `json:"violations"`
	Warnings   []Violation `json:"warnings"`
	Excepted   []Violation `json:"excepted"`
	Unused     []Exception `json:"unused"` // exceptions from nothing that crosses
	More       int         `json:"more"`   // of the lists above, beyond 10,000 each
	Notes      []string    `json:"notes"`  // what it was compared with, and what could not be
}

// A Violation is something that a line of the policy is against.
type Violation struct {
	Rule    string `json:"rule"`
	Line    string `json:"line"` // FILE:LINE
	Text    string `json:"text"` // what the line says
	Module  string `json:"module,omitempty"`
	Version string `json:"version,omitempty"`
	ID      string `json:"id,omitempty"` // of a vulnerability
	What    string `json:"what"`

	Chain  []string `json:"chain,omitempty"`  // what brings the version in
	Passes string   `json:"passes,omitempty"` // the nearest version that may pass
	Except string   `json:"except,omitempty"` // a line that would let it pass

	// ExceptRule is a line that would let the version pass everything that its rule is against.
	ExceptRule string `json:"exceptRule,omitempty"`

	Ended   *Exception `json:"ended,omitempty"`   // the exception that let it pass until its day
	Because *Exception `json:"because,omitempty"` // the exception that lets it pass
}

// Subject returns PATH@VERSION, or "the bundle".
func (v *Violation) Subject() string {
	if v.Module == "" {
		return "the bundle"
	}
	return v.Module + "@" + v.Version
}

// A Group is what is against one version, or against the bundle.
type Group struct {
	Subject    string
	Chain      []string
	Violations []Violation
	Passes     string
	Except     []string // lines that would let all of it pass
}

// Groups returns violations by their subject, in the order of a report.
func Groups(list []Violation) (groups []Group) {
	for len(list) > 0 {
		n := 1
		for n < len(list) && list[n].Subject() == list[0].Subject() {
			n++
		}
		groups = append(groups, groupOf(list[:n]))
		list = list[n:]
	}
	return groups
}

// groupOf returns the group of violations with one subject.
func groupOf(list []Violation) Group {
	g := Group{Subject: list[0].Subject(), Chain: list[0].Chain, Violations: list}
	byRule := make(map[string]int)
	for i := range list {
		byRule[list[i].Rule]++
		g.Passes = cmp.Or(g.Passes, list[i].Passes)
	}
	for i := range list {
		line := list[i].Except
		if byRule[list[i].Rule] > 1 { // one line for all of them
			line = list[i].ExceptRule
		}
		if line != "" && !slices.Contains(g.Except, line) {
			g.Except = append(g.Except, line)
		}
	}
	return g
}

// maxViolations bounds what a report lists.
const maxViolations = 10_000

// Check compares what crosses with the policy.
func (p *Policy) Check(ctx context.Context, in Input) (*Report, error) {
	c := &check{
		Policy: p, in: in, crosses: make(map[module.Version]index.Version), carried: make(map[string][]index.Version),
		out: &Report{
			Violations: []Violation{}, Warnings: []Violation{}, Excepted: []Violation{}, Unused: []Exception{}, Notes: []string{},
		},
	}
	before := make(map[module.Version]string) // h1 of what is there
	for _, z := range in.Before {
		for v, err := range review.WholeVersions(ctx, z) {
			if err != nil {
				return nil, err
			}
			before[module.Version{Path: v.Path, Version: v.Version}] = v.H1
		}
	}
	for v, err := range review.WholeVersions(ctx, in.Zips) {
		if err != nil {
			return nil, err
		}
		c.carried[v.Path] = append(c.carried[v.Path], v)
		m := module.Version{Path: v.Path, Version: v.Version}
		does := !in.BeforeCounts || before[m] != v.H1
		if !in.BeforeCounts {
			if does, err = in.Zips.Crosses(ctx, v); err != nil {
				return nil, err
			}
		}
		if does {
			c.crosses[m] = v
			c.order = append(c.order, v)
		}
	}
	c.out.Checked = len(c.order)
	for _, x := range p.except {
		x.used = false
	}
	for _, v := range c.order {
		c.version(v)
	}
	c.cooldownNotes()
	c.size()
	for _, step := range []func(context.Context) error{c.vulns, c.facts, c.explain} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	for _, x := range p.except {
		if !x.used && !c.concernsEarlier(x) {
			c.out.Unused = append(c.out.Unused, *x)
		}
	}
	return c.out, nil
}

// concernsEarlier reports whether an exception may be about what earlier bundles of the line brought.
func (c *check) concernsEarlier(x *Exception) bool {
	path, _, _ := strings.Cut(x.Module, "@")
	among := map[string][]index.Version{path: c.carried[path]}
	if strings.HasSuffix(path, "/...") {
		among = c.carried
	}
	for path, list := range among {
		for _, v := range list {
			if matches(x.Module, path, v.Version) && !c.isCrossing(v) {
				return true
			}
		}
	}
	return false
}

// A check is one run of Check.
type check struct {
	*Policy
	in      Input
	out     *Report
	order   []index.Version                  // what crosses, by path and version
	crosses map[module.Version]index.Version // the same
	carried map[string][]index.Version       // by path, of earlier bundles too
	private []string                         // versions that no cooldown was applied to
}

// isCrossing reports whether a carried version crosses.
func (c *check) isCrossing(v index.Version) bool {
	_, ok := c.crosses[module.Version{Path: v.Path, Version: v.Version}]
	return ok
}

// add enters something that a rule is against. ids are those of a vulnerability.
func (c *check) add(r *rule, word string, v index.Version, what string, ids ...string) {
	x := Violation{Rule: word, Line: r.pos, Text: r.text, Module: v.Path, Version: v.Version, What: what}
	if len(ids) > 0 {
		x.ID = ids[0]
	}
	e, holds := c.excepted(c.in.Now, word, v.Path, v.Version, ids...)
	list := &c.out.Violations
	switch {
	case holds:
		x.Because, list = e, &c.out.Excepted
	case r.warn:
		list = &c.out.Warnings
	default:
		x.Ended = e
	}
	if len(*list) == maxViolations {
		c.out.More++
		return
	}
	*list = append(*list, x)
}

// version compares what the catalog says about a version.
func (c *check) version(v index.Version) {
	for _, r := range c.rules[Deny] {
		if pattern, ok := r.denies(v.Path, v.Version); ok {
			c.add(r, Deny, v, "denied by "+pattern)
			break
		}
	}
	if rules := c.rules[AllowOnly]; rules != nil {
		if !slices.ContainsFunc(rules, func(r *rule) bool { return r.allows(v.Path, v.Version) }) {
			c.add(rules[len(rules)-1], AllowOnly, v, "not among the modules that are allowed")
		}
	}
	for _, r := range c.rules[Retracted] {
		if v.Retracted != nil {
			c.add(r, Retracted, v, "retracted by its author"+reason(*v.Retracted))
		}
	}
	for _, r := range c.rules[Deprecated] {
		if v.Deprecated != "" {
			c.add(r, Deprecated, v, "deprecated by its author"+reason(v.Deprecated))
		}
	}
	for _, r := range c.rules[Cooldown] {
		if why := c.young(v, r.days); why != "" {
			c.add(r, Cooldown, v, why)
		}
	}
}

// reason returns the begin of a text of an author, after a colon.
func reason(text string) string {
	const most = 200
	text = strings.Join(strings.Fields(text), " ")
	if text == "" {
		return ""
	}
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	return ": " + text
}

// young says why a version is, or may be, younger than some days; "" when it is not.
func (c *check) young(v index.Version, days int) string {
	m := module.Version{Path: v.Path, Version: v.Version}
	if c.in.Named[m] {
		return ""
	}
	if v.Record == nil && c.in.Sums { // whoever signs the bundle vouches for it
		c.private = append(c.private, m.String())
		return ""
	}
	made, err := time.Parse(time.RFC3339, v.Time)
	if err != nil {
		made = time.Time{}
	}
	return c.cooldown(days).Young(v.Record, made)
}

func (c *check) cooldown(days int) proof.Cooldown {
	return proof.Cooldown{Days: days, Now: c.in.Now, Seen: c.in.Seen}
}

// note adds a note to the report, once.
func (c *check) note(format string, args ...any) {
	if n := fmt.Sprintf(format, args...); !slices.Contains(c.out.Notes, n) {
		c.out.Notes = append(c.out.Notes, n)
	}
}

// cooldownNotes says which versions no cooldown was applied to, and where it went by times.
func (c *check) cooldownNotes() {
	rules := c.rules[Cooldown]
	if len(rules) == 0 {
		return
	}
	if n := len(c.private); n > 0 {
		some := strings.Join(c.private[:min(n, 5)], ", ")
		if n > 5 {
			some += ", …"
		}
		c.note("cooldown: %d private versions, which have no record, were not asked for their age: %s", n, some)
	}
	if !c.in.Sums {
		c.note("cooldown: there is no checksum database, so the times count that versions give themselves")
		return
	}
	begin := c.cooldown(rules[0].days).Begin()
	if _, ok := proof.LastBefore(c.in.Seen, begin); !ok {
		c.note("cooldown: no tree of the checksum database was seen here on or before %s, "+
			"so the times count that versions give themselves, which their authors can set", begin.UTC().Format(time.DateOnly))
	}
}

// size compares the size of the file.
func (c *check) size() {
	for _, r := range c.rules[Size] {
		if what := r.over(c.in.Size); what != "" {
			c.add(r, Size, index.Version{}, what)
		}
	}
}

// over says that a size is more than a rule allows, "" when it is not.
func (r *rule) over(size int64) string {
	if size <= int64(r.bytes) {
		return ""
	}
	return fmt.Sprintf("it has %d bytes, and at most %d are allowed", size, r.bytes)
}

// OverSize returns the violation of a file of a size in bytes, nil when it is none.
func (p *Policy) OverSize(size int64) *Violation {
	if p == nil {
		return nil
	}
	for _, r := range p.rules[Size] {
		if what := r.over(size); what != "" && !r.warn {
			return &Violation{Rule: Size, Line: r.pos, Text: r.text, What: what}
		}
	}
	return nil
}

// WithoutFolders returns the report with the names of policy files alone: it may be for people whom
// the folders of this machine do not concern. Of nil it returns nil.
func (r *Report) WithoutFolders() *Report {
	if r == nil {
		return nil
	}
	out := *r
	plain := func(list []Violation) []Violation {
		list = slices.Clone(list)
		for i := range list {
			v := &list[i]
			v.Line = filepath.Base(v.Line)
			v.Because, v.Ended = v.Because.withoutFolder(), v.Ended.withoutFolder()
		}
		return list
	}
	out.Violations, out.Warnings, out.Excepted = plain(r.Violations), plain(r.Warnings), plain(r.Excepted)
	out.Unused = slices.Clone(r.Unused)
	for i := range out.Unused {
		out.Unused[i] = *out.Unused[i].withoutFolder()
	}
	return &out
}

// withoutFolder returns the exception with the name of its file alone.
func (e *Exception) withoutFolder() *Exception {
	if e == nil {
		return nil
	}
	out := *e
	out.Line = filepath.Base(e.Line)
	return &out
}

// vulns compares what crosses with the vulnerability database. Nothing is known without one, which
// is against the rule.
func (c *check) vulns(ctx context.Context) error {
	rules := c.rules[Vulns]
	if len(rules) == 0 {
		return nil
	}
	r := rules[0]
	if c.in.DBErr != nil {
		c.add(r, Vulns, index.Version{}, "a vulnerability database cannot be read: "+c.in.DBErr.Error())
	} else if len(c.in.DBs) == 0 {
		c.add(r, Vulns, index.Version{}, "no vulnerability database to compare with: modmirror sync --vulndb carries it")
	}
	type finding struct {
		m  module.Version
		id string
	}
	seen := make(map[finding]bool)
	for i, db := range c.in.DBs {
		found, err := review.FindVulns(ctx, []review.Catalog{c.in.Zips}, db)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			c.add(r, Vulns, index.Version{}, "a vulnerability database cannot be read: "+err.Error())
			c.in.DBs = slices.Delete(slices.Clone(c.in.DBs), i, len(c.in.DBs))
			return nil
		}
		of, future := db.Modified.UTC().Format(time.DateOnly), ""
		if db.Modified.After(c.in.Now.AddDate(0, 0, 1)) {
			future = ", which is in the future: is the clock right?"
		}
		c.note("vulns: by the database of %s%s", of, future)
		for j := range found.List {
			x := &found.List[j]
			if r.words[0] == vulnsUnlessFixMissing && x.Fixed == "" && x.FixCarried == "" {
				continue
			}
			for _, v := range c.versionsOf(x) {
				f := finding{module.Version{Path: v.Path, Version: v.Version}, x.ID}
				if !seen[f] {
					seen[f] = true
					c.add(r, Vulns, v, x.ID+": "+x.Summary, append([]string{x.ID}, x.Aliases...)...)
				}
			}
		}
	}
	return nil
}

// versionsOf returns what crosses of a vulnerable version: for one of Go, its toolchains.
func (c *check) versionsOf(x *review.Vuln) (list []index.Version) {
	if !x.IsGo() {
		if v, ok := c.crosses[module.Version{Path: x.Module, Version: x.Version}]; ok {
			list = append(list, v)
		}
		return list
	}
	for _, v := range c.carried[modpath.Toolchain] {
		if c.isCrossing(v) && review.GoRelease(v) == x.Version {
			list = append(list, v)
		}
	}
	return list
}

// facts compares licenses and abilities, for which it reads zips.
func (c *check) facts(ctx context.Context) error {
	if c.rules[License] == nil && c.rules[New] == nil || len(c.order) == 0 {
		return nil
	}
	before, known, err := c.factsBefore(ctx)
	if err != nil {
		return err
	}
	return review.ReadFacts(ctx, c.in.Zips, c.isCrossing, func(f review.VersionFacts) error {
		v := c.crosses[module.Version{Path: f.Path, Version: f.Version}]
		c.license(v, f)
		if known {
			c.abilities(v, f, before[f.Path])
		}
		return nil
	})
}

// factsBefore returns the facts of what is there already of the modules of which something crosses:
// of the highest version of each. known is false when there is nothing to compare with.
func (c *check) factsBefore(ctx context.Context) (before map[string]*facts.Facts, known bool, err error) {
	if c.rules[New] == nil {
		return nil, false, nil
	}
	changes := make(map[string]bool)
	for _, v := range c.order {
		changes[v.Path] = true
	}
	type place struct {
		version string
		in      int
	}
	highest := make(map[string]place)
	for i, z := range c.in.Before {
		for v, err := range review.WholeVersions(ctx, z) {
			if err != nil {
				return nil, false, err
			}
			known = true
			if h, ok := highest[v.Path]; changes[v.Path] && (!ok || semver.Compare(v.Version, h.version) > 0) {
				highest[v.Path] = place{v.Version, i}
			}
		}
	}
	if !known {
		c.note("new: there is nothing yet to compare with")
		return nil, false, nil
	}
	before = make(map[string]*facts.Facts)
	for i, z := range c.in.Before {
		wanted := func(v index.Version) bool { return highest[v.Path] == place{v.Version, i} }
		err := review.ReadFacts(ctx, z, wanted, func(f review.VersionFacts) error {
			before[f.Path] = &f.Facts
			return nil
		})
		if ctx.Err() != nil {
			return nil, false, ctx.Err()
		}
		if err != nil { // a catalog has no zips
			strict := slices.IndexFunc(c.rules[New], func(r *rule) bool { return !r.warn })
			c.add(c.rules[New][max(strict, 0)], New, index.Version{},
				fmt.Sprintf("what is new is not known, since earlier versions cannot be read: %v", err))
			return nil, false, nil
		}
	}
	return before, true, nil
}

// license compares the license of a version.
func (c *check) license(v index.Version, f review.VersionFacts) {
	rules := c.rules[License]
	if rules == nil {
		return
	}
	for id := range strings.SplitSeq(f.License, " AND ") {
		if slices.ContainsFunc(rules, func(r *rule) bool { return slices.Contains(r.words, id) }) {
			continue
		}
		what := "its license is " + f.License
		switch f.License {
		case facts.None:
			what = "it has no license file (NONE)"
		case facts.NoAssertion:
			what = "its license is not one that is known (NOASSERTION)"
		}
		c.add(rules[len(rules)-1], License, v, what)
		return
	}
}

// abilities compares what a version can do with what the version before could, nil for a module
// that was not carried.
func (c *check) abilities(v index.Version, f review.VersionFacts, before *facts.Facts) {
	for _, u := range review.DiffFacts(before, f.Facts).New {
		for _, r := range c.rules[New] {
			if !slices.Contains(r.words, string(u.Kind)) {
				continue
			}
			what := fmt.Sprintf("now %s, in %s", u.Kind, u.File)
			if u.Detail != "" {
				what += " (" + u.Detail + ")"
			}
			c.add(r, New, v, what)
			break
		}
	}
}
