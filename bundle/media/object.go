package media

import (
	"context"
	"errors"
	"io"
	"time"
)

// An Object is a bundle in object storage, as package object has it. Implementations are safe for
// concurrent use.
type Object interface {
	// String returns the URL.
	String() string

	// ReadAt reads a range. It ends when ctx is done.
	ReadAt(ctx context.Context, p []byte, offset int64) (int, error)

	// NewReader returns size bytes from an offset, and resumes where a connection breaks. The
	// caller closes it.
	NewReader(ctx context.Context, offset, size int64) io.ReadCloser
}

// objectTimeout is how long reading a range of an object may take.
const objectTimeout = time.Minute

// object is media in object storage.
type object struct {
	Object
	size  int64
	cache *Cache
}

// NewObject returns the media of an object of size bytes. Contents are read through cache, which
// may be nil when only ranges are read. It makes no request.
func NewObject(o Object, size int64, cache *Cache) Media { return &object{o, size, cache} }

// Name returns the URL.
func (m *object) Name() string { return m.String() }

// Size returns the size of the object in bytes.
func (m *object) Size() int64 { return m.size }

// ReadAt reads a range. Errors but for the end of the object are *UnreadError.
func (m *object) ReadAt(ctx context.Context, p []byte, at int64) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, objectTimeout)
	defer cancel()
	n, err := m.Object.ReadAt(ctx, p, at)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		err = &UnreadError{tooLate(err)}
	}
	return n, err
}

// Open opens a content through the cache. Check compares it with its SHA-256.
func (m *object) Open(ctx context.Context, r Ref) (Content, error) {
	f, err := m.cache.fetch(ctx, r, m.Object)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// ReadContent returns a content through the cache, verified. It waits until ctx is done, or for a
// minute.
func (m *object) ReadContent(ctx context.Context, r Ref) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, objectTimeout)
	defer cancel()
	data, err := m.readContent(ctx, r)
	return data, tooLate(err)
}

func (m *object) readContent(ctx context.Context, r Ref) ([]byte, error) {
	c, err := m.Open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	data := make([]byte, r.Size)
	if _, err := c.ReadAt(ctx, data, 0); err != nil && !(err == io.EOF && r.Size == 0) {
		return nil, err
	}
	return data, c.Check(ctx)
}

// CheckSize compares the size with the manifest's.
func (m *object) CheckSize(want int64) error { return checkSize(m.size, want) }

// Where returns "": there is one object.
func (m *object) Where(int64, int64) string { return "" }

// Remove refuses: object storage is only read.
func (m *object) Remove() error { return errors.New("bundles in object storage are not removed") }

// Close does nothing.
func (m *object) Close() error { return nil }

// tooLate returns a deadline that passed as an *UnavailableError: the storage did not answer in
// time.
func tooLate(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &UnavailableError{What: "reading", Err: err}
	}
	return err
}
