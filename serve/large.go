package serve

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
)

// buffers are what transfers copy through.
type buffers struct {
	large chan []byte // of largeBuffer bytes, not in use
	small sync.Pool   // of *[]byte of smallBuffer bytes
}

func newBuffers() *buffers {
	b := &buffers{large: make(chan []byte, largeBuffers)}
	b.small.New = func() any { buf := make([]byte, smallBuffer); return &buf }
	for range largeBuffers {
		b.large <- nil // made when it is first used
	}
	return b
}

// get returns a buffer and what gives it back.
func (b *buffers) get() (buf []byte, done func()) {
	select {
	case buf = <-b.large:
		if buf == nil {
			buf = make([]byte, largeBuffer)
		}
		return buf, func() { b.large <- buf }
	default:
		p := b.small.Get().(*[]byte)
		return *p, func() { b.small.Put(p) }
	}
}

// largeFiles serves files that do not fit the cache, of one line, and remembers which were verified.
type largeFiles struct {
	bundle   *bundle.Bundle
	buffers  *buffers
	damaged  func(path string)
	repaired func(path string)
	partials chan struct{} // a slot for each file that is hashed for a part of it

	mu       sync.Mutex
	ids      map[*bundle.Medium]bundle.Identity // of where files were verified
	verified []uint64                           // a bit for each file, by its number in the index
}

func newLargeFiles(b *bundle.Bundle, buf *buffers, damaged, repaired func(string)) *largeFiles {
	return &largeFiles{bundle: b, buffers: buf, damaged: damaged, repaired: repaired, partials: make(chan struct{}, verifiers),
		ids: make(map[*bundle.Medium]bundle.Identity), verified: make([]uint64, b.Manifest.Counts.Files/64+1)}
}

// serve serves a large file. A returned error was not answered yet; an error after
// the first byte cuts the connection instead.
func (l *largeFiles) serve(h *handler, w *exchange, f index.File, e *entry) error {
	r := w.req
	if strings.Contains(r.Header.Get("Range"), ",") { // several ranges are no use to a go command, and http.ServeContent reads them from a goroutine that outlives this
		r.Header.Del("Range")
	}
	e.headers(w)
	w.Header().Set("Accept-Ranges", "bytes")
	if r.Method == http.MethodHead && plain(r) {
		w.Header().Set("Content-Length", fmt.Sprint(f.Size))
		return nil
	}
	src, err := l.open(r.Context(), f)
	if err != nil {
		return err
	}
	defer src.close()
	if !plain(r) {
		p := &part{SectionReader: io.NewSectionReader(readerAt{r.Context(), src}, 0, f.Size), ctx: r.Context(), renew: renewal(w), src: src}
		http.ServeContent(w, r, "", e.modified, p)
		err = p.err
	} else {
		w.Header().Set("Content-Length", fmt.Sprint(f.Size))
		err = l.send(r.Context(), w, f.Size, src)
	}
	switch {
	case err == nil:
		return nil
	case w.status == 0 && r.Context().Err() == nil: // not a byte was sent
		return err
	case r.Context().Err() == nil:
		h.log.Error("cut a connection", "path", e.path, "client", w.origin().addr, "request", w.requestID(), "err", err)
	}
	panic(http.ErrAbortHandler)
}

// send copies a file to w. The last piece is written only when all of it is what it must be. w may be io.Discard.
func (l *largeFiles) send(ctx context.Context, w io.Writer, size int64, src source) error {
	all, done := l.buffers.get()
	defer done()
	renew := renewal(w)
	for at := int64(0); at < size; {
		left := size - at
		buf := all[:min(left, int64(len(all)))]
		if hold := min(smallFile, int64(len(all))); left > hold { // so that what is held back is whole
			buf = buf[:min(int64(len(buf)), left-hold)]
		}
		if n, err := src.readAt(ctx, buf, at); n < len(buf) {
			return fmt.Errorf("reading bundle: %w", cmp.Or(err, io.ErrUnexpectedEOF))
		}
		if at += int64(len(buf)); at == size {
			if err := src.check(ctx); err != nil {
				return err
			}
		}
		renew()
		if _, err := w.Write(buf); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// renewal returns what gives a client more time to take the next bytes.
func renewal(w io.Writer) func() {
	rw, ok := w.(http.ResponseWriter)
	if !ok {
		return func() {}
	}
	c := http.NewResponseController(rw)
	return func() { c.SetWriteDeadline(time.Now().Add(writeTimeout)) }
}

// A source is where a large file is read from: in a bundle on a disk, or in the cache of one that is in a bucket.
type source interface {
	// readAt reads bytes. They may be wrong as long as check was not asked.
	readAt(ctx context.Context, p []byte, at int64) (int, error)

	// verify returns when all of the file is known to be right, without it being read.
	verify(ctx context.Context) error

	// check reports whether all that was read, from the start to the end of the file or after verify, is right.
	check(ctx context.Context) error

	close()
}

// open opens a file.
func (l *largeFiles) open(ctx context.Context, f index.File) (source, error) {
	place, err := l.bundle.Find(f)
	if err != nil {
		return nil, err
	}
	if place.Medium.Remote() {
		got, err := place.Fetch(ctx, f)
		return &fetched{l, f, got}, err
	}
	at, err := l.locate(f, place)
	if err == nil && !l.isVerified(at) {
		at.sum = sha256.New()
	}
	return at, err
}

// A fetched is a file of a bundle in a bucket. The cache verifies it.
type fetched struct {
	l   *largeFiles
	f   index.File
	got *bundle.Fetched
}

func (s *fetched) readAt(ctx context.Context, p []byte, at int64) (int, error) {
	return s.got.ReadAt(ctx, p, at)
}

func (s *fetched) verify(ctx context.Context) error { return s.check(ctx) }

func (s *fetched) check(ctx context.Context) error {
	err := s.got.Verify(ctx)
	if _, bad := errors.AsType[*bundle.NotVerifiedError](err); bad {
		s.l.damaged(s.f.Path)
	} else if err == nil {
		s.l.repaired(s.f.Path)
	}
	return err
}

func (s *fetched) close() { s.got.Close() }

// A located is a file of a bundle on a disk, and what its medium was when it was opened. It is hashed while it is read from its start to its end, or, when it was
// verified before, its medium must be what it was then.
type located struct {
	index.File
	bundle.Place
	l   *largeFiles
	id  bundle.Identity
	sum hash.Hash // of what was read; nil when the file was verified before
}

// locate says what the medium of a file is now.
func (l *largeFiles) locate(f index.File, place bundle.Place) (*located, error) {
	id, err := place.Medium.Identity()
	return &located{File: f, Place: place, l: l, id: id}, err
}

func (f *located) readAt(_ context.Context, p []byte, at int64) (int, error) {
	n, err := f.Medium.ReadAt(p, f.Place.Offset+at)
	if f.sum != nil {
		f.sum.Write(p[:n])
	}
	return n, err
}

// verify hashes the file unless that was done before; a few at a time.
func (f *located) verify(ctx context.Context) error {
	if f.sum == nil {
		return nil
	}
	select {
	case f.l.partials <- struct{}{}:
		defer func() { <-f.l.partials }()
	case <-ctx.Done():
		return ctx.Err()
	}
	err := f.l.send(ctx, io.Discard, f.Size, f)
	f.sum = nil
	return err
}

func (f *located) check(context.Context) error {
	if f.sum == nil {
		return f.same()
	}
	if [32]byte(f.sum.Sum(nil)) != f.SHA256 {
		f.l.damaged(f.Path)
		return &bundle.NotVerifiedError{What: f.Path, Err: errHash}
	}
	f.l.setVerified(f)
	f.l.repaired(f.Path)
	return nil
}

func (f *located) close() {}

// same returns an error when the medium is not what it was.
func (f *located) same() error {
	if id, err := f.Medium.Identity(); err != nil || !f.id.Same(id) {
		return cmp.Or(err, errChanged)
	}
	return nil
}

// isVerified reports whether f was verified in a medium that was the same.
func (l *largeFiles) isVerified(f *located) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if known, ok := l.ids[f.Medium]; !ok || !slices.Equal(known, f.id) {
		l.ids[f.Medium] = f.id
		if ok {
			clear(l.verified)
		}
	}
	return l.verified[f.ID/64]>>(f.ID%64)&1 == 1
}

// setVerified remembers that f was verified, if its medium is what it was before.
func (l *largeFiles) setVerified(f *located) {
	err := f.same()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && slices.Equal(l.ids[f.Medium], f.id) {
		l.verified[f.ID/64] |= 1 << (f.ID % 64)
	}
}

// forget has f verified again before it is sent.
func (l *largeFiles) forget(f *located) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.verified[f.ID/64] &^= 1 << (f.ID % 64)
}

var (
	errHash    = errors.New("its SHA-256 is not the one in the index")
	errChanged = errors.New("the bundle changed while a file was sent")
)

// A readerAt is a source as http.ServeContent reads it.
type readerAt struct {
	ctx context.Context
	src source
}

func (r readerAt) ReadAt(p []byte, at int64) (int, error) { return r.src.readAt(r.ctx, p, at) }

// A part reads a file for http.ServeContent: verified before the first byte, and given out only while
// the bundle is the same. Conditions that need no byte cost no hashing.
type part struct {
	*io.SectionReader
	ctx      context.Context
	renew    func()
	src      source
	verified bool
	err      error // what Read returned, which ServeContent keeps to itself
}

// Read reads from the verified file.
func (p *part) Read(b []byte) (n int, err error) {
	if !p.verified {
		if p.err = p.src.verify(p.ctx); p.err != nil {
			return 0, p.err
		}
		p.verified = true
	}
	p.renew()
	if n, err = p.SectionReader.Read(b); n > 0 {
		if p.err = p.src.check(p.ctx); p.err != nil {
			return 0, p.err
		}
	}
	if err != nil && err != io.EOF {
		p.err = err
	}
	return n, err
}

const (
	// largeBuffer is what a transfer reads and sends at once, in bytes, while there are no more
	// than largeBuffers of them; further ones make do with smallBuffer, so that clients that
	// do not read cost little. The last 64 KiB of a file, or the last small buffer, are held back
	// until its hash is known.
	largeBuffer  = 256 << 10
	largeBuffers = 16
	smallBuffer  = 16 << 10

	// verifiers is how many files are hashed at once because someone asked for a part.
	verifiers = 2
)
