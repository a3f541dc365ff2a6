package bundle

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/bucket"
)

// tarMeta is what the storage says of a bundle.
var tarMeta = bucket.Meta{ContentType: "application/x-tar", CacheControl: "public, max-age=31536000, immutable"}

// Publish uploads a bundle to a bucket, as NAME-SEQUENCE.tar, every byte of it verified before, with the detached signatures that are beside it. The bundles before it in its line must be there: else the
// error is a *MissingBaseError. What is there already is an *AlreadyError. An upload that was broken off is taken up again. progress, which may be nil, is told of
// bytes that are verified, then of bytes that are there, so that it counts to twice the size.
func Publish(ctx context.Context, b *Bundle, to *bucket.Bucket, keyring *trust.Keyring, progress func(n int64)) error {
	if b.media == nil {
		return errCatalogue
	}
	m := &b.Manifest
	have, err := (&Store{Trust: keyring.Lenient(), State: NoState(), Remote: &Remote{Bucket: to}}).openAll(ctx, func(string, error) {})
	if err != nil {
		return err
	}
	defer have.Close()
	there := make(map[string]*Bundle)
	for _, o := range have.bundles {
		there[o.ID()] = o
		if o.Manifest.Name == m.Name && o.Manifest.Sequence > m.Sequence && there[b.ID()] == nil {
			return &RollbackError{b.path, fmt.Sprintf("its sequence is %d, and %s is newer", m.Sequence, o.path)}
		}
	}
	name := m.fileName()
	manifest := padManifest(b.note)
	if o := there[b.ID()]; o != nil {
		if bytes.Equal(padManifest(o.note), manifest) {
			return &AlreadyError{File: o.path}
		}
	} else if o, err := to.Stat(ctx, name); err == nil {
		return &RollbackError{b.path, fmt.Sprintf("%s is another bundle, or not one of a trusted key", o)}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, x := range b.Line() {
		if there[x.Digest] == nil {
			return &MissingBaseError{x}
		}
	}
	var bad error
	if err := b.Verify(ctx, progress, func(d Damage) { bad = cmp.Or(bad, error(&NotVerifiedError{What: d.Path, Err: d.Err})) }); err != nil {
		return err
	}
	if bad != nil {
		return bad
	}
	src := &signedReader{ctx, b.media, manifest}
	if _, err := to.Upload(ctx, name, src, m.Size, tarMeta, progress); err != nil {
		return err
	}
	o, err := to.Stat(ctx, name)
	if err != nil {
		return err
	}
	got := make([]byte, len(manifest))
	if _, err := o.ReadAt(ctx, got, manifestAt); err != nil || o.Size != m.Size || !bytes.Equal(got, manifest) {
		return fmt.Errorf("%s was uploaded and is not what was sent: %d bytes of %d: %w", o, o.Size, m.Size, errors.Join(err, media.ErrHash))
	}
	return nil
}

// A signedReader reads a bundle with another manifest: the one with all signatures.
type signedReader struct {
	ctx      context.Context
	m        media.Media
	manifest []byte
}

// ReadAt is that of io.ReaderAt.
func (r *signedReader) ReadAt(p []byte, at int64) (int, error) {
	n, err := r.m.ReadAt(r.ctx, p, at)
	for i := max(at, manifestAt); i < min(at+int64(n), manifestAt+ManifestSize); i++ {
		p[i-at] = r.manifest[i-manifestAt]
	}
	return n, err
}

// EachFile calls f with each file that there is of the bundle, and in a store that OpenNewest opened of those before it, in order of their paths, with its content, not yet verified.
func (b *Bundle) EachFile(ctx context.Context, f func(index.File, *io.SectionReader) error) error {
	for x, err := range b.chosen(ctx, nil) {
		if err != nil {
			return err
		}
		content, err := b.Content(ctx, x)
		if err != nil {
			return err
		}
		if err := f(x, content); err != nil {
			return err
		}
	}
	return nil
}
