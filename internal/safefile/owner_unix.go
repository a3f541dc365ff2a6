//go:build unix

package safefile

import (
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
)

// checkOwner checks the owner and the mode of one file or folder; above says that it is a folder
// above the one that is asked about.
func checkOwner(path string, st fs.FileInfo, above bool) error {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if uid := int(s.Uid); uid != os.Geteuid() && uid != 0 && !(above && uid == overflow()) {
		return &OwnerError{path, fmt.Sprintf("belongs to user %d, who could exchange what was verified: run as that user, or name another folder", uid)}
	}
	switch mode := st.Mode(); {
	case mode&fs.ModeSymlink != 0: // its own mode counts nowhere
	case above && mode&fs.ModeSticky != 0:
	case above && mode&0o002 == 0 && int(s.Gid) == os.Getegid(): // a user's own group
	case mode&0o022 != 0:
		return &OwnerError{path, "can be written to by others, who could exchange what was verified: run chmod go-w on it, or name another folder"}
	}
	return nil
}

// overflow returns the user that stands, inside a user namespace, for those that have no number
// there, as root outside of a container may; -1 where each user has a number.
var overflow = sync.OnceValue(func() int {
	ids, err := os.ReadFile("/proc/self/uid_map")
	if f := strings.Fields(string(ids)); err != nil || len(f) == 3 && f[0] == "0" && f[1] == "0" && f[2] == "4294967295" {
		return -1
	}
	return 65534 // /proc/sys/kernel/overflowuid, unless somebody changed it
})
