package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/trust"
)

const (
	// storeInterval is how long Open waits before it looks at an empty store again.
	storeInterval = time.Second

	// bucketInterval is the shortest time between two listings of a bucket: they cost money.
	bucketInterval = 5 * time.Second

	// retryInterval is how long Reload waits before it opens a store again that it refused and that
	// has not changed since. The reason may lie outside the store.
	retryInterval = 30 * time.Second
)

// A Follower opens bundles for a server and opens them again when they change. It follows bundles
// in files, which never change, or a store in a folder or a bucket.
//
// It refuses rollbacks: bundles older than those that the state directory remembers, and bundles
// older than those in the view that it returned last. The server keeps that view then.
//
// The fields must not change after the first call. Methods must not be called concurrently.
type Follower struct {
	// Paths are files of bundles, or the folder of one store. A single path that does not exist
	// and is not named like a bundle is a store that will be made later.
	Paths []string

	Shelf    media.Shelf    // bucket to follow instead of Paths; nil for none
	Trust    *trust.Keyring // keys that must have signed the bundles
	StateDir string         // state directory, see State

	AllowRollback bool  // accept older bundles, with a warning
	MinSequence   int64 // lowest sequence of a bundle; 0 accepts all

	// Accept decides whether a view may be served; its error refuses the view. Nil accepts all.
	Accept func(context.Context, *View) error

	// Waiting is told why Open waits, at first and whenever the reason changes: ErrEmpty, or an
	// error that wraps a *media.UnavailableError. May be nil.
	Waiting func(why error)

	Log *slog.Logger // nil for slog.Default()

	opened      map[string]int64 // sequences of the lines in the view that was returned last
	fingerprint string           // of the store, for that view
	refused     refusal
	listed      time.Time // when Reload looked into the bucket last
}

// A refusal is the result of the last Reload that returned an error.
type refusal struct {
	err         error
	fingerprint string // of the store that was refused
	when        time.Time
}

// bundleName matches the names of bundles, of their pieces and of catalogs. A store has another.
var bundleName = regexp.MustCompile(`\.(tar|age|manifest|[0-9]{3})$`)

// IsStore reports whether f follows a store, which may change and which may not exist yet.
func (f *Follower) IsStore() bool {
	if f.Shelf != nil {
		return true
	}
	if len(f.Paths) != 1 {
		return false
	}
	st, err := os.Stat(f.Paths[0])
	return err == nil && st.IsDir() || f.isMissing()
}

// isMissing reports whether f follows a folder that does not exist yet.
func (f *Follower) isMissing() bool {
	if f.Shelf != nil || len(f.Paths) != 1 || len(media.Pieces(f.Paths[0])) > 0 {
		return false
	}
	_, err := os.Lstat(f.Paths[0])
	return errors.Is(err, fs.ErrNotExist) && !bundleName.MatchString(f.Paths[0])
}

// MakeStore makes the folder of a store that does not exist yet. A server that gives up the right
// to make folders calls MakeStore first.
func (f *Follower) MakeStore() error {
	if !f.isMissing() {
		return nil
	}
	if err := os.MkdirAll(f.Paths[0], 0o777); err != nil {
		return fmt.Errorf("%s does not exist, and cannot be made as an empty store: %w", f.Paths[0], err)
	}
	return nil
}

// Open returns a view of the bundles, which the caller closes. While a bucket does not answer, or a
// store has no bundle yet, it waits; canceling ctx ends the wait. A bucket that denies access is an
// error, a *media.UnavailableError. A rollback is a *RollbackError.
func (f *Follower) Open(ctx context.Context) (*View, error) {
	interval := storeInterval
	if f.Shelf != nil {
		interval = bucketInterval
	}
	for said := ""; ; {
		v, err := f.open(ctx)
		why := f.worthWaiting(err)
		if why == nil {
			return v, err
		}
		if f.Waiting != nil && why.Error() != said {
			f.Waiting(why)
			said = why.Error()
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// worthWaiting returns the reason to wait after an error of open, nil when Open must end.
func (f *Follower) worthWaiting(err error) error {
	if gone, ok := errors.AsType[*media.UnavailableError](err); ok && !gone.Denied {
		return err
	}
	if f.IsStore() && (errors.Is(err, ErrEmpty) || f.isMissing()) {
		return ErrEmpty
	}
	return nil
}

// Reload returns a new view if the store has changed, which the caller closes, and nil if it has
// not. It returns an error as long as the store must not be served as it is; the server keeps the
// last view. Reload is cheap enough to be called every second. It must not be called for files.
func (f *Follower) Reload(ctx context.Context) (*View, error) {
	if f.Shelf != nil && time.Since(f.listed) < bucketInterval {
		return nil, f.refused.err
	}
	f.listed = time.Now()
	v, err := f.reload(ctx)
	f.refused.err = err
	return v, err
}

func (f *Follower) reload(ctx context.Context) (*View, error) {
	s, err := f.store()
	if err != nil {
		return nil, err
	}
	now, err := s.Fingerprint(ctx)
	switch {
	case err != nil || now == f.fingerprint:
		return nil, err
	case now == f.refused.fingerprint && time.Since(f.refused.when) < retryInterval:
		return nil, f.refused.err
	}
	f.refused.fingerprint, f.refused.when = now, time.Now()
	return f.open(ctx)
}

// store returns the store that f follows.
func (f *Follower) store() (*Store, error) {
	if f.Shelf != nil {
		return OpenShelf(f.Shelf, f.Trust, f.StateDir)
	}
	return Open(f.Paths[0], f.Trust, f.StateDir)
}

// open opens the bundles, checks that they may be served, and remembers that they are.
func (f *Follower) open(ctx context.Context) (*View, error) {
	v, s, fingerprint, err := f.view(ctx)
	if err != nil {
		return nil, err
	}
	for _, err := range v.Skipped {
		f.log().Error("not served", "err", err)
	}
	if err := f.accept(ctx, v, s.State); err != nil {
		v.Close()
		return nil, err
	}
	if err := s.Remember(v, f.AllowRollback); err != nil { // as with a read-only state directory
		f.log().Warn("cannot remember which bundles are served, so an older one would be accepted later", "err", err)
	}
	f.fingerprint, f.opened = fingerprint, make(map[string]int64)
	for _, b := range v.Lines {
		f.opened[b.Manifest.Name] = b.Manifest.Sequence
	}
	return v, nil
}

// view opens the bundles, whether or not they may be served. The store that it returns has the
// state to compare with and to update. fingerprint is that of the store before it was opened, ""
// for files.
func (f *Follower) view(ctx context.Context) (v *View, s *Store, fingerprint string, err error) {
	if !f.IsStore() {
		state, err := ReadState(f.StateDir)
		if err != nil {
			return nil, nil, "", err
		}
		if v, err = OpenFiles(ctx, f.Paths, f.Trust, state); err != nil {
			return nil, nil, "", err
		}
		return v, &Store{State: state, audience: v.Audience()}, "", nil
	}
	if s, err = f.store(); err != nil {
		return nil, nil, "", err
	}
	if fingerprint, err = s.Fingerprint(ctx); err != nil {
		return nil, nil, "", err
	}
	v, err = s.View(ctx, func(file string, err error) { f.log().Warn("not served", "file", file, "err", err) })
	return v, s, fingerprint, err
}

// accept returns why a view must not be served.
func (f *Follower) accept(ctx context.Context, v *View, state *State) error {
	for _, b := range v.Lines {
		if err := checkLowest(b, f.MinSequence); err != nil {
			return err
		}
		err := state.Check(ctx, b)
		if _, ok := errors.AsType[*UnshownError](err); ok { // safe: every client verifies it
			f.log().Warn("clients that remember an earlier tree may refuse this one", "err", err)
		} else if _, ok := errors.AsType[*bundle.RollbackError](err); ok && f.AllowRollback {
			f.log().Warn("rollback allowed", "err", err)
		} else if err != nil {
			return err
		}
	}
	if f.Accept != nil {
		if err := f.Accept(ctx, v); err != nil {
			return err
		}
	}
	return f.acceptAfter(v)
}

// acceptAfter returns why a view must not follow the last one: it lacks a line, or has an older
// bundle of a line. The state cannot tell if it could not be written.
func (f *Follower) acceptAfter(v *View) error {
	now := make(map[string]*bundle.Bundle)
	for _, b := range v.Lines {
		now[b.Manifest.Name] = b
	}
	for name, before := range f.opened {
		var err error
		if b := now[name]; b == nil { // the last bundle of the line is better than none
			err = cmp.Or(errors.Join(v.Skipped...), fmt.Errorf("the line %s is not in the store any more", name))
		} else if !f.AllowRollback {
			err = b.Manifest.Accept(name, bundle.Known{Name: name, Sequence: before, What: "that of the bundle served now"})
		}
		if err != nil {
			return fmt.Errorf("still serving the earlier bundles: %w", err)
		}
	}
	return nil
}

func (f *Follower) log() *slog.Logger { return cmp.Or(f.Log, slog.Default()) }
