//go:build !unix

package safefile

import "io/fs"

// checkOwner accepts everything: on these systems a user's folders are closed to others.
func checkOwner(string, fs.FileInfo, bool) error { return nil }
