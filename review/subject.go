package review

import (
	"context"
	"fmt"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/review/vulndb"
)

// A Subject is what a document is about: a bundle, or the draft of one, which has neither id nor
// signature yet.
type Subject struct {
	Zips
	Manifest bundle.Manifest

	// Database opens the vulnerability database that is carried. It returns nil without one.
	Database func(ctx context.Context) (*vulndb.DB, error)

	bundle *bundle.Bundle // nil for a draft
	tree   [32]byte       // of a draft
}

// Signed returns the subject that a bundle is.
func Signed(b *bundle.Bundle) Subject {
	open := func(ctx context.Context) (*vulndb.DB, error) { return Database(ctx, b) }
	return Subject{Zips: NewCarried(b), Manifest: b.Manifest, Database: open, bundle: b}
}

// Unsigned returns the subject that a draft of contents is, whose files have a hash, as of
// bundle.Draft.TreeHash.
func Unsigned(c Contents, m bundle.Manifest, tree [32]byte) Subject {
	return Subject{Zips: c, Manifest: m, Database: c.Database, tree: tree}
}

// ID returns the id of the bundle, "" for a draft.
func (s *Subject) ID() string {
	if s.bundle == nil {
		return ""
	}
	return s.bundle.ID()
}

// Signers returns the keys that signed the bundle, none for a draft.
func (s *Subject) Signers() []string {
	if s.bundle == nil {
		return []string{}
	}
	return s.bundle.Signers
}

// Attach makes earlier bundles the source of what only they have. A draft knows its own.
func (s *Subject) Attach(others ...*bundle.Bundle) {
	if s.bundle != nil {
		s.bundle.Attach(others...)
	}
}

// name returns what names the subject and no other in documents: its id, or the hash of its files
// and its sequence.
func (s *Subject) name() string {
	if s.bundle == nil {
		return fmt.Sprintf("tree-%x-%d", s.tree, s.Manifest.Sequence)
	}
	return s.bundle.ID()
}
