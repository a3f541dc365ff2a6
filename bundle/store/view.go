package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/proof"
)

// A View joins the newest bundles of lines, with the files of earlier bundles of these lines. It
// does not change and is safe for concurrent use.
//
// When several lines carry a path, the most recently created line wins (see Made). Lists and
// @latest are merged from all lines. All lines of a checksum database share one tree head (see
// Head).
type View struct {
	Lines   []*bundle.Bundle // the most recently created first
	Skipped []error          // why the newest bundle of a line, and so the line, is not served

	made   map[*bundle.Bundle]time.Time
	served map[string]*Served // by database
	have   *holding
}

// MaxDrift is how far a bundle's date may be ahead of the clock of this machine and still count.
const MaxDrift = 24 * time.Hour

// Made returns when a line's newest bundle was created. A date in the future is replaced by the day
// on which the bundle was first seen here, so that a wrong clock outside does not put its line
// before all others for ever.
func (v *View) Made(b *bundle.Bundle) time.Time { return v.made[b] }

// made is Made at a given time.
func (s *Store) made(b *bundle.Bundle, now time.Time) time.Time {
	seen := now
	if line, ok := s.State.Lines[b.Manifest.Name]; ok && line.ID == b.ID() {
		seen = line.When
	}
	if created := b.Manifest.Created; !created.After(seen.Add(MaxDrift)) {
		return created
	}
	return seen
}

// view returns the view of the newest bundle of each line in have, which the view owns on success.
// A line whose newest bundle lacks an earlier one is skipped.
func (s *Store) view(ctx context.Context, have *holding) (*View, error) {
	v := &View{have: have}
	bySequence := slices.Clone(have.bundles)
	slices.SortStableFunc(bySequence, func(a, b *bundle.Bundle) int {
		return cmp.Or(cmp.Compare(a.Manifest.Name, b.Manifest.Name), -cmp.Compare(a.Manifest.Sequence, b.Manifest.Sequence))
	})
	seen := make(map[string]bool)
	for _, b := range bySequence {
		if seen[b.Manifest.Name] { // an older bundle of the line: to serve it would be a rollback
			continue
		}
		seen[b.Manifest.Name] = true
		if b.Index == nil {
			err := b.OpenIndex(ctx, s.Trust, s.State.dir)
			if err != nil {
				err = fmt.Errorf("opening %s: %w", b.Path(), err)
			}
			if _, bad := errors.AsType[*bundle.NotVerifiedError](err); bad {
				v.Skipped = append(v.Skipped, err)
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		b.Attach(have.bundles...)
		b.AttachPacks(have.packs)
		if err := complete(ctx, b, have); err != nil {
			v.Skipped = append(v.Skipped, fmt.Errorf("%s: %w", b.Path(), err))
			continue
		}
		v.Lines = append(v.Lines, b)
	}
	if len(v.Lines) == 0 {
		if len(v.Skipped) > 0 {
			return nil, v.Skipped[0]
		}
		return nil, ErrEmpty
	}
	v.made = make(map[*bundle.Bundle]time.Time)
	for _, b := range v.Lines {
		v.made[b] = s.made(b, time.Now())
	}
	slices.SortStableFunc(v.Lines, func(a, b *bundle.Bundle) int {
		return cmp.Or(-v.made[a].Compare(v.made[b]), cmp.Compare(a.Manifest.Name, b.Manifest.Name))
	})
	return v, v.choose(ctx, s.State.remembered(s.audience), s.State.dir)
}

// complete returns a *bundle.MissingBaseError for an earlier bundle of b's line that is neither at
// hand nor packed, although files of it are still in use.
func complete(ctx context.Context, b *bundle.Bundle, have *holding) error {
	for _, x := range b.Line() {
		if b.Holder(x.ID) != nil || len(have.packs) > 0 {
			continue
		}
		for _, err := range b.Index.FilesIn(ctx, x.ID) { // those of others were replaced
			return cmp.Or(err, error(&bundle.MissingBaseError{Bundle: x}))
		}
	}
	return nil
}

// Sightings returns the trees of a checksum database that bundles in the store prove their records
// under, but not that of b, each with the signed time of its bundle, or that of its file here when
// that is later: who signs a bundle can call it old, and not make it have been here.
func (v *View) Sightings(b *bundle.Bundle) (list []proof.Sighting) {
	for _, x := range v.have.bundles {
		if x.Manifest.DB == b.Manifest.DB && x.ID() != b.ID() {
			s := x.Sighting()
			st, err := os.Stat(x.Path())
			if err != nil {
				continue // not in a file: nothing says when it came
			}
			if st.ModTime().After(s.Seen) {
				s.Seen = st.ModTime()
			}
			list = append(list, s)
		}
	}
	return list
}

// Close closes all bundles of the view.
func (v *View) Close() error { return v.have.Close() }

// Title returns a title for people: "bundle team of 2026-11-25".
func (v *View) Title() string {
	var names []string
	for _, b := range v.Lines {
		names = append(names, b.Manifest.Name+" of "+b.Manifest.Created.UTC().Format("2006-01-02"))
	}
	if len(names) == 1 {
		return "bundle " + names[0]
	}
	const some = 3
	text := strings.Join(names[:min(some, len(names))], ", ")
	if n := len(names) - some; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return "the bundles " + text
}

// A Ref is a file of a view.
type Ref struct {
	index.File
	In *bundle.Bundle // its index names the file
}

// File returns the file at a path.
func (v *View) File(ctx context.Context, path string) (r Ref, ok bool, err error) {
	lines := v.Lines
	if len(lines) > 1 && strings.HasPrefix(path, "vulndb/") {
		// The index and the entries must be of one line.
		b, err := v.vulnLine(ctx)
		if b == nil || err != nil {
			return r, false, err
		}
		lines = []*bundle.Bundle{b}
	}
	for _, b := range lines {
		f, ok, err := b.Index.File(ctx, path)
		if ok || err != nil {
			return Ref{f, b}, ok, err
		}
	}
	return r, false, nil
}

// vulnLine returns the most recently created line that carries a vulnerability database, or nil.
func (v *View) vulnLine(ctx context.Context) (*bundle.Bundle, error) {
	for _, b := range v.Lines {
		if _, ok, err := b.Index.File(ctx, "vulndb/index/db.json"); ok || err != nil {
			return b, err
		}
	}
	return nil, nil
}

// Vulns counts the entries of the vulnerability database.
func (v *View) Vulns(ctx context.Context) (int64, error) {
	b, err := v.vulnLine(ctx)
	if b == nil || err != nil {
		return 0, err
	}
	return b.Index.Vulns(ctx)
}

// ReadFile returns the verified content of the small file at a path: at most limit bytes.
// The error wraps fs.ErrNotExist when there is no such file.
func (v *View) ReadFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	r, ok, err := v.File(ctx, path)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	return r.In.Read(ctx, r.File, limit)
}

// Tile returns the content of a tile, cut from a wider one when only that is carried.
func (v *View) Tile(ctx context.Context, db string, tile tlog.Tile) ([]byte, error) {
	var lines []*bundle.Bundle
	for _, b := range v.Lines {
		if b.Manifest.DB == db {
			lines = append(lines, b)
		}
	}
	data, err := bundle.Tiles(ctx, lines...).ReadTiles([]tlog.Tile{tile})
	if err != nil {
		return nil, err
	}
	return data[0], nil
}

// Lookup returns a version of a module, with its zip if any line carries that.
func (v *View) Lookup(ctx context.Context, path, version string) (x index.Version, ok bool, err error) {
	for _, b := range v.Lines {
		y, found, err := b.Index.Lookup(ctx, path, version)
		if err != nil {
			return x, false, err
		}
		if found && (!ok || x.ZipSize == nil && y.ZipSize != nil) {
			x, ok = y, true
		}
	}
	return x, ok, nil
}

// FileOf returns the file at a path of a version of a module, and that version's time, as
// index.FileOf does.
func (v *View) FileOf(ctx context.Context, path, module, version string) (r Ref, time string, known, ok bool, err error) {
	if len(v.Lines) == 1 {
		f, time, known, ok, err := v.Lines[0].Index.FileOf(ctx, path, module, version)
		return Ref{f, v.Lines[0]}, time, known, ok, err
	}
	if r, ok, err = v.File(ctx, path); err != nil || !ok {
		return r, "", false, ok, err
	}
	x, known, err := v.Lookup(ctx, module, version)
	return r, x.Time, known, true, err
}

// Record returns a version whose record of a checksum database is carried; one that is proven under
// the served head if any line has that.
func (v *View) Record(ctx context.Context, db, path, version string) (x index.Version, ok bool, err error) {
	for _, b := range v.Lines {
		if b.Manifest.DB != db {
			continue
		}
		y, found, err := b.Index.Lookup(ctx, path, version)
		if err != nil {
			return x, false, err
		}
		if found && y.Record != nil && (!ok || v.Proven(db, *y.Record)) {
			x, ok = y, true
		}
	}
	return x, ok, nil
}
