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
	"runtime"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
)

// The names of the entries before the payload's paths.
const (
	manifestName = "MANIFEST"
	indexName    = "index.sqlite"
	readmeName   = "README.txt"
)

// indexFolder is where in the state directory the verified indexes are.
const indexFolder = "index"

// manifestAt is where the manifest's content starts in the file, in bytes.
const manifestAt = blockSize

// A Bundle is an open bundle whose manifest and index were verified. Files are verified
// by who reads them: their SHA-256 is in the index.
//
// The index of a delta is the catalogue of its whole line. The files of the bundles before it are read from those that
// Attach was given.
type Bundle struct {
	Manifest Manifest
	Signers  []string // "name+hash" of the trusted keys that signed
	Signed   int      // how many these are, each public key counted once whatever its names
	Index    *index.Index
	Seen     bool // its index was found checked in the state directory

	OtherSignature string // what the file beside it is that has the name of its signatures and is none for modmirror; "" for none

	path       string
	signatures string      // file of detached signatures; "" for none: those of a bundle in a bucket are in it
	note       []byte      // the signed manifest, with all its signatures and without padding
	media      media.Media // nil for a catalogue alone
	payload    int64       // where file offsets count from, in bytes
	line       []index.Bundle
	parts      map[int64]*Bundle // the other bundles of the line that are at hand, by their number in the index
	packs      []*pack
	with       *holding // the rest of the store that it was opened in, to be closed with it
	tmp        string   // folder to remove at Close
}

// newBundle returns a bundle that is not verified, with detached signatures beside it. m is nil for a
// catalog.
func newBundle(path string, m media.Media) *Bundle {
	return &Bundle{path: path, media: m, signatures: signaturesFile(path)}
}

// openMedia opens the media at path, which is not that of a catalog.
func openMedia(path string) (media.Media, error) {
	if strings.HasSuffix(path, manifestExt) {
		return nil, errCatalogue
	}
	return media.Open(path)
}

// The ends of the names of a catalogue: what is left of a bundle without its files.
const (
	manifestExt = ".manifest"
	indexExt    = ".index.sqlite"
)

// Open opens the bundle at path, believing the trusted keys: a file, the first of its pieces, or the manifest of a catalogue that
// WriteCatalogue wrote. When stateDir is not "", the verified copy of the index stays there and the next Open only hashes it.
// Errors about what the bundle says are *NotVerifiedError.
func Open(ctx context.Context, path string, keyring *trust.Keyring, stateDir string) (*Bundle, error) {
	b := newBundle(path, nil)
	var err error
	if strings.HasSuffix(path, manifestExt) {
		err = b.openCatalogue(ctx, keyring, stateDir)
	} else if b.media, err = openMedia(path); err == nil {
		err = b.open(ctx, keyring, stateDir)
	}
	if err != nil {
		b.Close()
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return b, nil
}

// open verifies what is in front of the files.
func (b *Bundle) open(ctx context.Context, keyring *trust.Keyring, stateDir string) error {
	if err := b.readManifest(ctx, keyring); err != nil {
		return err
	}
	src := b.indexBytes(ctx)
	defer src.Close()
	return b.openIndex(ctx, src, stateDir)
}

// indexBytes reads the index where it is in the file.
func (b *Bundle) indexBytes(ctx context.Context) io.ReadCloser {
	size := b.Manifest.IndexSize
	return b.media.NewReader(ctx, b.payload-entrySize(indexName, size)+blockSize, size)
}

// checkIndexSum compares the SHA-256 of an index with the one in the manifest.
func (b *Bundle) checkIndexSum(sum [32]byte) error {
	if sum != b.Manifest.Index {
		return &NotVerifiedError{What: indexName, Err: errors.New("its SHA-256 is not the one in the manifest")}
	}
	return nil
}

// readManifest reads and believes the fixed part of the file.
func (b *Bundle) readManifest(ctx context.Context, keyring *trust.Keyring) error {
	fixed := make([]byte, manifestAt+ManifestSize+blockSize)
	if n, err := b.media.ReadAt(ctx, fixed, 0); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		if isAge(fixed[:n]) || foreign(b.path, fixed[:n]) != nil {
			return b.notLike(fixed[:n])
		}
		return &NotVerifiedError{What: "file", Err: fmt.Errorf("%d bytes are too few for a bundle", n)}
	} else if err != nil {
		return err
	}
	if !bytes.Equal(fixed[:manifestAt], Header(manifestName, ManifestSize)) {
		return b.notLike(fixed)
	}
	if err := b.believe(fixed[manifestAt:manifestAt+ManifestSize], keyring); err != nil {
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

// notLike returns the error for a file that does not begin like a bundle.
func (b *Bundle) notLike(begin []byte) error {
	switch {
	case isAge(begin):
		return errors.New("it is encrypted: only import reads it, with --identity")
	case bytes.HasPrefix(begin, []byte("SQLite format 3\x00")):
		return errors.New("it is the index of a catalogue: name the " + manifestExt + " file beside it")
	}
	if base, n, ok := media.PieceOf(b.path); ok && n > 1 {
		return fmt.Errorf("it is a piece: name the first one, %s", media.FirstPiece(base))
	}
	if f := foreign(b.path, begin); f != nil {
		return &NotVerifiedError{What: "file", Err: f}
	}
	return &NotVerifiedError{What: "file", Err: errors.New("it does not begin like a bundle")}
}

// errCatalogue is the error of what needs the files of a bundle.
var errCatalogue = errors.New("it is a catalogue, which has no files: name the bundle itself")

// believe takes the content of a MANIFEST entry for what it says, when enough of the trusted keys signed it, here or in the file
// of detached signatures beside the bundle.
func (b *Bundle) believe(data []byte, keyring *trust.Keyring) error {
	var more []byte
	if b.signatures != "" {
		var err error
		if more, b.OtherSignature, err = readSignatures(b.signatures); err != nil {
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
	b.Signers, b.Signed = trust.Names(n.Sigs), keyring.Count(n.Sigs)
	if b.note, err = note.Sign(n); err != nil { // no new signature: all that there are
		return err
	}
	return nil
}

// openCatalogue opens a manifest with the index beside it.
func (b *Bundle) openCatalogue(ctx context.Context, keyring *trust.Keyring, stateDir string) error {
	data, err := media.ReadSmall(b.path, ManifestSize)
	if err != nil {
		return err
	}
	if err := b.believe(data, keyring); err != nil {
		return err
	}
	name := strings.TrimSuffix(b.path, manifestExt) + indexExt
	f, err := media.OpenRegular(name)
	if err != nil {
		return fmt.Errorf("%s, the index that belongs to it: %w", name, err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil {
		return err
	} else if st.Size() != b.Manifest.IndexSize {
		return &NotVerifiedError{What: name, Err: fmt.Errorf("%d bytes, the manifest says %d", st.Size(), b.Manifest.IndexSize)}
	}
	return b.openIndex(ctx, f, stateDir)
}

// WriteCatalogue writes what there is of the bundle without its files to dir, and returns the path of the manifest: NAME.manifest, with
// NAME.index.sqlite beside it. That is what the next sync needs of it.
func (b *Bundle) WriteCatalogue(dir string) (string, error) {
	manifest, idx := b.CatalogFiles(dir)
	src, err := b.Index.Content()
	if err != nil {
		return "", err
	}
	out, err := safefile.Create(idx, 0o666)
	if err != nil {
		return "", err
	}
	defer out.Discard()
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, h), src); err != nil {
		return "", err
	}
	if err := b.checkIndexSum([32]byte(h.Sum(nil))); err != nil {
		return "", err
	}
	if err := out.Commit(); err != nil {
		return "", err
	}
	return manifest, safefile.Write(manifest, padManifest(b.note), 0o666)
}

// CatalogFiles returns the paths of the two files that WriteCatalogue writes to dir.
func (b *Bundle) CatalogFiles(dir string) (manifest, index string) {
	base := filepath.Join(dir, b.Manifest.Name)
	return base + manifestExt, base + indexExt
}

// payloadAt returns where file offsets count from: the end of the index entry.
func payloadAt(indexSize int64) int64 {
	return manifestAt + ManifestSize + entrySize(indexName, indexSize)
}

// openIndex brings a verified copy of the index to the disk and opens it. A copy in the
// state directory was checked in full, against this very manifest, before it got its name, which is
// the bundle's id.
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
	name := filepath.Join(dir, b.Manifest.ID()+".sqlite")
	if f, err := b.openCopy(name); err == nil {
		if b.Index, err = index.OpenFile(f); err != nil {
			return &NotVerifiedError{What: indexName, Err: err}
		}
		b.Seen = true
		now := time.Now()
		os.Chtimes(name, now, now) // in use
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
	finish, commit := f.Finish, f.Commit
	if b.tmp != "" { // it need not survive a crash
		finish, commit = f.FinishNoSync, f.CommitNoSync
	}
	if err := finish(); err != nil {
		return err
	}
	if err := b.useCopy(f.Name()); err != nil {
		return err
	}
	if err := b.readLine(ctx); err != nil {
		return err
	}
	if err := b.checkIndex(ctx); err != nil {
		return err
	}
	if err := b.Index.Close(); err != nil {
		return err
	}
	if err := commit(); err != nil {
		return err
	}
	return b.useCopy(name)
}

// useCopy opens a copy of the index and reads it from now on.
func (b *Bundle) useCopy(name string) error {
	f, err := b.openCopy(name)
	if err != nil {
		return err
	}
	if b.Index, err = index.OpenFile(f); err != nil {
		return &NotVerifiedError{What: indexName, Err: err}
	}
	return nil
}

// openCopy opens a copy of the index, when it is the one that the manifest names and nobody else
// can change it.
func (b *Bundle) openCopy(name string) (*os.File, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	if err = safefile.CheckFileOwner(f); err == nil {
		var sum [32]byte
		if sum, err = media.Hash(f); err == nil {
			err = b.checkIndexSum(sum)
		}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readLine reads which bundles the index is about. The last one is this bundle; those before it are the line of a delta.
func (b *Bundle) readLine(ctx context.Context) error {
	b.line = nil
	for x, err := range b.Index.Bundles(ctx) {
		if err != nil {
			return wrapBad(ctx, err)
		}
		if x.Name != b.Manifest.Name || len(x.Digest) > 2*sha256.Size { // here, before there is memory for more of them
			return &NotVerifiedError{What: indexName, Err: errors.New("it is of another bundle")}
		}
		if b.line = append(b.line, x); len(b.line) > maxLine {
			return &NotVerifiedError{What: indexName, Err: fmt.Errorf("more than %d bundles in a line", maxLine)}
		}
	}
	if len(b.line) == 0 {
		return &NotVerifiedError{What: indexName, Err: errors.New("it does not name this bundle")}
	}
	return nil
}

// maxLine is how many bundles a line may have before a new full one must begin: two centuries of weeks.
const maxLine = 10_000

// own returns the number of this bundle in its index.
func (b *Bundle) own() int64 { return b.line[len(b.line)-1].ID }

// checkLine checks that the index is of this bundle and of those before it.
func (b *Bundle) checkLine() error {
	m := &b.Manifest
	last := len(b.line) - 1
	for i, x := range b.line {
		var bad bool
		if i == last {
			bad = x.Digest != "" || x.Payload != 0 || x.Sequence != m.Sequence
		} else {
			bad = parseHex(make([]byte, sha256.Size), x.Digest) != nil || strings.ToLower(x.Digest) != x.Digest ||
				x.Payload < blockSize || x.Payload%blockSize != 0 || x.Payload > maxSize || x.Sequence >= b.line[i+1].Sequence
		}
		if bad {
			return errors.New("it is of another bundle")
		}
	}
	if last == 0 && m.Base != "" || last > 0 && b.line[last-1].Digest != m.Base {
		return errors.New("it is of a line that does not end with the manifest's base")
	}
	return nil
}

// checkIndex checks the index in full: SQLite's own checks and every value, that it is about this
// bundle, and that its files are those of a GOPROXY tree and tile the payload.
func (b *Bundle) checkIndex(ctx context.Context) error {
	m := &b.Manifest
	if err := b.Index.CheckPages(ctx); err != nil {
		return wrapBad(ctx, err)
	}
	rows := make(chan error, 1)
	go func() { rows <- b.Index.CheckRows(ctx, m.Head.N) }() // beside the files, on another core
	err := b.checkFiles(ctx)
	if err := <-rows; err != nil {
		return wrapBad(ctx, err)
	}
	return err
}

// checkFiles is the part of checkIndex that is about the bundle and its files.
func (b *Bundle) checkFiles(ctx context.Context) (err error) {
	m := &b.Manifest
	fail := func(format string, args ...any) error {
		return &NotVerifiedError{What: indexName, Err: fmt.Errorf(format, args...)}
	}
	paths := newPathChecker(m.DB)
	defer func() {
		if bad := paths.wait(); bad != nil && err == nil {
			err = fail("%v", bad)
		}
	}()
	c, err := b.Index.Counts(ctx)
	if err != nil {
		return wrapBad(ctx, err)
	}
	if c != m.Counts {
		return fail("it counts %+v, the manifest %+v", c, m.Counts)
	}
	if err := b.checkLine(); err != nil {
		return fail("%v", err)
	}
	if err := b.checkHeads(ctx); err != nil {
		return err
	}
	end, seen, prev := int64(0), 0, index.File{}
	for f, err := range b.Index.Files(ctx) {
		if err != nil {
			return wrapBad(ctx, err)
		}
		if f.Bundle != prev.Bundle { // the next of the line
			end, prev.Path = 0, ""
			for seen < len(b.line) && b.line[seen].ID != f.Bundle {
				seen++
			}
		}
		own := f.Bundle == b.own()
		at := f.Offset - headerSize(f.Path)
		switch {
		case seen == len(b.line), f.ID < 1, f.ID > c.Files: // so they are 1 to n
			return fail("file %.200q has an impossible number", f.Path)
		case own && end == 0 && f.Path != readmeName:
			return fail("first file is %.200q, not %s", f.Path, readmeName)
		case f.Path == readmeName && (!own || end > 0):
			return fail("%s is not the first file", readmeName)
		case f.Path <= prev.Path && prev.Path != readmeName:
			return fail("file %.200q is not in order", f.Path)
		case f.Size < 0 || f.Size > maxEntry || at < end || at > maxSize || own && at != end: // what was replaced has left holes in the others
			return fail("file %.200q is not where the one before it ends", f.Path)
		}
		if f.Path != readmeName {
			paths.add(f.Path)
		}
		end = f.Offset + f.Size + padding(f.Size)
		if own && end > m.Size {
			return fail("file %.200q is past the end", f.Path)
		}
		prev = f
	}
	if prev.Bundle != b.own() {
		return fail("it has no file of this bundle")
	}
	if b.payload+end+endSize != m.Size {
		return fail("its files end at byte %d of %d", b.payload+end, m.Size)
	}
	return nil
}

// checkHeads checks that the tree heads are what their notes say, and the last one what the manifest says. The signatures on the notes are
// checked by who knows the database's key: verify --deep, and each client.
func (b *Bundle) checkHeads(ctx context.Context) error {
	last := tlog.Tree{}
	for h, err := range b.Index.Heads(ctx) {
		if err != nil {
			return wrapBad(ctx, err)
		}
		if last, err = headOf(h); err != nil {
			return &NotVerifiedError{What: indexName, Err: err}
		}
	}
	if last != b.Manifest.Head {
		return &NotVerifiedError{What: indexName, Err: errors.New("its tree head is not the one that the manifest names")}
	}
	return nil
}

// headOf returns the tree of a head, having compared it with what the note says, whose signature is not checked.
func headOf(h index.Head) (tlog.Tree, error) {
	n, err := trust.OpenUnverified([]byte(h.Note))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("tree head %d: %w", h.Size, err)
	}
	tree, err := tlog.ParseTree([]byte(n.Text))
	if err != nil || tree.N != h.Size || tree.Hash.String() != h.Hash {
		return tree, fmt.Errorf("tree head %d is not the one in its note", h.Size)
	}
	return tree, nil
}

// Heads returns the signed tree heads of the checksum database under which records of the line were ever proven, smallest first; the last
// one is that of the bundle.
func (b *Bundle) Heads(ctx context.Context) (heads []proof.Head, err error) {
	for h, err := range b.Index.Heads(ctx) {
		if err != nil {
			return nil, err
		}
		tree, err := headOf(h)
		if err != nil {
			return nil, &NotVerifiedError{What: indexName, Err: err}
		}
		heads = append(heads, proof.Head{Tree: tree, Note: []byte(h.Note)})
	}
	return heads, nil
}

// A pathChecker checks the paths of files on other cores than who reads them from the index.
type pathChecker struct {
	db    string
	eg    errgroup.Group
	batch []string
}

// pathBatch is how many paths are checked at once.
const pathBatch = 1000

func newPathChecker(db string) *pathChecker {
	c := &pathChecker{db: db}
	c.eg.SetLimit(runtime.GOMAXPROCS(0))
	return c
}

// add has a path checked.
func (c *pathChecker) add(path string) {
	if c.batch = append(c.batch, path); len(c.batch) == pathBatch {
		c.send()
	}
}

func (c *pathChecker) send() {
	batch := c.batch
	c.batch = nil
	c.eg.Go(func() error {
		for _, p := range batch {
			if err := checkPath(p, c.db); err != nil {
				return err
			}
		}
		return nil
	})
}

// wait returns an error of one of the paths.
func (c *pathChecker) wait() error {
	c.send()
	return c.eg.Wait()
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
	return &NotVerifiedError{What: indexName, Err: err}
}

// Close closes the bundle and removes what Open put aside. Bundles that were attached are closed by who opened them.
func (b *Bundle) Close() error {
	var err error
	if b.Index != nil {
		err = b.Index.Close()
	}
	if b.tmp != "" {
		err = errors.Join(err, os.RemoveAll(b.tmp))
	}
	if b.media != nil {
		err = errors.Join(err, b.media.Close())
	}
	if b.with != nil {
		err = errors.Join(err, b.with.Close())
	}
	return err
}

// ID returns the bundle's id.
func (b *Bundle) ID() string { return b.Manifest.ID() }

// HasFiles reports whether the files are there, and not only the catalogue.
func (b *Bundle) HasFiles() bool { return b.media != nil }

// Path returns where the bundle was opened.
func (b *Bundle) Path() string { return b.path }

// Line returns the bundles before this one of which the index has files or a name, oldest first.
func (b *Bundle) Line() []index.Bundle { return b.line[:len(b.line)-1] }

// Attach has the files of earlier bundles of the line read from others, which may be of other lines.
func (b *Bundle) Attach(others ...*Bundle) {
	if b.parts == nil {
		b.parts = make(map[int64]*Bundle)
	}
	for _, o := range others {
		if o == nil || o.media == nil {
			continue
		}
		id := o.ID()
		for _, x := range b.Line() {
			if x.Digest == id {
				b.parts[x.ID] = o
			}
		}
	}
}

// A NotAtHandError says that a file is in another bundle of the line.
type NotAtHandError struct {
	Path   string
	Bundle index.Bundle
}

// Error names the file and the bundle.
func (e *NotAtHandError) Error() string {
	return fmt.Sprintf("%s is in an earlier bundle of the line that is not at hand: %s, sequence %d, id %.16s", e.Path, e.Bundle.Name, e.Bundle.Sequence, e.Bundle.Digest)
}

// A Place is where the content of a file is.
type Place struct {
	Media  media.Media
	Offset int64 // from the start of the media, in bytes
}

// Open opens the content of f, which is in this place. The caller closes it.
func (p Place) Open(ctx context.Context, f index.File) (media.Content, error) {
	return p.Media.Open(ctx, p.ref(f))
}

func (p Place) ref(f index.File) media.Ref {
	return media.Ref{Path: f.Path, Offset: p.Offset, Size: f.Size, SHA256: f.SHA256}
}

// Find returns the place of the content of f: in this bundle, in an attached one or in a pack. The
// error is a *NotAtHandError when it is in none.
func (b *Bundle) Find(f index.File) (Place, error) {
	if f.Bundle == b.own() && b.media != nil {
		return Place{b.media, b.payload + f.Offset}, nil
	}
	if o := b.parts[f.Bundle]; o != nil {
		return Place{o.media, o.payload + f.Offset}, nil
	}
	for _, p := range b.packs {
		if at, ok, err := p.find(f.SHA256); err != nil {
			return Place{}, err
		} else if ok {
			return Place{p.media, at}, nil
		}
	}
	if f.Bundle == b.own() {
		return Place{}, errCatalogue
	}
	bad := &NotAtHandError{Path: f.Path}
	for _, x := range b.line {
		if x.ID == f.Bundle {
			bad.Bundle = x
		}
	}
	return Place{}, bad
}

// Content returns the content of f. It is not verified here: callers must compare it with the
// SHA-256 in the index.
func (b *Bundle) Content(ctx context.Context, f index.File) (*io.SectionReader, error) {
	p, err := b.Find(f)
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(media.ReaderAt(ctx, p.Media), p.Offset, f.Size), nil
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
	return b.Read(ctx, f, limit)
}

// Read returns the verified content of a small file: at most limit bytes.
func (b *Bundle) Read(ctx context.Context, f index.File, limit int64) ([]byte, error) {
	if f.Size > limit {
		return nil, &NotVerifiedError{What: f.Path, Err: fmt.Errorf("%d bytes, want at most %d", f.Size, limit)}
	}
	place, err := b.Find(f)
	if err != nil {
		return nil, err
	}
	return place.Media.ReadContent(ctx, place.ref(f))
}
