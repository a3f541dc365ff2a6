package media

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// An Identity tells one state of files from another: by inode, size, and times.
type Identity []fileState

// A fileState is the identity of one file.
type fileState struct {
	dev, inode   uint64
	size         int64
	mtime, ctime int64
	links        uint64
}

// IdentityOf returns the identity that files have now.
func IdentityOf(files ...*os.File) (Identity, error) {
	var id Identity
	for _, f := range files {
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		id = append(id, stateOf(st))
	}
	return id, nil
}

// Same reports whether now is an identity of the same contents. Only a file's ctime may differ,
// and only with its number of links: a file that is pruned while it is sent loses its name.
func (id Identity) Same(now Identity) bool {
	return slices.EqualFunc(id, now, func(a, b fileState) bool {
		if a.links != b.links {
			a.ctime, a.links = b.ctime, b.links
		}
		return a == b
	})
}

// Text returns the identity as text, a line for each file, to compare it with that of another time.
// It is "" where the system does not say when a file was changed.
func (id Identity) Text() string {
	var b strings.Builder
	for _, s := range id {
		if s.ctime == 0 {
			return ""
		}
		fmt.Fprintf(&b, "device %d, inode %d, size %d, mtime %d, ctime %d\n", s.dev, s.inode, s.size, s.mtime, s.ctime)
	}
	return b.String()
}

// ChangedLater reports whether file a was changed at a later time than file b of the same file
// system, by the clock of that file system.
func ChangedLater(a, b *os.File) (bool, error) {
	id, err := IdentityOf(a, b)
	return err == nil && id[0].ctime > id[1].ctime, err
}
