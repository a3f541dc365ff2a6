package store

import (
	"cmp"
	"context"
	"iter"
	"slices"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
)

// Versions returns the versions of a module, ordered by version when several lines carry it.
func (v *View) Versions(ctx context.Context, path string) iter.Seq2[index.Version, error] {
	if len(v.Lines) == 1 {
		return v.Lines[0].Index.Versions(ctx, path)
	}
	return func(yield func(index.Version, error) bool) {
		all, _, err := v.versions(ctx, path)
		if err != nil {
			yield(index.Version{}, err)
			return
		}
		for _, x := range all {
			if !yield(x, nil) {
				return
			}
		}
	}
}

// versions returns the versions of a module in all lines, and how many lines carry a zip of it.
func (v *View) versions(ctx context.Context, path string) (all []index.Version, lines int, err error) {
	at := make(map[string]int)
	for _, b := range v.Lines {
		whole := false
		for x, err := range b.Index.Versions(ctx, path) {
			if err != nil {
				return nil, 0, err
			}
			whole = whole || x.ZipSize != nil
			i, have := at[x.Version]
			switch {
			case !have:
				at[x.Version] = len(all)
				all = append(all, x)
			case all[i].ZipSize == nil:
				all[i] = x
			}
		}
		if whole {
			lines++
		}
	}
	slices.SortFunc(all, func(a, b index.Version) int { return cmp.Compare(a.Version, b.Version) })
	return all, lines, nil
}

// Merged returns the answer to a request for the list or @latest of a module that several lines
// carry. ok is false when a file of one line is the answer.
func (v *View) Merged(ctx context.Context, r modpath.Request) (data []byte, ok bool, err error) {
	if len(v.Lines) == 1 || r.Kind != modpath.List && r.Kind != modpath.Latest {
		return nil, false, nil
	}
	all, lines, err := v.versions(ctx, r.Path)
	if err != nil || lines < 2 {
		return nil, false, err
	}
	var list []string
	latest := ""
	for _, x := range all {
		if x.ZipSize == nil {
			continue
		}
		if !module.IsPseudoVersion(x.Version) {
			list = append(list, x.Version)
		}
		if latest == "" || modpath.Later(x.Version, latest) {
			latest = x.Version
		}
	}
	if r.Kind == modpath.Latest {
		data, err := v.ReadFile(ctx, modpath.Request{Kind: modpath.Info, Path: r.Path, Version: latest}.String(), maxInfo)
		return data, err == nil, err
	}
	return modpath.ListText(list), true, nil
}

// maxInfo is the longest .info file in bytes that Merged reads.
const maxInfo = 64 << 10

// Queries returns the version queries about a module that sync resolved, those of the most recently
// created line first.
func (v *View) Queries(ctx context.Context, path string) iter.Seq2[index.Query, error] {
	return eachLine(v, func(x *index.Index) iter.Seq2[index.Query, error] { return x.Queries(ctx, path) })
}

// MissingFor returns the files of a version that sync could not get.
func (v *View) MissingFor(ctx context.Context, path, version string) iter.Seq2[index.Missing, error] {
	return eachLine(v, func(x *index.Index) iter.Seq2[index.Missing, error] { return x.MissingFor(ctx, path, version) })
}

// Private returns the paths of the modules outside the checksum database. A path may come twice.
func (v *View) Private(ctx context.Context) iter.Seq2[string, error] {
	return eachLine(v, func(x *index.Index) iter.Seq2[string, error] { return x.Private(ctx) })
}

// Public returns the paths of the modules in the checksum database. A path may come twice.
func (v *View) Public(ctx context.Context) iter.Seq2[string, error] {
	return eachLine(v, func(x *index.Index) iter.Seq2[string, error] { return x.Public(ctx) })
}

// eachLine returns the rows of all lines, line by line.
func eachLine[T any](v *View, rows func(*index.Index) iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for _, b := range v.Lines {
			for x, err := range rows(b.Index) {
				if !yield(x, err) || err != nil {
					return
				}
			}
		}
	}
}
