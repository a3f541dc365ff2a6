package serve

import (
	"io/fs"
	"syscall"
)

// identityOf returns the identity of the file that st describes.
func identityOf(st fs.FileInfo) identity {
	id := identity{size: st.Size(), mtime: st.ModTime().UnixNano()}
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		id.dev, id.inode, id.ctime = s.Dev, s.Ino, s.Ctim.Nano()
	}
	return id
}
