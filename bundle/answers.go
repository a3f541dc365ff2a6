package bundle

import (
	"cmp"
	"context"
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
)

// entries returns the payload in the order of the tar.
func (c *Contents) entries(ctx context.Context) ([]Source, error) {
	e := entries{aliases: make(map[string]bool)}
	for i := 0; i < len(c.Versions); {
		n := i + 1
		for n < len(c.Versions) && c.Versions[n].Path == c.Versions[i].Path {
			n++
		}
		e.module(c.Versions[i:n])
		i = n
	}
	e.queries(c)
	if err := e.records(ctx, c); err != nil {
		return nil, err
	}
	list := slices.Concat(e.list, c.Vulns, c.Bootstraps, c.Reviews)
	slices.SortFunc(list, func(a, b Source) int { return cmp.Compare(a.Path, b.Path) })
	for i, s := range list {
		if err := checkPath(s.Path, c.DB); err != nil {
			return nil, err
		}
		if i > 0 && s.Path == list[i-1].Path {
			return nil, fmt.Errorf("two files are named %s", s.Path)
		}
		if s.Size > maxEntry {
			return nil, fmt.Errorf("%s: %d bytes are more than a tar entry can have", s.Path, s.Size)
		}
	}
	return append([]Source{DataSource(readmeName, []byte(readme))}, list...), nil
}

// entries collects the files of a bundle, in any order.
type entries struct {
	list    []Source
	aliases map[string]bool // paths of answers to queries
}

// data adds a file that is made here.
func (e *entries) data(req modpath.Request, data []byte) {
	e.list = append(e.list, DataSource(req.String(), data))
}

// answer adds the .info of a version as the answer to a query.
func (e *entries) answer(info Source, path, query, version string) {
	info.of = version
	info.Path = modpath.Request{Kind: modpath.Info, Path: path, Version: query}.String()
	if info.Path != "" && !e.aliases[info.Path] {
		e.aliases[info.Path] = true
		e.list = append(e.list, info)
	}
}

// module adds the files of a module's versions, its list and its @latest.
func (e *entries) module(versions []Version) {
	path := versions[0].Path
	var tags []string
	var latest *Version
	for i := range versions {
		v := &versions[i]
		e.list = append(e.list, v.GoMod)
		if v.Info.Path != "" {
			e.list = append(e.list, v.Info)
		}
		if v.Zip == nil {
			continue
		}
		if tag, ok := strings.CutSuffix(v.Version.Version, "+incompatible"); ok && v.Info.Path != "" {
			e.answer(v.Info, path, tag, v.Version.Version) // go get MODULE@v2.0.0 asks for the tag
		}
		e.list = append(e.list, *v.Zip)
		if !module.IsPseudoVersion(v.Version.Version) { // lists of proxies have tags alone
			tags = append(tags, v.Version.Version)
		}
		if latest == nil || modpath.Later(v.Version.Version, latest.Version.Version) {
			latest = v
		}
	}
	if latest == nil {
		return
	}
	e.data(modpath.Request{Kind: modpath.List, Path: path}, modpath.ListText(tags))
	info := latest.Info
	info.of = latest.Version.Version
	info.Path = modpath.Request{Kind: modpath.Latest, Path: path}.String()
	e.list = append(e.list, info)
}

// queries adds the answers to branches, commits and other queries that the go command asks for as
// files.
func (e *entries) queries(c *Contents) {
	for _, q := range c.Queries {
		if modpath.IsListQuery(q.Query) { // answered from the list
			continue
		}
		i := slices.IndexFunc(c.Versions, func(v Version) bool { return v.Path == q.Path && v.Version.Version == q.Version })
		if i >= 0 && c.Versions[i].Info.Path != "" {
			e.answer(c.Versions[i].Info, q.Path, q.Query, q.Version)
		}
	}
}

// records adds the files of the checksum database, unless c has none.
func (e *entries) records(ctx context.Context, c *Contents) error {
	if c.DB == "" {
		return nil
	}
	e.data(modpath.Request{Kind: modpath.SumSupported, DB: c.DB}, nil)
	e.data(modpath.Request{Kind: modpath.SumLatest, DB: c.DB}, c.Head.Note)
	for _, v := range c.Versions {
		if v.Record == nil {
			continue
		}
		path := modpath.Lookup(c.DB, module.Version{Path: v.Path, Version: v.Version.Version})
		old, ok, err := c.sameRecord(ctx, path, v.Version)
		if err != nil {
			return err
		}
		if ok { // with an older head, which clients accept too
			e.list = append(e.list, old)
		} else {
			e.list = append(e.list, DataSource(path, recordOf(v.Version).Lookup(c.Head)))
		}
	}
	e.list = append(e.list, c.Tiles...)
	return nil
}

// sameRecord returns the line's lookup file of a version with the same record.
func (c *Contents) sameRecord(ctx context.Context, path string, v index.Version) (s Source, ok bool, err error) {
	if c.Base == nil {
		return s, false, nil
	}
	old, ok, err := c.Base.Index.Lookup(ctx, v.Path, v.Version)
	if err != nil {
		return s, false, err
	}
	f, has, err := c.Base.Index.File(ctx, path)
	if err != nil || !ok || !has || old.Record == nil || recordOf(old) != recordOf(v) {
		return s, false, err
	}
	return Source{Path: f.Path, Size: f.Size, SHA256: f.SHA256, absent: true}, true, nil
}
