// Package h1 computes the "h1:" hashes of go.sum, for go.mod files and for module zips.
//
// Its results are those of golang.org/x/mod/sumdb/dirhash. It reads a zip from any io.ReaderAt, and
// inflates several files of one zip at once: otherwise a closure's few largest zips would keep one
// core busy after all others are done.
package h1

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/inflate"
)

// A Limiter bounds how many files are inflated at once, over all zips, by its capacity.
type Limiter chan struct{}

// GoMod returns the hash of a go.mod file (modfetch/fetch.go goModSum).
func GoMod(data []byte) string {
	return summary([]string{line(sha256.Sum256(data), "go.mod")})
}

func line(sum [32]byte, name string) string { return fmt.Sprintf("%x  %s\n", sum, name) }

// summary hashes the lines of files, which must be sorted by name.
func summary(lines []string) string {
	h := sha256.New()
	for _, l := range lines {
		io.WriteString(h, l)
	}
	return "h1:" + base64.StdEncoding.EncodeToString(h.Sum(nil))
}

// A ZipHash is the result of Zip.
type ZipHash struct {
	H1    string
	GoMod []byte        // content of the go.mod at the root; nil without one, as in zips from before modules
	Busy  time.Duration // time spent on inflating and hashing, over all cores
}

// Zip returns the hash of the module zip in r. It refuses names outside of m, two files of one
// name, more content than a module may have, and content that differs from what the zip says about
// itself.
func Zip(ctx context.Context, limit Limiter, m module.Version, r io.ReaderAt, size int64) (ZipHash, error) {
	a, err := Open(ctx, r, size)
	if err != nil {
		return ZipHash{}, err
	}
	defer a.Close()
	return a.Hash(limit, m)
}

// Hash does the work of Zip on an open zip.
func (a *Archive) Hash(limit Limiter, m module.Version) (ZipHash, error) {
	prefix := m.Path + "@" + m.Version + "/"
	files := slices.Clone(a.File)
	slices.SortFunc(files, func(a, b *zip.File) int { return strings.Compare(a.Name, b.Name) })
	total := uint64(0)
	for i, f := range files {
		switch {
		case !strings.HasPrefix(f.Name, prefix):
			return ZipHash{}, fmt.Errorf("file %.200q in it is outside of %s", f.Name, m)
		case strings.Contains(f.Name, "\n"):
			return ZipHash{}, errors.New("a file name in it has a line break")
		case i > 0 && f.Name == files[i-1].Name:
			return ZipHash{}, fmt.Errorf("two files in it are named %.200q", f.Name)
		}
		if f.UncompressedSize64 > modzip.MaxZipFile-total {
			return ZipHash{}, fmt.Errorf("it holds more than %d bytes", modzip.MaxZipFile)
		}
		total += f.UncompressedSize64
	}
	var out ZipHash
	lines := make([]string, len(files))
	var next, busy atomic.Int64
	eg, ctx := errgroup.WithContext(a.ahead.ctx)
	for range min(cap(limit), len(files)) {
		eg.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(files) {
					return nil
				}
				select {
				case limit <- struct{}{}:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				start := time.Now()
				sum, content, err := a.hashFile(files[i], files[i].Name == prefix+"go.mod")
				busy.Add(int64(time.Since(start)))
				<-limit
				if err != nil {
					return fmt.Errorf("file %.200q in it: %w", files[i].Name, err)
				}
				if content != nil {
					out.GoMod = content
				}
				lines[i] = line(sum, files[i].Name)
			}
		})
	}
	if err := eg.Wait(); err != nil {
		return ZipHash{}, err
	}
	out.H1, out.Busy = summary(lines), time.Duration(busy.Load())
	return out, nil
}

// buffers holds buffers for reading files. Most files fit, and are inflated right into them.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// hashFile hashes a file of a zip. With keep it returns the content too.
func (a *Archive) hashFile(f *zip.File, keep bool) (sum [32]byte, content []byte, err error) {
	r, err := f.Open()
	if err != nil {
		return sum, nil, err
	}
	defer r.Close()
	h := sha256.New()
	w := io.Writer(h)
	var kept bytes.Buffer
	if keep {
		if f.UncompressedSize64 > modzip.MaxGoMod {
			return sum, nil, fmt.Errorf("go.mod has more than %d bytes", modzip.MaxGoMod)
		}
		w = io.MultiWriter(h, &kept)
	}
	if a.Look != nil {
		if look := a.Look(f.Name, f.UncompressedSize64); look != nil {
			defer look.Close()
			w = io.MultiWriter(w, look)
		}
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	// CopyBuffer reads at most what the zip says: archive/zip checks that it is not less.
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{r}, *buf); err != nil {
		return sum, nil, err
	}
	h.Sum(sum[:0])
	if keep {
		content = append([]byte{}, kept.Bytes()...)
	}
	return sum, content, nil
}

// inflaters holds inflate readers, which take 90 KiB or more each.
var inflaters sync.Pool

type inflater struct{ *inflate.Reader }

// newInflater returns a reader of a compressed file.
func newInflater(r io.Reader) io.ReadCloser {
	if x, ok := inflaters.Get().(*inflate.Reader); ok {
		x.Reset(r)
		return &inflater{x}
	}
	return &inflater{inflate.NewReader(r)}
}

// Close returns the reader to inflaters.
func (i *inflater) Close() error {
	if i.Reader != nil {
		i.Reset(nil)
		inflaters.Put(i.Reader)
		i.Reader = nil
	}
	return nil
}

// A readAhead reads a zip in large pieces. archive/zip reads headers in 30 bytes and content in 4
// KiB, and files that are neighbors by name are mostly neighbors in the zip.
//
// It ends with ctx: a file can be long when it is compressed and have no byte when it is not.
type readAhead struct {
	ctx  context.Context
	r    io.ReaderAt
	size int64

	mu     sync.Mutex
	chunks [4]chunk
	oldest int
}

type chunk struct {
	at   int64
	data []byte // part of buf; nil when nothing was read
	buf  *[chunkSize]byte
}

// chunks holds buffers of chunks: else those of many small zips would be most of the garbage.
var chunks = sync.Pool{New: func() any { return new([chunkSize]byte) }}

// release gives the buffers back. The zip is not read afterwards.
func (a *readAhead) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.chunks {
		if c := &a.chunks[i]; c.buf != nil {
			chunks.Put(c.buf)
			*c = chunk{}
		}
	}
}

// chunkSize is the length of a read in bytes.
const chunkSize = 128 << 10

// ReadAt reads from the chunks in memory where it can.
func (a *readAhead) ReadAt(p []byte, off int64) (int, error) {
	if a.ctx.Err() != nil {
		return 0, context.Cause(a.ctx)
	}
	if len(p) >= chunkSize || off < 0 || off >= a.size {
		return a.r.ReadAt(p, off)
	}
	n := 0
	for n < len(p) {
		a.mu.Lock()
		c, err := a.chunk((off + int64(n)) / chunkSize * chunkSize)
		if err != nil {
			a.mu.Unlock()
			return n, err
		}
		m := 0
		if skip := off + int64(n) - c.at; skip < int64(len(c.data)) {
			m = copy(p[n:], c.data[skip:])
		}
		a.mu.Unlock()
		if m == 0 {
			return n, io.EOF
		}
		n += m
	}
	return n, nil
}

// chunk returns the chunk at an offset. The caller holds a.mu.
func (a *readAhead) chunk(at int64) (*chunk, error) {
	for i := range a.chunks {
		if c := &a.chunks[i]; c.data != nil && c.at == at {
			return c, nil
		}
	}
	c := &a.chunks[a.oldest]
	a.oldest = (a.oldest + 1) % len(a.chunks)
	if c.buf == nil {
		c.buf = chunks.Get().(*[chunkSize]byte)
	}
	c.at, c.data = at, c.buf[:min(chunkSize, a.size-at)]
	n, err := a.r.ReadAt(c.data, at)
	if err == io.EOF && n == len(c.data) {
		err = nil
	}
	if err != nil {
		c.data = nil
	}
	return c, err
}
