package media

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/modmirror/modmirror/internal/safefile"
)

const (
	// maxPieces is the largest number of pieces that "cat NAME.*" joins in order.
	maxPieces = 999

	// ListExt ends the name of the list of pieces: "SHA-256  NAME" lines, as sha256sum -c reads.
	ListExt = ".sha256"

	// MaxList is the longest list of pieces in bytes.
	MaxList = 256 << 10
)

// pieces are media in several files, NAME.001, NAME.002 and so on, which join to a bundle.
type pieces struct {
	name  string // without the number
	files []*os.File
	ends  []int64 // where each file ends, from the start of the bundle
}

// openPieces opens all pieces of a base name that exist, up to the first gap.
func openPieces(base string) (_ *pieces, err error) {
	m := &pieces{name: base}
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	for n := 1; ; n++ {
		f, err := OpenRegular(pieceName(base, n))
		if n > 1 && errors.Is(err, fs.ErrNotExist) {
			return m, nil
		}
		if err != nil {
			return nil, err
		}
		m.files = append(m.files, f)
		st, err := f.Stat()
		if err != nil {
			return nil, err
		}
		m.ends = append(m.ends, m.Size()+st.Size())
	}
}

// Name returns the path without the number of a piece.
func (m *pieces) Name() string { return m.name }

// Size returns the size of all pieces in bytes.
func (m *pieces) Size() int64 {
	if len(m.ends) == 0 {
		return 0
	}
	return m.ends[len(m.ends)-1]
}

// ReadAt reads from the pieces that hold the range.
func (m *pieces) ReadAt(_ context.Context, p []byte, at int64) (n int, err error) {
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

// NewReader returns a section of the joined pieces.
func (m *pieces) NewReader(ctx context.Context, at, size int64) io.ReadCloser {
	return io.NopCloser(io.NewSectionReader(ReaderAt(ctx, m), at, size))
}

// Open opens a content.
func (m *pieces) Open(_ context.Context, r Ref) (Content, error) { return openLocal(m, r, m.files...) }

// ReadContent returns a content, verified.
func (m *pieces) ReadContent(ctx context.Context, r Ref) ([]byte, error) {
	return readLocal(ctx, m, r)
}

// CheckSize names the piece that is missing or belongs to another bundle.
func (m *pieces) CheckSize(want int64) error {
	piece := m.ends[0]
	n := PieceCount(want, piece)
	if n > maxPieces {
		return &NotVerifiedError{m.files[0].Name(), fmt.Errorf("with pieces of %d bytes there would be more than %d", piece, maxPieces)}
	}
	if n > len(m.files) {
		return &MissingPieceError{Names: MissingPieces(m.name, n, func(name string) bool {
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

// Where returns the names of the pieces that hold a range.
func (m *pieces) Where(at, size int64) string {
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

// Remove removes the pieces.
func (m *pieces) Remove() error {
	var errs []error
	for _, f := range m.files {
		errs = append(errs, safefile.Remove(f.Name()))
	}
	return errors.Join(errs...)
}

// Close closes the pieces.
func (m *pieces) Close() error {
	var errs []error
	for _, f := range m.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// pieceName returns the name of piece n of a bundle, counted from 1.
func pieceName(base string, n int) string { return fmt.Sprintf("%s.%03d", base, n) }

// FirstPiece returns the name of the first piece of a bundle.
func FirstPiece(base string) string { return pieceName(base, 1) }

// rePieceBase matches the base names of pieces. Such a name becomes that of a folder in a store.
var rePieceBase = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)

var rePiece = regexp.MustCompile(`^(.+)\.([0-9]{3})$`)

// PieceOf splits the path of a piece into the bundle's path and the number of the piece.
func PieceOf(path string) (base string, n int, ok bool) {
	dir, name := filepath.Split(path)
	m := rePiece.FindStringSubmatch(name)
	if m == nil {
		return "", 0, false
	}
	n, _ = strconv.Atoi(m[2])
	return dir + m[1], n, n > 0 && rePieceBase.MatchString(m[1])
}

// Pieces returns the existing pieces, in order, of the bundle that a piece belongs to. path may
// also be the bundle's, when only pieces of it exist. Any other path returns nil.
func Pieces(path string) []string {
	base, _, ok := PieceOf(path)
	if !ok {
		if _, err := os.Stat(path); err == nil || !rePieceBase.MatchString(filepath.Base(path)) {
			return nil
		}
		base = path
	}
	files, err := filepath.Glob(escapeGlob(base) + ".[0-9][0-9][0-9]")
	if err != nil {
		return nil
	}
	return files
}

// CheckNoPieces returns an error that wraps fs.ErrExist when a piece of that base name exists, or a
// list of pieces.
func CheckNoPieces(base string) error {
	there, err := filepath.Glob(escapeGlob(base) + ".[0-9][0-9][0-9]")
	if err != nil {
		return err
	}
	if _, err := os.Lstat(base + ListExt); err == nil {
		there = append(there, base+ListExt)
	}
	if len(there) > 0 {
		return fmt.Errorf("%s is there already: %w", there[0], fs.ErrExist)
	}
	return nil
}

// escapeGlob returns the pattern by which filepath.Glob matches name alone.
func escapeGlob(name string) string {
	return strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]").Replace(name)
}

// PieceCount returns how many pieces of a size make a bundle of size bytes; 0 for an impossible
// piece, and at most one more than can be named.
func PieceCount(size, piece int64) int {
	if piece <= 0 {
		return 0
	}
	return int(min((size+piece-1)/piece, maxPieces+1))
}

// MissingPieces returns the names of those of n pieces that there does not find.
func MissingPieces(base string, n int, there func(name string) bool) (names []string) {
	for i := 1; i <= n; i++ {
		if name := pieceName(base, i); !there(name) {
			names = append(names, name)
		}
	}
	return names
}

// A MissingPieceError names the pieces of a bundle that are not at hand.
type MissingPieceError struct{ Names []string }

// Error names the first ten.
func (e *MissingPieceError) Error() string {
	const some = 10
	names := slices.Clone(e.Names[:min(some, len(e.Names))])
	text := strings.Join(names, ", ")
	if n := len(e.Names) - some; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return "missing of the bundle's pieces: " + text
}

// CheckPieces returns a *NotVerifiedError that names the first piece whose SHA-256 is not the one
// in the list beside it. Without a list it returns nil.
func CheckPieces(pieces []string) error {
	if len(pieces) == 0 {
		return nil
	}
	base, _, _ := PieceOf(pieces[0])
	list, err := ReadList(base + ListExt)
	if err != nil || list == nil {
		return err
	}
	for _, p := range pieces {
		f, err := OpenRegular(p)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		sum, err := Hash(f)
		f.Close()
		if err != nil {
			return err
		}
		if got, want := hex.EncodeToString(sum[:]), list[filepath.Base(p)]; got != want {
			return NotListed(p, got, want)
		}
	}
	return nil
}

// NotListed returns the error of a piece whose SHA-256 is got where the list says want.
func NotListed(piece, got, want string) error {
	return &NotVerifiedError{piece, fmt.Errorf("it is damaged, or a piece of another bundle: its SHA-256 is %s, and the list has %s", got, want)}
}

// ReadList reads a list of pieces and returns their SHA-256, in hex, by name; nil when there is no
// list. The list is not signed: it only helps to tell early which piece is missing or wrong.
func ReadList(file string) (sums map[string]string, err error) {
	data, err := ReadBeside(file, MaxList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return ParseList(file, data)
}

// ParseList parses a list of pieces. file names it in errors, which are *NotVerifiedError.
func ParseList(file string, data []byte) (sums map[string]string, err error) {
	sums = make(map[string]string)
	sc := bufio.NewScanner(bytes.NewReader(data))
	for sc.Scan() {
		sum, name, ok := strings.Cut(sc.Text(), "  ")
		if strings.HasPrefix(sum, "#") || !ok { // modmirror wrote comments once
			continue
		}
		raw, err := hex.DecodeString(sum)
		if _, _, ok := PieceOf(name); !ok || filepath.Base(name) != name || err != nil || len(raw) != sha256.Size {
			return nil, &NotVerifiedError{file, fmt.Errorf("line %.100q is of no piece", sc.Text())}
		}
		sums[name] = sum
	}
	return sums, sc.Err()
}
