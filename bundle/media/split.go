package media

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/modmirror/modmirror/internal/safefile"
)

const (
	// fat32Piece is the largest file of a FAT32 file system: 4 GiB minus 1 byte.
	fat32Piece = 1<<32 - 1

	// dvdPiece fits on a DVD and is the largest file of an ISO 9660 file system without extents, in
	// whole sectors of 2 KiB.
	dvdPiece = 1<<32 - 2048

	// minPiece is the smallest piece: a manifest fits, and a bundle does not become a million
	// files.
	minPiece = 64 << 10

	// MaxSize is the largest bundle in bytes: 8 TiB.
	MaxSize = 1 << 43
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
	if n < minPiece || n > MaxSize {
		return 0, fmt.Errorf("pieces of %s are too small or too large: want 64k or more", text)
	}
	return n, nil
}

// ParseSize parses a number of bytes. A suffix k, M, G or T stands for a power of 1024.
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
	if n > MaxSize>>shift {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return n << shift, nil
}

// Volumes writes a bundle in pieces NAME.001, NAME.002 and so on, which cat joins, and a list
// NAME.sha256, which sha256sum -c checks. The pieces get their names in Commit, all at once.
type Volumes struct {
	base  string
	piece int64
	files []*safefile.File
	sums  []string
	cur   hash.Hash
	left  int64 // bytes that still fit into the current piece
}

// NewVolumes begins to write pieces of at most piece bytes. Existing pieces of that name are an
// error, since they could be taken for new ones.
func NewVolumes(base string, piece int64) (*Volumes, error) {
	if err := CheckNoPieces(base); err != nil {
		return nil, err
	}
	return &Volumes{base: base, piece: piece}, nil
}

// Write appends to the pieces.
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

// next finishes the current piece and begins the next one.
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

// finish closes the current piece and takes note of its SHA-256.
func (v *Volumes) finish() error {
	if len(v.files) == 0 {
		return nil
	}
	v.sums = append(v.sums, hex.EncodeToString(v.cur.Sum(nil)))
	return v.files[len(v.files)-1].Finish()
}

// Commit gives the pieces and the list their names.
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
	return safefile.Write(v.base+ListExt, []byte(list), 0o666) // syncs the folder too
}

// Discard removes the pieces that have no names yet.
func (v *Volumes) Discard() {
	for _, f := range v.files {
		f.Discard()
	}
}

// Pieces returns the number of pieces so far.
func (v *Volumes) Pieces() int { return len(v.files) }
