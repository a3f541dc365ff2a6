package media

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"github.com/modmirror/modmirror/internal/safefile"
)

// A File is media in one regular file.
type File struct {
	name string
	file *os.File
	size int64 // when it was opened
}

// OpenFile opens a regular file. Errors do not name the path.
func OpenFile(path string) (*File, error) {
	f, err := OpenRegular(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &File{path, f, st.Size()}, nil
}

// Name returns the path.
func (m *File) Name() string { return m.name }

// Size returns the size of the file in bytes when it was opened.
func (m *File) Size() int64 { return m.size }

// ReadAt reads from the file.
func (m *File) ReadAt(_ context.Context, p []byte, at int64) (int, error) {
	return m.file.ReadAt(p, at)
}

// NewReader returns a section of the file.
func (m *File) NewReader(_ context.Context, at, size int64) io.ReadCloser {
	return io.NopCloser(io.NewSectionReader(m.file, at, size))
}

// Open opens a content. The file's identity tells later whether it was replaced.
func (m *File) Open(_ context.Context, r Ref) (Content, error) { return openLocal(m, r, m.file) }

// ReadContent returns a content, verified.
func (m *File) ReadContent(ctx context.Context, r Ref) ([]byte, error) { return readLocal(ctx, m, r) }

// CheckSize compares the size with the manifest's.
func (m *File) CheckSize(want int64) error { return checkSize(m.size, want) }

func checkSize(size, want int64) error {
	if size != want {
		return &NotVerifiedError{"size", fmt.Errorf("%d bytes, the manifest says %d", size, want)}
	}
	return nil
}

// Where returns "": there is one file.
func (m *File) Where(int64, int64) string { return "" }

// Remove removes the file.
func (m *File) Remove() error { return safefile.Remove(m.file.Name()) }

// Close closes the file.
func (m *File) Close() error { return m.file.Close() }

// A local is a content in files of this machine.
type local struct {
	Media
	ref   Ref
	files []*os.File
	id    Identity
}

func openLocal(m Media, r Ref, files ...*os.File) (Content, error) {
	id, err := IdentityOf(files...)
	if err != nil {
		return nil, err
	}
	return &local{m, r, files, id}, nil
}

// ReadAt reads from the content.
func (c *local) ReadAt(ctx context.Context, p []byte, at int64) (int, error) {
	return c.Media.ReadAt(ctx, p, c.ref.Offset+at)
}

// Verifies returns false.
func (c *local) Verifies() bool { return false }

// Identity returns the identity that the files had at Open.
func (c *local) Identity() Identity { return c.id }

// Check returns ErrChanged when the files are not those of Open any more.
func (c *local) Check(context.Context) error {
	if id, err := IdentityOf(c.files...); err != nil || !c.id.Same(id) {
		return cmp.Or(err, ErrChanged)
	}
	return nil
}

// Close does nothing: the media stay open.
func (c *local) Close() error { return nil }

// readLocal reads a whole content and compares it with its SHA-256.
func readLocal(ctx context.Context, m Media, r Ref) ([]byte, error) {
	data := make([]byte, r.Size)
	if _, err := m.ReadAt(ctx, data, r.Offset); err != nil && !(err == io.EOF && r.Size == 0) {
		return nil, fmt.Errorf("reading %s: %w", r.Path, err)
	}
	if sha256.Sum256(data) != r.SHA256 {
		return nil, &NotVerifiedError{r.Path, ErrHash}
	}
	return data, nil
}

// OpenRegular opens a regular file and nothing else: opening a pipe could block for ever. Errors do
// not name the path.
func OpenRegular(path string) (*os.File, error) {
	st, err := os.Stat(path)
	switch {
	case err == nil && st.IsDir():
		return nil, errors.New("it is a folder, not a bundle")
	case err == nil && !st.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	}
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may have been replaced by now
	}
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if st, err = f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return nil, cmp.Or(err, errors.New("not a regular file"))
	}
	return f, nil
}

// OpenBeside is OpenRegular for a file beside a bundle. It does not follow a symbolic link: the
// bytes must be on the medium, and not in a file of this machine that the medium's maker may not
// read.
func OpenBeside(path string) (*os.File, error) {
	before, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if before.Mode()&fs.ModeSymlink != 0 {
		return nil, errLink
	}
	f, err := OpenRegular(path)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !os.SameFile(st, before) { // replaced meanwhile
		f.Close()
		return nil, cmp.Or(err, errLink)
	}
	return f, nil
}

var errLink = errors.New("it is a symbolic link: carry the file itself")

// ReadSmall reads a regular file of at most limit bytes. A longer one is a *NotVerifiedError. Other
// errors do not name the path.
func ReadSmall(name string, limit int64) ([]byte, error) {
	return readWith(OpenRegular, name, limit)
}

// ReadBeside is ReadSmall for a file beside a bundle, which must not be a symbolic link. Errors
// name the path.
func ReadBeside(name string, limit int64) ([]byte, error) {
	data, err := readWith(OpenBeside, name, limit)
	if _, named := errors.AsType[*NotVerifiedError](err); err != nil && !named {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return data, err
}

func readWith(open func(string) (*os.File, error), name string, limit int64) ([]byte, error) {
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = &NotVerifiedError{name, fmt.Errorf("more than %d bytes", limit)}
	}
	return data, err
}

// Hash returns the SHA-256 of the bytes that r has left.
func Hash(r io.Reader) (sum [32]byte, err error) {
	h := sha256.New()
	_, err = io.Copy(h, r)
	h.Sum(sum[:0])
	return sum, err
}
