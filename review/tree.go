package review

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/modfile"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
)

// A Tree is the catalog of a plain folder with the paths of a GOPROXY: an unpacked bundle, a mirror
// directory, or the folder cache/download in GOMODCACHE. Its versions have paths, versions and sizes
// alone, and nothing vouches for them.
type Tree struct{ Dir string }

// maxGoMod is the longest go.mod in bytes, as for the go command (codehost.MaxGoMod).
const maxGoMod = 16 << 20

// OpenTree returns the tree in a folder, nil when there is no module in it, or when it has a file that
// makes it a store: a bundle, a piece, a catalog or a pack.
func OpenTree(ctx context.Context, dir string) (*Tree, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, d := range list {
		switch filepath.Ext(d.Name()) {
		case ".tar", ".001", ".manifest", ".pack":
			return nil, nil
		}
	}
	t := &Tree{dir}
	for _, err := range t.files(ctx, modpath.Mod) {
		return t, err
	}
	return nil, nil
}

// A treeFile is a file of a version.
type treeFile struct {
	modpath.Request
	name string // in the file system
	size int64
}

// files returns the files of a kind. Those whose names are no GOPROXY paths are left out.
func (t Tree) files(ctx context.Context, kind modpath.Kind) iter.Seq2[treeFile, error] {
	return func(yield func(treeFile, error) bool) {
		err := filepath.WalkDir(t.Dir, func(name string, d fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(t.Dir, name)
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			r, err := modpath.Parse(filepath.ToSlash(rel))
			if err != nil || r.Kind != kind {
				return nil
			}
			st, err := d.Info()
			if err != nil {
				return err
			}
			if !yield(treeFile{r, name, st.Size()}, nil) {
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			yield(treeFile{}, err)
		}
	}
}

// Versions implements Catalog.
func (t Tree) Versions(ctx context.Context, path string) iter.Seq2[index.Version, error] {
	return func(yield func(index.Version, error) bool) {
		for f, err := range t.files(ctx, modpath.Zip) {
			if err == nil && path != "" && f.Path != path {
				continue
			}
			size := f.size
			if !yield(index.Version{Path: f.Path, Version: f.Version, ZipSize: &size}, err) {
				return
			}
		}
	}
}

// Requirements implements Catalog. A go.mod that cannot be read requires nothing.
func (t Tree) Requirements(ctx context.Context) iter.Seq2[index.Requirement, error] {
	return func(yield func(index.Requirement, error) bool) {
		for f, err := range t.files(ctx, modpath.Mod) {
			if err != nil {
				yield(index.Requirement{}, err)
				return
			}
			mod, err := readGoMod(f)
			if err != nil {
				continue
			}
			for _, r := range mod.Require {
				x := index.Requirement{
					Path: f.Path, Version: f.Version, Requires: r.Mod.Path, Wanted: r.Mod.Version, Indirect: r.Indirect,
				}
				if !yield(x, nil) {
					return
				}
			}
		}
	}
}

func readGoMod(f treeFile) (*modfile.File, error) {
	if f.size > maxGoMod {
		return nil, fmt.Errorf("%s: more than %d bytes", f.name, maxGoMod)
	}
	data, err := os.ReadFile(f.name)
	if err != nil {
		return nil, err
	}
	return modfile.ParseLax(strings.ToValidUTF8(f.name, "?"), data, nil)
}
