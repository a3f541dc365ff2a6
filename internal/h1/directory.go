package h1

import (
	"archive/zip"
	"fmt"
	"io"
)

// MaxDirectory is how many bytes the directory of a zip may have. archive/zip makes some 250 bytes
// of memory of each of its entries, of which a zip of 500 MB can have eleven million. Of public
// modules that are known to be large, github.com/Azure/azure-sdk-for-go v68 has 3.1 MB for 18,327
// files, and a Go toolchain 1.8 MB.
const MaxDirectory = 16 << 20

// endSize is room for what archive/zip reads besides: the last 66 KiB in search of the end record,
// an entry of up to 192 KiB to find out whether offsets are from the start of the file, and what it
// reads ahead.
const endSize = 512 << 10

// Open returns the zip in r. One with a longer directory than MaxDirectory is refused before there
// is memory for more.
func Open(r io.ReaderAt, size int64) (*zip.Reader, error) {
	// What is counted is what archive/zip reads and not what the end record says, so that there is
	// no second opinion about where the directory is.
	c := &counted{r: r, left: MaxDirectory + endSize}
	z, err := zip.NewReader(c, size)
	c.left = -1
	return z, err
}

// counted reads until the bytes that are left have been read; with -1 left for ever.
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
