package bundle

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sort"
	"strings"
)

// A Medium is where the bytes of a bundle are: a file, the pieces of one in order (team.tar.001, …), or a file into which a
// stream is being copied. It is safe for concurrent use.
type Medium struct {
	name  string // as it was named, without .001
	files []*os.File
	ends  []int64 // where each file ends, from the start of the bundle
	parts bool    // the files are pieces

	fill func(end int64) error // has the stream copied up to there; nil for no stream
}

// pieceName returns the name of piece n, from 1, of a bundle in pieces.
func pieceName(base string, n int) string { return fmt.Sprintf("%s.%03d", base, n) }

// openMedium opens a bundle's file, or its pieces when the name is that of the first one, or when there are only those.
func openMedium(path string) (_ *Medium, err error) {
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
	st, err := os.Stat(path)
	if err == nil && st.IsDir() {
		return errors.New("it is a folder, not a bundle")
	}
	if err == nil && !st.Mode().IsRegular() { // opening a pipe could wait for ever
		return errors.New("not a regular file")
	}
	if err != nil {
		return errors.Unwrap(err) // the caller names the path
	}
	f, err := os.Open(path)
	if err != nil {
		return errors.Unwrap(err)
	}
	m.files = append(m.files, f)
	if st, err = f.Stat(); err != nil {
		return err
	}
	m.ends = append(m.ends, m.size()+st.Size())
	return nil
}

// size returns how many bytes there are, or were when it was opened.
func (m *Medium) size() int64 {
	if len(m.ends) == 0 {
		return 0
	}
	return m.ends[len(m.ends)-1]
}

// Files returns the open files, for finding out whether they are still the same.
func (m *Medium) Files() []*os.File { return m.files }

// Close closes the files.
func (m *Medium) Close() error {
	var errs []error
	for _, f := range m.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// ReadAt reads from the bundle as if it were one file.
func (m *Medium) ReadAt(p []byte, at int64) (n int, err error) {
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

// A fillError is one of copying a stream: nothing is known of what it would have brought.
type fillError struct{ err error }

func (e *fillError) Error() string { return e.err.Error() }
func (e *fillError) Unwrap() error { return e.err }

// PieceAt returns the name of the file that has a byte of the bundle.
func (m *Medium) PieceAt(at int64) string {
	i := sort.Search(len(m.ends), func(i int) bool { return m.ends[i] > at })
	return m.files[min(i, len(m.files)-1)].Name()
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
	return int((size + piece - 1) / piece)
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
