package media

import (
	"io/fs"
	"syscall"
)

// stateOf returns the state of the file that st describes.
func stateOf(st fs.FileInfo) fileState {
	id := fileState{size: st.Size(), mtime: st.ModTime().UnixNano()}
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		id.dev, id.inode, id.ctime = s.Dev, s.Ino, s.Ctim.Nano()
		id.links = uint64(s.Nlink)
	}
	return id
}
