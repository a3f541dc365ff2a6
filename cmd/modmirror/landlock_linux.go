package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// restrict gives up, for the rest of this process, all files except those that need names and those
// of the system, and the right to execute any (landlock(7)). It gives up whole folders, so files in
// the folders of need stay within reach. On a kernel without Landlock it does nothing.
func restrict(log *slog.Logger, need needs) {
	const read = landlock.AccessFSSet(ll.AccessFSReadFile | ll.AccessFSReadDir)
	const write = read | ll.AccessFSWriteFile | ll.AccessFSTruncate | ll.AccessFSMakeReg | ll.AccessFSMakeDir |
		ll.AccessFSRemoveFile | ll.AccessFSRemoveDir | ll.AccessFSRefer
	// For process metrics, host names, time zones and CAs.
	system := []string{
		"/proc", "/sys/kernel/mm/transparent_hugepage", "/etc",
		"/usr/share/zoneinfo", "/usr/share/ca-certificates", "/usr/lib/ssl",
	}
	need.write = append(need.write, os.TempDir())
	err := landlock.V5.BestEffort().RestrictPaths(
		landlock.PathAccess(read, system...).IgnoreIfMissing(),
		landlock.PathAccess(read, folders([]string{"/etc/resolv.conf", os.Getenv("SSL_CERT_FILE"),
			os.Getenv("SSL_CERT_DIR")})...).IgnoreIfMissing(),
		landlock.PathAccess(read, folders(need.read)...).IgnoreIfMissing(),
		landlock.PathAccess(write, folders(need.write)...).IgnoreIfMissing(),
		landlock.PathAccess(ll.AccessFSReadFile|ll.AccessFSWriteFile, "/dev/null").IgnoreIfMissing(),
	)
	if !hasLandlock() {
		log.Info("this kernel has no Landlock: files that are not needed stay within reach")
	} else if err != nil {
		log.Warn("the files that are not needed could not be given up", "err", err)
	}
}

// folders returns the folders that contain files, and those files that are folders. A file that is
// a link counts with its target too.
func folders(files []string) []string {
	var list []string
	for _, file := range files {
		if file == "" || file == "-" {
			continue
		}
		real, err := filepath.EvalSymlinks(file)
		if err != nil {
			real = file
		}
		for _, f := range []string{file, real} {
			if st, err := os.Stat(f); err != nil || !st.IsDir() {
				f = filepath.Dir(f)
			}
			if !slices.Contains(list, f) {
				list = append(list, f)
			}
		}
	}
	return list
}

// hasLandlock reports whether the kernel has Landlock.
func hasLandlock() bool {
	version, err := ll.LandlockGetABIVersion()
	return err == nil && version > 0
}
