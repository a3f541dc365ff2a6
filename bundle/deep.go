package bundle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
)

// A Deep says how VerifyDeep verifies a bundle.
type Deep struct {
	DB *proof.Database // whose key is known here; may be nil for a bundle without a database

	// Before is a bundle of the line that passed VerifyDeep. Files that are the same in it are not
	// checked again. It may be nil.
	Before *Bundle

	// AllRead is called once, when every byte was read and all damaged entries are reported. Its
	// error ends the verification: nothing that is checked besides the bytes is reported then. It
	// may be nil.
	AllRead func() error
}

// VerifyDeep is Verify, and checks what Verify takes on the word of the bundle's signature: that
// every zip and go.mod has the h1 in the index; that the checksum database has every h1 of a public
// module, by a proof under the database's own key; and that its tree head continues all earlier
// ones of the line. So a stolen bundle key cannot forge a public module. Of a delta the whole line
// is checked, so that earlier bundles must be attached.
//
// The h1 of a version are computed while bytes behind it are read. An entry is parsed only after
// its SHA-256 was found to be the one in the index, and a damaged one is reported once.
//
// progress, which may be nil, is told of the bytes of the bundle, and again of those of each
// version. Several goroutines may call it at once; one at a time calls report.
func (b *Bundle) VerifyDeep(ctx context.Context, d *Deep, progress func(n int64), report func(Damage)) error {
	c := &deepCheck{Bundle: b, Deep: d, progress: progress, sound: newSoundness(), held: newHeld(report)}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	versions := make(chan error, 1)
	go func() { versions <- c.versions(ctx) }()
	if err := c.rest(ctx); err != nil {
		stop()
		<-versions
		return err
	}
	c.held.release()
	return <-versions
}

// A deepCheck is a run of VerifyDeep.
type deepCheck struct {
	*Bundle
	*Deep
	progress func(int64) // may be nil
	sound    *soundness
	held     *held
}

// rest verifies everything but the h1 of versions.
func (c *deepCheck) rest(ctx context.Context) error {
	all := &byteCheck{b: c.Bundle, progress: c.progress, report: c.held.report, passed: func(s *stretch) {
		c.sound.pass(s.to-c.payload, s.bad)
	}}
	if err := all.run(ctx); err != nil {
		return err
	}
	if c.AllRead != nil {
		if err := c.AllRead(); err != nil {
			return err
		}
	}
	damage := func(path string, err error) { c.held.report(Damage{path, err}) }
	var heads []proof.Head
	if c.Manifest.DB != "" {
		if c.DB == nil || c.DB.Name != c.Manifest.DB {
			return fmt.Errorf("the bundle's checksum database is %s, whose key is not at hand: set GOSUMDB", c.Manifest.DB)
		}
		var err error
		if heads, err = c.proveHeads(ctx, c.DB); err != nil {
			return err
		}
		if err := c.proveRecords(ctx, heads[len(heads)-1], damage); err != nil {
			return err
		}
	}
	err := c.checkCarried(ctx, c.Before, func(f index.File, err error) {
		c.sound.spoil(f.ID)
		damage(f.Path, err)
	})
	if err != nil {
		return err
	}
	c.sound.passAll() // before anything here asks whether a file of an earlier bundle is sound
	if err := c.explainFiles(ctx, heads, damage); err != nil {
		return err
	}
	return c.checkBootstraps(ctx, damage)
}

// isSound reports whether the content of f has its SHA-256. It waits until that is known.
func (c *deepCheck) isSound(ctx context.Context, f index.File) (bool, error) {
	end := f.Offset + f.Size
	if f.Bundle != c.own() {
		end = math.MaxInt64
	}
	return c.sound.wait(ctx, f.ID, end)
}

// versions checks the h1 of all versions.
func (c *deepCheck) versions(ctx context.Context) error {
	cpu := make(h1.Limiter, runtime.GOMAXPROCS(0))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(cap(cpu))
	for v, err := range c.Index.Versions(ctx, "") {
		if err != nil {
			return cmp.Or(eg.Wait(), wrapBad(ctx, err))
		}
		eg.Go(func() error {
			same, err := c.unchanged(ctx, c.Before, v)
			if err != nil {
				return wrapBad(ctx, err)
			}
			if same {
				return nil
			}
			n, path, err := c.version(ctx, cpu, v)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if away, ok := errors.AsType[*NotAtHandError](err); ok {
				return away
			}
			if err != nil && !c.held.hold(ctx, Damage{path, err}) {
				return ctx.Err()
			}
			if c.progress != nil {
				c.progress(n)
			}
			return nil
		})
	}
	return eg.Wait()
}

// version compares the files of a version with its h1. It returns the number of bytes read, and the
// path of a file that does not verify. A damaged file, which is reported already, is not read.
func (c *deepCheck) version(ctx context.Context, cpu h1.Limiter, v index.Version) (n int64, path string, err error) {
	m := module.Version{Path: v.Path, Version: v.Version}
	path = modpath.Request{Kind: modpath.Mod, Path: v.Path, Version: v.Version}.String()
	f, ok, err := c.Index.File(ctx, path)
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if err != nil {
		return 0, path, err
	}
	if sound, err := c.isSound(ctx, f); err != nil {
		return 0, path, err
	} else if sound {
		data, err := c.Read(ctx, f, modzip.MaxGoMod)
		if err != nil {
			return 0, path, err
		}
		if sum := h1.GoMod(data); sum != v.GoModH1 {
			return v.ModSize, path, fmt.Errorf("its h1 is %s, the index says %s", sum, v.GoModH1)
		}
	}
	if v.ZipSize == nil {
		return v.ModSize, path, nil
	}
	path = modpath.Request{Kind: modpath.Zip, Path: v.Path, Version: v.Version}.String()
	f, ok, err = c.Index.File(ctx, path)
	if err != nil {
		return v.ModSize, path, err
	}
	if !ok || f.Size != *v.ZipSize {
		return v.ModSize, path, errors.New("the index has no such file of that size")
	}
	n = v.ModSize + f.Size
	if sound, err := c.isSound(ctx, f); err != nil || !sound {
		return n, path, err
	}
	content, err := c.Content(ctx, f)
	if err != nil {
		return v.ModSize, path, err
	}
	z, err := h1.Zip(ctx, cpu, m, content, f.Size)
	if err == nil && z.H1 != v.H1 {
		err = fmt.Errorf("its h1 is %s, the index says %s", z.H1, v.H1)
	}
	return n, path, err
}

// A soundness knows which files of a bundle have their SHA-256, while that is found out.
type soundness struct {
	mu      sync.Mutex
	end     int64         // files that end here, counted from the payload, or before are known
	bad     []uint64      // bits of the numbers of damaged files; empty while there is none
	changed chan struct{} // closed when end changes
}

func newSoundness() *soundness { return &soundness{changed: make(chan struct{})} }

// pass says that the files up to an offset were read, and which of them are damaged.
func (s *soundness) pass(end int64, bad []int64) {
	for _, id := range bad {
		s.spoil(id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end = end
	close(s.changed)
	s.changed = make(chan struct{})
}

// passAll says that all files were read.
func (s *soundness) passAll() { s.pass(math.MaxInt64, nil) }

// spoil says that a file is damaged. The index that was verified numbers files from 1 without gaps.
func (s *soundness) spoil(id int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if word := int(id / 64); word >= len(s.bad) {
		s.bad = append(s.bad, make([]uint64, word+1-len(s.bad))...)
	}
	s.bad[id/64] |= 1 << (id % 64)
}

// wait waits until the files up to an offset are known, and reports whether the one with a number
// is not damaged.
func (s *soundness) wait(ctx context.Context, id, end int64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.end < end {
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
	}
	word := int(id / 64)
	return word >= len(s.bad) || s.bad[word]>>(id%64)&1 == 0, nil
}

// A held passes damages on, one at a time, and holds back some of them until release.
type held struct {
	mu       sync.Mutex
	to       func(Damage)
	list     []Damage
	room     chan struct{} // has an element for each damage in list
	released chan struct{} // closed by release
}

// maxHeld bounds the damages that are held back. A check that finds more waits.
const maxHeld = 1000

func newHeld(to func(Damage)) *held {
	return &held{to: to, room: make(chan struct{}, maxHeld), released: make(chan struct{})}
}

// report passes a damage on.
func (h *held) report(d Damage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.to(d)
}

// hold passes a damage on after release. It waits while too many are held back, and reports whether
// ctx was not done before.
func (h *held) hold(ctx context.Context, d Damage) bool {
	select {
	case h.room <- struct{}{}:
	case <-h.released:
	case <-ctx.Done():
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.released:
		h.to(d)
	default:
		h.list = append(h.list, d)
	}
	return true
}

// release passes on what was held back, by path, and from now on all damages at once.
func (h *held) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.released)
	slices.SortFunc(h.list, func(a, b Damage) int { return strings.Compare(a.Path, b.Path) })
	for _, d := range h.list {
		h.to(d)
	}
	h.list = nil
}

// unchanged reports whether before has the version with the same hashes and the same files.
func (b *Bundle) unchanged(ctx context.Context, before *Bundle, v index.Version) (bool, error) {
	if before == nil {
		return false, nil
	}
	old, ok, err := before.Index.Lookup(ctx, v.Path, v.Version)
	if err != nil || !ok || old.H1 != v.H1 || old.GoModH1 != v.GoModH1 || (old.ZipSize == nil) != (v.ZipSize == nil) {
		return false, err
	}
	for _, kind := range []modpath.Kind{modpath.Mod, modpath.Zip} {
		path := modpath.Request{Kind: kind, Path: v.Path, Version: v.Version}.String()
		f1, ok1, err1 := before.Index.File(ctx, path)
		f2, ok2, err2 := b.Index.File(ctx, path)
		if err := errors.Join(err1, err2); err != nil || ok1 != ok2 || f1.SHA256 != f2.SHA256 || f1.Size != f2.Size {
			return false, err
		}
	}
	return true, nil
}

// CheckCarried compares the files of earlier bundles with the SHA-256 in the index.
func (b *Bundle) CheckCarried(ctx context.Context, damage func(string, error)) error {
	return b.checkCarried(ctx, nil, func(f index.File, err error) { damage(f.Path, err) })
}

// checkCarried is CheckCarried. It skips files that before, which may be nil, has at the same
// place.
func (b *Bundle) checkCarried(ctx context.Context, before *Bundle, damage func(index.File, error)) error {
	buf := make([]byte, 256<<10)
	for _, x := range b.Line() {
		for f, err := range b.Index.FilesIn(ctx, x.ID) {
			if err != nil {
				return wrapBad(ctx, err)
			}
			at, err := b.Find(f)
			if err != nil {
				return err
			}
			if before != nil {
				old, ok, err := before.Index.File(ctx, f.Path)
				if err != nil {
					return wrapBad(ctx, err)
				}
				if ok && old.SHA256 == f.SHA256 && old.Size == f.Size {
					if place, err := before.Find(old); err == nil && place == at {
						continue
					}
				}
			}
			sum, err := sumOf(media.ReaderAt(ctx, at.Media), at.Offset, f.Size, buf)
			if err != nil {
				return err
			}
			if sum != f.SHA256 {
				damage(f, fmt.Errorf("in the earlier bundle %s: %w", at.Media.Name(), media.ErrHash))
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return nil
}

// proveHeads verifies the signatures on all tree heads, proves each from the tiles, and proves that
// the last one continues the others.
func (b *Bundle) proveHeads(ctx context.Context, db *proof.Database) ([]proof.Head, error) {
	heads, err := b.Heads(ctx)
	if err != nil {
		return nil, err
	}
	last := heads[len(heads)-1]
	p := &proof.Prover{Head: last, Source: Tiles(ctx, b)}
	for _, h := range heads {
		name := fmt.Sprintf("tree head %d", h.N)
		if _, err := db.ParseHead(h.Note); err != nil {
			return nil, &NotVerifiedError{What: name, Err: err}
		}
		edge := &proof.Prover{Head: h, Source: p.Source}
		for _, err := range []error{edge.ProveHead(), p.ProveConsistency(h)} {
			if away, ok := errors.AsType[*NotAtHandError](err); ok {
				return nil, away
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				return nil, &NotVerifiedError{What: name, Err: err}
			}
		}
	}
	path := modpath.Request{Kind: modpath.SumLatest, DB: db.Name}.String()
	msg, err := b.ReadFile(ctx, path, proof.MaxLookup)
	if errors.Is(err, fs.ErrNotExist) {
		err = &NotVerifiedError{What: path, Err: err}
	}
	if err == nil && !bytes.Equal(msg, last.Note) {
		err = &NotVerifiedError{What: path, Err: errors.New("not the head that the manifest names")}
	}
	return heads, err
}

// proveRecords proves all records under a head, in batches.
func (b *Bundle) proveRecords(ctx context.Context, head proof.Head, damage func(string, error)) error {
	p := &proof.Prover{Head: head, Source: Tiles(ctx, b), Parallel: 1} // other cores check zips
	return b.EachRecords(ctx, func(batch []proof.Record) error {
		err := p.Records(batch)
		if err == nil {
			return nil
		}
		for _, r := range batch { // to find out which
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := p.Records([]proof.Record{r})
			if away, ok := errors.AsType[*NotAtHandError](err); ok {
				return away
			}
			if err != nil {
				damage(modpath.Lookup(b.Manifest.DB, r.Mod), err)
			}
		}
		return nil
	})
}

// explainFiles checks that every .mod, .zip and lookup file belongs to a version in the index: a
// file of no version would be served although nothing proved it. A lookup file must be the record
// under one of the heads, and nothing else.
func (c *deepCheck) explainFiles(ctx context.Context, heads []proof.Head, damage func(string, error)) error {
	b := c.Bundle
	for f, err := range b.Index.Files(ctx) {
		if err != nil {
			return wrapBad(ctx, err)
		}
		r, _ := modpath.Parse(f.Path) // README.txt is no such path
		switch r.Kind {
		case modpath.Mod, modpath.Zip, modpath.SumLookup:
		default:
			continue
		}
		v, ok, err := b.Index.Lookup(ctx, r.Path, r.Version)
		if err != nil {
			return wrapBad(ctx, err)
		}
		switch {
		case !ok, r.Kind == modpath.Zip && v.ZipSize == nil, r.Kind == modpath.SumLookup && (v.Record == nil || r.DB != b.Manifest.DB):
			damage(f.Path, errors.New("no version in the index accounts for it"))
		case r.Kind == modpath.SumLookup:
			if same, err := b.sameLookup(ctx, c.Before, f, v); err != nil {
				return wrapBad(ctx, err)
			} else if same {
				continue
			}
			if sound, err := c.isSound(ctx, f); err != nil {
				return err
			} else if !sound { // and reported
				continue
			}
			data, err := b.Read(ctx, f, proof.MaxLookup)
			if away, ok := errors.AsType[*NotAtHandError](err); ok {
				return away
			}
			record := recordOf(v)
			if err == nil && !slices.ContainsFunc(heads, func(h proof.Head) bool { return record.ID < h.N && bytes.Equal(data, record.Lookup(h)) }) {
				err = errors.New("not the record that the index has, under one of the heads")
			}
			if err != nil {
				damage(f.Path, err)
			}
		}
	}
	return nil
}

// sameLookup reports whether before has the same lookup file for the same record.
func (b *Bundle) sameLookup(ctx context.Context, before *Bundle, f index.File, v index.Version) (bool, error) {
	if before == nil {
		return false, nil
	}
	old, ok, err := before.Index.File(ctx, f.Path)
	if err != nil || !ok || old.SHA256 != f.SHA256 {
		return false, err
	}
	w, ok, err := before.Index.Lookup(ctx, v.Path, v.Version)
	return ok && w.Record != nil && recordOf(w) == recordOf(v), err
}
