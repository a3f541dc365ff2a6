package assemble

import (
	"strings"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/mirror"
)

// newContents returns what of a closure goes into a bundle. path returns the file of a GOPROXY
// path. Mirror knows nothing of bundles, and bundle nothing of mirrors: this is where they meet.
func newContents(c *mirror.Closure, missing []mirror.Missing, path func(string) string) (*bundle.Contents, error) {
	out := &bundle.Contents{DB: c.DB, Head: c.Head, Heads: c.Heads}
	source := func(f mirror.File) bundle.Source {
		return bundle.Source{Path: f.Path, Size: f.Size, SHA256: f.SHA256, File: path(f.Path)}
	}
	for _, v := range c.Versions {
		out.Versions = append(out.Versions, newVersion(v, source))
	}
	for _, m := range missing {
		out.Missing = append(out.Missing, index.Missing{
			Path: m.Mod.Path, Version: m.Mod.Version, What: m.What, Status: m.Status,
			Reason: m.Reason, Chain: strings.Join(m.Chain, " → "), Allowed: m.Allowed,
		})
	}
	for _, q := range c.Queries {
		out.Queries = append(out.Queries, index.Query{Path: q.Path, Query: q.Query, Version: q.Version})
	}
	for _, r := range c.Requirements {
		out.Requirements = append(out.Requirements, index.Requirement{
			Path: r.From.Path, Version: r.From.Version, Requires: r.To.Path, Wanted: r.To.Version, Indirect: r.Indirect,
		})
	}
	for _, f := range c.Bootstraps {
		out.Bootstraps = append(out.Bootstraps, source(f))
	}
	for _, f := range c.Vulns {
		out.Vulns = append(out.Vulns, source(f))
	}
	for _, t := range c.Tiles {
		s, err := bundle.FileSource(t, path(t))
		if err != nil {
			return nil, err
		}
		out.Tiles = append(out.Tiles, s)
	}
	return out, nil
}

// newVersion returns a version of a closure as a bundle has it.
func newVersion(v mirror.Version, source func(mirror.File) bundle.Source) bundle.Version {
	b := bundle.Version{
		Version: index.Version{
			Path: v.Mod.Path, Version: v.Mod.Version, H1: v.H1, GoModH1: v.GoModH1,
			ModSize: v.GoMod.Size, Deprecated: v.Deprecated, Latest: v.Latest, Origin: v.Origin, Private: v.Record == nil,
		},
		GoMod: source(v.GoMod),
	}
	if v.Info.Path != "" {
		b.Info = source(v.Info)
	}
	if !v.Time.IsZero() {
		b.Time = v.Time.UTC().Format(time.RFC3339)
	}
	if v.Record != nil {
		b.Record = &v.Record.ID
	}
	if v.Retracted {
		b.Retracted = &v.Reason
	}
	if v.Zip != nil {
		zip := source(*v.Zip)
		b.Zip, b.ZipSize = &zip, &zip.Size
	}
	if v.Facts != nil {
		b.License, b.Facts = &v.Facts.License, v.Facts.Rows()
	}
	return b
}
