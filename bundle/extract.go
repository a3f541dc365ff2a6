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

	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
)

// Extract writes files of the bundle to a tree, verified: those at the paths, or all when none is
// named, with the MANIFEST. What else is at one of the paths is an *OccupiedError before anything
// is written, unless it is of an earlier bundle of the line or t.Replace is set. A file that does
// not verify is not written and ends the work. wrote is told of each file.
func (b *Bundle) Extract(ctx context.Context, t *PlainTree, paths []string, keyring *trust.Keyring, wrote func(index.File) error) (n int, err error) {
	if len(paths) == 0 && !t.Replace {
		if err := b.continueTree(t, keyring); err != nil {
			return 0, err
		}
	}
	if !t.Replace {
		for f, err := range b.chosen(ctx, paths) {
			if err == nil {
				_, err = t.Has(f.Path, f.SHA256)
			}
			if err != nil {
				return 0, err
			}
		}
	}
	buf := make([]byte, 256<<10)
	for f, err := range b.chosen(ctx, paths) {
		if err == nil {
			err = ctx.Err()
		}
		var content io.Reader
		if err == nil {
			content, err = b.Content(ctx, f)
		}
		if err == nil {
			_, err = t.Write(f.Path, content, f.SHA256, buf)
		}
		if err == nil {
			err = wrote(f)
		}
		if err != nil {
			return n, err
		}
		n++
	}
	if len(paths) > 0 {
		return n, t.Sync()
	}
	if err := t.Sync(); err != nil {
		return n, err
	}
	manifest := padManifest(b.note) // last: it says that the rest is there
	_, err = t.Write(manifestName, bytes.NewReader(manifest), sha256.Sum256(manifest), buf)
	return n, errors.Join(err, t.Sync())
}

// chosen returns the files at the paths, or all of this bundle when none is named. Those of a line of deltas are all its files
// when they are extracted in its order.
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
		if b.with != nil { // a whole store is at hand
			b.Index.Files(ctx)(yield)
			return
		}
		b.Index.FilesIn(ctx, b.own())(yield)
	}
}
