package safefile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Lock locks a file for this process, until unlock is called or the process ends. It creates the
// file if needed. While another process holds the lock, Lock calls waiting once, unless that is
// nil, with the name of that process, and waits.
func Lock(ctx context.Context, name string, waiting func(holder string)) (unlock func() error, err error) {
	if err := checkLock(name); err != nil {
		return nil, err
	}
	lock := flock.New(name)
	ok, err := lock.TryLock()
	if err == nil && !ok {
		holder, _ := os.ReadFile(name)
		if waiting != nil {
			waiting(strings.TrimSpace(string(holder)))
		}
		_, err = lock.TryLockContext(ctx, 200*time.Millisecond)
	}
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", name, err)
	}
	host, _ := os.Hostname()
	holder := fmt.Appendf(nil, lockStart+"%d on %s, since %s\n", os.Getpid(), host, time.Now().Format(time.RFC3339))
	os.WriteFile(name, holder, 0o666) // for processes that wait
	return lock.Unlock, nil
}

// lockStart begins the content of a lock file.
const lockStart = "process "

// checkLock returns an error for a file that is not a lock, since Lock would overwrite it.
func checkLock(name string) error {
	st, err := os.Lstat(name)
	if err != nil { // Lock creates it, or meets the error again
		return nil
	}
	if st.Mode().IsRegular() {
		f, err := os.Open(name)
		if err != nil {
			return nil
		}
		defer f.Close()
		start := make([]byte, len(lockStart))
		// A lock that is being written, or was when the disk was full, has less.
		if n, _ := io.ReadFull(f, start); string(start[:n]) == lockStart[:n] {
			return nil
		}
	}
	return fmt.Errorf("%s exists and is not a lock of modmirror: name another folder", name)
}

// Sweep removes the temporary files of killed runs from dir, where no process may be writing.
func Sweep(dir string) error { return sweep(dir, 0) }

// oldTemp is the age at which a temporary file counts as abandoned.
const oldTemp = time.Hour

// SweepOld is like Sweep for a dir where another process may be writing: recent files stay.
func SweepOld(dir string) error { return sweep(dir, oldTemp) }

func sweep(dir string, age time.Duration) error {
	left, err := os.ReadDir(dir)
	for _, f := range left {
		if strings.HasPrefix(f.Name(), TempPrefix) {
			if st, statErr := f.Info(); statErr != nil || time.Since(st.ModTime()) < age {
				continue
			}
			if rmErr := os.Remove(filepath.Join(dir, f.Name())); !errors.Is(rmErr, os.ErrNotExist) {
				err = errors.Join(err, rmErr)
			}
		}
	}
	return err
}
