//go:build !linux

package safefile

// SyncAll reports false: files must be synced one by one.
func SyncAll(dir string) (bool, error) { return false, nil }
