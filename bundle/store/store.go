// Package store keeps the bundles of one or several lines side by side: it imports bundles, decides
// which of them are served and which would be a rollback, and prunes and publishes them.
package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/safefile"
)

// A Store is a shelf of bundles, as they were carried, of one or several lines. Import renames a
// bundle to its name when all of it is verified. The newest bundle of each line is served.
//
//	NAME-SEQUENCE.tar   bundles
//	*.pack              contents of pruned bundles
//	incoming/           pieces of bundles that are not complete yet
//	lock
type Store struct {
	Dir   string // the folder's path, or the bucket's URL
	Trust *trust.Keyring
	State *State

	shelf media.Shelf

	// audience names the clients that remember the served tree heads: those of this store, or of
	// the lines in files.
	audience string
}

const (
	bundleExt   = ".tar"
	incomingDir = "incoming"
	storeLock   = "lock"
)

// ErrEmpty is the error of a store without a bundle that a trusted key signed.
var ErrEmpty = errors.New("there is no bundle in it")

// Open returns the store in a folder, which need not exist yet. keyring says whose bundles are
// served. stateDir keeps verified indexes and the State.
func Open(dir string, keyring *trust.Keyring, stateDir string) (*Store, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if real, err := filepath.EvalSymlinks(abs); err == nil { // it exists
		abs = real
	}
	s, err := OpenShelf(media.Folder(dir), keyring, stateDir)
	if err == nil {
		s.audience = abs
	}
	return s, err
}

// OpenShelf returns the store on any shelf. Only one in a folder can be changed. keyring and
// stateDir are as for Open.
func OpenShelf(shelf media.Shelf, keyring *trust.Keyring, stateDir string) (*Store, error) {
	state, err := ReadState(stateDir)
	if err != nil {
		return nil, err
	}
	return &Store{Dir: shelf.String(), Trust: keyring, State: state, shelf: shelf, audience: shelf.String()}, nil
}

// Stateless returns the store in a folder without a state: it accepts any sequence, and verifies
// indexes each time.
func Stateless(dir string, keyring *trust.Keyring) *Store {
	return &Store{Dir: dir, Trust: keyring, State: NoState(), shelf: media.Folder(dir)}
}

// View opens the newest bundle of each line. skipped, which may be nil, is told of files that are
// not served, and why: they are not bundles of a trusted key. The caller closes the view.
func (s *Store) View(ctx context.Context, skipped func(file string, err error)) (*View, error) {
	var first error
	have, err := s.open(ctx, func(file string, err error) {
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

// Remember has the state remember what v serves. See State.Remember.
func (s *Store) Remember(v *View, rollback bool) error {
	return s.State.Remember(v, s.audience, rollback)
}

// OpenFiles returns the view of bundles in files, of one or several lines. The caller closes it.
func OpenFiles(ctx context.Context, files []string, keyring *trust.Keyring, state *State) (*View, error) {
	s := &Store{Trust: keyring, State: state}
	have := new(holding)
	var names []string
	for _, file := range files {
		b, err := bundle.OpenFront(ctx, file, keyring)
		if err != nil {
			have.Close()
			return nil, err
		}
		have.bundles = append(have.bundles, b)
		names = append(names, b.Manifest.Name)
	}
	s.audience = audienceOf(names)
	v, err := s.view(ctx, have)
	if err != nil {
		have.Close()
	}
	return v, err
}

// OpenLines opens the newest bundle of each line of a store in a folder. A file there that cannot
// be opened is an error, since it may be the newest bundle. The caller closes the view.
func OpenLines(ctx context.Context, dir string, keyring *trust.Keyring) (*View, error) {
	var skipped error
	v, err := Stateless(dir, keyring).View(ctx, func(_ string, err error) { skipped = cmp.Or(skipped, err) })
	if err != nil {
		return nil, err
	}
	if skipped = cmp.Or(skipped, errors.Join(v.Skipped...)); skipped != nil {
		v.Close()
		return nil, fmt.Errorf("store %s: what is the newest bundle cannot be told: %w", dir, skipped)
	}
	return v, nil
}

// OpenNewest opens the newest bundle of a store that has one line, with all files of that line. The
// caller closes it.
func OpenNewest(ctx context.Context, dir string, keyring *trust.Keyring) (*bundle.Bundle, error) {
	v, err := OpenLines(ctx, dir, keyring)
	if err != nil {
		return nil, err
	}
	if len(v.Lines) > 1 {
		defer v.Close()
		var names []string
		for _, b := range v.Lines {
			names = append(names, b.Path())
		}
		return nil, fmt.Errorf("store %s has %d lines; the newest bundle of each is %s", dir, len(names), strings.Join(names, ", "))
	}
	b := v.Lines[0]
	b.KeepOpen(&holding{slices.DeleteFunc(v.have.bundles, func(o *bundle.Bundle) bool { return o == b }), v.have.packs})
	return b, nil
}

// OpenManifests opens the manifest of a bundle, or those of all bundles in a store, and no index.
// skipped is told of files in a store that are not bundles of a trusted key. The caller closes the
// bundles.
func OpenManifests(name string, keyring *trust.Keyring, skipped func(file string, err error)) ([]*bundle.Bundle, error) {
	ctx := context.Background() // manifests of local files alone
	if st, err := os.Stat(name); err != nil || !st.IsDir() {
		b, err := bundle.OpenFront(ctx, name, keyring)
		return []*bundle.Bundle{b}, err
	}
	have, err := Stateless(name, keyring).open(ctx, skipped)
	if err != nil {
		return nil, err
	}
	have.closePacks()
	slices.SortFunc(have.bundles, CompareLines)
	return have.bundles, nil
}

// LinesBeside returns the names of the lines in a folder that has no bundle of the line name yet.
// Files that are not bundles of a trusted key do not count.
func LinesBeside(name, dir string, keyring *trust.Keyring) []string {
	have, err := Stateless(dir, keyring.Lenient()).open(context.Background(), nil)
	if err != nil {
		return nil
	}
	defer have.Close()
	return linesBeside(name, have.bundles)
}

// linesBeside returns the names of the other lines, or nil when one of the bundles is of the line.
func linesBeside(name string, bundles []*bundle.Bundle) (names []string) {
	for _, b := range bundles {
		if b.Manifest.Name == name {
			return nil
		}
		names = append(names, b.Manifest.Name)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// CompareLines orders bundles by their lines' names, then by sequence.
func CompareLines(a, b *bundle.Bundle) int {
	return cmp.Or(cmp.Compare(a.Manifest.Name, b.Manifest.Name), cmp.Compare(a.Manifest.Sequence, b.Manifest.Sequence))
}

// fileName returns the name of a bundle's file in a store.
func fileName(m *bundle.Manifest) string {
	return fmt.Sprintf("%s-%d%s", m.Name, m.Sequence, bundleExt)
}

// A holding is what was opened of a store: bundles by their manifests, and packs.
type holding struct {
	bundles []*bundle.Bundle
	packs   []bundle.Pack
}

// Close closes all of it.
func (h *holding) Close() error {
	errs := []error{h.closePacks()}
	for _, b := range h.bundles {
		errs = append(errs, b.Close())
	}
	return errors.Join(errs...)
}

func (h *holding) closePacks() error {
	var errs []error
	for _, p := range h.packs {
		errs = append(errs, p.(*pack).media.Close())
	}
	return errors.Join(errs...)
}

// signedBy returns the bundles that as many keys signed as keyring requires, and all packs.
func (h *holding) signedBy(keyring *trust.Keyring) *holding {
	few := func(b *bundle.Bundle) bool { return keyring.Check(b.Signers) != nil }
	return &holding{slices.DeleteFunc(slices.Clone(h.bundles), few), h.packs}
}

// open opens the manifests of all bundles, and the packs. skipped, which may be nil, is told of
// files that cannot be. When nothing is known of a file's bytes, open fails: the file may be the
// newest bundle.
func (s *Store) open(ctx context.Context, skipped func(file string, err error)) (*holding, error) {
	items, err := s.shelf.List(ctx)
	if err != nil {
		return nil, err
	}
	have := new(holding)
	for _, item := range items {
		err := have.add(ctx, item, s.Trust)
		if _, unread := errors.AsType[*media.UnreadError](err); unread {
			have.Close()
			return nil, err
		}
		if err != nil && skipped != nil {
			skipped(item.Path, err)
		}
	}
	return have, nil
}

// add opens a bundle or a pack. Other files are ignored.
func (h *holding) add(ctx context.Context, item media.Item, keyring *trust.Keyring) error {
	ext := filepath.Ext(item.Name)
	if ext != bundleExt && ext != packExt {
		return nil
	}
	m, err := item.Open(ctx)
	if err != nil {
		return fmt.Errorf("opening %s: %w", item.Path, err)
	}
	if ext == packExt {
		p, err := openPack(m)
		if err == nil {
			h.packs = append(h.packs, p)
		}
		return err
	}
	b, err := bundle.OpenFrontIn(ctx, item.Path, m, item.Signatures, keyring)
	if err != nil {
		m.Close()
		return fmt.Errorf("opening %s: %w", item.Path, err)
	}
	h.bundles = append(h.bundles, b)
	return nil
}

// Fingerprint returns a text that changes when the files of the store do.
func (s *Store) Fingerprint(ctx context.Context) (string, error) {
	items, err := s.shelf.List(ctx)
	var b strings.Builder
	for _, item := range items {
		if item.Name != storeLock {
			fmt.Fprintf(&b, "%s %s\n", item.Name, item.Version)
		}
	}
	return b.String(), err
}

// Lock makes this process the only one that changes the store; serving goes on. It waits for
// another process, and first calls waiting with that process's name.
func (s *Store) Lock(ctx context.Context, waiting func(holder string)) (unlock func() error, err error) {
	if err := os.MkdirAll(s.Dir, 0o777); err != nil {
		return nil, err
	}
	if unlock, err = safefile.Lock(ctx, filepath.Join(s.Dir, storeLock), waiting); err != nil {
		return nil, err
	}
	state, err := ReadState(s.State.dir) // the last holder may have changed it
	if err == nil {
		s.State = state
		err = safefile.Sweep(s.Dir)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	return unlock, nil
}
