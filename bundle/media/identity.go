package media

import (
	"os"
	"slices"
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

// identityOf returns the identity that files have now.
func identityOf(files ...*os.File) (Identity, error) {
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
