package safefile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Lock locks a file, made when it is not there, for this process alone, until unlock is called. While another one has it Lock waits, having
// called waiting, unless that is nil, once with who that is. A lock does not outlive its process.
func Lock(ctx context.Context, name string, waiting func(holder string)) (unlock func() error, err error) {
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
	os.WriteFile(name, fmt.Appendf(nil, "process %d on %s, since %s\n", os.Getpid(), host, time.Now().Format(time.RFC3339)), 0o666) // for those who wait
	return lock.Unlock, nil
}

// Sweep removes what a killed run left half written in dir, where no other one is writing: it is of no use to anyone.
func Sweep(dir string) error {
	left, err := os.ReadDir(dir)
	for _, f := range left {
		if strings.HasPrefix(f.Name(), TempPrefix) {
			if rmErr := os.Remove(filepath.Join(dir, f.Name())); !errors.Is(rmErr, os.ErrNotExist) {
				err = errors.Join(err, rmErr)
			}
		}
	}
	return err
}
