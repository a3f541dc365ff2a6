package main

import (
	"slices"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/internal/assemble"
)

// An outputGuard is an assemble.Guard with its flag.
type outputGuard struct{ assemble.Guard }

// flags adds the flag that lets a command replace a plain file that it did not make.
func (g *outputGuard) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&g.Overwrite, "overwrite", false, "replace a plain file that modmirror did not make; never a file that is read")
}

// reads adds files, and folders with all that is in them, that the command reads or will have
// written before.
func (g *outputGuard) reads(files ...string) { g.Reads(files...) }

// check returns a usage error unless the command may write name: see assemble.Guard.Check.
func (g *outputGuard) check(name string, made func(name string) error) error {
	return g.Check(name, made)
}

// bundleOfLine returns a check for outputGuard.check: that a file is a bundle of a line, signed by
// a trusted key.
func (e *env) bundleOfLine(line string) func(name string) error {
	return func(name string) error { return assemble.CheckLine(name, line, e.trustedKeys) }
}

// trustedKeys returns the keys that are trusted here, in the form of trust.Key.Verifier. The
// caller may change the list.
func (e *env) trustedKeys() ([]string, error) {
	keyring, err := e.keyring(oneKey)
	if err != nil {
		return nil, err
	}
	return slices.Clone(keyring.Keys), nil
}

// checkPieces checks that a bundle can be written in pieces: see assemble.CheckPieces.
func checkPieces(base string) error { return assemble.CheckPieces(base) }
