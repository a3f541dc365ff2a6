package bundle

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
)

// A Place is where a content is.
type Place struct {
	Media  media.Media
	Offset int64 // from the start of the media, in bytes
}

// Open opens the content of f at this place. The caller closes it.
func (p Place) Open(ctx context.Context, f index.File) (media.Content, error) {
	return p.Media.Open(ctx, p.ref(f))
}

func (p Place) ref(f index.File) media.Ref {
	return media.Ref{Path: f.Path, Offset: p.Offset, Size: f.Size, SHA256: f.SHA256}
}

// Find returns the place of the content of f: in this bundle, in an attached one, or in a pack. The
// error is a *NotAtHandError when no such place is known.
func (b *Bundle) Find(f index.File) (Place, error) {
	if f.Bundle == b.own() && b.media != nil {
		return Place{b.media, b.payload + f.Offset}, nil
	}
	if o := b.parts[f.Bundle]; o != nil {
		return Place{o.media, o.payload + f.Offset}, nil
	}
	for _, p := range b.packs {
		if place, ok, err := p.Find(f.SHA256); err != nil || ok {
			return place, err
		}
	}
	if f.Bundle == b.own() {
		return Place{}, ErrCatalog
	}
	bad := &NotAtHandError{Path: f.Path}
	for _, x := range b.line {
		if x.ID == f.Bundle {
			bad.Bundle = x
		}
	}
	return Place{}, bad
}

// Content returns a reader of the content of f. The content is not verified here: callers must
// compare it with the SHA-256 in the index.
func (b *Bundle) Content(ctx context.Context, f index.File) (*io.SectionReader, error) {
	p, err := b.Find(f)
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(media.ReaderAt(ctx, p.Media), p.Offset, f.Size), nil
}

// ReadFile returns the content of the file at a path, verified. The file may have at most limit
// bytes. The error wraps fs.ErrNotExist when the bundle has no such file.
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

// Read returns the content of f, verified. f may have at most limit bytes.
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

// TreeHash returns the hash of all files of the line but for those in the folder review: the bytes
// of the "h1:" hash of golang.org/x/mod/sumdb/dirhash, which in-toto calls dirHash. A document in
// the bundle can have it, and not the bundle's id, which depends on the document.
func (b *Bundle) TreeHash(ctx context.Context) ([32]byte, error) { return treeHash(ctx, b.Index) }

// TreeHash is Bundle.TreeHash for a draft. AddReviews does not change it.
func (d *Draft) TreeHash(ctx context.Context) ([32]byte, error) {
	x, err := index.Open(d.index)
	if err != nil {
		return [32]byte{}, err
	}
	defer x.Close()
	return treeHash(ctx, x)
}

func treeHash(ctx context.Context, x *index.Index) (sum [32]byte, err error) {
	h := sha256.New()
	for f, err := range x.FilesByPath(ctx) {
		if err != nil {
			return sum, err
		}
		if !strings.HasPrefix(f.Path, modpath.ReviewFolder) {
			fmt.Fprintf(h, "%x  %s\n", f.SHA256, f.Path)
		}
	}
	return [32]byte(h.Sum(nil)), nil
}

// SignedManifest returns the content of the MANIFEST entry with all known signatures.
func (b *Bundle) SignedManifest() []byte { return padManifest(b.note) }

// WriteManifest writes SignedManifest to its place in f, a copy of the bundle.
func (b *Bundle) WriteManifest(f io.WriterAt) error {
	_, err := f.WriteAt(b.SignedManifest(), manifestAt)
	return err
}

// ReaderAt reads the bytes of the bundle with all known signatures in the manifest. Reads end when
// ctx is done.
func (b *Bundle) ReaderAt(ctx context.Context) io.ReaderAt {
	return &signedReader{ctx, b.media, b.SignedManifest()}
}

// A signedReader reads a bundle with another manifest, such as one with more signatures.
type signedReader struct {
	ctx      context.Context
	m        media.Media
	manifest []byte
}

// ReadAt reads from the bundle, but from r.manifest where the manifest is.
func (r *signedReader) ReadAt(p []byte, at int64) (int, error) {
	n, err := r.m.ReadAt(r.ctx, p, at)
	for i := max(at, manifestAt); i < min(at+int64(n), manifestAt+ManifestSize); i++ {
		p[i-at] = r.manifest[i-manifestAt]
	}
	return n, err
}

// A NotAtHandError reports a file whose content is in an earlier bundle that is not attached.
type NotAtHandError struct {
	Path   string
	Bundle index.Bundle
}

// Error names the file and the bundle.
func (e *NotAtHandError) Error() string {
	return fmt.Sprintf("%s is in an earlier bundle of the line that is not at hand: %s, sequence %d, id %.16s", e.Path, e.Bundle.Name, e.Bundle.Sequence, e.Bundle.Digest)
}
