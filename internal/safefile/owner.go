package safefile

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// An OwnerError says that another user could change or replace a file that must be trusted.
type OwnerError struct {
	Path   string
	Reason string // what is wrong, and what to do
}

// Error names the file or folder and the reason.
func (e *OwnerError) Error() string { return fmt.Sprintf("%s %s", e.Path, e.Reason) }

// CheckOwner checks that no user but this one and root can change a folder or replace it. The
// folder and those above it must belong to this user or to root, and others must not have write
// permission. A folder above it may also have the sticky bit, like /tmp, or be writable by this
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
			// A link has an owner, and so has its target.
			for _, stat := range []func(string) (fs.FileInfo, error){os.Lstat, os.Stat} {
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
