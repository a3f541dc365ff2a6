package bundle

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sort"
	"strings"
	"syscall"
	"time"

	"github.com/modmirror/modmirror/internal/bucket"
)

// A Medium is where the bytes of a bundle are: a file, the pieces of one in order (team.tar.001, …), or a file into which a
// stream is being copied. It is safe for concurrent use.
type Medium struct {
	name  string // as it was named, without .001
	files []*os.File
	ends  []int64 // where each file ends, from the start of the bundle
	parts bool    // the files are pieces

	fill func(end int64) error // has the stream copied up to there; nil for no stream

	remote *bucket.Object  // it is in a bucket, without files here
	ctx    context.Context // of who opened that; nothing is read when it is done
	cache  *Cache          // of its contents
}

// Remote reports whether the bytes are in a bucket: contents of it are to be had by Place.Fetch.
func (m *Medium) Remote() bool { return m.remote != nil }

// remoteTimeout is how long it may take to read a piece of what is remote.
const remoteTimeout = time.Minute

// remoteMedium returns the medium of an object. It reads nothing.
func remoteMedium(ctx context.Context, o *bucket.Object, cache *Cache) *Medium {
	return &Medium{name: o.String(), ends: []int64{o.Size}, remote: o, ctx: ctx, cache: cache}
}

// tooLate says of a deadline that passed that the storage did not answer in time.
func tooLate(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &bucket.UnavailableError{What: "reading", Err: err}
	}
	return err
}

// section returns size bytes from an offset, to be read from the first to the last.
func (m *Medium) section(ctx context.Context, at, size int64) io.ReadCloser {
	if m.remote != nil {
		return m.remote.NewReader(ctx, at, size)
	}
	return io.NopCloser(io.NewSectionReader(m, at, size))
}

// pieceName returns the name of piece n, from 1, of a bundle in pieces.
func pieceName(base string, n int) string { return fmt.Sprintf("%s.%03d", base, n) }

// openMedium opens a bundle's file, or its pieces when the name is that of the first one, or when there are only those.
func openMedium(path string) (_ *Medium, err error) {
	if strings.HasSuffix(path, manifestExt) {
		return nil, errCatalogue
	}
	base, isPiece := strings.CutSuffix(path, ".001")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) && !isPiece {
		if _, err := os.Stat(pieceName(path, 1)); err == nil {
			base, isPiece = path, true
		}
	}
	m := &Medium{name: path, parts: isPiece}
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	if !isPiece {
		return m, m.add(path)
	}
	m.name = base
	for n := 1; ; n++ {
		if err := m.add(pieceName(base, n)); n > 1 && errors.Is(err, fs.ErrNotExist) {
			return m, nil
		} else if err != nil {
			return nil, err
		}
	}
}

func (m *Medium) add(path string) error {
	f, err := openRegular(path)
	if err != nil {
		return err
	}
	m.files = append(m.files, f)
	st, err := f.Stat()
	if err != nil {
		return err
	}
	m.ends = append(m.ends, m.size()+st.Size())
	return nil
}

// openRegular opens a regular file and nothing else: to open a pipe could wait for ever. The caller names the path in errors.
func openRegular(path string) (*os.File, error) {
	st, err := os.Stat(path)
	switch {
	case err == nil && st.IsDir():
		return nil, errors.New("it is a folder, not a bundle")
	case err == nil && !st.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	}
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be another one by now
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

// openBeside is openRegular for what lies beside a bundle, or is copied from where one lies: not
// through a symbolic link, since what is read is what the medium holds, and not a file of this
// machine that only the one who reads may see.
func openBeside(path string) (*os.File, error) {
	before, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	if before.Mode()&fs.ModeSymlink != 0 {
		return nil, errLink
	}
	f, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err != nil || !os.SameFile(st, before) { // exchanged since
		f.Close()
		return nil, cmp.Or(err, errLink)
	}
	return f, nil
}

var errLink = errors.New("it is a symbolic link: carry the file itself")

// size returns how many bytes there are, or were when it was opened.
func (m *Medium) size() int64 {
	if len(m.ends) == 0 {
		return 0
	}
	return m.ends[len(m.ends)-1]
}

// Close closes the files.
func (m *Medium) Close() error {
	var errs []error
	for _, f := range m.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// remove removes the files; who has them open reads on.
func (m *Medium) remove() error {
	var errs []error
	for _, f := range m.files {
		errs = append(errs, removeIfThere(f.Name()))
	}
	return errors.Join(errs...)
}

// ReadAt reads from the bundle as if it were one file.
func (m *Medium) ReadAt(p []byte, at int64) (n int, err error) {
	if m.remote != nil {
		ctx, cancel := context.WithTimeout(m.ctx, remoteTimeout)
		defer cancel()
		if n, err = m.remote.ReadAt(ctx, p, at); err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			err = &remoteError{tooLate(err)}
		}
		return n, err
	}
	if m.fill != nil {
		if err := m.fill(at + int64(len(p))); err != nil {
			return 0, &fillError{err}
		}
	}
	if len(m.files) == 1 {
		return m.files[0].ReadAt(p, at)
	}
	i := sort.Search(len(m.ends), func(i int) bool { return m.ends[i] > at })
	for ; i < len(m.files) && len(p) > 0; i++ {
		start := int64(0)
		if i > 0 {
			start = m.ends[i-1]
		}
		k, err := m.files[i].ReadAt(p[:min(int64(len(p)), m.ends[i]-at)], at-start)
		n += k
		if err != nil && at+int64(k) != m.ends[i] {
			return n, fmt.Errorf("%s: %w", m.files[i].Name(), err)
		}
		p = p[k:]
		at += int64(k)
	}
	if len(p) > 0 {
		return n, io.EOF
	}
	return n, nil
}

// A remoteError is one of reading from a bucket: nothing is known of what is there.
type remoteError struct{ err error }

func (e *remoteError) Error() string { return e.err.Error() }
func (e *remoteError) Unwrap() error { return e.err }

// A fillError is one of copying a stream: nothing is known of what it would have brought.
type fillError struct{ err error }

func (e *fillError) Error() string { return e.err.Error() }
func (e *fillError) Unwrap() error { return e.err }

// piecesAt returns the names of the files that have some bytes of the bundle.
func (m *Medium) piecesAt(at, size int64) string {
	var names []string
	start := int64(0)
	for i, end := range m.ends {
		if start < at+max(size, 1) && end > at {
			names = append(names, m.files[i].Name())
		}
		start = end
	}
	return strings.Join(names, " or ")
}

// checkSize checks that there are as many bytes as the manifest says, and names the piece that is missing or of another bundle.
func (m *Medium) checkSize(want int64) error {
	if m.fill != nil || m.size() == want && !m.parts {
		return nil
	}
	if !m.parts {
		return &NotVerifiedError{"size", fmt.Errorf("%d bytes, the manifest says %d", m.size(), want)}
	}
	piece := m.ends[0]
	n := pieceCount(want, piece)
	if n > maxPieces {
		return &NotVerifiedError{m.files[0].Name(), fmt.Errorf("with pieces of %d bytes there would be more than %d", piece, maxPieces)}
	}
	if n > len(m.files) {
		return &MissingPieceError{Names: missingPieces(m.name, n, func(name string) bool {
			_, err := os.Stat(name)
			return err == nil
		})}
	}
	start := int64(0)
	for i, end := range m.ends {
		size := min(piece, want-start)
		if i >= n || end-start != size {
			return &NotVerifiedError{m.files[i].Name(), fmt.Errorf("it is not a piece of this bundle: %d bytes, want %d", end-start, max(size, 0))}
		}
		start = end
	}
	return nil
}

func pieceCount(size, piece int64) int {
	if piece <= 0 {
		return 0
	}
	return int(min((size+piece-1)/piece, maxPieces+1))
}

// missingPieces returns the names of the pieces, of n, that are not there.
func missingPieces(base string, n int, there func(name string) bool) (names []string) {
	for i := 1; i <= n; i++ {
		if name := pieceName(base, i); !there(name) {
			names = append(names, name)
		}
	}
	return names
}

// A MissingPieceError names the pieces of a bundle that are not at hand.
type MissingPieceError struct{ Names []string }

// Error names them.
func (e *MissingPieceError) Error() string {
	const some = 10
	names := slices.Clone(e.Names[:min(some, len(e.Names))])
	text := strings.Join(names, ", ")
	if n := len(e.Names) - some; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return "missing of the bundle's pieces: " + text
}
