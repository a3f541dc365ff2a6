package media

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/modmirror/modmirror/internal/safefile"
)

// A Stream is media that are being copied from a reader into a file: a read beyond what was copied
// waits until it is, or until its context is done. It is safe for concurrent use; the caller owns
// the file.
//
// A goroutine copies while it is ahead of the reads by less than readAhead. The reader may still be
// in use after Close, by a Read that does not return.
type Stream struct {
	name string
	r    io.Reader
	file *safefile.File

	mu     sync.Mutex
	limit  int64 // the size in the manifest, once it is known
	known  bool
	n      int64         // bytes that were copied
	target int64         // copying goes on to here
	more   chan struct{} // closed when n, eof or err changes; nil when nobody waits
	eof    bool
	err    error // of copying, which ended
	closed bool

	copying bool // a goroutine copies, which owns buf
	buf     []byte
}

// readAhead is how far the stream is copied ahead of what is read, in bytes, once the size is
// known.
const readAhead = 4 << 20

// NewStream returns the stream of r, which is copied into file. At most limit bytes are copied
// until CheckSize knows the size.
func NewStream(name string, r io.Reader, file *safefile.File, limit int64) *Stream {
	return &Stream{name: name, r: r, file: file, limit: limit}
}

// Name returns what the stream is called in messages.
func (s *Stream) Name() string { return s.name }

// Size returns the size in the manifest, or the limit before CheckSize.
func (s *Stream) Size() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit
}

// ReadAt waits until the stream is copied to the end of the range and reads the range. Errors of
// copying are *UnreadError. The error is io.EOF when the stream ends before the range does.
func (s *Stream) ReadAt(ctx context.Context, p []byte, at int64) (int, error) {
	if err := s.fill(ctx, at+int64(len(p))); err != nil {
		return 0, &UnreadError{err}
	}
	return s.file.ReadAt(p, at)
}

// fill waits until the stream is copied up to end, or to its own end if that comes first.
func (s *Stream) fill(ctx context.Context, end int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.copyTo(end)
	for s.n < end && !s.eof {
		switch {
		case s.err != nil:
			return s.err
		case s.more == nil:
			s.more = make(chan struct{})
		}
		more := s.more
		s.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
		}
		s.mu.Lock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.copyTo(end)
	}
	if end > s.limit { // it was asked whether there are more
		return s.err
	}
	return nil
}

// copyTo has the stream copied to end, and beyond. The caller holds s.mu.
func (s *Stream) copyTo(end int64) {
	if s.known {
		end = max(end, min(end+readAhead, s.limit))
	}
	s.target = max(s.target, end)
	if s.n < s.target && !s.copying && s.canCopy() {
		s.copying = true
		go s.copy()
	}
}

// copy copies up to the target.
func (s *Stream) copy() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buf == nil {
		s.buf = make([]byte, 256<<10)
	}
	for s.n < s.target && s.canCopy() {
		at, limit := s.n, s.limit
		s.mu.Unlock()
		n, err := s.r.Read(s.buf[:min(int64(len(s.buf)), max(limit-at, 1))])
		_, writeErr := s.file.WriteAt(s.buf[:n], at)
		s.mu.Lock()
		s.n += int64(n)
		switch {
		case writeErr != nil:
			s.n, s.err = at, writeErr
		case s.n > s.limit:
			s.err = &NotVerifiedError{"size", fmt.Errorf("more than the %d bytes that the manifest says", s.limit)}
		case err == io.EOF:
			s.eof = true
		default:
			s.err = err
		}
		if s.more != nil {
			close(s.more)
			s.more = nil
		}
	}
	s.copying = false
}

// canCopy reports whether there may be more to copy. The caller holds s.mu.
func (s *Stream) canCopy() bool { return !s.eof && s.err == nil && !s.closed }

// End reads the rest of the stream and returns a *NotVerifiedError unless it ends at the size in
// the manifest.
func (s *Stream) End(ctx context.Context) error {
	size := s.Size()
	if err := s.fill(ctx, size+1); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n != size {
		return &NotVerifiedError{"size", fmt.Errorf("%d bytes, the manifest says %d", s.n, size)}
	}
	return nil
}

// NewReader returns a section of the stream.
func (s *Stream) NewReader(ctx context.Context, at, size int64) io.ReadCloser {
	return io.NopCloser(io.NewSectionReader(ReaderAt(ctx, s), at, size))
}

// Open opens a content.
func (s *Stream) Open(_ context.Context, r Ref) (Content, error) { return openLocal(s, r, s.file.File) }

// ReadContent returns a content, verified.
func (s *Stream) ReadContent(ctx context.Context, r Ref) ([]byte, error) {
	return readLocal(ctx, s, r)
}

// CheckSize takes note of the size in the manifest. No more bytes are copied.
func (s *Stream) CheckSize(want int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit, s.known = want, true
	return nil
}

// Where returns "": there is one file.
func (s *Stream) Where(int64, int64) string { return "" }

// Remove does nothing: the caller owns the file.
func (s *Stream) Remove() error { return nil }

// Close ends the copying. The caller owns the file.
func (s *Stream) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}
