package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/safefile"
)

// An outputGuard decides whether a command may write a file. A command replaces what it made
// itself, never what it reads, and anything else only with --overwrite. docs/operations.md has the
// table.
type outputGuard struct {
	overwrite bool
	sources   []string // files that the command reads: never written over; "" and "-" are none
}

// flags adds the flag that lets a command replace a plain file that it did not make.
func (g *outputGuard) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&g.overwrite, "overwrite", false, "replace a plain file that modmirror did not make; never a file that is read")
}

// reads adds files, and folders with all that is in them, that the command reads or will have
// written before.
func (g *outputGuard) reads(files ...string) { g.sources = append(g.sources, files...) }

// isSource reports whether name is one of the sources, which need not be there yet, or in one.
func (g *outputGuard) isSource(name string) (bool, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return false, err
	}
	st, _ := os.Stat(name)
	for _, s := range g.sources {
		if s == "" || s == "-" {
			continue
		}
		src, err := filepath.Abs(s)
		if err != nil {
			return false, err
		}
		there, _ := os.Stat(s)
		switch {
		case src == abs, st != nil && there != nil && os.SameFile(st, there):
			return true, nil
		case there != nil && there.IsDir() && st != nil:
			for dir := filepath.Dir(abs); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
				if sameFolder(dir, there) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

func sameFolder(name string, st os.FileInfo) bool {
	other, err := os.Stat(name)
	return err == nil && os.SameFile(other, st)
}

// check returns a usage error unless name can be written: it is not there yet, or it is a regular
// file that is no source and that made, told of what is there, returns nil for. made may be nil
// when the command cannot tell its own files. It leaves nothing behind.
func (g *outputGuard) check(name string, made func(name string) error) error {
	if name == "-" {
		return nil
	}
	if is, err := g.isSource(name); err != nil {
		return err
	} else if is {
		return usagef("%s is read by this command, so it cannot be written over: name another file", name)
	}
	st, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return checkFolder(name)
	case err != nil:
		return fmt.Errorf("looking at %s: %w", name, err)
	case st.IsDir():
		return usagef("%s is a folder: name a file in it", name)
	case st.Mode()&fs.ModeSymlink != 0:
		to, _ := os.Readlink(name)
		return usagef("%s is a link to %s: name the file itself", name, to)
	case !st.Mode().IsRegular():
		return usagef("%s is not a regular file", name)
	}
	if !g.overwrite {
		err := errors.New("it is a file that modmirror did not make")
		if made != nil {
			err = made(name)
		}
		if err != nil {
			return &hintError{usagef("%s is there already and stays as it is: %s", name, oneLine(err)), "name another file; or --overwrite replaces it"}
		}
	}
	return checkFolder(name)
}

// checkFolder finds out, before hours of work, whether a file can be made beside name.
func checkFolder(name string) error {
	dir := filepath.Dir(name)
	if _, err := os.Stat(dir); noSuchFile(err) {
		return &hintError{usagef("output folder %s is not there", dir), "mkdir -p " + dir}
	}
	f, err := safefile.Create(name, 0o666)
	if err != nil {
		return fmt.Errorf("cannot write to the folder of %s: %w", name, errors.Unwrap(err))
	}
	f.Discard()
	return nil
}

// bundleOfLine returns a check for outputGuard.check: that a file is a bundle of a line, signed by
// a trusted key or by one of keys, in the form of bundle.Key.Verifier.
func (e *env) bundleOfLine(line string, keys ...string) func(name string) error {
	return func(name string) error {
		trust, err := e.trust(1)
		if err != nil {
			return err
		}
		found, err := bundle.LineOf(name, bundle.TrustIn(append(keys, trust.Keys...)...))
		switch {
		case err != nil:
			return fmt.Errorf("it is no bundle of the line %s: %w", line, err)
		case found != line:
			return fmt.Errorf("it is a bundle of the line %s, not of %s", found, line)
		}
		return nil
	}
}

// checkBundleOutput checks that a bundle can be written to name: what may be replaced is a bundle
// of its line.
func (e *env) checkBundleOutput(g *outputGuard, name, line string, keys ...string) error {
	if name == "-" {
		return nil
	}
	if err := g.check(name, e.bundleOfLine(line, keys...)); err != nil {
		return err
	}
	return checkNoSignatures(name)
}

// checkNoSignatures checks that nothing beside a new bundle has the name of its signatures.
func checkNoSignatures(name string) error {
	if _, err := os.Lstat(name + ".sig"); err == nil {
		return usagef("%s.sig is there, with signatures of an older bundle or of something else: remove it first", name)
	}
	return nil
}

// checkPieces checks that a bundle can be written in pieces: old ones could be mixed up with new
// ones, so none are replaced.
func checkPieces(base string) error {
	if err := bundle.CheckNoPieces(base); err != nil {
		return &hintError{usagef("%v", err), "remove the old pieces and their list, or name others with -o"}
	}
	if err := checkNoSignatures(base); err != nil {
		return err
	}
	return checkFolder(base)
}
