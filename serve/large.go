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
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/index"
)

// buffers lends buffers to transfers. It is safe for concurrent use.
type buffers struct {
	large chan []byte // unused ones of largeBuffer bytes; nil for one that was not made yet
	small sync.Pool   // of *[]byte of smallBuffer bytes
}

func newBuffers() *buffers {
	b := &buffers{large: make(chan []byte, largeBuffers)}
	b.small.New = func() any { buf := make([]byte, smallBuffer); return &buf }
	for range largeBuffers {
		b.large <- nil
	}
	return b
}

// get lends a buffer until done is called.
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

// largeFiles serves the files of one line that are larger than smallFile, and remembers which of
// them were verified. It is safe for concurrent use.
type largeFiles struct {
	bundle   *bundle.Bundle
	buffers  *buffers
	damaged  func(path string) // called when a file does not verify
	repaired func(path string) // called when a file verifies
	partials chan struct{}     // held while a file is hashed for a range

	mu       sync.Mutex                     // guards what follows
	ids      map[media.Media]media.Identity // of the media when files in them were verified
	verified []uint64                       // a bit for each file, by its number in the index
}

func newLargeFiles(b *bundle.Bundle, buf *buffers, damaged, repaired func(string)) *largeFiles {
	return &largeFiles{
		bundle: b, buffers: buf, damaged: damaged, repaired: repaired,
		partials: make(chan struct{}, verifiers),
		ids:      make(map[media.Media]media.Identity),
		verified: make([]uint64, b.Manifest.Counts.Files/64+1),
	}
}

// serve serves a large file, which e describes. An error that it returns was not answered yet.
// After the first byte it panics with http.ErrAbortHandler instead, which cuts the connection.
func (l *largeFiles) serve(h *handler, w *exchange, f index.File, e *entry) error {
	r := w.req
	if strings.Contains(r.Header.Get("Range"), ",") {
		// No go command asks for several ranges. http.ServeContent would read them in a goroutine
		// that outlives this call.
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
		section := io.NewSectionReader(readerAt{r.Context(), src}, 0, f.Size)
		p := &part{SectionReader: section, ctx: r.Context(), renew: renewal(w), src: src}
		http.ServeContent(w, r, "", e.modified, p)
		err = p.err
	} else {
		w.Header().Set("Content-Length", fmt.Sprint(f.Size))
		err = l.send(r.Context(), w, f.Size, src)
	}
	switch {
	case err == nil:
		return nil
	case w.status == 0 && r.Context().Err() == nil: // nothing was sent
		return err
	case r.Context().Err() == nil:
		h.log.Error("cut a connection", "path", e.path, "client", w.origin().addr, "request", w.requestID(), "err", err)
	}
	panic(http.ErrAbortHandler)
}

// send copies a file to w, which may be io.Discard. It writes the last piece only after src.check
// has found all of the file right.
func (l *largeFiles) send(ctx context.Context, w io.Writer, size int64, src source) error {
	all, done := l.buffers.get()
	defer done()
	renew := renewal(w)
	for at := int64(0); at < size; {
		left := size - at
		buf := all[:min(left, int64(len(all)))]
		if hold := min(smallFile, int64(len(all))); left > hold { // the last piece has hold bytes
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

// renewal returns a function that gives the client of w more time to take the next bytes.
func renewal(w io.Writer) func() {
	rw, ok := w.(http.ResponseWriter)
	if !ok {
		return func() {}
	}
	c := http.NewResponseController(rw)
	return func() { c.SetWriteDeadline(time.Now().Add(writeTimeout)) }
}

// A source reads one large file: of a bundle on a disk, or of one in a bucket through its cache.
type source interface {
	// readAt reads bytes. They may be wrong until check returns nil.
	readAt(ctx context.Context, p []byte, at int64) (int, error)

	// verify returns nil once all of the file is known to be right, also of a file that the caller
	// has not read.
	verify(ctx context.Context) error

	// check returns nil when all bytes that readAt returned are right. It may be called after
	// readAt read the file from its start to its end, or after verify.
	check(ctx context.Context) error

	close()
}

// open opens a file. The caller closes the source.
func (l *largeFiles) open(ctx context.Context, f index.File) (source, error) {
	from, err := l.bundle.Find(f)
	if err != nil {
		return nil, err
	}
	content, err := from.Open(ctx, f)
	if err != nil {
		return nil, err
	}
	if content.Verifies() {
		return &fetched{l, f, content}, nil
	}
	at := &located{File: f, l: l, media: from.Media, content: content}
	if !l.isVerified(at) {
		at.sum = sha256.New()
	}
	return at, nil
}

// A fetched is a source whose media verify it, such as a bucket behind a cache.
type fetched struct {
	l   *largeFiles
	f   index.File
	got media.Content
}

func (s *fetched) readAt(ctx context.Context, p []byte, at int64) (int, error) {
	return s.got.ReadAt(ctx, p, at)
}

func (s *fetched) verify(ctx context.Context) error { return s.check(ctx) }

func (s *fetched) check(ctx context.Context) error {
	err := s.got.Check(ctx)
	if _, bad := errors.AsType[*bundle.NotVerifiedError](err); bad {
		s.l.damaged(s.f.Path)
	} else if err == nil {
		s.l.repaired(s.f.Path)
	}
	return err
}

func (s *fetched) close() { s.got.Close() }

// A located is a source on a disk. It hashes the file while that is read from its start to its end.
// When the file was verified before, it compares the identity of the media instead.
type located struct {
	index.File
	l       *largeFiles
	media   media.Media
	content media.Content
	sum     hash.Hash // of the bytes that were read; nil when the file was verified before
}

func (f *located) readAt(ctx context.Context, p []byte, at int64) (int, error) {
	n, err := f.content.ReadAt(ctx, p, at)
	if f.sum != nil {
		f.sum.Write(p[:n])
	}
	return n, err
}

// verify hashes the file unless it was verified before. It waits while verifiers others are hashed.
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

func (f *located) check(ctx context.Context) error {
	if f.sum == nil {
		return f.content.Check(ctx)
	}
	if [32]byte(f.sum.Sum(nil)) != f.SHA256 {
		f.l.damaged(f.Path)
		return &bundle.NotVerifiedError{What: f.Path, Err: media.ErrHash}
	}
	f.l.setVerified(ctx, f)
	f.l.repaired(f.Path)
	return nil
}

func (f *located) close() { f.content.Close() }

// isVerified reports whether f was verified in its media as they are. When the media have changed
// it forgets all files.
func (l *largeFiles) isVerified(f *located) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := f.content.Identity()
	if known, ok := l.ids[f.media]; !ok || !slices.Equal(known, id) {
		l.ids[f.media] = id
		if ok {
			clear(l.verified)
		}
	}
	return l.verified[f.ID/64]>>(f.ID%64)&1 == 1
}

// setVerified remembers that f was verified, unless its media have changed meanwhile.
func (l *largeFiles) setVerified(ctx context.Context, f *located) {
	err := f.content.Check(ctx)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && slices.Equal(l.ids[f.media], f.content.Identity()) {
		l.verified[f.ID/64] |= 1 << (f.ID % 64)
	}
}

// forget forgets that f was verified.
func (l *largeFiles) forget(f *located) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.verified[f.ID/64] &^= 1 << (f.ID % 64)
}

// A readerAt adapts a source to io.ReaderAt.
type readerAt struct {
	ctx context.Context
	src source
}

func (r readerAt) ReadAt(p []byte, at int64) (int, error) { return r.src.readAt(r.ctx, p, at) }

// A part reads a file for http.ServeContent. It verifies the file before the first byte, and checks
// each piece. A request that needs no byte, such as one with a condition, hashes nothing.
type part struct {
	*io.SectionReader
	ctx      context.Context
	renew    func()
	src      source
	verified bool
	err      error // of Read; ServeContent does not return it
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
	// largeBuffer is how many bytes each of the first largeBuffers transfers reads and sends at
	// once. Further ones make do with smallBuffer, so that clients that do not read cost little.
	// The last 64 KiB of a file, or the last small buffer, are held back until its hash is known.
	largeBuffer  = 256 << 10
	largeBuffers = 16
	smallBuffer  = 16 << 10

	// verifiers is how many files are hashed at once for requests of a range.
	verifiers = 2
)
