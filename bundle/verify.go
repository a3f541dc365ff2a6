package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/index"
)

// A Damage is an entry of a bundle that does not verify.
type Damage struct {
	Path string
	Err  error
}

// Verify reads every byte of the bundle and calls report for each damaged entry, in the order of
// the file. Open has verified the manifest and the index. progress, which may be nil, is told of
// verified bytes. The calling goroutine calls both. The error is that of reading, or of ctx.
func (b *Bundle) Verify(ctx context.Context, progress func(n int64), report func(Damage)) error {
	c := &byteCheck{b: b, progress: progress, report: report}
	return c.run(ctx)
}

const (
	// stretchSize is how many bytes a worker reads at once: they stay in the cache of its core
	// until they are hashed.
	stretchSize = 256 << 10

	// stretchFiles bounds the files of a stretch, and stretches how many of them are laid out or
	// verified before their turn to be reported comes. So the damages that wait are bounded. While
	// one worker hashes a large file, the others can be 64 MiB ahead of it.
	stretchFiles = 128
	stretches    = 256

	// maxWorkers bounds the buffers. Eight cores hash faster than media can be read.
	maxWorkers = 8

	// slowMedia is the rate in bytes a second below which a large file is read alone: disks that
	// turn would have to move between it and the files behind it, and one core keeps up with them.
	slowMedia = 500 << 20

	// slowSample is how many bytes are read before that rate is known.
	slowSample = 1 << 20
)

// A byteCheck verifies the bytes of a bundle on all cores. One goroutine lays out the file in
// stretches, workers verify them, and the one that called run reports in the order of the file.
type byteCheck struct {
	b        *Bundle
	progress func(int64) // may be nil
	report   func(Damage)
	passed   func(*stretch) // told of each stretch after its report; may be nil

	bytes, nanos atomic.Int64 // read so far, and the time that it took
}

// A stretch is what a worker verifies at a time: files that are neighbors, with their headers and
// padding, of at most stretchSize bytes; or one larger file.
type stretch struct {
	files    []index.File // nil once they are verified
	from, to int64        // offsets in the media

	done    chan struct{} // closed when the following is set
	size    int64         // bytes of the entries that were read
	damages []Damage
	bad     []int64 // numbers in the index of the damaged files
	err     error   // ends the verification after the damages
}

// run verifies the bundle.
func (c *byteCheck) run(ctx context.Context) error {
	b := c.b
	if b.media == nil {
		return ErrCatalog
	}
	ctx, stop := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer func() {
		stop()
		workers.Wait()
	}()
	order, work := make(chan *stretch, stretches), make(chan *stretch)
	workers.Go(func() {
		defer close(order)
		defer close(work)
		c.layOut(ctx, order, work)
	})
	for range min(runtime.GOMAXPROCS(0), maxWorkers) {
		workers.Go(func() {
			buf := make([]byte, min(stretchSize, b.Manifest.Size))
			for s := range work {
				c.verify(ctx, s, buf)
				s.files = nil
				close(s.done)
			}
		})
	}
	// Open may have read a copy of the index.
	if err := c.settle(ctx, indexName, b.checkIndexBytes(ctx)); err != nil {
		return err
	}
	for s := range order {
		select {
		case <-s.done:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, d := range s.damages {
			c.report(d)
		}
		if c.progress != nil && s.size > 0 {
			c.progress(s.size)
		}
		if s.err != nil {
			return s.err
		}
		if c.passed != nil {
			c.passed(s)
		}
	}
	return c.settle(ctx, "end of archive", b.checkBytes(ctx, b.Manifest.Size-endSize, zeros[:]))
}

// settle reports the error of verifying an entry as damage, or returns it when it ends the
// verification.
func (c *byteCheck) settle(ctx context.Context, path string, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := c.ends(err); err != nil {
		return err
	}
	if err != nil {
		c.report(Damage{path, err})
	}
	return nil
}

// ends returns the error by which verifying an entry ends the verification, and nil for damage.
func (c *byteCheck) ends(err error) error {
	if unread, ok := errors.AsType[*media.UnreadError](err); ok {
		return unread
	}
	if errors.Is(err, io.EOF) { // else all entries behind it would be reported
		return &NotVerifiedError{What: "size", Err: fmt.Errorf("the stream ends early, and the manifest says %d bytes", c.b.Manifest.Size)}
	}
	return nil
}

// layOut sends the files of the bundle, in stretches, to order and to work.
func (c *byteCheck) layOut(ctx context.Context, order, work chan<- *stretch) {
	b := c.b
	s := &stretch{}
	for f, err := range b.Index.FilesIn(ctx, b.own()) {
		if err != nil {
			if c.begin(ctx, s, order, work) {
				bad := &stretch{err: wrapBad(ctx, err), done: make(chan struct{})}
				close(bad.done)
				send(ctx, order, bad)
			}
			return
		}
		from := b.payload + f.Offset - headerSize(f.Path)
		to := b.payload + f.Offset + f.Size + padding(f.Size)
		if from != s.to || to-s.from > stretchSize || len(s.files) == stretchFiles {
			if !c.begin(ctx, s, order, work) {
				return
			}
			s = &stretch{from: from}
		}
		s.files, s.to = append(s.files, f), to
	}
	c.begin(ctx, s, order, work)
}

// begin sends a stretch to order and to work. It reports whether ctx is not done.
func (c *byteCheck) begin(ctx context.Context, s *stretch, order, work chan<- *stretch) bool {
	if len(s.files) == 0 {
		return true
	}
	s.done = make(chan struct{})
	if !send(ctx, order, s) || !send(ctx, work, s) {
		return false
	}
	if s.to-s.from > stretchSize && c.slow() {
		select {
		case <-s.done:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// send sends v unless ctx is done first.
func send[T any](ctx context.Context, to chan<- T, v T) bool {
	select {
	case to <- v:
		return true
	case <-ctx.Done():
		return false
	}
}

// slow reports whether the media are slower than slowMedia, or not known to be faster.
func (c *byteCheck) slow() bool {
	n := c.bytes.Load()
	return n < slowSample || float64(n)*float64(time.Second) < slowMedia*float64(c.nanos.Load())
}

// ReadAt reads from the media and takes the time. A long file ends here when ctx is done.
func (c *byteCheck) ReadAt(ctx context.Context, p []byte, at int64) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	start := time.Now()
	n, err := c.b.media.ReadAt(ctx, p, at)
	c.nanos.Add(int64(time.Since(start)))
	c.bytes.Add(int64(n))
	return n, err
}

// verify verifies the files of a stretch, unless ctx is done.
func (c *byteCheck) verify(ctx context.Context, s *stretch, buf []byte) {
	var data []byte // of the whole stretch; nil when it is too long, or was not read
	if size := s.to - s.from; size <= int64(len(buf)) {
		if _, err := c.ReadAt(ctx, buf[:size], s.from); err == nil {
			data = buf[:size]
		} // else the files before the one at fault are read alone
	}
	for _, f := range s.files {
		if ctx.Err() != nil { // run does not look at s then
			return
		}
		var err error
		if size := entrySize(f.Path, f.Size); data != nil {
			err = verifyEntry(f, data[:size])
			data = data[size:]
		} else {
			err = c.readEntry(ctx, f, buf)
		}
		if err != nil {
			if where := c.b.media.Where(c.b.payload+f.Offset, f.Size); where != "" {
				err = fmt.Errorf("in %s: %w", where, err)
			}
		}
		if s.err = c.ends(err); s.err != nil {
			return
		}
		if err != nil {
			s.damages, s.bad = append(s.damages, Damage{f.Path, err}), append(s.bad, f.ID)
		}
		s.size += entrySize(f.Path, f.Size)
	}
}

// verifyEntry checks the header, content and padding of a file, which are the bytes of entry.
func verifyEntry(f index.File, entry []byte) error {
	var room [3 * blockSize]byte
	content, ok := bytes.CutPrefix(entry, appendHeader(room[:0], f.Path, f.Size))
	if !ok {
		return fmt.Errorf("tar header: %w", errBytes)
	}
	content, pad := content[:f.Size], content[f.Size:]
	if sha256.Sum256(content) != f.SHA256 {
		return media.ErrHash
	}
	if !bytes.Equal(pad, zeros[:len(pad)]) {
		return fmt.Errorf("padding: %w", errBytes)
	}
	return nil
}

// readEntry reads a file and checks its header, content and padding.
func (c *byteCheck) readEntry(ctx context.Context, f index.File, buf []byte) error {
	h := Header(f.Path, f.Size)
	at := c.b.payload + f.Offset
	if err := c.b.checkBytes(ctx, at-int64(len(h)), h); err != nil {
		return fmt.Errorf("tar header: %w", err)
	}
	if sum, err := sumOf(media.ReaderAt(ctx, c), at, f.Size, buf); err != nil {
		return err
	} else if sum != f.SHA256 {
		return media.ErrHash
	}
	if err := c.b.checkBytes(ctx, at+f.Size, zeros[:padding(f.Size)]); err != nil {
		return fmt.Errorf("padding: %w", err)
	}
	return nil
}

// sumOf returns the SHA-256 of size bytes at an offset, which it reads into buf.
func sumOf(r io.ReaderAt, at, size int64, buf []byte) (sum [32]byte, err error) {
	h := sha256.New()
	_, err = io.CopyBuffer(h, struct{ io.Reader }{io.NewSectionReader(r, at, size)}, buf)
	h.Sum(sum[:0])
	return sum, err
}

// zeros is the padding of files.
var zeros [endSize]byte

var errBytes = errors.New("not the bytes that must be there")

// checkBytes compares bytes of the file.
func (b *Bundle) checkBytes(ctx context.Context, at int64, want []byte) error {
	got := make([]byte, len(want))
	if _, err := b.media.ReadAt(ctx, got, at); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errBytes
	}
	return nil
}
