package bundle

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/safefile"
)

// Extract writes files of the bundle below dir, verified: those at the paths, or all
// when none is named. A file that does not verify is not written and ends the work. wrote is told of each file.
func (b *Bundle) Extract(ctx context.Context, dir string, paths []string, wrote func(index.File) error) (n int, err error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return 0, err
	}
	buf := make([]byte, 256<<10)
	for f, err := range b.chosen(ctx, paths) {
		if err == nil {
			err = ctx.Err()
		}
		if err == nil {
			err = b.extract(f, dir, buf)
		}
		if err == nil {
			err = wrote(f)
		}
		if err != nil {
			return n, err
		}
		n++
	}
	return n, nil
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

func (b *Bundle) extract(f index.File, dir string, buf []byte) error {
	content, err := b.Content(f)
	if err != nil {
		return err
	}
	name := filepath.Join(dir, filepath.FromSlash(f.Path))
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	out, err := safefile.Create(name, 0o666)
	if err != nil {
		return err
	}
	defer out.Discard()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(out, h)}, struct{ io.Reader }{content}, buf); err != nil {
		return err
	}
	if [32]byte(h.Sum(nil)) != f.SHA256 {
		return &NotVerifiedError{f.Path, errHash}
	}
	return out.Commit()
}
