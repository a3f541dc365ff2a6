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

// Lock locks a file, made when it is not there, for this process alone, until unlock is called. While another one has it Lock waits, having
// called waiting, unless that is nil, once with who that is. A lock does not outlive its process.
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
	os.WriteFile(name, fmt.Appendf(nil, lockStart+"%d on %s, since %s\n", os.Getpid(), host, time.Now().Format(time.RFC3339)), 0o666) // for those who wait
	return lock.Unlock, nil
}

// lockStart begins what is in a lock file.
const lockStart = "process "

// checkLock returns an error when there is a file that is no lock: it would be written over.
func checkLock(name string) error {
	st, err := os.Lstat(name)
	if err != nil { // it is made, or the error is met again
		return nil
	}
	if st.Mode().IsRegular() {
		f, err := os.Open(name)
		if err != nil {
			return nil
		}
		defer f.Close()
		start := make([]byte, len(lockStart))
		if n, _ := io.ReadFull(f, start); string(start[:n]) == lockStart[:n] { // one that is being made, or was when the disk was full, has less
			return nil
		}
	}
	return fmt.Errorf("%s is there and is no lock of modmirror: name another folder", name)
}

// Sweep removes what a killed run left half written in dir, where no other one is writing: it is of no use to anyone.
func Sweep(dir string) error { return sweep(dir, 0) }

// oldTemp is how long ago a temporary file was written to that nobody writes to any more.
const oldTemp = time.Hour

// SweepOld is Sweep where another one may be writing: what was written to lately stays.
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
