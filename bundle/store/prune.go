package store

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
)

// Pruned says what Prune removed, or would remove.
type Pruned struct {
	Bundles []string // files
	Bytes   int64    // of these files and of replaced packs
	Packed  int      // contents in the new pack: those that the newest indexes still refer to
	Pack    int64    // size of the new pack in bytes
}

// Prune removes all but the newest keep bundles of each line. Contents of removed bundles that the
// newest indexes refer to are first packed, verified. The store must be locked. Transfers from
// removed files go on to their end.
func (s *Store) Prune(ctx context.Context, keep int, dryRun bool) (*Pruned, error) {
	var skipped error // nobody can tell what a skipped bundle refers to
	have, err := s.open(ctx, func(_ string, err error) { skipped = cmp.Or(skipped, err) })
	if err != nil {
		return nil, err
	}
	v, err := s.view(ctx, have)
	if err != nil {
		have.Close()
		return nil, err
	}
	defer v.Close()
	if skipped = cmp.Or(skipped, errors.Join(v.Skipped...)); skipped != nil {
		return nil, fmt.Errorf("nothing is pruned while a bundle of the store cannot be served: %w", skipped)
	}
	p := &Pruned{}
	goes := v.older(keep)
	if len(goes) == 0 {
		return p, nil
	}
	for _, b := range have.bundles {
		if goes[b] {
			p.Bundles = append(p.Bundles, b.Path())
			p.Bytes += b.Manifest.Size
		}
	}
	for _, old := range have.packs {
		p.Bytes += old.(*pack).media.Size()
	}
	name := filepath.Join(s.Dir, fmt.Sprintf("pruned-%d%s", time.Now().UnixNano(), packExt))
	create := func() (*packWriter, error) { return newPack(name) }
	if dryRun {
		create = nil
	}
	if err := repack(ctx, v, goes, p, create); err != nil || dryRun {
		return p, err
	}
	var errs []error
	for _, b := range have.bundles {
		if goes[b] {
			errs = append(errs, b.Remove())
			bundle.ForgetIndex(s.State.dir, b.ID())
		}
	}
	for _, old := range have.packs {
		errs = append(errs, old.(*pack).media.Remove())
	}
	return p, errors.Join(errs...)
}

// older returns the bundles below the newest keep of their line, but none that is served.
func (v *View) older(keep int) map[*bundle.Bundle]bool {
	goes := make(map[*bundle.Bundle]bool)
	for _, b := range v.have.bundles {
		newer := 0
		for _, o := range v.have.bundles {
			if o.Manifest.Name == b.Manifest.Name && o.Manifest.Sequence > b.Manifest.Sequence {
				newer++
			}
		}
		if newer >= keep && !slices.Contains(v.Lines, b) {
			goes[b] = true
		}
	}
	return goes
}

// repack writes a pack of the contents that the newest indexes refer to and that are in no bundle
// that stays. Without such contents it writes nothing. create is nil for a dry run.
func repack(ctx context.Context, v *View, goes map[*bundle.Bundle]bool, p *Pruned, create func() (*packWriter, error)) error {
	var w *packWriter
	packed := make(map[[32]byte]bool)
	buf := make([]byte, 256<<10)
	for _, b := range v.Lines {
		for f, err := range b.Index.Files(ctx) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return err
			}
			if o := b.Holder(f.Bundle); o != nil && !goes[o] || packed[f.SHA256] {
				continue
			}
			packed[f.SHA256] = true
			p.Packed++
			p.Pack += f.Size
			if create == nil {
				continue
			}
			content, err := b.Content(ctx, f)
			if err != nil {
				return err
			}
			if w == nil {
				if w, err = create(); err != nil {
					return err
				}
				defer w.discard()
			}
			h := sha256.New()
			if err := w.add(f.SHA256, f.Size, io.TeeReader(struct{ io.Reader }{content}, h), buf); err != nil {
				return err
			}
			if [32]byte(h.Sum(nil)) != f.SHA256 {
				return &bundle.NotVerifiedError{What: f.Path, Err: media.ErrHash}
			}
		}
	}
	if w == nil {
		return nil
	}
	return w.commit()
}

// AbandonedPieces returns the folders of pieces that have waited for the others longer than age.
func (s *Store) AbandonedPieces(age time.Duration) ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(s.Dir, incomingDir, "*"))
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(dirs, func(dir string) bool {
		st, err := os.Stat(dir)
		return err != nil || time.Since(st.ModTime()) < age
	}), nil
}
