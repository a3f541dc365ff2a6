package bundle

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

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/bucket"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
)

// A Store is a folder of bundles, as they were carried, of one or several lines. A bundle is there when its file has its
// name, which Import gives it when all of it is verified; what is served is the newest of each line.
//
//	NAME-SEQUENCE.tar   bundles
//	*.pack              files of bundles that were pruned
//	incoming/           pieces of bundles that are not complete yet
//	lock
type Store struct {
	Dir   string
	Trust *trust.Keyring
	State *State

	// Remote is where the bundles are when they are in a bucket; Dir is its URL then. Such a store is only read.
	Remote *Remote

	place string // what heads are remembered under
}

// A Remote is a bucket of bundles, named as those of a store, and what is cached of their contents. Packs are not read from there.
type Remote struct {
	Bucket *bucket.Bucket
	Cache  *media.Cache
}

const (
	bundleExt   = ".tar"
	incomingDir = "incoming"
	storeLock   = "lock"
)

// OpenStore returns the store in a folder. trust says whose bundles are believed, and stateDir is where verified indexes and what was
// seen are remembered.
func OpenStore(dir string, keyring *trust.Keyring, stateDir string) (*Store, error) {
	state, err := ReadState(stateDir)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil { // when it is there already
		abs = real
	}
	return &Store{Dir: dir, Trust: keyring, State: state, place: abs}, nil
}

// ErrEmpty is the error of a store without a bundle that can be believed.
var ErrEmpty = errors.New("there is no bundle in it")

// OpenRemote returns the store that is in a bucket. trust and stateDir are as for OpenStore.
func OpenRemote(r *Remote, keyring *trust.Keyring, stateDir string) (*Store, error) {
	state, err := ReadState(stateDir)
	if err != nil {
		return nil, err
	}
	return &Store{Dir: r.Bucket.String(), Trust: keyring, State: state, Remote: r, place: r.Bucket.String()}, nil
}

// View opens what is in the store now. skipped, which may be nil, is told of files that are no bundles that can be believed, and why; they are not served.
func (s *Store) View(ctx context.Context, skipped func(file string, err error)) (*View, error) {
	var first error
	have, err := s.openAll(ctx, func(file string, err error) {
		first = cmp.Or(first, err)
		if skipped != nil {
			skipped(file, err)
		}
	})
	if err != nil {
		return nil, err
	}
	v, err := s.view(ctx, have)
	if err != nil {
		have.Close()
		if first != nil && len(have.bundles)+len(have.packs) == 0 {
			err = first
		}
		return nil, fmt.Errorf("store %s: %w", s.Dir, err)
	}
	return v, nil
}

// Remember has the state remember what of the store is served.
func (s *Store) Remember(v *View, rollback bool) error {
	return s.State.Remember(v, s.place, rollback)
}

// OpenFiles returns the view of bundles in files, of one or several lines.
func OpenFiles(ctx context.Context, files []string, keyring *trust.Keyring, state *State) (*View, error) {
	s := &Store{Trust: keyring, State: state}
	have := new(holding)
	var names []string
	for _, file := range files {
		b, err := s.front(ctx, file)
		if err != nil {
			have.Close()
			return nil, err
		}
		have.bundles = append(have.bundles, b)
		names = append(names, b.Manifest.Name)
	}
	s.place = placeOf(names)
	v, err := s.view(ctx, have)
	if err != nil {
		have.Close()
	}
	return v, err
}

// placeOf returns what heads are remembered under when bundles in files are served: their lines.
func placeOf(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

// Place returns what the heads that a view serves are remembered under when it is of bundles in files.
func (v *View) Place() string {
	var names []string
	for _, b := range v.Lines {
		names = append(names, b.Manifest.Name)
	}
	return placeOf(names)
}

// OpenLines opens the newest bundle of each line of a store, with all that they need of the others.
// A bundle there that cannot be opened is an error: it may be the newest one.
func OpenLines(ctx context.Context, dir string, keyring *trust.Keyring) (*View, error) {
	s := &Store{Dir: dir, Trust: keyring, State: NoState()}
	var skipped error
	v, err := s.View(ctx, func(_ string, err error) { skipped = cmp.Or(skipped, err) })
	if err != nil {
		return nil, err
	}
	if skipped = cmp.Or(skipped, errors.Join(v.Passed...)); skipped != nil {
		v.Close()
		return nil, fmt.Errorf("store %s: what is the newest bundle cannot be told: %w", dir, skipped)
	}
	return v, nil
}

// OpenNewest opens the newest bundle of a store that has one line, with all that it needs of the
// others.
func OpenNewest(ctx context.Context, dir string, keyring *trust.Keyring) (*Bundle, error) {
	v, err := OpenLines(ctx, dir, keyring)
	if err != nil {
		return nil, err
	}
	if len(v.Lines) > 1 {
		defer v.Close()
		var names []string
		for _, b := range v.Lines {
			names = append(names, b.path)
		}
		return nil, fmt.Errorf("store %s has %d lines; the newest bundle of each is %s", dir, len(names), strings.Join(names, ", "))
	}
	b := v.Lines[0]
	b.with = &holding{slices.DeleteFunc(v.have.bundles, func(o *Bundle) bool { return o == b }), v.have.packs}
	return b, nil
}

// front opens a bundle and believes its manifest; its index is opened when it is needed.
func (s *Store) front(ctx context.Context, file string) (*Bundle, error) {
	m, err := openMedia(file)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", file, err)
	}
	b := newBundle(file, m)
	if err := b.readManifest(ctx, s.Trust); err != nil {
		b.Close()
		return nil, fmt.Errorf("opening %s: %w", file, err)
	}
	return b, nil
}

// lenient returns the store with bundles believed that fewer of the keys signed than are required.
func (s *Store) lenient() *Store {
	l := *s
	l.Trust = s.Trust.Lenient()
	return &l
}

// A holding is what was opened of a store.
type holding struct {
	bundles []*Bundle
	packs   []*pack
}

// Close closes all of it.
func (h *holding) Close() error {
	var errs []error
	for _, b := range h.bundles {
		errs = append(errs, b.Close())
	}
	for _, p := range h.packs {
		errs = append(errs, p.media.Close())
	}
	return errors.Join(errs...)
}

// openAll opens the manifests of all bundles, and the packs, wherever they are.
func (s *Store) openAll(ctx context.Context, skipped func(string, error)) (*holding, error) {
	if s.Remote == nil {
		return s.open(ctx, skipped)
	}
	objects, err := s.Remote.Bucket.List(ctx)
	if err != nil {
		return nil, err
	}
	have := new(holding)
	for _, o := range objects {
		if filepath.Ext(o.Name) != bundleExt {
			continue
		}
		b := &Bundle{path: o.String(), media: media.NewObject(o, o.Size, s.Remote.Cache)}
		err := b.readManifest(ctx, s.Trust)
		if _, unread := errors.AsType[*media.UnreadError](err); unread { // it may be the newest one
			return nil, err
		}
		if err != nil {
			skipped(b.path, err)
			continue
		}
		have.bundles = append(have.bundles, b)
	}
	return have, nil
}

// open opens the manifests of all bundles, and the packs.
func (s *Store) open(ctx context.Context, skipped func(string, error)) (*holding, error) {
	files, err := os.ReadDir(s.Dir)
	if err != nil {
		return nil, err
	}
	have := new(holding)
	for _, f := range files {
		name := filepath.Join(s.Dir, f.Name())
		if strings.HasPrefix(f.Name(), safefile.TempPrefix) || f.IsDir() {
			continue
		}
		var err error
		switch filepath.Ext(name) {
		case bundleExt:
			var b *Bundle
			if b, err = s.front(ctx, name); err == nil {
				have.bundles = append(have.bundles, b)
			}
		case packExt:
			var p *pack
			if p, err = openPack(name); err == nil {
				have.packs = append(have.packs, p)
			}
		}
		if err != nil && skipped != nil {
			skipped(name, err)
		}
	}
	return have, nil
}

// Fingerprint changes when the files of the store do.
func (s *Store) Fingerprint(ctx context.Context) (string, error) {
	var b strings.Builder
	if s.Remote != nil {
		objects, err := s.Remote.Bucket.List(ctx)
		for _, o := range objects {
			fmt.Fprintf(&b, "%s %d %s\n", o.Name, o.Size, o.ETag)
		}
		return b.String(), err
	}
	files, err := os.ReadDir(s.Dir)
	if err != nil {
		return "", err
	}
	for _, f := range files {
		st, err := f.Info()
		if err != nil || f.IsDir() || f.Name() == storeLock || strings.HasPrefix(f.Name(), safefile.TempPrefix) {
			continue
		}
		fmt.Fprintf(&b, "%s %d %d\n", f.Name(), st.Size(), st.ModTime().UnixNano())
	}
	return b.String(), nil
}

// Lock has the store to this process alone for changes; serving goes on. It waits for another one, having called waiting with who that is.
func (s *Store) Lock(ctx context.Context, waiting func(holder string)) (unlock func() error, err error) {
	if err := os.MkdirAll(s.Dir, 0o777); err != nil {
		return nil, err
	}
	if unlock, err = safefile.Lock(ctx, filepath.Join(s.Dir, storeLock), waiting); err != nil {
		return nil, err
	}
	state, err := ReadState(s.State.dir) // who had the lock may have changed it
	if err != nil {
		unlock()
		return nil, err
	}
	s.State = state
	err = safefile.Sweep(s.Dir)
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}

// Import says how a bundle is taken into a store.
type Import struct {
	DB            *proof.Database // checksum database whose key is known here
	AllowRollback bool            // take it although it is older than what was seen, or not shown to be of the same log
	MinSequence   int64           // refuse a bundle below it
	Progress      func(n int64)   // told of bytes verified; may be nil
	Began         func(m *Manifest)
	Report        func(Damage) // told of each entry that does not verify
	Warn          func(error)  // told of what AllowRollback lets pass

	// Ends are lines, by name, of which bundles up to the newest that was seen before are imported
	// one after another: the older ones are no rollback where the store has none of the line.
	Ends map[string]bool

	NewLine func(beside []string) // told when a bundle begins a line beside others

	OtherSignature func(what string) // told what the file is that has the name of the signatures and is none for modmirror
}

// ErrDamaged is returned by Import when it reported what does not verify.
var ErrDamaged = errors.New("the bundle does not verify")

// An AlreadyError says that the store has the bundle.
type AlreadyError struct {
	File   string
	Signed []string // "name+hash" of keys whose signatures were added to the store's copy
}

// Error names the file.
func (e *AlreadyError) Error() string {
	text := "the store has it already: " + e.File
	if len(e.Signed) > 0 {
		text += ", which now has the signatures of " + strings.Join(e.Signed, ", ") + " too"
	}
	return text
}

// Import reads a bundle from r to its end, in one pass, and takes it into the store when every byte, hash and proof of it verifies, and when it
// continues its line. name is what it is called in messages, and where detached signatures are looked for. The store must be locked.
func (s *Store) Import(ctx context.Context, name string, r io.Reader, im *Import) (_ *Manifest, err error) {
	temp, err := safefile.Create(filepath.Join(s.Dir, "incoming"+bundleExt), 0o666)
	if err != nil {
		return nil, err
	}
	defer temp.Discard()
	in := media.NewStream(name, r, temp.File, maxSize)
	b := newBundle(name, in)
	if err := b.readManifest(ctx, s.Trust); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	m := &b.Manifest
	if b.OtherSignature != "" && im.OtherSignature != nil {
		im.OtherSignature(b.OtherSignature)
	}
	if im.Began != nil {
		im.Began(m)
	}
	if m.Sequence < im.MinSequence {
		return nil, &RollbackError{name, fmt.Sprintf("its sequence is %d, and %d is the least", m.Sequence, im.MinSequence)}
	}
	to := filepath.Join(s.Dir, m.fileName())
	if err := mayReplace(to); err != nil {
		return nil, err
	}
	// What is in the store counts, whatever is required of what comes in now.
	have, err := s.lenient().open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer have.Close()
	again, err := s.again(ctx, b, have.bundles)
	if err != nil {
		return nil, err
	}
	if !again {
		if err := s.newer(b, have.bundles, im); err != nil {
			return nil, err
		}
		if err := s.seen(ctx, b, im); err != nil { // before gigabytes are read
			return nil, err
		}
		if err := s.checkBase(b, have, im); err != nil {
			return nil, err
		}
	}
	if free, ok := safefile.Free(s.Dir); ok && free < m.Size { // before hours of copying
		return nil, fmt.Errorf("%s has %d bytes, and the store's file system has room for %d: %w", name, m.Size, free, syscall.ENOSPC)
	}
	defer func() {
		b.Close()
	}()
	if err := b.open(ctx, s.Trust, s.State.dir); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	committed := false
	defer func() {
		if !committed && !b.Seen { // else a server may be reading it
			s.State.forgetIndex(b.ID())
		}
	}()
	b.Attach(have.bundles...)
	b.packs = have.packs
	if err := s.verify(ctx, b, have.bundles, in, im); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if !again {
		if err := s.seen(ctx, b, im); err != nil {
			return nil, err
		}
	}
	others, err := s.open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer others.Close()
	served := slices.DeleteFunc(slices.Clone(others.bundles), func(o *Bundle) bool { return o.ID() == b.ID() })
	v, err := s.view(ctx, &holding{append(served, b), others.packs})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if err := v.conflicts(ctx, b); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if _, err := temp.WriteAt(padManifest(b.note), manifestAt); err != nil { // with the detached signatures
		return nil, err
	}
	if err := s.State.SetDeep(b.ID()); err != nil {
		return nil, err
	}
	if err := temp.CommitTo(to); err != nil {
		return nil, err
	}
	committed = true
	if beside := linesBeside(m.Name, have.bundles); beside != nil && im.NewLine != nil {
		im.NewLine(beside)
	}
	if err := s.Remember(v, im.AllowRollback); err != nil {
		return nil, fmt.Errorf("%s is in the store, and that could not be remembered, so import it again: %w", name, err)
	}
	return m, nil
}

// mayReplace returns an *OccupiedError when there is something that is no bundle, whole or damaged.
func mayReplace(file string) error {
	st, err := os.Lstat(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return &OccupiedError{file, "it is not a regular file"}
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	begin := make([]byte, blockSize)
	if n, err := io.ReadFull(f, begin); n > 0 && (err != nil || !likeBundle(begin)) {
		return &OccupiedError{file, "it is no bundle"}
	}
	return nil
}

// likeBundle reports whether a file begins like a bundle, perhaps a damaged one.
func likeBundle(begin []byte) bool {
	want := Header(manifestName, ManifestSize)
	if len(begin) < len(want) {
		return false
	}
	// What other tar archives have too does not count: size, time and checksum tell a MANIFEST from
	// other entries.
	same, all := 0, 0
	for i, c := range want[:156] {
		if i >= 16 && (c == 0 || c == '0' || i >= 100 && i < 124) {
			continue
		}
		if all++; begin[i] == c {
			same++
		}
	}
	return 6*same >= 5*all
}

// again reports whether a bundle is one that the store has, or had: one that is damaged, or that a newer one of its line names and that is gone. It
// is carried again then. One that is there and whole is an *AlreadyError; signatures that it has besides are added to it, and it is remembered.
func (s *Store) again(ctx context.Context, b *Bundle, bundles []*Bundle) (bool, error) {
	for _, have := range bundles {
		if have.ID() != b.ID() {
			continue
		}
		if s.intact(ctx, have) != nil {
			return true, nil
		}
		already := &AlreadyError{File: have.path}
		for _, k := range b.Signers {
			if !slices.Contains(have.Signers, k) {
				already.Signed = append(already.Signed, k)
			}
		}
		if len(already.Signed) > 0 {
			if err := addSignatures(have, b.note, s.Trust); err != nil {
				return false, err
			}
		}
		if v, err := s.View(ctx, nil); err == nil { // else the others of the line have too few signatures
			defer v.Close()
			if err := s.Remember(v, false); err != nil {
				return false, err
			}
		}
		return false, already
	}
	for _, have := range bundles {
		if have.Manifest.Name != b.Manifest.Name || have.Manifest.Sequence <= b.Manifest.Sequence {
			continue
		}
		newer, err := Open(ctx, have.path, s.Trust.Lenient(), "")
		if err != nil {
			continue // it says nothing
		}
		names := slices.ContainsFunc(newer.Line(), func(x index.Bundle) bool { return x.Digest == b.ID() })
		newer.Close()
		if names {
			return true, nil
		}
	}
	return false, nil
}

// newer compares a bundle with those of its line that are in the store.
func (s *Store) newer(b *Bundle, bundles []*Bundle, im *Import) error {
	m := &b.Manifest
	for _, have := range bundles {
		if have.Manifest.Name != m.Name {
			continue
		}
		switch {
		case have.Manifest.Sequence == m.Sequence:
			return &RollbackError{b.path, fmt.Sprintf("%s is another bundle with sequence %d: two exist under one number", have.path, m.Sequence)}
		case have.Manifest.Sequence > m.Sequence:
			err := &RollbackError{b.path, fmt.Sprintf("its sequence is %d, and the store has %s", m.Sequence, have.path)}
			if err := s.allowed(err, im); err != nil {
				return err
			}
		}
	}
	return nil
}

// intact verifies every byte of a bundle in the store.
func (s *Store) intact(ctx context.Context, have *Bundle) error {
	b, err := Open(ctx, have.path, s.Trust.Lenient(), "")
	if err != nil {
		return err
	}
	defer b.Close()
	var bad error
	err = b.Verify(ctx, nil, func(d Damage) { bad = cmp.Or(bad, d.Err) })
	return cmp.Or(err, bad)
}

// seen compares a bundle with what was seen before.
func (s *Store) seen(ctx context.Context, b *Bundle, im *Import) error {
	m := &b.Manifest
	if im.Ends[m.Name] && m.Sequence < s.State.Lines[m.Name].Sequence {
		return nil // the newest one follows
	}
	return s.allowed(s.State.Check(ctx, b), im)
}

// Withdraw removes a bundle that came in as an older one of Import.Ends, when the newest did not.
func (s *Store) Withdraw(m *Manifest) error {
	file := filepath.Join(s.Dir, m.fileName())
	s.State.forgetIndex(m.ID())
	return errors.Join(os.Remove(file), safefile.Remove(signaturesFile(file)), safefile.SyncDir(s.Dir))
}

// Ends returns the lines whose newest bundle that was seen before is among those in files, by name:
// what Import.Ends is to be.
func (s *Store) Ends(files []string) map[string]bool {
	ctx := context.Background() // local files alone
	ends := make(map[string]bool)
	for _, file := range files {
		if st, err := os.Stat(file); err != nil || !st.Mode().IsRegular() {
			continue
		}
		b, err := s.lenient().front(ctx, file)
		if err != nil {
			continue // import says why
		}
		if seen, ok := s.State.Lines[b.Manifest.Name]; ok && seen.ID == b.ID() {
			ends[b.Manifest.Name] = true
		}
		b.Close()
	}
	return ends
}

// linesBeside returns the names of the other lines among bundles, when there is none of a line yet.
func linesBeside(name string, bundles []*Bundle) (names []string) {
	for _, b := range bundles {
		if b.Manifest.Name == name {
			return nil
		}
		names = append(names, b.Manifest.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// LinesBeside returns the names of the lines of the bundles in a folder, when there is none of a
// line yet. What is no bundle of a trusted key is passed over.
func LinesBeside(name, dir string, keyring *trust.Keyring) []string {
	ctx := context.Background() // local files alone
	s := &Store{Dir: dir, Trust: keyring.Lenient()}
	have, err := s.open(ctx, nil)
	if err != nil {
		return nil
	}
	defer have.Close()
	return linesBeside(name, have.bundles)
}

// allowed lets a rollback pass when it is wanted.
func (s *Store) allowed(err error, im *Import) error {
	_, rollback := errors.AsType[*RollbackError](err)
	_, unshown := errors.AsType[*UnshownError](err)
	if (rollback || unshown) && im.AllowRollback {
		im.Warn(err)
		return nil
	}
	return err
}

// checkBase checks that a delta follows the newest bundle of its line, and that this is in the store, or was and is packed.
func (s *Store) checkBase(b *Bundle, in *holding, im *Import) error {
	m := &b.Manifest
	if m.Base == "" {
		return nil
	}
	var base, newest *Bundle
	for _, have := range in.bundles {
		if have.Manifest.Name != m.Name {
			continue
		}
		if have.ID() == m.Base {
			base = have
		}
		if newest == nil || newest.Manifest.Sequence < have.Manifest.Sequence {
			newest = have
		}
	}
	if base == nil {
		if seen := s.State.Lines[m.Name]; seen.ID == m.Base && len(in.packs) > 0 {
			return nil
		}
		return fmt.Errorf("%s: %w", b.path, &MissingBaseError{index.Bundle{Name: m.Name, Digest: m.Base}})
	}
	if n := base.Signed; n < s.Trust.Require {
		return fmt.Errorf("%s: the bundle before it, %s: %w", b.path, base.path, &NotVerifiedError{What: "signature", Err: &trust.TooFewError{Want: s.Trust.Require, Have: n}})
	}
	if newest.Manifest.Sequence < m.Sequence && newest != base {
		return s.allowed(&RollbackError{b.path, fmt.Sprintf("it was made on top of sequence %d, and what %s brought since would be gone", base.Manifest.Sequence, newest.path)}, im)
	}
	return nil
}

// verify checks every byte, hash and proof.
func (s *Store) verify(ctx context.Context, b *Bundle, bundles []*Bundle, in *media.Stream, im *Import) error {
	bad := false
	report := func(d Damage) {
		bad = true
		im.Report(d)
	}
	if err := b.Verify(ctx, im.Progress, report); err != nil {
		return err
	}
	if err := in.End(); err != nil {
		return err
	}
	if bad {
		return ErrDamaged
	}
	if s.State.WasDeep(b.ID()) { // in another store, or before it was removed from this one
		if err := b.checkCarried(ctx, nil, func(path string, err error) { report(Damage{path, err}) }); err != nil || !bad {
			return err
		}
		return ErrDamaged
	}
	before, err := s.newest(ctx, bundles, b.Manifest.Name)
	if err != nil {
		return err
	}
	if before != nil {
		before.Attach(bundles...)
		before.packs = b.packs
	}
	if err := b.Deep(ctx, im.DB, before, im.Progress, report); err != nil {
		return err
	}
	if bad {
		return ErrDamaged
	}
	return nil
}

// newest opens the newest bundle of a line that passed Deep, nil when there is none.
func (s *Store) newest(ctx context.Context, bundles []*Bundle, line string) (*Bundle, error) {
	var newest *Bundle
	for _, b := range bundles {
		if b.Manifest.Name == line && s.State.WasDeep(b.ID()) && (newest == nil || b.Manifest.Sequence > newest.Manifest.Sequence) {
			newest = b
		}
	}
	if newest == nil || newest.Index != nil {
		return newest, nil
	}
	if err := newest.open(ctx, s.Trust, s.State.dir); err != nil {
		return nil, ctx.Err() // without it everything is checked
	}
	return newest, nil
}

// conflicts names a version outside the checksum database that another line has with different contents, in or outside of the database: nothing
// says which is the right one.
func (v *View) conflicts(ctx context.Context, b *Bundle) error {
	if !slices.Contains(v.Lines, b) {
		return nil
	}
	for _, other := range v.Lines {
		if other == b {
			continue
		}
		for _, pair := range [][2]*Bundle{{b, other}, {other, b}} {
			if err := conflict(ctx, pair[0], pair[1]); err != nil {
				return err
			}
		}
	}
	return nil
}

// conflict compares the versions of x that are outside the checksum database with those of y.
func conflict(ctx context.Context, x, y *Bundle) error {
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
				return &NotVerifiedError{What: modpath.Request{Kind: modpath.Zip, Path: path, Version: v.Version}.String(), Err: fmt.Errorf("bundle %s, sequence %d, has it outside the checksum database, with other contents than %s, sequence %d", x.Manifest.Name, x.Manifest.Sequence, y.Manifest.Name, y.Manifest.Sequence)}
			}
		}
	}
	return nil
}

// Fronts opens the manifests of a bundle, or of all in a store: no index is opened. skipped is told of files in a store that are no bundles that can be believed.
func Fronts(name string, keyring *trust.Keyring, skipped func(file string, err error)) ([]*Bundle, error) {
	ctx := context.Background() // local files alone
	s := &Store{Dir: name, Trust: keyring}
	if st, err := os.Stat(name); err != nil || !st.IsDir() {
		b, err := s.front(ctx, name)
		return []*Bundle{b}, err
	}
	have, err := s.open(ctx, skipped)
	if err != nil {
		return nil, err
	}
	for _, p := range have.packs {
		p.media.Close()
	}
	slices.SortFunc(have.bundles, CompareLines)
	return have.bundles, nil
}

// LineOf returns the name of the line that a bundle, or a catalogue, is of. Any one of the trusted
// keys is enough, and nothing but the manifest is read.
func LineOf(path string, keyring *trust.Keyring) (string, error) {
	ctx := context.Background() // local files alone
	if strings.HasSuffix(path, manifestExt) {
		b := newBundle(path, nil)
		data, err := media.ReadSmall(path, ManifestSize)
		if err == nil {
			err = b.believe(data, keyring.Lenient())
		}
		return b.Manifest.Name, err
	}
	b, err := (&Store{Trust: keyring.Lenient()}).front(ctx, path)
	if err != nil {
		return "", err
	}
	defer b.Close()
	return b.Manifest.Name, nil
}

// CompareLines orders bundles by their lines, and in these by sequence.
func CompareLines(a, b *Bundle) int {
	return cmp.Or(cmp.Compare(a.Manifest.Name, b.Manifest.Name), cmp.Compare(a.Manifest.Sequence, b.Manifest.Sequence))
}

// fileName returns the name that the bundle has in a store.
func (m *Manifest) fileName() string { return fmt.Sprintf("%s-%d%s", m.Name, m.Sequence, bundleExt) }
