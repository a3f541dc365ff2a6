package safefile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// An OwnerError says that another user could change or exchange what is to be believed.
type OwnerError struct {
	Path   string
	Reason string // what is wrong with it, and what to do
}

// Error names the file or folder.
func (e *OwnerError) Error() string { return fmt.Sprintf("%s %s", e.Path, e.Reason) }

// CheckOwner checks that no other user but root can change what is in a folder, nor exchange the
// folder: it and those above it belong to this user or to root, and others may not write to them. A
// folder above it may be one like /tmp, in which nobody renames what is another's, or one of this
// user's own group. The error is an *OwnerError.
func CheckOwner(dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, leaf := range slices.Compact([]string{dir, real}) {
		for p := leaf; !seen[p]; p = filepath.Dir(p) {
			seen[p] = true
			for _, stat := range []func(string) (fs.FileInfo, error){os.Lstat, os.Stat} { // a link, and what it leads to
				st, err := stat(p)
				if err != nil {
					return err
				}
				if err := checkOwner(p, st, p != leaf); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// CheckFileOwner is CheckOwner for an open file, without the folders above it.
func CheckFileOwner(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	return checkOwner(f.Name(), st, false)
}
