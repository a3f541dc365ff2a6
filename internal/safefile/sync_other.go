//go:build !linux

package safefile

import "os"

func beginWriteBack(*os.File) {}

// SyncAll reports false: callers must sync each file.
func SyncAll(dir string) (bool, error) { return false, nil }

// Free reports that the system does not say how many bytes can be written.
func Free(string) (n int64, ok bool) { return 0, false }
