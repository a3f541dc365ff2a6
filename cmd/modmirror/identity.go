package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"filippo.io/age"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/internal/hint"
)

// readIdentities reads files of age identities, which open encrypted bundles.
func readIdentities(files []string) (ids []age.Identity, err error) {
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		list, err := age.ParseIdentities(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: not a file of age identities: %w", name, err)
		}
		ids = append(ids, list...)
	}
	return ids, nil
}

// decrypt returns a reader of the bundle in r, which is encrypted. name is for messages.
func decrypt(name string, r io.Reader, ids []age.Identity) (io.Reader, error) {
	if len(ids) == 0 {
		return nil, &hint.Error{Err: fmt.Errorf("%s is encrypted", name), Hint: "--identity FILE names the age identity that opens it"}
	}
	plain, err := age.Decrypt(media.AgeReader(r), ids...)
	if _, wrong := errors.AsType[*age.NoIdentityMatchError](err); wrong {
		return nil, &hint.Error{Err: fmt.Errorf("%s is encrypted to other identities than the given ones", name), Hint: "--identity FILE names the age identity that opens it"}
	}
	if err != nil {
		return nil, &bundle.NotVerifiedError{What: name, Err: err}
	}
	return &decrypted{plain, name}, nil
}

// A decrypted reader reports data that age does not accept as a *bundle.NotVerifiedError.
type decrypted struct {
	r    io.Reader
	name string
}

// Read implements io.Reader.
func (d *decrypted) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	if _, disk := errors.AsType[*fs.PathError](err); err != nil && err != io.EOF && !disk {
		err = &bundle.NotVerifiedError{What: d.name, Err: err}
	}
	return n, err
}
