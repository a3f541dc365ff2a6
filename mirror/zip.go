package mirror

import (
	"archive/zip"
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/klauspost/compress/flate"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/proof"
)

// packing names the form that repack gives zips. It changes when the bytes do.
const packing = "packed-1"

// packingLevel is how hard repack compresses: what the go command uses.
const packingLevel = 6

// repack packs the zip of a private module (one of GONOSUMDB, GONOPROXY or GOPRIVATE) in the one
// form that modmirror has for those, whatever packed it: what a go command or a proxy makes of the
// same files depends on its release (the compress/flate of Go 1.27 writes other bytes than that of
// Go 1.26), and the same sources are to make the same bundle anywhere. The h1 stays. A public
// module's zip stays as its proxy has it.
func (f *fetcher) repack(ctx context.Context, m module.Version, s *staged) (*staged, error) {
	defer s.temp.Discard()
	temp, err := f.dir.create(s.Path)
	if err != nil {
		return nil, err
	}
	out := &staged{File: File{Path: s.Path}, temp: temp, packed: true}
	if err = repack(ctx, temp.File, s.temp.File, s.Size); err == nil {
		err = f.hashZip(ctx, m, out)
	}
	if err == nil && out.h1 != s.h1 {
		err = fmt.Errorf("%s: packing it again changed its hash from %s to %s: %w", m, s.h1, out.h1, proof.ErrMismatch)
	}
	if err != nil {
		temp.Discard()
		return nil, err
	}
	return out, nil
}

// repack writes the files of a zip that was checked to another one: by name, without times,
// compressed by one compressor, which is a library and not the standard library's, so that it does
// not change with the Go release that builds this.
func repack(ctx context.Context, to *os.File, from io.ReaderAt, size int64) error {
	r, err := zip.NewReader(from, size)
	if err != nil {
		return err
	}
	files := slices.Clone(r.File)
	slices.SortFunc(files, func(a, b *zip.File) int { return cmp.Compare(a.Name, b.Name) })
	w := zip.NewWriter(to)
	var packer *flate.Writer // one for all: a new one takes a megabyte, and a zip may have 100,000 files
	w.RegisterCompressor(zip.Deflate, func(w io.Writer) (_ io.WriteCloser, err error) {
		if packer != nil {
			packer.Reset(w)
		} else if packer, err = flate.NewWriter(w, packingLevel); err != nil {
			return nil, err
		}
		return packer, nil
	})
	buf := make([]byte, 64<<10)
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		dst, err := w.CreateHeader(&zip.FileHeader{Name: file.Name, Method: zip.Deflate})
		if err != nil {
			return err
		}
		if err := copyWhole(dst, file, buf); err != nil {
			return fmt.Errorf("%s: %w", file.Name, err)
		}
	}
	return w.Close()
}

// copyWhole copies a file of a zip in steps of one length, so that what the compressor makes of it
// does not depend on how it was packed.
func copyWhole(dst io.Writer, file *zip.File, buf []byte) error {
	src, err := file.Open()
	if err != nil {
		return err
	}
	defer src.Close()
	for {
		n, err := io.ReadFull(src, buf)
		if _, werr := dst.Write(buf[:n]); werr != nil {
			return werr
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return nil
		default:
			return err
		}
	}
}
