package h1

import (
	"archive/zip"
	"fmt"
	"io"
)

// MaxDirectory is the longest directory of a zip in bytes. archive/zip takes some 250 bytes of
// memory for each entry, and a zip of 500 MB can have eleven million. Of public modules that are
// known to be large, github.com/Azure/azure-sdk-for-go v68 has 3.1 MB for 18,327 files, and a Go
// toolchain 1.8 MB.
const MaxDirectory = 16 << 20

// endSize is room for what else archive/zip reads: the last 66 KiB, to find the end record; an
// entry of up to 192 KiB, to find out whether offsets are from the start of the file; and what it
// reads ahead.
const endSize = 512 << 10

// Open opens the zip in r. It refuses a directory that is longer than MaxDirectory before it takes
// memory for more.
func Open(r io.ReaderAt, size int64) (*zip.Reader, error) {
	// The limit counts what archive/zip reads, and not what the end record says, so that there is
	// no second opinion about the place of the directory.
	c := &counted{r: r, left: MaxDirectory + endSize}
	z, err := zip.NewReader(c, size)
	c.left = -1
	return z, err
}

// A counted reader fails after left bytes; with -1 it has no limit.
type counted struct {
	r    io.ReaderAt
	left int
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	if c.left < 0 {
		return c.r.ReadAt(p, off)
	}
	if len(p) > c.left {
		return 0, fmt.Errorf("its directory has more than %d bytes", MaxDirectory)
	}
	c.left -= len(p)
	return c.r.ReadAt(p, off)
}
