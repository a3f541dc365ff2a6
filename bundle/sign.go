package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/safefile"
)

const (
	// journalExt ends the name of the file in which a manifest with a new signature waits while it
	// is written into the bundle.
	journalExt = ".signing"
)

// SignaturesFile returns the path of the file of detached signatures of the bundle at path.
func SignaturesFile(path string) string {
	if base, _, ok := media.PieceOf(path); ok {
		path = base
	}
	return strings.TrimSuffix(path, manifestExt) + media.SignaturesExt
}

// ReadSignatures reads a file of detached signatures: a signed note of the same text as the
// manifest. It returns nil when the file does not exist. other says what a file is that is not a
// signed note, and so belongs to another tool.
func ReadSignatures(name string) (data []byte, other string, err error) {
	f, err := media.OpenBeside(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", nil
	}
	if err == nil {
		defer f.Close()
		data, err = io.ReadAll(io.LimitReader(f, ManifestSize+1))
	}
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("%s: %w", name, err)
	case !isSignatures(data):
		return nil, foreignSignature(data), nil
	case len(data) > ManifestSize:
		return nil, "", &NotVerifiedError{What: name, Err: fmt.Errorf("more than %d bytes", ManifestSize)}
	}
	return data, "", nil
}

// signatureLines returns the text of a signed note and the lines of its signatures.
func signatureLines(msg []byte) (text, lines []byte) {
	i := bytes.LastIndex(msg, []byte("\n\n"))
	if i < 0 {
		return msg, nil
	}
	return msg[:i+1], msg[i+2:]
}

// Sign adds signatures of keys to the bundle at path, in place. They are written beside the bundle
// first, so that the next Sign repairs an interruption at any byte. keyring must trust the bundle,
// so that nobody signs what could be a forgery.
func Sign(path string, keyring *trust.Keyring, keys ...*trust.Key) (Manifest, error) {
	m, err := openMedia(path)
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	defer m.Close()
	if m.Where(0, 1) != "" {
		return Manifest{}, fmt.Errorf("%s is in pieces: sign it before it is split, or write the signature beside it", m.Name())
	}
	ctx := context.Background()
	if err := repair(ctx, path, keyring); err != nil {
		return Manifest{}, fmt.Errorf("repairing %s: %w", path, err)
	}
	b := newBundle(path, m)
	if err := b.readManifest(ctx, keyring); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	if err := b.checkIndexBytes(ctx); err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	data, err := countersign(b.note, keyring, keys)
	if err != nil {
		return Manifest{}, err
	}
	if err := safefile.Write(path+journalExt, data, 0o666); err != nil {
		return Manifest{}, err
	}
	return b.Manifest, install(path, data)
}

// repair finishes an interrupted Sign.
func repair(ctx context.Context, path string, keyring *trust.Keyring) error {
	data, err := media.ReadBeside(path+journalExt, ManifestSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	b := newBundle(path, nil)
	if err := b.verifyManifest(data, keyring); err != nil {
		return fmt.Errorf("%s: %w", path+journalExt, err)
	}
	if b.media, err = openMedia(path); err != nil {
		return err
	}
	defer b.media.Close()
	// The journal must be of this very bundle, whose manifest may be half written: the index must
	// match, and the manifest too if it is whole. Else anybody's journal could have another bundle
	// signed.
	other := &NotVerifiedError{What: path + journalExt, Err: errors.New("it is of another bundle; remove it")}
	if b.media.Size() != b.Manifest.Size || b.checkIndexBytes(ctx) != nil {
		return other
	}
	whole := newBundle(path, b.media)
	if err := whole.readManifest(ctx, keyring); err == nil && whole.Manifest != b.Manifest {
		return other
	}
	return install(path, data)
}

// checkIndexBytes compares the index in the file with the hash in the manifest.
func (b *Bundle) checkIndexBytes(ctx context.Context) error {
	src := b.indexBytes(ctx)
	defer src.Close()
	sum, err := media.Hash(src)
	if err != nil {
		return err
	}
	return b.checkIndexSum(sum)
}

// install writes the manifest in the journal into the bundle, and removes the journal.
func install(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, manifestAt)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Remove(path + journalExt)
}

// AddSignatures adds the signatures on other, which has the same manifest, to b's: in the file
// beside it, since a server may be sending the bundle's own bytes.
func (b *Bundle) AddSignatures(other *Bundle, keyring *trust.Keyring) error {
	_, n, err := openManifest(padManifest(b.note), other.note, keyring.Lenient())
	if err != nil {
		return err
	}
	signed, err := signNote(n)
	if err != nil {
		return err
	}
	return safefile.Write(SignaturesFile(b.path), signed, 0o666)
}

// SignDetached adds signatures of keys to a file of detached signatures, and makes the file if
// needed. Commands read FILE.sig beside the bundle FILE.
func SignDetached(path, to string, keyring *trust.Keyring, keys ...*trust.Key) (Manifest, error) {
	ctx := context.Background()
	b := newBundle(path, nil)
	var err error
	if strings.HasSuffix(path, manifestExt) {
		var data []byte
		if data, err = media.ReadSmall(path, ManifestSize); err == nil {
			err = b.verifyManifest(data, keyring)
		}
	} else if b.media, err = openMedia(path); err == nil {
		defer b.media.Close()
		err = b.readManifest(ctx, keyring)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	if a, err := os.Stat(to); err == nil {
		if b, err := os.Stat(path); err == nil && os.SameFile(a, b) {
			return Manifest{}, &OccupiedError{File: to, Reason: "it is the bundle"}
		}
	}
	old, other, err := ReadSignatures(to)
	if err != nil {
		return Manifest{}, err
	}
	if other != "" {
		return Manifest{}, &OccupiedError{File: to, Reason: "it is " + other}
	}
	n := &note.Note{Text: b.Manifest.Text()}
	if old != nil {
		if text, _ := signatureLines(old); string(text) != n.Text {
			return Manifest{}, &OccupiedError{File: to, Reason: "it has signatures of another bundle"}
		}
		if n, err = trust.OpenUnverified(old); err != nil {
			return Manifest{}, fmt.Errorf("%s: %w", to, err)
		}
	}
	data, err := note.Sign(n, trust.Signers(keys)...)
	if err != nil {
		return Manifest{}, err
	}
	return b.Manifest, safefile.Write(to, data, 0o666)
}

// countersign returns the content of a MANIFEST entry: the note with its signatures and those of
// keys.
func countersign(msg []byte, keyring *trust.Keyring, keys []*trust.Key) ([]byte, error) {
	n, err := note.Open(msg, keyring.Verifiers())
	if err != nil {
		return nil, err
	}
	signed, err := signNote(n, trust.Signers(keys)...)
	if err != nil {
		return nil, err
	}
	return padManifest(signed), nil
}
