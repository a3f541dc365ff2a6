package bundle

import (
	"fmt"
)

// A Known is a bundle that a store, a tree or a machine has already.
type Known struct {
	Name     string // of the line
	Sequence int64
	ID       string // "" for any
	What     string // for messages: "that of /store/team-7.tar"
}

// Accept returns a *RollbackError unless m may follow the known bundles: its sequence must be
// higher than theirs, or it must be the same bundle. This is the one rule about going back. path
// names the new bundle in the error.
func (m *Manifest) Accept(path string, known ...Known) error {
	for _, k := range known {
		switch {
		case k.Name != m.Name:
			return &RollbackError{path, fmt.Sprintf("it is of the line %s, and %s is of %s", m.Name, k.What, k.Name)}
		case m.Sequence < k.Sequence:
			return &RollbackError{path, fmt.Sprintf("its sequence is %d, and %s is %d", m.Sequence, k.What, k.Sequence)}
		case m.Sequence == k.Sequence && k.ID != "" && k.ID != m.ID():
			return &RollbackError{path, fmt.Sprintf("its sequence is %d, and so is %s, which is another bundle: two exist under one number", m.Sequence, k.What)}
		}
	}
	return nil
}

// Known returns b as Accept compares later bundles with.
func (b *Bundle) Known() Known {
	return Known{b.Manifest.Name, b.Manifest.Sequence, b.ID(), "that of " + b.path}
}

// A RollbackError reports a bundle that would take its line back.
type RollbackError struct {
	Bundle string // its path
	Reason string
}

// Error names the bundle and the reason.
func (e *RollbackError) Error() string { return e.Bundle + ": " + e.Reason }
