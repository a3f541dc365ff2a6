// Package bundle is the file that crosses: a plain tar with a signed manifest and an
// SQLite index in front.
//
//	MANIFEST        16 KiB: a signed note padded with newlines
//	index.sqlite    the catalogue; file offsets count from the end of this entry
//	README.txt      how to use the file, with and without modmirror
//	…               the files of a GOPROXY tree, sorted by path
//	two empty blocks
//
// Trust flows signature → manifest → index → file. Nothing is parsed before it is covered:
// Open reads a fixed 16 KiB, checks the signature over it, then the size of the file and the hash
// of the index, and only then lets SQLite see the index. The entries' tar headers are never
// parsed: they are a function of path and size and are compared byte for byte, and the
// index rows must tile the file exactly. So every byte of a bundle is under a hash.
//
// The same contents, key, sequence and time make the same bytes.
package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/safefile"
)

// The names of the entries before the payload's paths.
const (
	manifestName = "MANIFEST"
	indexName    = "index.sqlite"
	readmeName   = "README.txt"
)

// manifestAt is where the manifest's content starts in the file, in bytes.
const manifestAt = blockSize

// A Bundle is an open bundle whose manifest and index were verified. Files are verified
// by who reads them: their SHA-256 is in the index.
type Bundle struct {
	Manifest Manifest
	Signers  []string // "name+hash" of the trusted keys that signed
	Index    *index.Index
	Seen     bool // its index was found checked in the state directory

	file    *os.File
	payload int64  // where file offsets count from, in bytes
	tmp     string // folder to remove at Close
}

// Open opens the bundle at path, believing the trusted keys. When stateDir is not "", the verified
// copy of the index stays there and the next Open only hashes it.
// Errors about what the bundle says are *NotVerifiedError.
func Open(ctx context.Context, path string, trusted note.Verifiers, stateDir string) (*Bundle, error) {
	b, err := open(ctx, path, trusted, stateDir)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return b, nil
}

func open(ctx context.Context, path string, trusted note.Verifiers, stateDir string) (_ *Bundle, err error) {
	st, err := os.Stat(path)
	if err == nil && st.IsDir() {
		return nil, errors.New("it is a folder, not a bundle")
	}
	if err == nil && !st.Mode().IsRegular() { // opening a pipe could wait for ever
		return nil, errors.New("not a regular file")
	}
	if err != nil {
		return nil, errors.Unwrap(err) // the caller names the path
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	b := &Bundle{file: f}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	if st, err = f.Stat(); err != nil {
		return nil, err
	}
	if err := b.readManifest(trusted, st.Size()); err != nil {
		return nil, err
	}
	if err := b.openIndex(ctx, stateDir); err != nil {
		return nil, err
	}
	return b, nil
}

// readManifest reads and believes the fixed part of the file.
func (b *Bundle) readManifest(trusted note.Verifiers, size int64) error {
	fixed := make([]byte, manifestAt+ManifestSize+blockSize)
	if n, err := b.file.ReadAt(fixed, 0); err == io.EOF {
		return &NotVerifiedError{"file", fmt.Errorf("%d bytes are too few for a bundle", n)}
	} else if err != nil {
		return err
	}
	if !bytes.Equal(fixed[:manifestAt], Header(manifestName, ManifestSize)) {
		return &NotVerifiedError{"file", errors.New("it does not begin like a bundle")}
	}
	m, n, err := OpenManifest(fixed[manifestAt:manifestAt+ManifestSize], trusted)
	if err != nil {
		return err
	}
	if m.Base != "" {
		return &NotVerifiedError{"MANIFEST", fmt.Errorf("it is a delta to bundle %.16s…, which this modmirror does not read yet", m.Base)}
	}
	if size != m.Size {
		return &NotVerifiedError{"size", fmt.Errorf("%d bytes, the manifest says %d", size, m.Size)}
	}
	if !bytes.Equal(fixed[manifestAt+ManifestSize:], Header(indexName, m.IndexSize)) {
		return &NotVerifiedError{indexName, errors.New("tar header differs")}
	}
	b.Manifest = m
	for _, s := range n.Sigs {
		b.Signers = append(b.Signers, fmt.Sprintf("%s+%08x", s.Name, s.Hash))
	}
	b.payload = payloadAt(m.IndexSize)
	if m.Size < b.payload+endSize {
		return &NotVerifiedError{"size", errors.New("no room for the index")}
	}
	return nil
}

// payloadAt returns where file offsets count from: the end of the index entry.
func payloadAt(indexSize int64) int64 {
	return manifestAt + ManifestSize + entrySize(indexName, indexSize)
}

// openIndex brings a verified copy of the index to the disk and opens it. A copy in the
// state directory was checked in full, against this very manifest, before it got its name, which is
// the bundle's id.
func (b *Bundle) openIndex(ctx context.Context, stateDir string) error {
	dir := filepath.Join(stateDir, "index")
	if stateDir == "" || os.MkdirAll(dir, 0o700) != nil {
		var err error
		if b.tmp, err = os.MkdirTemp("", "modmirror-index-"); err != nil {
			return err
		}
		dir = b.tmp
	}
	if st, err := os.Stat(dir); err != nil {
		return err
	} else if st.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("others may write to %s, which holds what was verified: run chmod 700 on it", dir)
	}
	name := filepath.Join(dir, b.Manifest.ID()+".sqlite")
	if f, err := os.Open(name); err == nil {
		sum, err := hashOf(f)
		f.Close()
		if err == nil && sum == b.Manifest.Index {
			if b.Index, err = index.Open(name); err != nil {
				return &NotVerifiedError{indexName, err}
			}
			b.Seen = true
			return nil
		}
	}
	f, err := safefile.Create(name, 0o600)
	if err != nil {
		return err
	}
	defer f.Discard()
	h := sha256.New()
	src := io.NewSectionReader(b.file, b.payload-entrySize(indexName, b.Manifest.IndexSize)+blockSize, b.Manifest.IndexSize)
	if _, err := io.Copy(io.MultiWriter(f, h), src); err != nil {
		return err
	}
	if !bytes.Equal(h.Sum(nil), b.Manifest.Index[:]) {
		return &NotVerifiedError{indexName, errors.New("its SHA-256 is not the one in the manifest")}
	}
	finish, commit := f.Finish, f.Commit
	if b.tmp != "" { // it need not survive a crash
		finish, commit = f.FinishNoSync, f.CommitNoSync
	}
	if err := finish(); err != nil {
		return err
	}
	x, err := index.Open(f.Name())
	if err != nil {
		return &NotVerifiedError{indexName, err}
	}
	b.Index = x
	if err := b.checkIndex(ctx); err != nil {
		return err
	}
	if err := x.Close(); err != nil {
		return err
	}
	if err := commit(); err != nil {
		return err
	}
	b.Index, err = index.Open(name)
	return err
}

// checkIndex checks the index in full: SQLite's own checks and every value, that it is about this
// bundle, and that its files are those of a GOPROXY tree and tile the payload.
func (b *Bundle) checkIndex(ctx context.Context) error {
	m := &b.Manifest
	fail := func(format string, args ...any) error {
		return &NotVerifiedError{indexName, fmt.Errorf(format, args...)}
	}
	if err := b.Index.Check(ctx, m.Head.N); err != nil {
		return wrapBad(ctx, err)
	}
	c, err := b.Index.Counts(ctx)
	if err != nil {
		return wrapBad(ctx, err)
	}
	if c != m.Counts {
		return fail("it counts %+v, the manifest %+v", c, m.Counts)
	}
	var own []index.Bundle
	for x, err := range b.Index.Bundles(ctx) {
		if err != nil {
			return wrapBad(ctx, err)
		}
		own = append(own, x)
		if want := (index.Bundle{ID: x.ID, Name: m.Name, Sequence: m.Sequence}); len(own) > 1 || x != want {
			return fail("it is of another bundle")
		}
	}
	if len(own) == 0 {
		return fail("it does not name this bundle")
	}
	end, n, prev := int64(0), int64(0), ""
	for f, err := range b.Index.Files(ctx) {
		if err != nil {
			return wrapBad(ctx, err)
		}
		n++
		switch {
		case f.Bundle != own[0].ID, f.ID < 1, f.ID > c.Files: // so they are 1 to n
			return fail("file %.200q has an impossible number", f.Path)
		case n == 1 && f.Path != readmeName:
			return fail("first file is %.200q, not %s", f.Path, readmeName)
		case n > 2 && f.Path <= prev:
			return fail("file %.200q is not in order", f.Path)
		case f.Size < 0 || f.Size > maxEntry || f.Offset != end+headerSize(f.Path):
			return fail("file %.200q is not where the one before it ends", f.Path)
		}
		if n > 1 {
			if err := checkPath(f.Path, m.DB); err != nil {
				return fail("%v", err)
			}
		}
		end = f.Offset + f.Size + padding(f.Size)
		if end > m.Size {
			return fail("file %.200q is past the end", f.Path)
		}
		prev = f.Path
	}
	if b.payload+end+endSize != m.Size {
		return fail("its files end at byte %d of %d", b.payload+end, m.Size)
	}
	return nil
}

// checkPath checks that path is one of a GOPROXY tree with the checksum database db. No such path is
// the folder of another one, so a tar can hold them all.
func checkPath(path, db string) error {
	if err := modpath.CheckFile(path); err != nil {
		return err
	}
	r, err := modpath.Parse(path)
	if err == nil && r.DB != "" && r.DB != db {
		err = fmt.Errorf("%.200q is of another checksum database", path)
	}
	if err == nil && r.Gzip {
		err = fmt.Errorf("%.200q is not carried packed", path)
	}
	return err
}

// wrapBad makes an error of reading the index one of verification, unless it was interrupted.
func wrapBad(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &NotVerifiedError{indexName, err}
}

func hashOf(r io.Reader) (sum [32]byte, err error) {
	h := sha256.New()
	_, err = io.Copy(h, r)
	h.Sum(sum[:0])
	return sum, err
}

// Close closes the bundle and removes what Open put aside.
func (b *Bundle) Close() error {
	var err error
	if b.Index != nil {
		err = b.Index.Close()
	}
	if b.tmp != "" {
		err = errors.Join(err, os.RemoveAll(b.tmp))
	}
	return errors.Join(err, b.file.Close())
}

// File returns the open file. It must be read with ReadAt.
func (b *Bundle) File() *os.File { return b.file }

// Offset returns where in the file the content of f starts, in bytes.
func (b *Bundle) Offset(f index.File) int64 { return b.payload + f.Offset }

// Content returns the content of f, not yet verified.
func (b *Bundle) Content(f index.File) *io.SectionReader {
	return io.NewSectionReader(b.file, b.Offset(f), f.Size)
}

// ReadFile returns the verified content of the small file at a path: at most limit bytes.
// The error wraps fs.ErrNotExist when the bundle has no such file.
func (b *Bundle) ReadFile(ctx context.Context, path string, limit int64) ([]byte, error) {
	f, ok, err := b.Index.File(ctx, path)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, fs.ErrNotExist)
	}
	if f.Size > limit {
		return nil, &NotVerifiedError{path, fmt.Errorf("%d bytes, want at most %d", f.Size, limit)}
	}
	data := make([]byte, f.Size)
	if _, err := b.file.ReadAt(data, b.Offset(f)); err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	if sha256.Sum256(data) != f.SHA256 {
		return nil, &NotVerifiedError{path, errHash}
	}
	return data, nil
}

var errHash = errors.New("its SHA-256 is not the one in the index")
