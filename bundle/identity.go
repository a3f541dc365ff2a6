package bundle

import (
	"os"
	"slices"
)

// An Identity tells one state of a medium's files from another.
type Identity []fileState

// A fileState is what tells one state of a file from another.
type fileState struct {
	dev, inode   uint64
	size         int64
	mtime, ctime int64
	links        uint64
}

// Identity returns the identity that the files have now.
func (m *Medium) Identity() (Identity, error) { return identityOf(m.files...) }

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

// Same reports whether an identity is still that of the same contents. A file that lost or got a name, as one that was pruned while it is
// sent, has another ctime and is the same.
func (id Identity) Same(now Identity) bool {
	return slices.EqualFunc(id, now, func(a, b fileState) bool {
		if a.links != b.links {
			a.ctime, a.links = b.ctime, b.links
		}
		return a == b
	})
}
