package bundle

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
)

// A NeedError says that a delta needs the content of a file that an earlier bundle of its line has.
type NeedError struct {
	Path          string // of the file
	Module, Query string // the version whose .info it is
}

// Error names the file.
func (e *NeedError) Error() string {
	return fmt.Sprintf("%s is made anew, of the .info of %s@%s, which this run did not fetch", e.Path, e.Module, e.Query)
}

// merge adds to c what the line of c.Base has besides: versions, questions, the graph, tiles, and the vulnerability database unless there is a
// new one. The sources of files that are only there have no content.
func (c *Contents) merge(ctx context.Context) error {
	base := c.Base
	if base.Manifest.DB != c.DB {
		return fmt.Errorf("the line's checksum database is %q, and that of this run is %q: make a full bundle", base.Manifest.DB, c.DB)
	}
	have := make(map[[2]string]int, len(c.Versions))
	first := make(map[string]int)
	for i, v := range slices.Backward(c.Versions) {
		have[[2]string{v.Path, v.Version.Version}] = i
		first[v.Path] = i
	}
	dropped := make(map[[2]string]bool)
	news := len(c.Versions)
	for old, err := range base.Index.Versions(ctx, "") {
		if err != nil {
			return err
		}
		key := [2]string{old.Path, old.Version}
		i, again := have[key]
		switch {
		case !again && c.Drop != nil && c.Drop(old.Path, old.Version):
			dropped[key] = true
			continue
		case !again:
			if j, ok := first[old.Path]; ok {
				if c.Versions[j].Private != old.Private {
					return fmt.Errorf("%s is outside the checksum database in one of line and this run only: make a full bundle", old.Path)
				}
				old.Deprecated, old.Latest = c.Versions[j].Deprecated, c.Versions[j].Latest
			}
			i = len(c.Versions)
			c.Versions = append(c.Versions, Version{Version: old})
		}
		if err := c.carry(ctx, &c.Versions[i], old, again); err != nil {
			return err
		}
	}
	if len(c.Versions) > news {
		slices.SortFunc(c.Versions, func(a, b Version) int {
			return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Version.Version, b.Version.Version))
		})
	}
	if err := c.mergeRows(ctx, dropped); err != nil {
		return err
	}
	heads, err := base.Heads(ctx)
	if err != nil {
		return err
	}
	c.Heads = proof.MergeHeads(c.Head.N, c.Heads, heads)
	paths := make(map[string]bool)
	for _, list := range [][]Source{c.Tiles, c.Vulns, c.Selfs} {
		for _, s := range list {
			paths[s.Path] = true
		}
	}
	for _, part := range []struct {
		folder string
		list   *[]Source
		whole  bool // what is new replaces all of it
	}{
		{"sumdb/" + c.DB + "/tile/", &c.Tiles, false},
		{"vulndb/", &c.Vulns, true},
		{"self/", &c.Selfs, false},
	} {
		if part.whole && len(*part.list) > 0 {
			continue
		}
		for f, err := range base.Index.FilesBelow(ctx, part.folder) {
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

// carry has the files of v be those that the line has, of the same version.
func (c *Contents) carry(ctx context.Context, v *Version, old index.Version, again bool) error {
	for _, kind := range []modpath.Kind{modpath.Mod, modpath.Info, modpath.Zip} {
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
		case modpath.Info: // what clients have seen stays
			if v.Info.SHA256 != f.SHA256 {
				v.Info = s
			}
		case modpath.Zip: // of the same h1, perhaps packed in another way
			if v.H1 == old.H1 || v.H1 == "" {
				v.Zip, v.ZipSize, v.H1 = &s, &s.Size, old.H1
			}
		}
	}
	return nil
}

// mergeRows adds what the line's index says besides versions and files.
func (c *Contents) mergeRows(ctx context.Context, dropped map[[2]string]bool) error {
	x := c.Base.Index
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
		if known[r] || r.Version == "" && (projects[r.Path] || c.Drop != nil) || dropped[[2]string{r.Path, r.Version}] {
			continue
		}
		c.Requirements = append(c.Requirements, r)
	}
	slices.SortFunc(c.Requirements, func(a, b index.Requirement) int {
		return slices.Compare([]string{a.Path, a.Version, a.Requires, a.Wanted}, []string{b.Path, b.Version, b.Requires, b.Wanted})
	})
	return c.mergeMissing(ctx)
}

// mergeMissing adds what the line is missing and is not carried now either.
func (c *Contents) mergeMissing(ctx context.Context) error {
	known := make(map[[3]string]bool)
	for _, m := range c.Missing {
		known[[3]string{m.Path, m.Version, m.What}] = true
	}
	versions := make(map[[2]string]*Version, len(c.Versions))
	for i := range c.Versions {
		v := &c.Versions[i]
		versions[[2]string{v.Path, v.Version.Version}] = v
	}
	for m, err := range c.Base.Index.Missing(ctx) {
		if err != nil {
			return err
		}
		v := versions[[2]string{m.Path, m.Version}]
		if known[[3]string{m.Path, m.Version, m.What}] || c.Drop != nil ||
			v != nil && (m.What != "zip" || v.Zip != nil) && (m.What != "info" || v.Info.Path != "") {
			continue
		}
		c.Missing = append(c.Missing, m)
	}
	return nil
}

// place says which of the payload's entries go into this bundle, and which the line has already, with the numbers that their bundles
// have in the new index.
func (d *Draft) place(ctx context.Context, base *Bundle, entries []Source, numbers map[int64]int64) error {
	for _, s := range entries {
		if base != nil && s.Path != readmeName {
			f, ok, err := base.Index.File(ctx, s.Path)
			if err != nil {
				return err
			}
			if ok && f.SHA256 == s.SHA256 && f.Size == s.Size {
				f.Bundle = numbers[f.Bundle]
				d.carried = append(d.carried, f)
				continue
			}
		}
		if s.absent {
			r, err := modpath.Parse(s.Path)
			if err != nil {
				return err
			}
			return &NeedError{Path: s.Path, Module: r.Path, Query: s.of}
		}
		d.entries = append(d.entries, s)
	}
	return nil
}
