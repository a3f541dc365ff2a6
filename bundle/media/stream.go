package media

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
)

// A Stream is media that are being copied from a reader into a file: a read beyond what was copied
// copies as much as it needs. It is safe for concurrent use; the caller owns the file.
type Stream struct {
	name string
	r    io.Reader
	file *os.File

	mu    sync.Mutex
	limit int64 // the size in the manifest, once it is known
	n     int64 // bytes that were copied
	eof   bool
	buf   []byte
}

// NewStream returns the stream of r, which is copied into file. At most limit bytes are copied
// until CheckSize knows the size.
func NewStream(name string, r io.Reader, file *os.File, limit int64) *Stream {
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

// ReadAt copies the stream to the end of the range and reads the range. Errors of copying are
// *UnreadError. The error is io.EOF when the stream ends before the range does.
func (s *Stream) ReadAt(_ context.Context, p []byte, at int64) (int, error) {
	if err := s.fill(at + int64(len(p))); err != nil {
		return 0, &UnreadError{err}
	}
	return s.file.ReadAt(p, at)
}

// fill copies up to end, or to the end of the stream if that comes first.
func (s *Stream) fill(end int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.buf == nil {
		s.buf = make([]byte, 256<<10)
	}
	for s.n < end && !s.eof {
		n, err := s.r.Read(s.buf[:min(int64(len(s.buf)), max(s.limit-s.n, 1))])
		if _, err := s.file.WriteAt(s.buf[:n], s.n); err != nil {
			return err
		}
		s.n += int64(n)
		if s.n > s.limit {
			return &NotVerifiedError{"size", fmt.Errorf("more than the %d bytes that the manifest says", s.limit)}
		}
		if err == io.EOF {
			s.eof = true
		} else if err != nil {
			return err
		}
	}
	return nil
}

// End reads the rest of the stream and returns a *NotVerifiedError unless it ends at the size in
// the manifest.
func (s *Stream) End() error {
	size := s.Size()
	if err := s.fill(size + 1); err != nil {
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
func (s *Stream) Open(_ context.Context, r Ref) (Content, error) { return openLocal(s, r, s.file) }

// ReadContent returns a content, verified.
func (s *Stream) ReadContent(ctx context.Context, r Ref) ([]byte, error) {
	return readLocal(ctx, s, r)
}

// CheckSize takes note of the size in the manifest. No more bytes are copied.
func (s *Stream) CheckSize(want int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = want
	return nil
}

// Where returns "": there is one file.
func (s *Stream) Where(int64, int64) string { return "" }

// Remove does nothing: the caller owns the file.
func (s *Stream) Remove() error { return nil }

// Close does nothing: the caller owns the file.
func (s *Stream) Close() error { return nil }
