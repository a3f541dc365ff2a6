package h1

import (
	"archive/zip"
	"context"
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

// An Archive is an open zip whose content is read in large pieces.
type Archive struct {
	*zip.Reader

	// Look returns a writer that Hash writes the content of a file to, too, and closes; nil for
	// none. Hash calls it for several files at once. It may be nil.
	Look func(name string, size uint64) io.WriteCloser

	ahead *readAhead
}

// Open opens the zip in r, until ctx ends or Close. It refuses a directory that is longer than
// MaxDirectory before it takes memory for more.
func Open(ctx context.Context, r io.ReaderAt, size int64) (*Archive, error) {
	ahead := &readAhead{ctx: ctx, r: r, size: size}
	// The limit counts what archive/zip reads, and not what the end record says, so that there is
	// no second opinion about the place of the directory.
	c := &counted{r: ahead, left: MaxDirectory + endSize}
	z, err := zip.NewReader(c, size)
	if err != nil {
		ahead.release()
		return nil, err
	}
	c.left = -1
	z.RegisterDecompressor(zip.Deflate, newInflater)
	return &Archive{Reader: z, ahead: ahead}, nil
}

// Close gives the buffers back. Nothing of the zip is read afterwards.
func (a *Archive) Close() { a.ahead.release() }

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
