package store

// This file has the rules against going back, of imports and of the state. The one about sequences
// is Manifest.Accept, in bundle/rollback.go: Publish, Follower and Extract call it too.

import (
	"context"
	"errors"
	"fmt"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/proof"
)

// A MinSequenceError reports a bundle below the lowest sequence that a server or an import accepts.
type MinSequenceError struct{ bundle.RollbackError }

// Unwrap returns the error as a *bundle.RollbackError.
func (e *MinSequenceError) Unwrap() error { return &e.RollbackError }

// checkLowest returns a *MinSequenceError when the sequence of b is below the lowest one.
func checkLowest(b *bundle.Bundle, lowest int64) error {
	err := b.Manifest.Accept(b.Path(), bundle.Known{Name: b.Manifest.Name, Sequence: lowest, What: "the lowest that is accepted"})
	if back, ok := errors.AsType[*bundle.RollbackError](err); ok {
		return &MinSequenceError{*back}
	}
	return err
}

// accept returns an error when a bundle would take its line back: behind the bundles of the store,
// behind the state, or past deltas that it was not made on. The error is a *bundle.RollbackError or
// an *UnshownError that the import does not allow.
func (s *Store) accept(ctx context.Context, a *arrival) error {
	if a.repairs {
		return nil
	}
	m := &a.Manifest
	for _, o := range a.have.bundles {
		if o.Manifest.Name != m.Name {
			continue
		}
		err := m.Accept(a.Path(), o.Known())
		if o.Manifest.Sequence != m.Sequence { // else the two would be one file
			err = a.im.allow(err)
		}
		if err != nil {
			return err
		}
	}
	if err := s.checkState(ctx, a); err != nil {
		return err
	}
	return s.acceptBase(a)
}

// acceptBase checks that the base of a delta is in the store, or was and is packed, and that it is
// the newest bundle of the line.
func (s *Store) acceptBase(a *arrival) error {
	m := &a.Manifest
	if m.Base == "" {
		return nil
	}
	var base, newest *bundle.Bundle
	for _, o := range a.have.bundles {
		if o.Manifest.Name != m.Name {
			continue
		}
		if o.ID() == m.Base {
			base = o
		}
		if newest == nil || newest.Manifest.Sequence < o.Manifest.Sequence {
			newest = o
		}
	}
	if base == nil {
		if seen := s.State.Lines[m.Name]; seen.ID == m.Base && len(a.have.packs) > 0 {
			return nil
		}
		return fmt.Errorf("%s: %w", a.Path(), &bundle.MissingBaseError{Bundle: index.Bundle{Name: m.Name, Digest: m.Base}})
	}
	if few := s.Trust.Check(base.Signers); few != nil {
		err := &bundle.NotVerifiedError{What: "signature", Err: few}
		return fmt.Errorf("%s: the bundle before it, %s: %w", a.Path(), base.Path(), err)
	}
	if newest.Manifest.Sequence < m.Sequence && newest != base {
		return a.im.allow(&bundle.RollbackError{Bundle: a.Path(), Reason: fmt.Sprintf(
			"it was made on top of sequence %d, and what %s brought since would be gone", base.Manifest.Sequence, newest.Path())})
	}
	return nil
}

// checkState is State.Check for an arrival.
func (s *Store) checkState(ctx context.Context, a *arrival) error {
	m := &a.Manifest
	if a.repairs || a.im.Ends[m.Name] && m.Sequence < s.State.Lines[m.Name].Sequence {
		return nil // in the latter case the newest one follows
	}
	return a.im.allow(s.State.Check(ctx, a.Bundle))
}

// allow returns err, or warns of it and returns nil when it is one that AllowRollback lets pass.
func (im *Import) allow(err error) error {
	_, rollback := errors.AsType[*bundle.RollbackError](err)
	_, unshown := errors.AsType[*UnshownError](err)
	if (rollback || unshown) && im.AllowRollback {
		im.Warn(err)
		return nil
	}
	return err
}

// Check compares b with the bundle of its line that was accepted last. The error is a
// *bundle.RollbackError when b is older, is another bundle under the same sequence, or has another
// checksum database or a fork of it; and an *UnshownError when nothing proves that its checksum
// database continues the earlier one. Tree heads are compared only when b's index is open.
func (s *State) Check(ctx context.Context, b *bundle.Bundle) error {
	m := &b.Manifest
	seen, ok := s.Lines[m.Name]
	if !ok {
		return nil
	}
	when := seen.When.UTC().Format("2006-01-02")
	fail := func(format string, args ...any) error {
		return &bundle.RollbackError{Bundle: b.Path(), Reason: fmt.Sprintf(format, args...)}
	}
	known := bundle.Known{Name: m.Name, Sequence: seen.Sequence, ID: seen.ID, What: "that of the bundle accepted on " + when}
	if err := m.Accept(b.Path(), known); err != nil {
		return err
	}
	switch {
	case m.DB != seen.DB:
		if seen.DB != "" {
			return fail("its checksum database is %q, and that of %s was %s", m.DB, m.Name, seen.DB)
		}
		return nil
	case m.DB == "":
		return nil
	case m.Head.N < seen.Head.Size:
		return fail("its checksum database has %d records, and there were %d in what was accepted on %s", m.Head.N, seen.Head.Size, when)
	}
	if b.Index == nil {
		return nil
	}
	return checkLog(ctx, b, seen.Head)
}

// checkLog checks that the newest tree head of b continues an earlier one.
func checkLog(ctx context.Context, b *bundle.Bundle, old Tree) error {
	fork := func(format string, args ...any) error {
		return &bundle.RollbackError{Bundle: b.Path(), Reason: "its checksum database is a fork: " + fmt.Sprintf(format, args...)}
	}
	heads, err := b.Heads(ctx)
	if err != nil {
		return err
	}
	for _, h := range heads {
		if h.N != old.Size {
			continue
		}
		if h.Hash.String() != old.Hash {
			return fork("tree %d is %v, and was %s", h.N, h.Hash, old.Hash)
		}
		return nil
	}
	p := &proof.Prover{Head: heads[len(heads)-1], Source: bundle.Tiles(ctx, b)}
	switch err := p.ProveConsistency(proof.Head{Tree: old.tree()}); {
	case err == nil:
		return nil
	case errors.Is(err, proof.ErrMismatch):
		return fork("%v", err)
	}
	return &UnshownError{b.Path(), old.Size}
}

// An UnshownError reports a bundle without a consistency proof from the tree of its checksum
// database that was served before.
type UnshownError struct {
	Bundle string
	Size   int64 // records of the earlier tree
}

// Error says which proof is missing.
func (e *UnshownError) Error() string {
	return fmt.Sprintf("%s has no consistency proof from the tree of %d records served before: clients that have seen that tree would reject it", e.Bundle, e.Size)
}
