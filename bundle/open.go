// Package bundle writes, opens and verifies bundles: a bundle is a plain tar with a signed manifest
// and an SQLite index in front.
//
//	MANIFEST        16 KiB: a signed note padded with newlines
//	index.sqlite    the catalog; file offsets count from the end of this entry
//	README.txt      how to use the file, with and without modmirror
//	…               the files of a GOPROXY tree, sorted by path
//	two empty blocks
//
// Trust flows signature → manifest → index → file, and nothing is parsed before it is verified.
// Open reads 16 KiB, verifies the signatures on them, then the size of the file and the hash of the
// index, and only then lets SQLite read the index. Tar headers are never parsed: they are a
// function of path and size and are compared byte for byte. The rows of the index must tile the
// file exactly. So every byte of a bundle is under a hash.
//
// The same contents, key, sequence and time make the same bytes.
package bundle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/safefile"
	"golang.org/x/mod/sumdb/note"
)

// Names of the entries that are not files of a GOPROXY tree.
const (
	manifestName = "MANIFEST"
	indexName    = "index.sqlite"
	readmeName   = "README.txt"
)

// indexFolder is the folder of verified indexes in the state directory.
const indexFolder = "index"

// manifestAt is the offset of the manifest in the file, in bytes.
const manifestAt = blockSize

// A Bundle is an open bundle with a verified manifest and index. Contents are not verified when it
// is opened: callers must compare them with the SHA-256 in the index, as Read does. It is safe for
// concurrent use once its line is attached.
//
// The index of a delta is the catalog of its whole line. Files of earlier bundles are read from the
// bundles passed to Attach, and from packs.
type Bundle struct {
	Manifest Manifest
	Signers  []string // "name+hash" of the trusted keys that signed
	Index    *index.Index
	Seen     bool // the state directory had a verified copy of the index

	OtherSignature string // what the file of signatures beside it is when it belongs to another tool, else ""

	path       string
	signatures string      // file of detached signatures; "" for none, as in a bucket
	note       []byte      // signed manifest with all known signatures, without padding
	media      media.Media // nil for a catalog
	payload    int64       // offset that file offsets count from, in bytes
	line       []index.Bundle
	parts      map[int64]*Bundle // attached bundles, by their number in the index
	packs      []Pack
	rest       io.Closer // closed by Close; nil for none
	tmp        string    // temporary folder, removed by Close
	seal       string    // file of the seal of the index's copy; "" for none
}

// newBundle returns a bundle that is not verified yet, with detached signatures beside it. m is nil
// for a catalog.
func newBundle(path string, m media.Media) *Bundle {
	return &Bundle{path: path, media: m, signatures: SignaturesFile(path)}
}

// Open opens and verifies the bundle at path: a file, the first of its pieces, or the manifest of a
// catalog. keyring says whose signatures count. stateDir, unless it is "", keeps the verified copy
// of the index, so that the next Open reads that, and hashes it unless its seal shows that it was
// not changed since. Errors of verification are *NotVerifiedError. The caller closes the bundle.
func Open(ctx context.Context, path string, keyring *trust.Keyring, stateDir string) (*Bundle, error) {
	b := newBundle(path, nil)
	var err error
	if strings.HasSuffix(path, manifestExt) {
		err = b.openCatalog(ctx, keyring, stateDir)
	} else if b.media, err = openMedia(path); err == nil {
		if err = b.readManifest(ctx, keyring); err == nil {
			err = b.OpenIndex(ctx, keyring, stateDir)
		}
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return b, nil
}

// OpenFront opens the bundle at path and verifies its manifest alone. OpenIndex opens the rest.
func OpenFront(ctx context.Context, path string, keyring *trust.Keyring) (*Bundle, error) {
	m, err := openMedia(path)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	b, err := OpenFrontIn(ctx, path, m, SignaturesFile(path), keyring)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return b, nil
}

// OpenFrontIn is OpenFront for a bundle in m, which Close then closes. path names it in messages.
// signatures is the file of detached signatures, "" for none.
func OpenFrontIn(ctx context.Context, path string, m media.Media, signatures string, keyring *trust.Keyring) (*Bundle, error) {
	b := &Bundle{path: path, media: m, signatures: signatures}
	if err := b.readManifest(ctx, keyring); err != nil {
		return nil, err
	}
	return b, nil
}

// OpenIndex verifies and opens the index of a bundle that OpenFront opened. keyring says how many
// keys must have signed the bundle, which OpenFront may not have asked for. stateDir is as for
// Open.
func (b *Bundle) OpenIndex(ctx context.Context, keyring *trust.Keyring, stateDir string) (err error) {
	defer func() {
		if err != nil { // nobody may use what did not verify
			b.closeIndex()
			b.Index, b.line, b.tmp, b.seal, b.Seen = nil, nil, "", "", false
		}
	}()
	if err := keyring.Check(b.Signers); err != nil {
		return &NotVerifiedError{What: "signature", Err: err}
	}
	src := b.indexBytes(ctx)
	defer src.Close()
	return b.openIndex(ctx, src, stateDir)
}

// openMedia opens the media at path. A catalog has none.
func openMedia(path string) (media.Media, error) {
	if strings.HasSuffix(path, manifestExt) {
		return nil, ErrCatalog
	}
	return media.Open(path)
}

// readManifest verifies the manifest, and the bytes around it that are always the same.
func (b *Bundle) readManifest(ctx context.Context, keyring *trust.Keyring) error {
	fixed := make([]byte, manifestAt+ManifestSize+blockSize)
	if n, err := b.media.ReadAt(ctx, fixed, 0); err == io.EOF || err == io.ErrUnexpectedEOF { // and no *media.UnreadError that wraps one
		if media.BeginsAge(fixed[:n]) || foreign(b.path, fixed[:n]) != nil {
			return b.explainBadStart(fixed[:n])
		}
		return &NotVerifiedError{What: "file", Err: fmt.Errorf("%d bytes are too few for a bundle", n)}
	} else if err != nil {
		return err
	}
	if !bytes.Equal(fixed[:manifestAt], Header(manifestName, ManifestSize)) {
		return b.explainBadStart(fixed)
	}
	if err := b.verifyManifest(fixed[manifestAt:manifestAt+ManifestSize], keyring); err != nil {
		return err
	}
	m := &b.Manifest
	if err := b.media.CheckSize(m.Size); err != nil {
		return err
	}
	if !bytes.Equal(fixed[manifestAt+ManifestSize:], Header(indexName, m.IndexSize)) {
		return &NotVerifiedError{What: indexName, Err: errors.New("tar header differs")}
	}
	if m.Size < b.payload+endSize {
		return &NotVerifiedError{What: "size", Err: errors.New("no room for the index")}
	}
	return nil
}

// explainBadStart returns the error of a file that does not begin like a bundle.
func (b *Bundle) explainBadStart(begin []byte) error {
	switch {
	case media.BeginsAge(begin):
		return errors.New("it is encrypted: only import reads it, with --identity")
	case bytes.HasPrefix(begin, []byte("SQLite format 3\x00")):
		return errors.New("it is the index of a catalog: name the " + manifestExt + " file beside it")
	}
	if base, n, ok := media.PieceOf(b.path); ok && n > 1 {
		return fmt.Errorf("it is a piece: name the first one, %s", media.FirstPiece(base))
	}
	if f := foreign(b.path, begin); f != nil {
		return &NotVerifiedError{What: "file", Err: f}
	}
	return &NotVerifiedError{What: "file", Err: errors.New("it does not begin like a bundle")}
}

// verifyManifest verifies the signatures on a MANIFEST entry, with the detached ones beside the
// bundle, and parses it.
func (b *Bundle) verifyManifest(data []byte, keyring *trust.Keyring) error {
	var more []byte
	if b.signatures != "" {
		var err error
		if more, b.OtherSignature, err = ReadSignatures(b.signatures); err != nil {
			return err
		}
	}
	m, n, err := openManifest(data, more, keyring)
	if errors.Is(err, errOtherSignatures) {
		return &NotVerifiedError{What: b.signatures, Err: fmt.Errorf("%w: remove it, or put that of this bundle there", errOtherSignatures)}
	}
	if err != nil {
		if _, statErr := os.Stat(b.path + journalExt); statErr == nil {
			err = fmt.Errorf("%w (signing it was interrupted: run modmirror sign again)", err)
		}
		return err
	}
	b.Manifest = m
	b.payload = payloadAt(m.IndexSize)
	b.Signers = trust.Names(n.Sigs)
	if b.note, err = note.Sign(n); err != nil { // adds none
		return err
	}
	return nil
}

// payloadAt returns where file offsets count from: the end of the index entry.
func payloadAt(indexSize int64) int64 {
	return manifestAt + ManifestSize + entrySize(indexName, indexSize)
}

// indexBytes returns a reader of the index in the file.
func (b *Bundle) indexBytes(ctx context.Context) io.ReadCloser {
	size := b.Manifest.IndexSize
	return b.media.NewReader(ctx, b.payload-entrySize(indexName, size)+blockSize, size)
}

// checkIndexSum compares the SHA-256 of an index with that in the manifest.
func (b *Bundle) checkIndexSum(sum [32]byte) error {
	if sum != b.Manifest.Index {
		return &NotVerifiedError{What: indexName, Err: errors.New("its SHA-256 is not the one in the manifest")}
	}
	return nil
}

// openIndex opens the index from a verified copy on disk. A copy in the state directory is named by
// the id of the bundle, and gets its name after it was checked in full. Without such a copy
// openIndex makes one from src.
func (b *Bundle) openIndex(ctx context.Context, src io.Reader, stateDir string) error {
	dir := filepath.Join(stateDir, indexFolder)
	if stateDir == "" || os.MkdirAll(dir, 0o700) != nil {
		var err error
		if b.tmp, err = os.MkdirTemp("", "modmirror-index-"); err != nil {
			return err
		}
		dir = b.tmp
	} else if err := safefile.CheckOwner(dir); err != nil {
		return err
	}
	name := filepath.Join(dir, b.Manifest.ID()+copyExt)
	keep := b.tmp == ""
	if keep {
		b.seal = sealFile(name)
	}
	if f, err := b.openCopy(name, keep); err == nil {
		if b.Index, err = index.OpenFile(f); err != nil {
			return &NotVerifiedError{What: indexName, Err: err}
		}
		b.Seen = true
		return b.readLine(ctx)
	}
	f, err := safefile.Create(name, 0o600)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := io.Copy(f, src); err != nil {
		return err
	}
	if !keep { // nobody else opens it, and it need not survive a crash
		if err := cmp.Or(f.FinishNoSync(), f.CommitNoSync()); err != nil {
			return err
		}
		return b.checkCopy(ctx, name)
	}
	if err := f.Finish(); err != nil {
		return err
	}
	if err := b.checkCopy(ctx, f.Name()); err != nil {
		return err
	}
	if err := b.Index.Close(); err != nil {
		return err
	}
	if err := f.Commit(); err != nil {
		return err
	}
	return b.useCopy(name, keep)
}

// checkCopy opens a new copy of the index and checks it in full.
func (b *Bundle) checkCopy(ctx context.Context, name string) error {
	if err := b.useCopy(name, false); err != nil {
		return err
	}
	if err := b.readLine(ctx); err != nil {
		return err
	}
	return b.checkIndex(ctx)
}

// useCopy opens a copy of the index for reading.
func (b *Bundle) useCopy(name string, keep bool) error {
	f, err := b.openCopy(name, keep)
	if err != nil {
		return err
	}
	if b.Index, err = index.OpenFile(f); err != nil {
		return &NotVerifiedError{What: indexName, Err: err}
	}
	return nil
}

// openCopy opens a copy of the index if its hash is that in the manifest and nobody else can write
// to it. keep says that it has the name under which a later Open finds it. Such a copy is hashed
// only if it was changed since it was sealed.
func (b *Bundle) openCopy(name string, keep bool) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if err = safefile.CheckFileOwner(f); err == nil && !(keep && b.sealed(f)) {
		err = b.hashCopy(f, keep)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// ForgetIndex removes the verified copy of the index of the bundle with an id, and its seal, from a
// state directory.
func ForgetIndex(stateDir, id string) {
	name := filepath.Join(stateDir, indexFolder, id+copyExt)
	os.Remove(name) // what stays does no harm
	os.Remove(sealFile(name))
}

// wrapBad returns an error of reading the index as a *NotVerifiedError, unless ctx is done.
func wrapBad(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return &NotVerifiedError{What: indexName, Err: err}
}

// Close closes the bundle and removes temporary files. It does not close attached bundles.
func (b *Bundle) Close() error {
	err := b.closeIndex()
	if b.media != nil {
		err = errors.Join(err, b.media.Close())
	}
	if b.rest != nil {
		err = errors.Join(err, b.rest.Close())
	}
	return err
}

// closeIndex closes the index and removes a temporary copy of it.
func (b *Bundle) closeIndex() (err error) {
	if b.Index != nil {
		err = b.Index.Close()
	}
	if b.tmp != "" {
		err = errors.Join(err, os.RemoveAll(b.tmp))
	}
	return err
}

// ID returns the bundle's id.
func (b *Bundle) ID() string { return b.Manifest.ID() }

// HasFiles reports whether the bundle has its files. A catalog has none.
func (b *Bundle) HasFiles() bool { return b.media != nil }

// Path returns the path that the bundle was opened by.
func (b *Bundle) Path() string { return b.path }

// Remove removes the files of the bundle and its detached signatures. A reader that has them open
// reads on.
func (b *Bundle) Remove() error {
	return errors.Join(b.media.Remove(), safefile.Remove(b.signatures))
}

// KeepOpen makes Close close rest too. rest is the rest of the store that the bundle was opened in,
// which has all files of its line.
func (b *Bundle) KeepOpen(rest io.Closer) { b.rest = rest }
