package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
)

// restrict gives up, for the rest of this process, all files except those that need names and those
// of the system, and the right to execute any but this program again (landlock(7)). It gives up
// whole folders, so files in the folders of need stay within reach. On a kernel without Landlock it
// does nothing.
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
		landlock.PathAccess(ll.AccessFSReadFile|ll.AccessFSExecute, ownCode()...).IgnoreIfMissing(),
	)
	if !hasLandlock() {
		log.Info("this kernel has no Landlock: files that are not needed stay within reach")
	} else if err != nil {
		log.Warn("the files that are not needed could not be given up", "err", err)
	}
}

// ownCode returns the files that this program consists of: its own, and the libraries that it was
// linked with.
func ownCode() (files []string) {
	data, err := os.ReadFile("/proc/self/maps") // proc_pid_maps(5)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(data)) {
		at := strings.IndexByte(line, '/') // the path is the last field, and may have spaces
		if f := strings.Fields(line); at < 0 || len(f) < 6 || !strings.Contains(f[1], "x") {
			continue
		}
		if file := strings.TrimSuffix(line[at:], "\n"); !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	return files
}

// niceness is the priority of a polite process: 0 is usual, 19 the lowest.
const niceness = 15

// bePolite gives up all files, and leaves the cores to other processes (setpriority(2)).
func bePolite() {
	threads, _ := os.ReadDir("/proc/self/task") // each has a priority of its own, which new ones inherit
	for _, d := range threads {
		if id, err := strconv.Atoi(d.Name()); err == nil {
			syscall.Setpriority(syscall.PRIO_PROCESS, id, niceness)
		}
	}
	os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0o600) // the first to go when memory is short
	landlock.V5.BestEffort().RestrictPaths()                        // without it there is one guard less
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
