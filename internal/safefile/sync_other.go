//go:build !linux

package safefile

// SyncAll reports false: files must be synced one by one.
func SyncAll(dir string) (bool, error) { return false, nil }

// Free returns how many bytes can be written to the file system of dir; ok is false when the system does not say.
func Free(string) (n int64, ok bool) { return 0, false }
