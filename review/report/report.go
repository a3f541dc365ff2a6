// Package report makes one page for the person who signs a bundle, or lets it in: what is new,
// changed and gone, and what there is to know about each.
package report

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/facts"
	"github.com/modmirror/modmirror/review/policy"
	"github.com/modmirror/modmirror/review/vulndb"
)

// maxChanges bounds the changes that a report lists.
const maxChanges = 10_000

// Mark is in the first line or lines of every report.
const Mark = "modmirror report"

// Kinds of changes.
const (
	New     = "new"     // a module that was not carried
	Changed = "changed" // another version of a module that was
	Gone    = "gone"
)

// A Report says what a bundle brings.
type Report struct {
	Generator string `json:"generator"` // Mark

	Bundle Bundle  `json:"bundle"`
	Base   *Bundle `json:"base,omitempty"` // nil: what the line had before

	New     int   `json:"new"` // changes of each kind
	Changed int   `json:"changed"`
	Gone    int   `json:"gone"`
	Bytes   int64 `json:"bytes"` // of new zips
	Missing int64 `json:"missing"`

	Vulns  *Vulns         `json:"vulns,omitempty"`  // nil without a vulnerability database
	Policy *policy.Report `json:"policy,omitempty"` // nil without a policy

	Changes []Change `json:"changes"` // by module and version
	More    int      `json:"more"`    // changes beyond the bound
	Notes   []string `json:"notes"`   // what is not known, and why
}

// A Bundle names a bundle.
type Bundle struct {
	Name     string    `json:"name"`
	Sequence int64     `json:"sequence"`
	Created  time.Time `json:"created"`
	ID       string    `json:"id,omitempty"`   // "" in a report that is in the bundle itself
	Size     int64     `json:"size,omitempty"` // in bytes; 0 as for ID
	Signers  []string  `json:"signers"`
	Versions int       `json:"versions"` // carried with their zip, in the whole line
}

// Vulns count carried versions with known vulnerabilities, by the database in the bundle.
type Vulns struct {
	Database time.Time `json:"database"`
	Before   int       `json:"before"`
	Affected int       `json:"affected"`
	Fixable  int       `json:"fixable"`
}

// A Change is a version that crosses, or one that is gone.
type Change struct {
	Kind    string `json:"kind"`
	Module  string `json:"module"`
	Version string `json:"version"`
	Was     string `json:"was,omitempty"` // the version before, that this one is compared with

	License    string       `json:"license,omitempty"`
	LicenseWas string       `json:"licenseWas,omitempty"` // "" when it is the same
	Unknown    bool         `json:"unknown,omitempty"`    // its facts, or those of the version before, were not read
	Can        []facts.Use  `json:"can,omitempty"`        // what its code can do that it could not
	CanNot     []facts.Kind `json:"canNot,omitempty"`     // what it can do no more

	API *API `json:"api,omitempty"` // nil when nobody looked, or there is no version before

	Comes   []Vuln   `json:"comes,omitempty"`   // vulnerabilities that the version before did not have
	Stays   []Vuln   `json:"stays,omitempty"`   // those that it had too
	Leaves  []string `json:"leaves,omitempty"`  // ids of those that it had and this one does not
	Retract *string  `json:"retract,omitempty"` // reason of its retraction

	Deprecated string `json:"deprecated,omitempty"`
	Private    bool   `json:"private,omitempty"` // outside the checksum database

	Time    string   `json:"time,omitempty"` // that the version gives itself
	Record  *int64   `json:"record,omitempty"`
	Recent  bool     `json:"recent,omitempty"` // its record is younger than the base
	Odd     bool     `json:"odd,omitempty"`    // and its time says that it is much older
	Chain   []string `json:"chain,omitempty"`  // what brings it in
	Size    int64    `json:"size,omitempty"`   // of the zip
	SizeWas int64    `json:"sizeWas,omitempty"`
}

// API counts how what a version exports differs from what the version before did.
type API struct {
	Incompatible int      `json:"incompatible"`
	Compatible   int      `json:"compatible"`
	First        []string `json:"first,omitempty"`    // some incompatible changes
	NotKnown     int      `json:"notKnown,omitempty"` // objects whose type or value another module computes
	Unread       int      `json:"unread,omitempty"`   // files and packages that could not be read
	Unknown      string   `json:"unknown,omitempty"`  // why nothing is known
}

// Loud reports whether there is something to look at. A nil a is not.
func (a *API) Loud() bool {
	return a != nil && (a.Incompatible > 0 || a.Unread > 0 || a.Unknown != "")
}

// A Vuln is a vulnerability of a version.
type Vuln struct {
	ID      string `json:"id"`
	Summary string `json:"summary"`
	Action  string `json:"action"`
	URL     string `json:"url,omitempty"`
}

// Quiet reports whether there is nothing to say about a change but that it is one.
func (c *Change) Quiet() bool {
	return c.LicenseWas == "" && len(c.Can) == 0 && len(c.Comes)+len(c.Stays) == 0 &&
		!c.API.Loud() &&
		c.Retract == nil && c.Deprecated == "" && !c.Odd && !c.Unknown && !c.unlicensed() && c.Kind != Gone
}

// unlicensed reports whether nobody knows the license of a new module.
func (c *Change) unlicensed() bool {
	return c.Kind == New && (c.License == facts.None || c.License == facts.NoAssertion)
}

// Input is what a report is about.
type Input struct {
	Subject review.Subject
	Base    *bundle.Bundle   // nil for what the line had before
	Policy  *policy.Policy   // may be empty
	Checked *policy.Report   // of a policy that was compared already; nil for none
	Now     time.Time        // for the policy
	Scan    bool             // read the zips for facts, and do not believe the indexes
	API     review.APIWorker // compares what changed modules export; nil: nobody looks
}

// Make makes a report. The same input makes the same report.
func Make(ctx context.Context, in Input) (*Report, error) {
	r := &Report{
		Generator: Mark, Bundle: bundleOf(in.Subject), Policy: in.Checked, Changes: []Change{}, Notes: []string{},
		Missing: in.Subject.Manifest.Counts.Missing,
	}
	m := &maker{in: in, out: r, now: in.Subject.Zips, old: review.Earlier{Zips: in.Subject.Zips}}
	if in.Base != nil {
		base := bundleOf(review.Signed(in.Base))
		r.Base, m.old = &base, review.NewCarried(in.Base)
		if in.Base.Manifest.DB == in.Subject.Manifest.DB {
			m.tree = in.Base.Manifest.Head.N
		} else {
			m.note("the base has another checksum database: how recent a record is, is not known")
		}
		in.Subject.Attach(in.Base)
	}
	if in.Scan {
		m.now, m.old = review.Unread(m.now), review.Unread(m.old)
	}
	for _, step := range []func(context.Context) error{m.changes, m.facts, m.vulns, m.details, m.api, m.policy} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func bundleOf(s review.Subject) Bundle {
	m := &s.Manifest
	signers := append([]string{}, slices.Sorted(slices.Values(s.Signers()))...)
	if s.ID() == "" {
		m.Size = 0 // the documents are not in it yet
	}
	return Bundle{m.Name, m.Sequence, m.Created.UTC(), s.ID(), m.Size, signers, int(m.Counts.Versions)}
}

// A maker makes one report.
type maker struct {
	in       Input
	out      *Report
	now, old review.Zips
	modules  []review.ModuleDiff
	tree     int64 // records that the checksum database had for the base; 0 when not known
}

// changes lists what differs.
func (m *maker) changes(ctx context.Context) (err error) {
	if m.modules, err = review.DiffCatalogs(ctx, m.old, m.now); err != nil {
		return err
	}
	for i := range m.modules {
		x := &m.modules[i]
		m.out.Bytes += x.Bytes
		replaced := make(map[string]bool)
		slices.SortFunc(x.Added, semver.Compare)
		for _, v := range x.Added {
			c := Change{Kind: New, Module: x.Path, Version: v, Was: x.Before(v)}
			if c.Was != "" {
				c.Kind = Changed
				replaced[c.Was] = true
				m.out.Changed++
			} else {
				m.out.New++
			}
			m.add(c)
		}
		for _, v := range x.Removed {
			if !replaced[v] && m.in.Base != nil { // else nothing is known to be gone
				m.out.Gone++
				m.add(Change{Kind: Gone, Module: x.Path, Version: v})
			}
		}
	}
	return nil
}

func (m *maker) add(c Change) {
	if len(m.out.Changes) == maxChanges {
		m.out.More++
		return
	}
	m.out.Changes = append(m.out.Changes, c)
}

// facts enters licenses and abilities.
func (m *maker) facts(ctx context.Context) error {
	before, after, err := review.FactsOfChanges(ctx, m.modules, m.old, m.now)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, proof.ErrMismatch) { // nobody may sign that, or let it in
		return err
	}
	if err != nil {
		m.note("licenses, and what code can do, are not known of all versions: %v (--base names the bundle before)", err)
	}
	for i := range m.out.Changes {
		c := &m.out.Changes[i]
		now, ok := after[module.Version{Path: c.Module, Version: c.Version}]
		if !ok {
			c.Unknown = c.Kind != Gone && c.Module != modpath.Toolchain
			continue
		}
		c.License = now.License
		was, ok := before[module.Version{Path: c.Module, Version: c.Was}]
		switch {
		case c.Was == "":
			c.Can = now.Uses
		case ok:
			d := review.DiffFacts(&was, now)
			c.Can, c.CanNot = d.New, d.Gone
			if d.License != nil {
				c.LicenseWas = d.License[0]
			}
		default:
			c.Unknown = true
		}
	}
	return nil
}

func (m *maker) note(format string, args ...any) {
	m.out.Notes = append(m.out.Notes, index.CleanText(fmt.Sprintf(format, args...)))
}

// vulns enters vulnerabilities that come and go, by the database in the bundle, or in the base.
func (m *maker) vulns(ctx context.Context) error {
	db, err := m.in.Subject.Database(ctx)
	if m.in.Base != nil {
		base, bad := review.Database(ctx, m.in.Base)
		if db == nil || base != nil && base.Modified.After(db.Modified) {
			db, err = base, cmp.Or(err, bad)
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil || db == nil {
		m.note("vulnerabilities are not known: %v", cmp.Or(err, fmt.Errorf("no vulnerability database is carried")))
		return nil
	}
	now, err := m.find(ctx, m.now, db)
	if err != nil {
		return err
	}
	old, err := m.find(ctx, m.old, db)
	if err != nil {
		return err
	}
	if now.Vulns == nil || old.Vulns == nil {
		return nil
	}
	m.out.Vulns = &Vulns{db.Modified, old.Affected, now.Affected, now.Fixable}
	for i := range m.out.Changes {
		c := &m.out.Changes[i]
		if c.Kind == Gone {
			continue
		}
		had := make(map[string]bool)
		for _, v := range old.of[keyOf(c.Module, c.Was)] {
			had[v.ID] = true
		}
		has := make(map[string]bool)
		for _, v := range now.of[keyOf(c.Module, c.Version)] {
			has[v.ID] = true
			list := &c.Comes
			if had[v.ID] {
				list = &c.Stays
			}
			*list = append(*list, Vuln{v.ID, v.Summary, v.Action(), httpURL(v.URL)})
		}
		for _, v := range old.of[keyOf(c.Module, c.Was)] {
			if !has[v.ID] {
				c.Leaves = append(c.Leaves, v.ID)
			}
		}
	}
	return nil
}

// httpURL returns a URL of the web, and "" for anything else.
func httpURL(s string) string {
	if strings.HasPrefix(s, "https://") {
		return s
	}
	return ""
}

// found are vulnerabilities by the version that they are of.
type found struct {
	*review.Vulns
	of map[module.Version][]*review.Vuln
}

// keyOf returns under which version the vulnerabilities of a carried version are found: toolchains of
// all platforms are one version of Go.
func keyOf(path, version string) module.Version {
	if release := review.GoRelease(index.Version{Path: path, Version: version}); release != "" {
		return module.Version{Path: modpath.Toolchain, Version: release}
	}
	return module.Version{Path: path, Version: version}
}

// find returns the vulnerabilities in a catalog. Those of a database that cannot be read are none.
func (m *maker) find(ctx context.Context, c review.Catalog, db *vulndb.DB) (f found, err error) {
	if f.Vulns, err = review.FindVulns(ctx, []review.Catalog{c}, db); err != nil {
		if ctx.Err() != nil {
			return f, ctx.Err()
		}
		m.note("vulnerabilities are not known: %v", err)
		return found{}, nil
	}
	f.of = make(map[module.Version][]*review.Vuln)
	for i := range f.List {
		v := &f.List[i]
		k := module.Version{Path: v.Module, Version: v.Version}
		if v.IsGo() {
			k.Path = modpath.Toolchain
		}
		f.of[k] = append(f.of[k], v)
	}
	return f, nil
}

// oldTime is how much older than the base a version must call itself for that to be odd.
const oldTime = 90 * 24 * time.Hour

// details enters what the catalogs say of each change.
func (m *maker) details(ctx context.Context) error {
	chains, err := review.NewChains(ctx, m.now)
	if err != nil {
		return err
	}
	now, old, err := m.lookups(ctx)
	if err != nil {
		return err
	}
	for i := range m.out.Changes {
		c := &m.out.Changes[i]
		from := now
		if c.Kind == Gone {
			from = old
		}
		v, ok := from[module.Version{Path: c.Module, Version: c.Version}]
		if !ok {
			continue
		}
		c.Size = *v.ZipSize
		if c.Kind == Gone {
			continue
		}
		c.Retract, c.Deprecated, c.Private, c.Time, c.Record = v.Retracted, v.Deprecated, v.Private, v.Time, v.Record
		if was, ok := old[module.Version{Path: c.Module, Version: c.Was}]; ok {
			c.SizeWas = *was.ZipSize
		}
		if c.Record != nil && m.tree > 0 && *c.Record >= m.tree {
			c.Recent = true
			made, err := time.Parse(time.RFC3339, c.Time)
			c.Odd = err == nil && made.Before(m.in.Base.Manifest.Created.Add(-oldTime))
		}
		c.Chain = chains.ShortOf(module.Version{Path: c.Module, Version: c.Version})
	}
	return nil
}

// maxFirst is how many incompatible changes of a module the report has.
const maxFirst = 8

// api enters how what changed modules export differs.
func (m *maker) api(ctx context.Context) error {
	if m.in.API == nil {
		return nil
	}
	now, old, err := m.lookups(ctx)
	if err != nil {
		return err
	}
	cpu := make(h1.Limiter, runtime.GOMAXPROCS(0))
	for i := range m.out.Changes {
		c := &m.out.Changes[i]
		if c.Kind != Changed || c.Module == modpath.Toolchain {
			continue
		}
		was, ok1 := old[module.Version{Path: c.Module, Version: c.Was}]
		is, ok2 := now[module.Version{Path: c.Module, Version: c.Version}]
		if !ok1 || !ok2 {
			continue
		}
		if c.API, err = m.diffAPI(ctx, cpu, was, is); ctx.Err() != nil || errors.Is(err, proof.ErrMismatch) {
			return cmp.Or(ctx.Err(), err)
		}
		if err != nil {
			c.API = &API{Unknown: index.CleanText(err.Error())}
		}
	}
	return nil
}

// diffAPI compares what two versions export.
func (m *maker) diffAPI(ctx context.Context, cpu h1.Limiter, was, is index.Version) (*API, error) {
	before, err := review.OpenSources(ctx, m.old, cpu, was)
	if err != nil {
		return nil, err
	}
	defer before.Close()
	after, err := review.OpenSources(ctx, m.now, cpu, is)
	if err != nil {
		return nil, err
	}
	defer after.Close()
	d, err := review.DiffAPI(ctx, before, after, m.in.API)
	if err != nil {
		return nil, err
	}
	n := d.Incompatible()
	out := &API{Incompatible: n, Compatible: len(d.Changes) - n, NotKnown: len(d.Unknown), Unread: len(d.Unread)}
	for _, c := range d.Changes[:min(n, maxFirst)] {
		text := c.Text
		rel := strings.TrimPrefix(strings.TrimPrefix(c.Package, is.Path), "/")
		if rel != "" && !strings.HasPrefix(text, "package ") {
			text = rel + ": " + text
		}
		out.First = append(out.First, text)
	}
	return out, nil
}

// lookups returns what both catalogs say of the versions in the report.
func (m *maker) lookups(ctx context.Context) (now, old map[module.Version]index.Version, err error) {
	if now, err = m.lookup(ctx, m.now); err == nil {
		old, err = m.lookup(ctx, m.old)
	}
	return now, old, err
}

// lookup returns what a catalog says of the versions in the report.
func (m *maker) lookup(ctx context.Context, c review.Catalog) (map[module.Version]index.Version, error) {
	wanted := make(map[string]bool)
	for i := range m.out.Changes {
		wanted[m.out.Changes[i].Module] = true
	}
	found := make(map[module.Version]index.Version)
	for v, err := range review.WholeVersions(ctx, c) {
		if err != nil {
			return nil, err
		}
		if wanted[v.Path] {
			found[module.Version{Path: v.Path, Version: v.Version}] = v
		}
	}
	return found, nil
}

// policy compares the bundle with the policy.
func (m *maker) policy(ctx context.Context) (err error) {
	if m.in.Policy.Empty() {
		return nil
	}
	in := policy.Input{
		Zips: review.Unread(m.now), Before: []review.Zips{review.Unread(m.old)}, Size: m.in.Subject.Manifest.Size, Now: m.in.Now,
		Sums: m.in.Subject.Manifest.DB != "",
	}
	add := func(db *vulndb.DB, err error) {
		if in.DBErr = cmp.Or(in.DBErr, err); db != nil {
			in.DBs = append(in.DBs, db)
		}
	}
	add(m.in.Subject.Database(ctx))
	if b := m.in.Base; b != nil {
		if m.tree > 0 {
			in.Seen = append(in.Seen, b.Sighting())
		}
		add(review.Database(ctx, b))
	}
	m.out.Policy, err = m.in.Policy.Check(ctx, in)
	return err
}
