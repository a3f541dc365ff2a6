package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path/filepath"

	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/safetree"
)

// An Extraction says what Extract writes, and over what.
type Extraction struct {
	Paths   []string               // files; none for all of the bundle, with the MANIFEST
	Replace bool                   // replace regular files of other contents
	Trust   *trust.Keyring         // verifies the MANIFEST of an earlier bundle in the folder
	Wrote   func(index.File) error // told of each file; an error ends the work
}

// Extract writes files of the bundle to a folder, verified, and returns how many. Without x.Replace
// it replaces only files of an earlier bundle of the line; anything else in the way is an
// *OccupiedError before anything is written. A file that does not verify is not written and ends the
// work.
func (b *Bundle) Extract(ctx context.Context, dir string, x Extraction) (n int, err error) {
	t, err := safetree.Open(dir)
	if err != nil {
		return 0, err
	}
	defer t.Close()
	t.Replace = x.Replace
	if len(x.Paths) == 0 && !t.Replace {
		if err := b.continueTree(ctx, t, x.Trust); err != nil {
			return 0, err
		}
	}
	if err := b.checkFree(ctx, t, x.Paths); err != nil {
		return 0, err
	}
	buf := make([]byte, 256<<10)
	for f, err := range b.chosen(ctx, x.Paths) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = b.extract(ctx, t, f, buf)
		}
		if err == nil {
			err = x.Wrote(f)
		}
		if err != nil {
			return n, err
		}
		n++
	}
	if err := t.Sync(); err != nil || len(x.Paths) > 0 {
		return n, err
	}
	manifest := b.SignedManifest() // last: it says that all files are there
	_, err = t.Write(manifestName, bytes.NewReader(manifest), sha256.Sum256(manifest), buf)
	return n, errors.Join(err, t.Sync())
}

// checkFree returns an *OccupiedError when something that may not be replaced is in the way.
func (b *Bundle) checkFree(ctx context.Context, t *safetree.Tree, paths []string) error {
	if t.Replace {
		return nil
	}
	for f, err := range b.chosen(ctx, paths) {
		if err == nil {
			_, err = t.Has(f.Path, f.SHA256)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// extract writes one file.
func (b *Bundle) extract(ctx context.Context, t *safetree.Tree, f index.File, buf []byte) error {
	content, err := b.Content(ctx, f)
	if err == nil {
		_, err = t.Write(f.Path, content, f.SHA256, buf)
	}
	return err
}

// continueTree lets files be replaced when the MANIFEST in t is that of an earlier bundle of b's
// line. One of a newer bundle is a *RollbackError.
func (b *Bundle) continueTree(ctx context.Context, t *safetree.Tree, keyring *trust.Keyring) error {
	data, err := t.ReadFile(ctx, manifestName, ManifestSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := OpenManifest(data, keyring.Lenient())
	switch {
	case err != nil:
		return &OccupiedError{File: filepath.Join(t.Dir, manifestName), Reason: "it is not the MANIFEST of a bundle that a trusted key signed"}
	case m.Name != b.Manifest.Name:
		return &OccupiedError{File: filepath.Join(t.Dir, manifestName), Reason: fmt.Sprintf("the tree is of the line %s, not of %s", m.Name, b.Manifest.Name)}
	}
	if err := b.Manifest.Accept(b.path, Known{Name: m.Name, Sequence: m.Sequence, What: "that of the tree in " + t.Dir}); err != nil {
		return err
	}
	t.Replace = true
	return nil
}

// chosen returns the files at the paths, or all files of this bundle when paths is empty: all of
// its line when the whole store is open, else those that the bundle itself carries.
func (b *Bundle) chosen(ctx context.Context, paths []string) iter.Seq2[index.File, error] {
	return func(yield func(index.File, error) bool) {
		for _, p := range paths {
			f, ok, err := b.Index.File(ctx, p)
			if err == nil && !ok {
				err = fmt.Errorf("the bundle has no file %s: %w", p, fs.ErrNotExist)
			}
			if !yield(f, err) {
				return
			}
		}
		if len(paths) > 0 {
			return
		}
		if b.rest != nil {
			b.Index.Files(ctx)(yield)
			return
		}
		b.Index.FilesIn(ctx, b.own())(yield)
	}
}

// EachFile calls f with each file of the bundle, in order of their paths, and with its content,
// which is not verified. For a bundle from store.OpenNewest these are all files of its line.
func (b *Bundle) EachFile(ctx context.Context, f func(index.File, *io.SectionReader) error) error {
	for x, err := range b.chosen(ctx, nil) {
		if err != nil {
			return err
		}
		content, err := b.Content(ctx, x)
		if err != nil {
			return err
		}
		if err := f(x, content); err != nil {
			return err
		}
	}
	return nil
}
