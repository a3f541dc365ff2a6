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

// An outputGuard decides whether a command may write a file. A command may replace files that
// modmirror made, other plain files only with --overwrite, and files that it reads never.
// docs/operations.md has the table.
type outputGuard struct {
	overwrite bool
	sources   []string // files and folders that the command reads; "" and "-" are none
}

// flags adds --overwrite.
func (g *outputGuard) flags(fs *pflag.FlagSet) {
	fs.BoolVar(&g.overwrite, "overwrite", false,
		"replace a plain file that modmirror did not make; never a file that is read")
}

// reads adds files, and folders with their contents, that the command must not write: it reads
// them, or writes them for another purpose.
func (g *outputGuard) reads(files ...string) { g.sources = append(g.sources, files...) }

// isSource reports whether name is a source or in a source, by its path or by another link to it.
// Neither need exist.
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

// sameFolder reports whether name is the file that st describes.
func sameFolder(name string, st os.FileInfo) bool {
	other, err := os.Stat(name)
	return err == nil && os.SameFile(other, st)
}

// check returns a usage error unless the command may write name: the file does not exist, or it is
// a regular file, no source, and made returns nil for it or --overwrite is set. made reports why
// modmirror did not make an existing file; nil stands for a command that cannot tell. check leaves
// no file behind.
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
			return &hintError{usagef("%s is there already and stays as it is: %s", name, oneLine(err)),
				"name another file; or --overwrite replaces it"}
		}
	}
	return checkFolder(name)
}

// checkFolder returns an error unless a file can be made beside name. It is for the start of a
// command that takes hours.
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

// bundleOfLine returns a function for outputGuard.check. It returns nil for a bundle of the line
// that a trusted key signed, or one of keys, which are in the form of trust.Key.Verifier.
func (e *env) bundleOfLine(line string, keys ...string) func(name string) error {
	return func(name string) error {
		keyring, err := e.keyring(1)
		if err != nil {
			return err
		}
		found, err := bundle.LineOf(name, trust.NewKeyring(append(keys, keyring.Keys...)...))
		switch {
		case err != nil:
			return fmt.Errorf("it is no bundle of the line %s: %w", line, err)
		case found != line:
			return fmt.Errorf("it is a bundle of the line %s, not of %s", found, line)
		}
		return nil
	}
}

// checkBundleOutput returns an error unless the command may write a bundle to name, where it may
// replace an older bundle of its line.
func (e *env) checkBundleOutput(g *outputGuard, name, line string, keys ...string) error {
	if name == "-" {
		return nil
	}
	if err := g.check(name, e.bundleOfLine(line, keys...)); err != nil {
		return err
	}
	return checkNoSignatures(name)
}

// checkNoSignatures returns an error if name.sig exists: its signatures are not those of a new
// bundle.
func checkNoSignatures(name string) error {
	if _, err := os.Lstat(name + ".sig"); err == nil {
		return usagef("%s.sig is there, with signatures of an older bundle or of something else: remove it first", name)
	}
	return nil
}

// checkPieces returns an error unless a bundle can be written in pieces. It allows no old pieces,
// because they could be mixed up with the new ones.
func checkPieces(base string) error {
	if err := media.CheckNoPieces(base); err != nil {
		return &hintError{usagef("%v", err), "remove the old pieces and their list, or name others with -o"}
	}
	if err := checkNoSignatures(base); err != nil {
		return err
	}
	return checkFolder(base)
}
