package bundle

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
)

// A NeedError reports a file of a delta whose content only an earlier bundle of the line has.
type NeedError struct {
	Path          string // of the file
	Module, Query string // version whose .info the file is
}

// Error names the file.
func (e *NeedError) Error() string {
	return fmt.Sprintf("%s is made anew, of the .info of %s@%s, which this run did not fetch", e.Path, e.Module, e.Query)
}

// merge adds the rest of the line of c.Base to c: versions, queries, requirements, tiles, and the
// vulnerability database unless c has a new one. Sources of files that the line already has get no
// content.
func (c *Contents) merge(ctx context.Context) error {
	base := c.Base
	if base.Manifest.DB != c.DB {
		return fmt.Errorf("the line's checksum database is %q, and that of this run is %q: make a full bundle", base.Manifest.DB, c.DB)
	}
	platforms, err := c.carriedBootstraps(ctx)
	if err != nil {
		return err
	}
	m := newMerger(c, platforms)
	for old, err := range base.Index.Versions(ctx, "") {
		if err == nil {
			err = m.version(ctx, old)
		}
		if err != nil {
			return err
		}
	}
	m.finish()
	if err := c.mergeRows(ctx, base, m.dropped, m.anew); err != nil {
		return err
	}
	heads, err := base.Heads(ctx)
	if err != nil {
		return err
	}
	c.Heads = proof.MergeHeads(c.Head.N, c.Heads, heads)
	return c.mergeFiles(ctx)
}

// A merger adds the versions of a line to those of a new bundle.
type merger struct {
	c         *Contents
	platforms []string          // of carried toolchains that --drop must not remove
	news      int               // versions before the merge
	have      map[[2]string]int // position of a version in c.Versions, by path and version
	first     map[string]int    // position of a module's first version
	dropped   map[[2]string]bool
	anew      map[[2]string]bool       // dropped versions that the new bundle carries as they are now
	advice    map[string]index.Version // of modules whose retractions are not known now
}

func newMerger(c *Contents, platforms []string) *merger {
	m := &merger{
		c: c, platforms: platforms, news: len(c.Versions),
		have:    make(map[[2]string]int, len(c.Versions)),
		first:   make(map[string]int),
		dropped: make(map[[2]string]bool),
		anew:    make(map[[2]string]bool),
		advice:  make(map[string]index.Version),
	}
	for i, v := range slices.Backward(c.Versions) {
		m.have[[2]string{v.Path, v.Version.Version}] = i
		m.first[v.Path] = i
	}
	return m
}

// version merges a version of the line.
func (m *merger) version(ctx context.Context, old index.Version) error {
	c := m.c
	key := [2]string{old.Path, old.Version}
	i, again := m.have[key]
	if c.Drop != nil && c.Drop(old.Path, old.Version) && !keeps(m.platforms, old) {
		return m.drop(ctx, key, old)
	}
	if again {
		if v := &c.Versions[i]; v.GoModH1 != old.GoModH1 || v.H1 != "" && old.H1 != "" && v.H1 != old.H1 {
			return fmt.Errorf("%s@%s is not what the line has: it was tagged again (its h1 was %s, of the go.mod %s); --drop %[1]s@%[2]s lets the new one in",
				old.Path, old.Version, old.H1, old.GoModH1)
		}
	} else {
		if j, ok := m.first[old.Path]; ok && c.Versions[j].Private != old.Private {
			return fmt.Errorf("%s is outside the checksum database in one of line and this run only: make a full bundle", old.Path)
		}
		i = len(c.Versions)
		c.Versions = append(c.Versions, Version{Version: old})
	}
	v := &c.Versions[i]
	if reason, known := c.advice(old.Path, old.Version); known {
		v.Retracted = reason
	} else {
		v.Retracted, m.advice[old.Path] = old.Retracted, old
	}
	return c.carry(ctx, v, old, again)
}

// drop leaves a version out. One that the new bundle has too is carried as it is now.
func (m *merger) drop(ctx context.Context, key [2]string, old index.Version) error {
	c := m.c
	i, again := m.have[key]
	if !again {
		m.dropped[key] = true
		c.Dropped = append(c.Dropped, old.Path+"@"+old.Version)
		return nil
	}
	m.anew[key] = true
	if c.Versions[i].Zip == nil {
		return nil
	}
	return c.carryZip(ctx, &c.Versions[i], old)
}

// finish gives all versions of a module its newest deprecation, and sorts the versions.
func (m *merger) finish() {
	c := m.c
	for i := range c.Versions {
		v := &c.Versions[i]
		if old, ok := m.advice[v.Path]; ok {
			v.Deprecated, v.Latest = old.Deprecated, old.Latest
		} else if j, ok := m.first[v.Path]; ok {
			v.Deprecated, v.Latest = c.Versions[j].Deprecated, c.Versions[j].Latest
		}
	}
	if len(c.Versions) > m.news {
		slices.SortFunc(c.Versions, func(a, b Version) int {
			return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Version.Version, b.Version.Version))
		})
	}
}

// mergeFiles adds the line's files that belong to no version.
func (c *Contents) mergeFiles(ctx context.Context) error {
	paths := make(map[string]bool)
	for _, list := range [][]Source{c.Tiles, c.Vulns, c.Bootstraps} {
		for _, s := range list {
			paths[s.Path] = true
		}
	}
	for _, part := range []struct {
		folder string
		list   *[]Source
		whole  bool // new files replace all of the folder
	}{
		{"sumdb/" + c.DB + "/tile/", &c.Tiles, false},
		{"vulndb/", &c.Vulns, true},
		{"self/", &c.Bootstraps, false},
	} {
		if part.whole && len(*part.list) > 0 {
			continue
		}
		for f, err := range c.Base.Index.FilesBelow(ctx, part.folder) {
			if err != nil {
				return err
			}
			if !paths[f.Path] {
				*part.list = append(*part.list, Source{Path: f.Path, Size: f.Size, SHA256: f.SHA256, absent: true})
			}
		}
	}
	return nil
}

// carry gives v the files that the line has of old, which is the same version.
func (c *Contents) carry(ctx context.Context, v *Version, old index.Version, again bool) error {
	for _, kind := range []modpath.Kind{modpath.Mod, modpath.Info} {
		path := modpath.Request{Kind: kind, Path: v.Path, Version: v.Version.Version}.String()
		f, ok, err := c.Base.Index.File(ctx, path)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		s := Source{Path: path, Size: f.Size, SHA256: f.SHA256, absent: true}
		switch kind {
		case modpath.Mod:
			if !again {
				v.GoMod = s
			}
		case modpath.Info: // clients have seen the line's
			if v.Info.SHA256 != f.SHA256 {
				if again && v.Info.Path != "" { // other names may answer with the new one
					fresh := v.Info
					s.fresh = &fresh
				}
				v.Info, v.Time, v.Origin = s, old.Time, old.Origin
			}
		}
	}
	return c.carryZip(ctx, v, old)
}

// carryZip gives v the line's zip, and its facts unless v has them, if its h1 is the same. The
// zips may still differ, in how they are compressed.
func (c *Contents) carryZip(ctx context.Context, v *Version, old index.Version) error {
	f, ok, err := c.Base.Index.File(ctx, modpath.Request{Kind: modpath.Zip, Path: v.Path, Version: v.Version.Version}.String())
	if err == nil && ok && (v.H1 == old.H1 || v.H1 == "") {
		s := Source{Path: f.Path, Size: f.Size, SHA256: f.SHA256, absent: true}
		if v.Zip == nil || v.License == nil { // this run knows no facts of its own
			v.License = old.License
			v.Facts, err = c.Base.Index.FactsOf(ctx, v.Path, v.Version.Version)
		}
		v.Zip, v.ZipSize, v.H1 = &s, &s.Size, old.H1
	}
	return err
}

// carriedBootstraps returns the platforms of the line's bootstraps that this bundle does not
// replace, as they end the versions of toolchains: ".linux-amd64".
func (c *Contents) carriedBootstraps(ctx context.Context) (platforms []string, err error) {
	list, err := c.Base.Index.Bootstraps(ctx)
	for _, p := range list {
		name := modpath.PlatformName(p)
		path := modpath.Request{Kind: modpath.Self, Name: name}.String()
		if !slices.ContainsFunc(c.Bootstraps, func(s Source) bool { return s.Path == path }) {
			platforms = append(platforms, "."+name)
		}
	}
	return platforms, err
}

// keeps reports whether v is a toolchain that the Go of a carried bootstrap is verified against.
func keeps(platforms []string, v index.Version) bool {
	return v.Path == modpath.Toolchain && slices.ContainsFunc(platforms, func(p string) bool { return strings.HasSuffix(v.Version, p) })
}

// mergeWhole adds to a full bundle the rows of the line's index but for versions and files.
func (c *Contents) mergeWhole(ctx context.Context) error {
	have := make(map[[2]string]bool, len(c.Versions))
	for _, v := range c.Versions {
		have[[2]string{v.Path, v.Version.Version}] = true
	}
	gone := make(map[[2]string]bool)
	for old, err := range c.Whole.Index.Versions(ctx, "") {
		if err != nil {
			return err
		}
		if key := [2]string{old.Path, old.Version}; !have[key] {
			gone[key] = true
		}
	}
	return c.mergeRows(ctx, c.Whole, gone, nil)
}

// advice returns why a version is retracted, nil if it is not, and whether this is known now.
func (c *Contents) advice(path, version string) (reason *string, known bool) {
	if c.Retracted == nil {
		return nil, false
	}
	return c.Retracted(path, version)
}

// mergeRows adds the rows of base's index but for versions and files. It leaves out rows of dropped
// versions, and requirements of versions that are carried anew.
func (c *Contents) mergeRows(ctx context.Context, base *Bundle, dropped, anew map[[2]string]bool) error {
	x := base.Index
	asked := make(map[[2]string]bool)
	for _, q := range c.Queries {
		asked[[2]string{q.Path, q.Query}] = true
	}
	for q, err := range x.Queries(ctx, "") {
		if err != nil {
			return err
		}
		if !asked[[2]string{q.Path, q.Query}] && !dropped[[2]string{q.Path, q.Version}] {
			c.Queries = append(c.Queries, q)
		}
	}
	slices.SortFunc(c.Queries, func(a, b index.Query) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Query, b.Query))
	})
	known := make(map[index.Requirement]bool)
	projects := make(map[string]bool)
	for _, r := range c.Requirements {
		known[r] = true
		if r.Version == "" {
			projects[r.Path] = true
		}
	}
	for r, err := range x.Requirements(ctx) {
		if err != nil {
			return err
		}
		if known[r] || r.Version == "" && (projects[r.Path] || c.DropUnused) || dropped[[2]string{r.Path, r.Version}] || anew[[2]string{r.Path, r.Version}] {
			continue
		}
		c.Requirements = append(c.Requirements, r)
	}
	slices.SortFunc(c.Requirements, func(a, b index.Requirement) int {
		return slices.Compare([]string{a.Path, a.Version, a.Requires, a.Wanted}, []string{b.Path, b.Version, b.Requires, b.Wanted})
	})
	return c.mergeMissing(ctx, base, dropped)
}

// mergeMissing adds the line's missing files that are still missing.
func (c *Contents) mergeMissing(ctx context.Context, base *Bundle, dropped map[[2]string]bool) error {
	known := make(map[[3]string]bool)
	for _, m := range c.Missing {
		known[[3]string{m.Path, m.Version, m.What}] = true
	}
	versions := make(map[[2]string]*Version, len(c.Versions))
	for i := range c.Versions {
		v := &c.Versions[i]
		versions[[2]string{v.Path, v.Version.Version}] = v
	}
	for m, err := range base.Index.Missing(ctx) {
		if err != nil {
			return err
		}
		v := versions[[2]string{m.Path, m.Version}]
		if known[[3]string{m.Path, m.Version, m.What}] || c.DropUnused || dropped[[2]string{m.Path, m.Version}] ||
			v != nil && (m.What != "zip" || v.Zip != nil) && (m.What != "info" || v.Info.Path != "") {
			continue
		}
		c.Missing = append(c.Missing, m)
	}
	return nil
}

// place sorts the entries into those that this bundle carries and those that the line has already.
// numbers are the numbers of the line's bundles in the new index, by their numbers in base.
func (d *Draft) place(ctx context.Context, base *Bundle, entries []Source, numbers map[int64]int64) error {
	carried := func(s Source) (bool, error) {
		if base == nil || s.Path == readmeName {
			return false, nil
		}
		f, ok, err := base.Index.File(ctx, s.Path)
		if err != nil || !ok || f.SHA256 != s.SHA256 || f.Size != s.Size {
			return false, err
		}
		f.Bundle = numbers[f.Bundle]
		d.carried = append(d.carried, f)
		return true, nil
	}
	for _, s := range entries {
		has, err := carried(s)
		if err != nil {
			return err
		}
		if !has && s.fresh != nil { // the .info that this run fetched answers as well
			fresh := *s.fresh
			fresh.Path = s.Path
			s = fresh
			if has, err = carried(s); err != nil {
				return err
			}
		}
		if has {
			continue
		}
		if s.absent {
			r, err := modpath.Parse(s.Path)
			if err != nil {
				return err
			}
			if f, ok, err := sameAnswer(ctx, base, r, s.of); err != nil {
				return err
			} else if ok { // with other bytes
				f.Bundle = numbers[f.Bundle]
				d.carried = append(d.carried, f)
				continue
			}
			return &NeedError{Path: s.Path, Module: r.Path, Query: s.of}
		}
		d.entries = append(d.entries, s)
	}
	return nil
}

// sameAnswer returns the line's answer to @latest or a query when it names the same version as now.
func sameAnswer(ctx context.Context, base *Bundle, r modpath.Request, version string) (f index.File, ok bool, err error) {
	was := ""
	switch r.Kind {
	case modpath.Latest:
		for v, err := range base.Index.Versions(ctx, r.Path) {
			if err != nil {
				return f, false, err
			}
			if v.ZipSize != nil && (was == "" || modpath.Later(v.Version, was)) {
				was = v.Version
			}
		}
	case modpath.Info:
		was = r.Version + "+incompatible" // its tag
		for q, err := range base.Index.Queries(ctx, r.Path) {
			if err != nil {
				return f, false, err
			}
			if q.Query == r.Version {
				was = q.Version
			}
		}
	}
	if was != version {
		return f, false, nil
	}
	return base.Index.File(ctx, r.String())
}
