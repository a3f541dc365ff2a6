package bundle

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

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/internal/safefile"
)

// Pruned is what Prune removed, or would remove.
type Pruned struct {
	Bundles []string // files
	Bytes   int64    // of them, and of packs that were replaced
	Packed  int      // files that the newest indexes still name, in the new pack
	Pack    int64    // its size in bytes
}

// Prune removes all but the newest keep bundles of each line. What the newest index of a line names of those that go is packed
// first, verified. The store must be locked; what is being served of a removed file is served to its end.
func (s *Store) Prune(ctx context.Context, keep int, dryRun bool) (*Pruned, error) {
	var skipped error // what it needs nobody can tell
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
	if skipped = cmp.Or(skipped, errors.Join(v.Passed...)); skipped != nil {
		return nil, fmt.Errorf("nothing is pruned while a bundle of the store cannot be served: %w", skipped)
	}
	p := &Pruned{}
	goes := v.older(keep)
	if len(goes) == 0 {
		return p, nil
	}
	for _, b := range have.bundles {
		if goes[b] {
			p.Bundles = append(p.Bundles, b.path)
			p.Bytes += b.media.Size()
		}
	}
	for _, old := range have.packs {
		p.Bytes += old.media.Size()
	}
	name := filepath.Join(s.Dir, fmt.Sprintf("pruned-%d%s", time.Now().UnixNano(), packExt))
	if err := s.repack(ctx, v, goes, name, p, dryRun); err != nil || dryRun {
		return p, err
	}
	var errs []error
	for _, b := range have.bundles {
		if goes[b] {
			errs = append(errs, b.media.Remove(), safefile.Remove(signaturesFile(b.path)))
			s.State.forgetIndex(b.ID())
		}
	}
	for _, old := range have.packs {
		errs = append(errs, old.media.Remove())
	}
	return p, errors.Join(errs...)
}

// older returns the bundles that go: those below the newest keep of their line, and none that is served.
func (v *View) older(keep int) map[*Bundle]bool {
	goes := make(map[*Bundle]bool)
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

// repack writes what the newest indexes name and no bundle that stays has. Nothing is written when there is no such file.
func (s *Store) repack(ctx context.Context, v *View, goes map[*Bundle]bool, name string, p *Pruned, dryRun bool) error {
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
			if o := b.parts[f.Bundle]; f.Bundle == b.own() || o != nil && !goes[o] || packed[f.SHA256] {
				continue
			}
			packed[f.SHA256] = true
			p.Packed++
			p.Pack += f.Size
			if dryRun {
				continue
			}
			content, err := b.Content(ctx, f)
			if err != nil {
				return err
			}
			if w == nil {
				if w, err = newPack(name); err != nil {
					return err
				}
				defer w.discard()
			}
			h := sha256.New()
			if err := w.add(f.SHA256, f.Size, io.TeeReader(struct{ io.Reader }{content}, h), buf); err != nil {
				return err
			}
			if [32]byte(h.Sum(nil)) != f.SHA256 {
				return &NotVerifiedError{What: f.Path, Err: media.ErrHash}
			}
		}
	}
	if w == nil {
		return nil
	}
	return w.commit()
}

// AbandonedPieces returns the folders of pieces that have waited for others for longer than an age.
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
