//go:build unix

package safefile

import (
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// checkOwner checks the owner and the mode of one file or folder. above means that it is a folder
// above the one in question.
func checkOwner(path string, st fs.FileInfo, above bool) error {
	s, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	if uid := int(s.Uid); uid != os.Geteuid() && uid != 0 && !(above && uid == overflow()) {
		return &OwnerError{path, fmt.Sprintf("belongs to user %d, who could exchange what was verified: "+
			"run as that user, or name another folder", uid)}
	}
	switch mode := st.Mode(); {
	case mode&fs.ModeSymlink != 0: // the mode of a link does not matter
	case above && mode&fs.ModeSticky != 0:
	case above && mode&0o002 == 0 && int(s.Gid) == os.Getegid(): // a user's own group
	case mode&0o022 != 0:
		return &OwnerError{path, "can be written to by others, who could exchange what was verified: " +
			"run chmod go-w on it, or name another folder"}
	}
	return nil
}

// overflow returns the user id that stands for users without an id in this user namespace, such as
// root outside of a container. It returns -1 where every user has an id.
var overflow = sync.OnceValue(func() int {
	ids, err := os.ReadFile("/proc/self/uid_map")
	if err != nil || slices.Equal(strings.Fields(string(ids)), []string{"0", "0", "4294967295"}) {
		return -1
	}
	return 65534 // the default of /proc/sys/kernel/overflowuid
})
