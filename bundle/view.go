package bundle

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
)

// A View is what lines of bundles have together: the newest bundle of each line, whose index is the catalogue of the line, with the files that
// earlier ones have. It does not change.
//
// What several lines have is that of the one that was made last (see Made), but for lists and
// @latest, which are made of all. The checksum database has one tree head for all, the one that
// Choose found.
type View struct {
	Lines  []*Bundle // the one that was made last first
	Passed []error   // why the newest bundle of a line, or a whole line, is not there

	made   map[*Bundle]time.Time
	served map[string]*Served // by database
	have   *holding
}

// MaxDrift is how far ahead of the clock inside a bundle's date may be and still count: clocks
// drift.
const MaxDrift = 24 * time.Hour

// Made returns when a line's newest bundle was made, as far as it is believed: one that is dated in
// the future is as old as the day when it was first seen here, so that a wrong clock outside does
// not put it before every other line for ever.
func (v *View) Made(b *Bundle) time.Time { return v.made[b] }

// made is Made.
func (s *Store) made(b *Bundle, now time.Time) time.Time {
	seen := now
	if line, ok := s.State.Lines[b.Manifest.Name]; ok && line.ID == b.ID() {
		seen = line.When
	}
	if created := b.Manifest.Created; !created.After(seen.Add(MaxDrift)) {
		return created
	}
	return seen
}

// Served is which tree head of a checksum database is served, and what cannot be proven under it.
type Served struct {
	Size     int64   `json:"size"`
	Hash     string  `json:"hash"`
	Unproven []int64 `json:"unproven,omitempty"` // records, sorted; answered with 404
	Heads    int     `json:"heads,omitempty"`    // of the lines that it is not shown to continue: clients that remember one of these fail

	head    proof.Head
	damaged bool // something that would be needed to tell is damaged
}

// view returns the view of the newest bundle of each line of what was opened, which it closes in Close, all of it.
// One of which an earlier bundle is not at hand is passed over.
func (s *Store) view(ctx context.Context, have *holding) (*View, error) {
	v := &View{have: have}
	bySequence := slices.Clone(have.bundles)
	slices.SortStableFunc(bySequence, func(a, b *Bundle) int {
		return cmp.Or(cmp.Compare(a.Manifest.Name, b.Manifest.Name), -cmp.Compare(a.Manifest.Sequence, b.Manifest.Sequence))
	})
	seen := make(map[string]bool)
	for _, b := range bySequence {
		if seen[b.Manifest.Name] { // the newest of its line was there, or nothing is served of it: an older one would be a rollback
			continue
		}
		seen[b.Manifest.Name] = true
		if b.Index == nil {
			err := b.open(ctx, s.Trust, s.State.dir)
			if err != nil {
				err = fmt.Errorf("opening %s: %w", b.path, err)
			}
			if _, bad := errors.AsType[*NotVerifiedError](err); bad {
				v.Passed = append(v.Passed, err)
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		b.Attach(have.bundles...)
		b.packs = have.packs
		if err := b.complete(ctx); err != nil {
			v.Passed = append(v.Passed, fmt.Errorf("%s: %w", b.path, err))
			continue
		}
		v.Lines = append(v.Lines, b)
	}
	if len(v.Lines) == 0 {
		if len(v.Passed) > 0 {
			return nil, v.Passed[0]
		}
		return nil, ErrEmpty
	}
	v.made = make(map[*Bundle]time.Time)
	for _, b := range v.Lines {
		v.made[b] = s.made(b, time.Now())
	}
	slices.SortStableFunc(v.Lines, func(a, b *Bundle) int {
		return cmp.Or(-v.made[a].Compare(v.made[b]), cmp.Compare(a.Manifest.Name, b.Manifest.Name))
	})
	return v, v.choose(ctx, s.State.remembered(s.place), s.State.dir)
}

// complete reports what of the line is neither at hand nor packed, though files of it are still in
// use.
func (b *Bundle) complete(ctx context.Context) error {
	for _, x := range b.Line() {
		if b.parts[x.ID] != nil || len(b.packs) > 0 {
			continue
		}
		for _, err := range b.Index.FilesIn(ctx, x.ID) { // those of others were replaced
			return cmp.Or(err, error(&MissingBaseError{x}))
		}
	}
	return nil
}

// A MissingBaseError says that a bundle of a line is not at hand.
type MissingBaseError struct{ Bundle index.Bundle }

// Error names the bundle.
func (e *MissingBaseError) Error() string {
	sequence := ""
	if e.Bundle.Sequence > 0 {
		sequence = fmt.Sprintf("sequence %d, ", e.Bundle.Sequence)
	}
	return fmt.Sprintf("an earlier bundle of the line is not at hand: %s, %sid %.16s", e.Bundle.Name, sequence, e.Bundle.Digest)
}

// Close closes the bundles.
func (v *View) Close() error { return v.have.Close() }

// Title says what is served, for people: "bundle team of 2026-11-25".
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

// choose finds the head of each checksum database that is served: of the lines' heads the one that continues what was served before and under
// which the most can be proven, the largest of those. What is found for some bundles is the same ever after, and is kept.
func (v *View) choose(ctx context.Context, remembered func(db string) tlog.Tree, stateDir string) error {
	v.served = make(map[string]*Served)
	byDB := make(map[string][]*Bundle)
	for _, b := range v.Lines {
		if b.Manifest.DB != "" {
			byDB[b.Manifest.DB] = append(byDB[b.Manifest.DB], b)
		}
	}
	for db, lines := range byDB {
		var candidates []proof.Head
		for _, b := range lines {
			heads, err := b.Heads(ctx)
			if err != nil {
				return err
			}
			h := heads[len(heads)-1]
			if !slices.ContainsFunc(candidates, func(c proof.Head) bool { return c.Tree == h.Tree }) {
				candidates = append(candidates, h)
			}
		}
		if len(candidates) == 1 {
			v.served[db] = &Served{Size: candidates[0].N, Hash: candidates[0].Hash.String(), head: candidates[0]}
			continue
		}
		name := ""
		if stateDir != "" {
			name = filepath.Join(stateDir, "heads", choiceKey(db, lines, remembered(db))+".json")
		}
		s, err := readChoice(name, candidates)
		if err != nil {
			return err
		}
		if s == nil {
			if s, err = v.bestHead(ctx, lines, candidates, remembered(db)); err != nil {
				return err
			}
			if name != "" && !s.damaged {
				data, err := json.Marshal(s)
				if err != nil {
					return err
				}
				safefile.Write(name, data, 0o600) // it is only computed again when this fails
			}
		}
		v.served[db] = s
	}
	return nil
}

// choiceKey names what a choice depends on.
func choiceKey(db string, lines []*Bundle, remembered tlog.Tree) string {
	ids := []string{db, fmt.Sprint(remembered.N), remembered.Hash.String()}
	for _, b := range lines {
		ids = append(ids, b.ID())
	}
	slices.Sort(ids[3:])
	return hashText(strings.Join(ids, "\n"))
}

func readChoice(name string, candidates []proof.Head) (*Served, error) {
	data, err := os.ReadFile(name)
	if name == "" || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := new(Served)
	if json.Unmarshal(data, s) != nil || !slices.IsSorted(s.Unproven) {
		return nil, nil // found again
	}
	for _, c := range candidates {
		if c.N == s.Size && c.Hash.String() == s.Hash {
			s.head = c
			return s, nil
		}
	}
	return nil, nil
}

// bestHead chooses among heads.
func (v *View) bestHead(ctx context.Context, lines []*Bundle, candidates []proof.Head, remembered tlog.Tree) (*Served, error) {
	source := Tiles(ctx, lines...)
	var best *Served
	bestForgets := false
	slices.SortFunc(candidates, func(a, b proof.Head) int { return -cmp.Compare(a.N, b.N) })
	for _, c := range candidates {
		s := &Served{Size: c.N, Hash: c.Hash.String(), head: c}
		p := &proof.Prover{Head: c, Source: source}
		forgets := false
		if remembered.N > 0 {
			var err error
			if forgets, err = s.unshown(p.ProveConsistency(proof.Head{Tree: remembered})); err != nil {
				return nil, err
			}
		}
		for _, other := range candidates {
			if not, err := s.unshown(p.ProveConsistency(other)); err != nil {
				return nil, err
			} else if not {
				s.Heads++
			}
		}
		for _, b := range lines {
			if b.Manifest.Head == c.Tree {
				continue // proven when it was made
			}
			err := b.eachRecords(ctx, func(batch []proof.Record) error {
				if not, err := s.unshown(p.Records(batch)); err != nil || !not {
					return err
				}
				for _, r := range batch {
					if not, err := s.unshown(p.Records([]proof.Record{r})); err != nil {
						return err
					} else if not {
						s.Unproven = append(s.Unproven, r.ID)
					}
				}
				return ctx.Err()
			})
			if err != nil {
				return nil, err
			}
		}
		slices.Sort(s.Unproven)
		s.Unproven = slices.Compact(s.Unproven)
		better := best == nil || bestForgets && !forgets ||
			bestForgets == forgets && cmp.Or(cmp.Compare(s.Heads, best.Heads), cmp.Compare(len(s.Unproven), len(best.Unproven))) < 0
		if better {
			best, bestForgets = s, forgets
		}
	}
	return best, nil
}

// unshown reports whether an error of a proof means that it cannot be made from what the bundles have. Others, such as those of a disk, are errors
// and say nothing about that.
func (s *Served) unshown(err error) (bool, error) {
	if err == nil {
		return false, nil
	}
	if _, bad := errors.AsType[*NotVerifiedError](err); bad { // which is no reason to serve nothing
		s.damaged = true
		return true, nil
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, proof.ErrMismatch) {
		return true, nil
	}
	return false, err
}

// Head returns the signed tree head of a checksum database that is served, nil when there is none.
func (v *View) Head(db string) *proof.Head {
	if s := v.served[db]; s != nil {
		return &s.head
	}
	return nil
}

// Served returns what is served of each checksum database, by its name.
func (v *View) Served() map[string]*Served { return v.served }

// Proven reports whether a record can be proven under the head that is served.
func (v *View) Proven(db string, record int64) bool {
	s := v.served[db]
	if s == nil || record >= s.Size {
		return false
	}
	_, found := slices.BinarySearch(s.Unproven, record)
	return !found
}

// UnprovenVersions calls f with each version of which the record cannot be proven under the head that is served.
func (v *View) UnprovenVersions(ctx context.Context, f func(b *Bundle, x index.Version)) error {
	for _, b := range v.Lines {
		s := v.served[b.Manifest.DB]
		if s == nil || len(s.Unproven) == 0 {
			continue
		}
		for x, err := range b.Index.Versions(ctx, "") {
			if err != nil {
				return err
			}
			if x.Record != nil && !v.Proven(b.Manifest.DB, *x.Record) {
				f(b, x)
			}
		}
	}
	return nil
}

// A Ref is a file of a view.
type Ref struct {
	index.File
	In *Bundle // whose index names it
}

// File returns the file at a path.
func (v *View) File(ctx context.Context, path string) (r Ref, ok bool, err error) {
	lines := v.Lines
	if len(lines) > 1 && strings.HasPrefix(path, "vulndb/") {
		// Its index and its entries belong together.
		b, err := v.vulnLine(ctx)
		if b == nil || err != nil {
			return r, false, err
		}
		lines = []*Bundle{b}
	}
	for _, b := range lines {
		f, ok, err := b.Index.File(ctx, path)
		if ok || err != nil {
			return Ref{f, b}, ok, err
		}
	}
	return r, false, nil
}

// vulnLine returns the line whose vulnerability database is served: the one that was made last, of those that have one.
func (v *View) vulnLine(ctx context.Context) (*Bundle, error) {
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

// Tile returns the content of a tile, cut from a wider one when there is only that.
func (v *View) Tile(ctx context.Context, db string, tile tlog.Tile) ([]byte, error) {
	var lines []*Bundle
	for _, b := range v.Lines {
		if b.Manifest.DB == db {
			lines = append(lines, b)
		}
	}
	return tiles{ctx, lines}.read(tile)
}

// Lookup returns a version of a module: one with its zip before one without.
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

// FileOf returns the file at a path, which is one of a version of a module, and that version's time as index.FileOf does.
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

// Record returns a version whose record of a checksum database is carried, and can be proven under the head that is served if any line's can.
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

// Versions returns the versions of a module, by version when several lines have it.
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

// versions returns the versions that all lines have of a module, and how many lines have one with its zip.
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

// Merged returns the answer to a request for a list or @latest of a module that several lines have; ok is false when one line answers it with
// a file of its own.
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
		if latest == "" || laterThan(x.Version, latest) {
			latest = x.Version
		}
	}
	if r.Kind == modpath.Latest {
		data, err := v.ReadFile(ctx, modpath.Request{Kind: modpath.Info, Path: r.Path, Version: latest}.String(), maxInfo)
		return data, err == nil, err
	}
	return modpath.ListText(list), true, nil
}

// maxInfo is the longest .info file in bytes that is put together with others.
const maxInfo = 64 << 10

// Queries returns the questions about a module that were resolved when bundles were made; the answers that were made last first.
func (v *View) Queries(ctx context.Context, path string) iter.Seq2[index.Query, error] {
	return eachLine(v, func(x *index.Index) iter.Seq2[index.Query, error] { return x.Queries(ctx, path) })
}

// MissingFor returns what of a version could not be had when bundles were made.
func (v *View) MissingFor(ctx context.Context, path, version string) iter.Seq2[index.Missing, error] {
	return eachLine(v, func(x *index.Index) iter.Seq2[index.Missing, error] { return x.MissingFor(ctx, path, version) })
}

// Private returns the paths of the modules outside the checksum database; one may come twice.
func (v *View) Private(ctx context.Context) iter.Seq2[string, error] {
	return eachLine(v, func(x *index.Index) iter.Seq2[string, error] { return x.Private(ctx) })
}

// Public returns the paths of the modules that the checksum database vouches for. A module of
// several lines comes several times.
func (v *View) Public(ctx context.Context) iter.Seq2[string, error] {
	return eachLine(v, func(x *index.Index) iter.Seq2[string, error] { return x.Public(ctx) })
}

// eachLine returns the rows of all lines, one line after another.
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
