package bundle

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/modmirror/modmirror/internal/safefile"
)

const (
	// fat32Piece is the largest file of a FAT32 file system: 4 GiB minus 1 byte.
	fat32Piece = 1<<32 - 1

	// dvdPiece fits on a DVD, and is below the largest file of an ISO 9660 file system without extents, in whole sectors of 2 KiB.
	dvdPiece = 1<<32 - 2048

	// minPiece has room for a manifest and makes no million files of a bundle.
	minPiece = 64 << 10

	// maxPieces is how many can be named so that "cat NAME.*" joins them in order.
	maxPieces = 999

	// listExt ends the name of the list of pieces with their SHA-256.
	listExt = ".sha256"

	maxList = 256 << 10
)

var reSize = regexp.MustCompile(`^([0-9]{1,10})([kKMGT]?)(i?B)?$`)

// ParsePieceSize parses the size of pieces: fat32, dvd, or what ParseSize takes.
func ParsePieceSize(text string) (int64, error) {
	switch text {
	case "fat32":
		return fat32Piece, nil
	case "dvd":
		return dvdPiece, nil
	}
	n, err := ParseSize(text)
	if err != nil {
		return 0, fmt.Errorf("%w, or fat32, or dvd", err)
	}
	if n < minPiece || n > maxSize {
		return 0, fmt.Errorf("pieces of %s are too small or too large: want 64k or more", text)
	}
	return n, nil
}

// ParseSize parses a number of bytes, with k, M, G or T behind for powers of 1024.
func ParseSize(text string) (int64, error) {
	m := reSize.FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("%q is no size: want a number such as 700M or 25G", text)
	}
	n, err := strconv.ParseInt(m[1], 10, 64)
	if err != nil {
		return 0, err
	}
	shift := 10 * strings.Index(" KMGT", strings.ToUpper(m[2] + " ")[:1])
	if n > maxSize>>shift {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return n << shift, nil
}

// Volumes writes a bundle in pieces, NAME.001, NAME.002 and so on, which cat joins, with a list NAME.sha256 that sha256sum -c checks.
// No piece has its name before all of them are whole.
type Volumes struct {
	base  string
	piece int64
	files []*safefile.File
	sums  []string
	cur   hash.Hash
	left  int64 // in the piece that is being written
}

// NewVolumes begins to write pieces of at most so many bytes. Pieces that are there are not overwritten: they could be mixed up with the new ones.
func NewVolumes(base string, piece int64) (*Volumes, error) {
	if err := CheckNoPieces(base); err != nil {
		return nil, err
	}
	return &Volumes{base: base, piece: piece}, nil
}

// CheckNoPieces returns an error, which wraps fs.ErrExist, when there is a piece of that name, or a
// list of pieces.
func CheckNoPieces(base string) error {
	there, err := filepath.Glob(escapeGlob(base) + ".[0-9][0-9][0-9]")
	if err != nil {
		return err
	}
	if _, err := os.Lstat(base + listExt); err == nil {
		there = append(there, base+listExt)
	}
	if len(there) > 0 {
		return fmt.Errorf("%s is there already: %w", there[0], fs.ErrExist)
	}
	return nil
}

// Write writes to the pieces.
func (v *Volumes) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		if v.left == 0 {
			if err := v.next(); err != nil {
				return n, err
			}
		}
		part := p[:min(int64(len(p)), v.left)]
		k, err := v.files[len(v.files)-1].Write(part)
		v.cur.Write(part[:k])
		v.left -= int64(k)
		n += k
		if err != nil {
			return n, err
		}
		p = p[k:]
	}
	return n, nil
}

// next finishes a piece and begins another one.
func (v *Volumes) next() error {
	if err := v.finish(); err != nil {
		return err
	}
	if len(v.files) == maxPieces {
		return fmt.Errorf("more than %d pieces: make them larger", maxPieces)
	}
	f, err := safefile.Create(pieceName(v.base, len(v.files)+1), 0o666)
	if err != nil {
		return err
	}
	v.files = append(v.files, f)
	v.cur, v.left = sha256.New(), v.piece
	return nil
}

func (v *Volumes) finish() error {
	if len(v.files) == 0 {
		return nil
	}
	v.sums = append(v.sums, hex.EncodeToString(v.cur.Sum(nil)))
	return v.files[len(v.files)-1].Finish()
}

// Commit gives the pieces their names, and the list its.
func (v *Volumes) Commit() error {
	if err := v.finish(); err != nil {
		return err
	}
	name := filepath.Base(v.base)
	list := "" // without comments, which sha256sum -c of busybox and toybox takes for bad lines
	for i, f := range v.files {
		if err := f.CommitNoSync(); err != nil {
			return err
		}
		list += fmt.Sprintf("%s  %s\n", v.sums[i], pieceName(name, i+1))
	}
	return safefile.Write(v.base+listExt, []byte(list), 0o666) // syncs the folder too
}

// Discard gives up the pieces that have no names yet.
func (v *Volumes) Discard() {
	for _, f := range v.files {
		f.Discard()
	}
}

// Pieces returns how many pieces there are.
func (v *Volumes) Pieces() int { return len(v.files) }

// rePieceBase is what a bundle in pieces may be called: its name becomes that of a folder.
var rePieceBase = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$`)

var rePiece = regexp.MustCompile(`^(.+)\.([0-9]{3})$`)

// pieceOf splits the name of a piece.
func pieceOf(path string) (base string, n int, ok bool) {
	dir, name := filepath.Split(path)
	m := rePiece.FindStringSubmatch(name)
	if m == nil {
		return "", 0, false
	}
	n, _ = strconv.Atoi(m[2])
	return dir + m[1], n, n > 0 && rePieceBase.MatchString(m[1])
}

// readList reads a list of pieces: their SHA-256 by name. Nothing signs it: it only tells early which piece is missing or is none of them.
func readList(file string) (sums map[string]string, err error) {
	data, err := readBeside(file, maxList)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return parseList(file, data)
}

// parseList parses a list of pieces that was read from file.
func parseList(file string, data []byte) (sums map[string]string, err error) {
	sums = make(map[string]string)
	sc := bufio.NewScanner(bytes.NewReader(data))
	for sc.Scan() {
		sum, name, ok := strings.Cut(sc.Text(), "  ")
		if strings.HasPrefix(sum, "#") || !ok { // modmirror wrote comments once
			continue
		}
		if _, _, ok := pieceOf(name); !ok || filepath.Base(name) != name || parseHex(make([]byte, sha256.Size), sum) != nil {
			return nil, &NotVerifiedError{file, fmt.Errorf("line %.100q is of no piece", sc.Text())}
		}
		sums[name] = sum
	}
	return sums, sc.Err()
}

// A Staging is the place in a store where the pieces of a bundle wait for one another.
type Staging struct {
	Dir  string
	base string // name of the bundle
}

// Pieces returns the pieces of the bundle that a file is one of, those that are beside it, in order; nil when it is none. The name without
// .001 stands for the pieces too.
func Pieces(path string) []string {
	base, _, ok := pieceOf(path)
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

// escapeGlob has filepath.Glob take a name for what it is.
func escapeGlob(name string) string {
	return strings.NewReplacer("[", "[[]", "*", "[*]", "?", "[?]").Replace(name)
}

// MustStage reports whether pieces are not all there, or some of their bundle wait in the store already, so that Stage must collect them.
func (s *Store) MustStage(pieces []string) (bool, error) {
	base, _, _ := pieceOf(pieces[0])
	if left, err := filepath.Glob(filepath.Join(s.Dir, incomingDir, filepath.Base(base), "*.[0-9][0-9][0-9]")); err == nil && len(left) > 0 {
		return true, nil
	}
	missing, err := s.missingOf(base)
	return len(missing) > 0, err
}

// HasPieces returns an *AlreadyError when the store has the bundle of some pieces, whole, and the first piece, which says so, is among them. Pieces that
// wait are removed then.
func (s *Store) HasPieces(ctx context.Context, pieces []string) error {
	base, n, _ := pieceOf(pieces[0])
	if n != 1 {
		return nil
	}
	b := &Bundle{path: pieces[0], medium: &Medium{name: pieces[0]}}
	defer b.Close()
	if err := b.medium.add(pieces[0]); err != nil {
		return fmt.Errorf("%s: %w", pieces[0], err)
	}
	fixed := make([]byte, ManifestSize)
	if _, err := b.medium.ReadAt(fixed, manifestAt); err != nil || b.believe(fixed, s.Trust.Lenient()) != nil {
		return nil // who reads it all says why
	}
	have, err := s.lenient().open(nil)
	if err != nil {
		return err
	}
	defer have.Close()
	_, err = s.again(ctx, b, have.bundles)
	if _, ok := errors.AsType[*AlreadyError](err); ok {
		return cmp.Or(os.RemoveAll(filepath.Join(s.Dir, incomingDir, filepath.Base(base))), err)
	}
	return err
}

// CheckPieces names a piece that is not what the list beside it says, with a *NotVerifiedError. Without a list it says nothing.
func CheckPieces(pieces []string) error {
	if len(pieces) == 0 {
		return nil
	}
	base, _, _ := pieceOf(pieces[0])
	list, err := readList(base + listExt)
	if err != nil || list == nil {
		return err
	}
	for _, p := range pieces {
		f, err := openRegular(p)
		if err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
		sum, err := hashOf(f)
		f.Close()
		if err != nil {
			return err
		}
		if got, want := hex.EncodeToString(sum[:]), list[filepath.Base(p)]; got != want {
			return notListed(p, got, want)
		}
	}
	return nil
}

// notListed is the error of a piece whose SHA-256 is not the one in the list.
func notListed(piece, got, want string) error {
	return &NotVerifiedError{piece, fmt.Errorf("it is damaged, or a piece of another bundle: its SHA-256 is %s, and the list has %s", got, want)}
}

// missingOf returns the pieces of a bundle that are not there: by the list beside them or, without one, by the manifest in the first.
func (s *Store) missingOf(base string) ([]string, error) {
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(base), filepath.Base(name)))
		return err == nil
	}
	list, err := readList(base + listExt)
	if err != nil {
		return nil, err
	}
	if list != nil {
		return missingPieces(filepath.Base(base), len(list), there), nil
	}
	first := pieceName(base, 1)
	st, err := os.Stat(first)
	if errors.Is(err, fs.ErrNotExist) {
		return []string{filepath.Base(first)}, nil
	}
	if err != nil {
		return nil, err
	}
	if encrypted(first) { // nothing but a list tells how many there are; age tells whether the last one is there
		return nil, nil
	}
	b, err := s.front(first)
	if missing, ok := errors.AsType[*MissingPieceError](err); ok {
		names := slices.Clone(missing.Names)
		for i := range names {
			names[i] = filepath.Base(names[i])
		}
		return names, nil
	}
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return missingPieces(filepath.Base(base), pieceCount(b.Manifest.Size, st.Size()), there), nil
}

// AgeHeader begins an encrypted file (https://c2sp.org/age).
const AgeHeader = "age-encryption.org/v1\n"

// encrypted reports whether a file begins as an encrypted one.
func encrypted(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 2*len(ageArmor)) // with room for empty lines before it
	n, err := io.ReadFull(f, head)
	return (err == nil || err == io.ErrUnexpectedEOF) && isAge(head[:n])
}

// Stage copies a piece, from a disk that will be taken out, into the store, and returns which pieces are still missing. With none
// missing the staging can be opened as a bundle. The store must be locked.
func (s *Store) Stage(piece string) (*Staging, []string, error) {
	base, _, ok := pieceOf(piece)
	if !ok {
		return nil, nil, fmt.Errorf("%s: not the name of a piece", piece)
	}
	name := filepath.Base(base)
	st := &Staging{Dir: filepath.Join(s.Dir, incomingDir, name), base: name}
	if err := os.MkdirAll(st.Dir, 0o777); err != nil {
		return nil, nil, err
	}
	if err := safefile.Sweep(st.Dir); err != nil {
		return nil, nil, err
	}
	list, err := st.takeList(base + listExt)
	if err != nil {
		return nil, nil, err
	}
	if sigs, _, err := readSignatures(base + signaturesExt); err != nil {
		return nil, nil, err
	} else if sigs != nil {
		if err := safefile.Write(filepath.Join(st.Dir, name+signaturesExt), sigs, 0o666); err != nil {
			return nil, nil, err
		}
	}
	to := filepath.Join(st.Dir, filepath.Base(piece))
	in, err := openBeside(piece)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", piece, err)
	}
	defer in.Close()
	want := list[filepath.Base(piece)]
	if list != nil && want == "" {
		return nil, nil, &NotVerifiedError{piece, fmt.Errorf("the list of %s names no such piece", name)}
	}
	if same, err := staged(to, in); err != nil {
		return nil, nil, err
	} else if !same {
		out, err := safefile.Create(to, 0o666)
		if err != nil {
			return nil, nil, err
		}
		defer out.Discard()
		h := sha256.New()
		if _, err := io.Copy(io.MultiWriter(out, h), in); err != nil {
			return nil, nil, err
		}
		if got := hex.EncodeToString(h.Sum(nil)); want != "" && got != want {
			return nil, nil, notListed(piece, got, want)
		}
		if err := out.Commit(); err != nil {
			return nil, nil, err
		}
	}
	missing, err := s.missingOf(filepath.Join(st.Dir, name))
	return st, missing, err
}

// staged reports whether a piece is there already, with the same contents. What they are is verified in the end.
func staged(to string, in *os.File) (bool, error) {
	f, err := os.Open(to)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	a, err := f.Stat()
	if err != nil {
		return false, err
	}
	b, err := in.Stat()
	if err != nil || a.Size() != b.Size() {
		return false, err
	}
	x, y := make([]byte, 256<<10), make([]byte, 256<<10)
	for at := int64(0); at < a.Size(); {
		n, err := f.ReadAt(x, at)
		if err != nil && err != io.EOF {
			return false, err
		}
		if _, err := in.ReadAt(y[:n], at); err != nil && err != io.EOF {
			return false, err
		}
		if n == 0 || !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
		at += int64(n)
	}
	return true, nil
}

// takeList takes over the list of pieces from a disk that has it, unless there is one, which must then be the same.
func (st *Staging) takeList(file string) (map[string]string, error) {
	own := filepath.Join(st.Dir, st.base+listExt)
	data, err := readBeside(file, maxList)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil { // what is no list is not copied
		if _, err := parseList(file, data); err != nil {
			return nil, err
		}
	}
	old, oldErr := readBeside(own, maxList)
	switch {
	case err == nil && oldErr == nil && !bytes.Equal(data, old):
		return nil, fmt.Errorf("%s is the list of another %s than the one whose pieces wait in %s: remove that folder to give those up", file, st.base, st.Dir)
	case err == nil && oldErr != nil:
		if err := safefile.Write(own, data, 0o666); err != nil {
			return nil, err
		}
	}
	return readList(own)
}

// MissingOf returns which pieces are still missing of those that wait.
func (s *Store) MissingOf(st *Staging) ([]string, error) {
	return s.missingOf(filepath.Join(st.Dir, st.base))
}

// First returns the path of the first piece.
func (st *Staging) First() string { return filepath.Join(st.Dir, pieceName(st.base, 1)) }

// Remove removes the pieces, which the store has as a bundle now.
func (st *Staging) Remove() error { return os.RemoveAll(st.Dir) }
