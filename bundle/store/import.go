package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
)

// Import says how a bundle is taken into a store. Functions but for Report may be nil.
type Import struct {
	DB            *proof.Database        // checksum database whose key is known here
	AllowRollback bool                   // accept a bundle that Accept or State.Check refuses
	MinSequence   int64                  // lowest sequence
	Progress      func(n int64)          // told of verified bytes
	Began         func(*bundle.Manifest) // told of the manifest when it is verified
	Report        func(bundle.Damage)    // told of each entry that does not verify
	Warn          func(error)            // told of what AllowRollback lets pass

	// Ends are the lines, by name, whose newest known bundle is imported later in the same run.
	// Older bundles of such a line are no rollback.
	Ends map[string]bool

	// Accept is told of the bundle once it is verified, and of the view that the store will have
	// with it. The bundle does not come in when it returns an error.
	Accept func(ctx context.Context, b *bundle.Bundle, v *View) error

	// Serves is told of what the store serves with the bundle. The view is not valid afterwards.
	Serves func(*View)

	NewLine func(beside []string) // told when a bundle begins a line beside others

	OtherSignature func(what string) // told of a file of signatures that is another tool's
}

// ErrDamaged is returned by Import after it reported entries that do not verify.
var ErrDamaged = errors.New("the bundle does not verify")

// An AlreadyError reports that the store has the bundle.
type AlreadyError struct {
	File   string
	Signed []string // "name+hash" of keys whose signatures were added to the store's copy
}

// Error names the file and the added signatures.
func (e *AlreadyError) Error() string {
	text := "the store has it already: " + e.File
	if len(e.Signed) > 0 {
		text += ", which now has the signatures of " + strings.Join(e.Signed, ", ") + " too"
	}
	return text
}

// Import reads a bundle from r to its end, in one pass, and adds it to the store when every byte,
// hash and proof verifies and the bundle continues its line. name is the bundle's path in messages,
// and detached signatures are read beside it. The store must be locked.
//
// The order is: manifest, rules against going back, index, bytes, proofs, conflicts with other
// lines, and last the rename that adds the file to the store.
func (s *Store) Import(ctx context.Context, name string, r io.Reader, im *Import) (*bundle.Manifest, error) {
	temp, err := safefile.Create(filepath.Join(s.Dir, "incoming"+bundleExt), 0o666)
	if err != nil {
		return nil, err
	}
	defer temp.Discard()
	in := media.NewStream(name, r, temp, media.MaxSize)
	defer in.Close()
	b, err := bundle.OpenFrontIn(ctx, name, in, bundle.SignaturesFile(name), s.Trust)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	defer b.Close()
	m := &b.Manifest
	im.began(b)
	if err := checkLowest(b, im.MinSequence); err != nil {
		return nil, err
	}
	to := filepath.Join(s.Dir, fileName(m))
	if err := mayReplace(to); err != nil {
		return nil, err
	}
	// Bundles that are in the store count, whatever keys are required of new ones.
	have, err := s.lenient().open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer have.Close()
	again, err := s.again(ctx, b, have.bundles)
	if err != nil {
		return nil, err
	}
	a := &arrival{Bundle: b, stream: in, have: have, im: im, repairs: again}
	if err := s.accept(ctx, a); err != nil { // before gigabytes are read
		return nil, err
	}
	if free, ok := safefile.Free(s.Dir); ok && free < m.Size { // before hours of copying
		return nil, fmt.Errorf("%s has %d bytes, and the store's file system has room for %d: %w", name, m.Size, free, syscall.ENOSPC)
	}
	v, err := s.verify(ctx, a)
	if err == nil && im.Accept != nil {
		err = im.Accept(ctx, b, v)
	}
	if err == nil {
		err = s.commit(b, temp, to)
	}
	if err != nil {
		if !b.Seen { // else a server may be reading it
			bundle.ForgetIndex(s.State.dir, b.ID())
		}
		return nil, err
	}
	if beside := linesBeside(m.Name, have.bundles); beside != nil && im.NewLine != nil {
		im.NewLine(beside)
	}
	if im.Serves != nil {
		im.Serves(v)
	}
	if err := s.Remember(v, im.AllowRollback); err != nil {
		return nil, fmt.Errorf("%s is in the store, and that could not be remembered, so import it again: %w", name, err)
	}
	return m, nil
}

// began tells of a bundle whose manifest is verified.
func (im *Import) began(b *bundle.Bundle) {
	if b.OtherSignature != "" && im.OtherSignature != nil {
		im.OtherSignature(b.OtherSignature)
	}
	if im.Began != nil {
		im.Began(&b.Manifest)
	}
}

// An arrival is a bundle that is being imported.
type arrival struct {
	*bundle.Bundle
	stream  *media.Stream
	have    *holding // the store before it
	im      *Import
	repairs bool // it replaces a damaged or missing bundle, so that rules against going back do not apply
}

// verify verifies the rest of the bundle and returns the view that the store will have with it.
func (s *Store) verify(ctx context.Context, a *arrival) (*View, error) {
	name := a.Path()
	if err := a.OpenIndex(ctx, s.Trust, s.State.dir); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	a.Attach(a.have.bundles...)
	a.AttachPacks(a.have.packs)
	if err := s.verifyContents(ctx, a); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := s.checkState(ctx, a); err != nil { // now with its tree heads
		return nil, err
	}
	v, err := s.viewWith(ctx, a.Bundle, a.have)
	if err == nil {
		err = v.conflicts(ctx, a.Bundle)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// commit gives the verified bundle its name in the store.
func (s *Store) commit(b *bundle.Bundle, temp *safefile.File, to string) error {
	if err := b.WriteManifest(temp); err != nil { // with the detached signatures
		return err
	}
	if err := s.State.SetDeepVerified(b.ID()); err != nil {
		return err
	}
	return temp.CommitTo(to)
}

// viewWith returns the view that the store will have with b, which replaces a damaged copy. It uses
// the bundles of have and must not be closed.
func (s *Store) viewWith(ctx context.Context, b *bundle.Bundle, have *holding) (*View, error) {
	others := have.signedBy(s.Trust)
	others.bundles = slices.DeleteFunc(others.bundles, func(o *bundle.Bundle) bool { return o.ID() == b.ID() })
	others.bundles = append(others.bundles, b)
	return s.view(ctx, others)
}

// lenient returns the store with bundles that fewer keys signed than are required.
func (s *Store) lenient() *Store {
	l := *s
	l.Trust = s.Trust.Lenient()
	return &l
}

// mayReplace returns a *bundle.OccupiedError when a file exists that is not a bundle, whole or
// damaged.
func mayReplace(file string) error {
	st, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return &bundle.OccupiedError{File: file, Reason: "it is not a regular file"}
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	begin := make([]byte, 512)
	if n, err := io.ReadFull(f, begin); n > 0 && (err != nil || !bundle.LooksLike(begin)) {
		return &bundle.OccupiedError{File: file, Reason: "it is not a bundle"}
	}
	return nil
}

// again reports whether b repairs the store: its copy is damaged, or missing although a newer
// bundle of the line refers to it. A whole copy is an *AlreadyError; signatures that b has besides
// are added to it, and it is remembered.
func (s *Store) again(ctx context.Context, b *bundle.Bundle, bundles []*bundle.Bundle) (bool, error) {
	for _, have := range bundles {
		if have.ID() == b.ID() {
			if s.intact(ctx, have) != nil {
				return true, nil
			}
			return false, s.already(ctx, b, have)
		}
	}
	for _, newer := range bundles {
		if newer.Manifest.Name != b.Manifest.Name || newer.Manifest.Sequence <= b.Manifest.Sequence {
			continue
		}
		opened, err := bundle.Open(ctx, newer.Path(), s.Trust.Lenient(), "")
		if err != nil {
			continue // it says nothing
		}
		names := slices.ContainsFunc(opened.Line(), func(x index.Bundle) bool { return x.Digest == b.ID() })
		opened.Close()
		if names {
			return true, nil
		}
	}
	return false, nil
}

// already adds the signatures of b to have, the store's copy of it, and returns an *AlreadyError.
func (s *Store) already(ctx context.Context, b, have *bundle.Bundle) error {
	already := &AlreadyError{File: have.Path()}
	for _, k := range b.Signers {
		if !slices.Contains(have.Signers, k) {
			already.Signed = append(already.Signed, k)
		}
	}
	if len(already.Signed) > 0 {
		if err := have.AddSignatures(b, s.Trust); err != nil {
			return err
		}
	}
	if v, err := s.View(ctx, nil); err == nil { // else other bundles of the line have too few signatures
		defer v.Close()
		if err := s.Remember(v, false); err != nil {
			return err
		}
	}
	return already
}

// intact verifies every byte of a bundle in the store.
func (s *Store) intact(ctx context.Context, have *bundle.Bundle) error {
	b, err := bundle.Open(ctx, have.Path(), s.Trust.Lenient(), "")
	if err != nil {
		return err
	}
	defer b.Close()
	var bad error
	err = b.Verify(ctx, nil, func(d bundle.Damage) { bad = cmp.Or(bad, d.Err) })
	return cmp.Or(err, bad)
}

// Withdraw removes a bundle that was imported as an older one of Import.Ends when the newest one of
// its line could not be imported.
func (s *Store) Withdraw(m *bundle.Manifest) error {
	file := filepath.Join(s.Dir, fileName(m))
	bundle.ForgetIndex(s.State.dir, m.ID())
	return errors.Join(os.Remove(file), safefile.Remove(bundle.SignaturesFile(file)), safefile.SyncDir(s.Dir))
}

// Ends returns the lines, by name, whose newest known bundle is among files: the value for
// Import.Ends.
func (s *Store) Ends(files []string) map[string]bool {
	ends := make(map[string]bool)
	for _, file := range files {
		if st, err := os.Stat(file); err != nil || !st.Mode().IsRegular() {
			continue
		}
		b, err := bundle.OpenFront(context.Background(), file, s.Trust.Lenient())
		if err != nil {
			continue // Import says why
		}
		if seen, ok := s.State.Lines[b.Manifest.Name]; ok && seen.ID == b.ID() {
			ends[b.Manifest.Name] = true
		}
		b.Close()
	}
	return ends
}

// verifyContents checks every byte, hash and proof.
func (s *Store) verifyContents(ctx context.Context, a *arrival) error {
	bad := false
	report := func(d bundle.Damage) {
		bad = true
		a.im.Report(d)
	}
	allRead := func() error {
		if err := a.stream.End(ctx); err != nil {
			return err
		}
		if bad {
			return ErrDamaged
		}
		return nil
	}
	var err error
	if s.State.DeepVerified(a.ID()) { // in another store, or before it was removed from this one
		if err = a.Verify(ctx, a.im.Progress, report); err == nil {
			err = allRead()
		}
		if err == nil {
			err = a.CheckCarried(ctx, func(path string, err error) { report(bundle.Damage{Path: path, Err: err}) })
		}
	} else {
		var before *bundle.Bundle
		if before, err = s.newestVerified(ctx, a); err == nil {
			deep := &bundle.Deep{DB: a.im.DB, Before: before, AllRead: allRead}
			err = a.VerifyDeep(ctx, deep, a.im.Progress, report)
		}
	}
	if err == nil && bad {
		err = ErrDamaged
	}
	return err
}

// newestVerified opens the newest bundle of the line of a that passed VerifyDeep; nil when there is
// none.
func (s *Store) newestVerified(ctx context.Context, a *arrival) (*bundle.Bundle, error) {
	var newest *bundle.Bundle
	for _, b := range a.have.bundles {
		if b.Manifest.Name == a.Manifest.Name && s.State.DeepVerified(b.ID()) && (newest == nil || b.Manifest.Sequence > newest.Manifest.Sequence) {
			newest = b
		}
	}
	if newest == nil {
		return nil, nil
	}
	if err := newest.OpenIndex(ctx, s.Trust, s.State.dir); err != nil {
		return nil, ctx.Err() // without it everything is checked
	}
	newest.Attach(a.have.bundles...)
	newest.AttachPacks(a.have.packs)
	return newest, nil
}

// conflicts returns a *bundle.NotVerifiedError for a version outside the checksum database that
// another line carries with other contents: nothing says which is right.
func (v *View) conflicts(ctx context.Context, b *bundle.Bundle) error {
	if !slices.Contains(v.Lines, b) {
		return nil
	}
	for _, other := range v.Lines {
		if other == b {
			continue
		}
		for _, pair := range [][2]*bundle.Bundle{{b, other}, {other, b}} {
			if err := conflict(ctx, pair[0], pair[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// conflict compares the versions of x that are outside the checksum database with those of y.
func conflict(ctx context.Context, x, y *bundle.Bundle) error {
	for path, err := range x.Index.Private(ctx) {
		if err != nil {
			return err
		}
		for v, err := range x.Index.Versions(ctx, path) {
			if err != nil {
				return err
			}
			w, ok, err := y.Index.Lookup(ctx, path, v.Version)
			if err != nil {
				return err
			}
			if ok && (v.GoModH1 != w.GoModH1 || v.H1 != "" && w.H1 != "" && v.H1 != w.H1) {
				return &bundle.NotVerifiedError{
					What: modpath.Request{Kind: modpath.Zip, Path: path, Version: v.Version}.String(),
					Err: fmt.Errorf("bundle %s, sequence %d, has it outside the checksum database, with other contents than %s, sequence %d",
						x.Manifest.Name, x.Manifest.Sequence, y.Manifest.Name, y.Manifest.Sequence),
				}
			}
		}
	}
	return nil
}
