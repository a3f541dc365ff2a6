package store

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/trust"
)

// A Target is a shelf that bundles are published to, such as a bucket of package object.
type Target interface {
	media.Shelf

	// Open returns the media of a file. The error wraps fs.ErrNotExist when there is none.
	Open(ctx context.Context, name string) (media.Media, error)

	// Upload writes a file of size bytes. It resumes an upload that was interrupted.
	Upload(ctx context.Context, name string, src io.ReaderAt, size int64, progress func(n int64)) error
}

// Publish uploads a bundle as NAME-SEQUENCE.tar, with the detached signatures beside it, having
// verified every byte. The error is a *bundle.MissingBaseError when an earlier bundle of the line
// was not published, an *AlreadyError when this one was, and a *bundle.RollbackError when a newer
// one was. An interrupted upload is resumed. progress, which may be nil, is told of verified and of
// uploaded bytes: twice the size in all.
func Publish(ctx context.Context, b *bundle.Bundle, to Target, keyring *trust.Keyring, progress func(n int64)) error {
	if !b.HasFiles() {
		return bundle.ErrCatalog
	}
	m := &b.Manifest
	published := &Store{Trust: keyring.Lenient(), State: NoState(), shelf: to}
	have, err := published.open(ctx, nil)
	if err != nil {
		return err
	}
	defer have.Close()
	name := fileName(m)
	if err := checkPublished(ctx, b, have, to, name); err != nil {
		return err
	}
	var bad error
	report := func(d bundle.Damage) {
		bad = cmp.Or(bad, error(&bundle.NotVerifiedError{What: d.Path, Err: d.Err}))
	}
	err = b.Verify(ctx, progress, report)
	if err = cmp.Or(err, bad); err != nil {
		return err
	}
	if err := to.Upload(ctx, name, b.ReaderAt(ctx), m.Size, progress); err != nil {
		return err
	}
	return checkUploaded(ctx, b, to, name, keyring)
}

// checkPublished checks that b may be uploaded beside the bundles of have.
func checkPublished(ctx context.Context, b *bundle.Bundle, have *holding, to Target, name string) error {
	m := &b.Manifest
	there := make(map[string]*bundle.Bundle)
	for _, o := range have.bundles {
		there[o.ID()] = o
	}
	if o := there[b.ID()]; o != nil {
		if bytes.Equal(o.SignedManifest(), b.SignedManifest()) {
			return &AlreadyError{File: o.Path()}
		}
	} else {
		for _, o := range have.bundles {
			if o.Manifest.Name != m.Name {
				continue
			}
			if err := m.Accept(b.Path(), o.Known()); err != nil {
				return err
			}
		}
		if o, err := to.Open(ctx, name); err == nil {
			defer o.Close()
			return &bundle.RollbackError{Bundle: b.Path(), Reason: o.Name() + " is another bundle, or not one of a trusted key"}
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	for _, x := range b.Line() {
		if there[x.Digest] == nil {
			return &bundle.MissingBaseError{Bundle: x}
		}
	}
	return nil
}

// checkUploaded reads back the manifest and the size of an uploaded bundle.
func checkUploaded(ctx context.Context, b *bundle.Bundle, to Target, name string, keyring *trust.Keyring) error {
	m, err := to.Open(ctx, name)
	if err != nil {
		return err
	}
	defer m.Close()
	got, err := bundle.OpenFrontIn(ctx, m.Name(), m, "", keyring.Lenient())
	if err == nil && !bytes.Equal(got.SignedManifest(), b.SignedManifest()) {
		err = media.ErrHash
	}
	if err != nil {
		return fmt.Errorf("%s was uploaded and is not what was sent: %d bytes of %d: %w", m.Name(), m.Size(), b.Manifest.Size, err)
	}
	return nil
}
