// Package media reads the bytes of a bundle wherever they are: in a file, in pieces, in a stream
// that is being copied, or in object storage behind a cache. It also splits bundles into pieces.
package media

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
)

// Media is where the bytes of a bundle are. Implementations are safe for concurrent use.
type Media interface {
	// Name returns the name for messages: a path without the number of a piece, or a URL.
	Name() string

	// ReadAt reads len(p) bytes from an offset in the bundle, as io.ReaderAt does. The bytes are
	// not verified. Media that are not at hand wait for them until ctx is done. An *UnreadError
	// means that nothing is known of the bytes, whatever it wraps; io.EOF itself means that they
	// end.
	ReadAt(ctx context.Context, p []byte, at int64) (int, error)

	// NewReader returns size bytes from an offset, for one pass from the first to the last. The
	// caller closes it.
	NewReader(ctx context.Context, at, size int64) io.ReadCloser

	// Open opens the content that r names. The caller closes it.
	Open(ctx context.Context, r Ref) (Content, error)

	// ReadContent returns the whole content that r names, verified: a small one.
	ReadContent(ctx context.Context, r Ref) ([]byte, error)

	// Size returns how many bytes there are, or were when the media were opened.
	Size() int64

	// CheckSize returns an error unless the media can hold a bundle of want bytes, the size in its
	// manifest: a *NotVerifiedError, or a *MissingPieceError.
	CheckSize(want int64) error

	// Where returns which file holds a range of bytes, "" when there is only one. The range may
	// touch several: "a or b".
	Where(at, size int64) string

	// Remove removes the files. A reader that has them open reads on.
	Remove() error

	// Close releases the media. Contents that are open must be closed before.
	Close() error
}

// A Ref names a content by its place and by what it must be.
type Ref struct {
	Path   string // for messages: the path in the bundle
	Offset int64  // from the start of the media, in bytes
	Size   int64  // in bytes
	SHA256 [32]byte
}

// A Content is one file of a bundle, open for reading.
type Content interface {
	// ReadAt reads len(p) bytes from an offset in the content. The bytes may be wrong until Check
	// returns nil.
	ReadAt(ctx context.Context, p []byte, at int64) (int, error)

	// Verifies reports whether Check compares the content with its SHA-256. Otherwise the caller
	// must do so, and Check only says whether the media are the same as at Open.
	Verifies() bool

	// Identity returns what the media were at Open, nil when they cannot change.
	Identity() Identity

	// Check returns nil when the media still are what they were at Open, and, if Verifies, when the
	// whole content is there and right. It waits for that until ctx is done.
	Check(ctx context.Context) error

	Close() error
}

// Open opens a bundle's file, or its pieces when path is the first one or only pieces exist.
func Open(path string) (Media, error) {
	base, isPiece := strings.CutSuffix(path, ".001")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !isPiece {
		if _, err := os.Stat(pieceName(path, 1)); err == nil {
			base, isPiece = path, true
		}
	}
	if isPiece {
		m, err := openPieces(base)
		if err != nil {
			return nil, err // and not a *pieces that is nil
		}
		return m, nil
	}
	m, err := OpenFile(path)
	if err != nil {
		return nil, err
	}
	return m, nil
}

// OpenInput opens a bundle's file or its pieces as one stream, and returns its size in bytes.
func OpenInput(path string) (io.ReadCloser, int64, error) {
	m, err := Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("opening %s: %w", path, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{m.NewReader(context.Background(), 0, m.Size()), m}, m.Size(), nil
}

// ReaderAt returns m as an io.ReaderAt whose reads end when ctx is done.
func ReaderAt(ctx context.Context, m interface {
	ReadAt(ctx context.Context, p []byte, at int64) (int, error)
}) io.ReaderAt {
	return readerAt{ctx, m}
}

type readerAt struct {
	ctx context.Context
	m   interface {
		ReadAt(ctx context.Context, p []byte, at int64) (int, error)
	}
}

func (r readerAt) ReadAt(p []byte, at int64) (int, error) { return r.m.ReadAt(r.ctx, p, at) }

// A NotVerifiedError says which part of a bundle does not verify, and why.
type NotVerifiedError struct {
	What string // such as "signature", "index.sqlite" or a path
	Err  error
}

// Error names the part and the reason.
func (e *NotVerifiedError) Error() string {
	return fmt.Sprintf("%s does not verify: %v", e.What, e.Err)
}

// Unwrap returns the reason.
func (e *NotVerifiedError) Unwrap() error { return e.Err }

// ErrHash is the reason for a content that has another SHA-256.
var ErrHash = errors.New("its SHA-256 is not the one in the index")

// ErrChanged is the error of media that were replaced while they were read.
var ErrChanged = errors.New("the bundle changed while a file was sent")

// An UnreadError is one of reading the media, such as of a network or of the disk that a stream is
// copied to. Nothing is known of the bytes.
type UnreadError struct{ Err error }

// Error returns the cause's text.
func (e *UnreadError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UnreadError) Unwrap() error { return e.Err }

// An UnavailableError reports object storage that did not answer, or refused to. A later attempt
// may succeed.
type UnavailableError struct {
	What   string // what was being done
	Err    error
	Denied bool // the storage refused, or has no such bucket: the next attempt will fail too
}

// Error says what was being done.
func (e *UnavailableError) Error() string { return fmt.Sprintf("%s: %v", e.What, e.Err) }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }
