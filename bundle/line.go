package bundle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
)

// LineOf returns the name of a bundle's or catalog's line. It verifies the manifest alone, and one
// signature of a trusted key is enough.
func LineOf(path string, keyring *trust.Keyring) (string, error) {
	if strings.HasSuffix(path, manifestExt) {
		b := newBundle(path, nil)
		data, err := media.ReadSmall(path, ManifestSize)
		if err == nil {
			err = b.verifyManifest(data, keyring.Lenient())
		}
		return b.Manifest.Name, err
	}
	b, err := OpenFront(context.Background(), path, keyring.Lenient()) // a local file
	if err != nil {
		return "", err
	}
	defer b.Close()
	return b.Manifest.Name, nil
}

// readLine reads the bundles of the line from the index. The last one is this bundle.
func (b *Bundle) readLine(ctx context.Context) error {
	b.line = nil
	for x, err := range b.Index.Bundles(ctx) {
		if err != nil {
			return wrapBad(ctx, err)
		}
		if x.Name != b.Manifest.Name || len(x.Digest) > 2*sha256.Size { // before there is memory for more
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

// maxLine is the largest number of bundles in a line: two centuries of weekly ones.
const maxLine = 10_000

// own returns the number of this bundle in its index.
func (b *Bundle) own() int64 { return b.line[len(b.line)-1].ID }

// Line returns the earlier bundles of the line that the index names, oldest first.
func (b *Bundle) Line() []index.Bundle { return b.line[:max(len(b.line)-1, 0)] }

// Own returns the files that the bundle itself carries, and not an earlier one of its line, by offset.
func (b *Bundle) Own(ctx context.Context) iter.Seq2[index.File, error] {
	return b.Index.FilesIn(ctx, b.own())
}

// Attach makes others the source of the files of earlier bundles. Bundles of other lines are
// ignored. The caller closes them, after b.
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

// Holder returns the bundle with a number in the index: b itself, an attached bundle, or nil.
func (b *Bundle) Holder(number int64) *Bundle {
	if number == b.own() {
		return b
	}
	return b.parts[number]
}

// A Pack has contents of pruned bundles.
type Pack interface {
	// Find returns the place of the content with a SHA-256. The content is not verified.
	Find(sum [32]byte) (place Place, ok bool, err error)
}

// AttachPacks makes packs a source of the files of earlier bundles too.
func (b *Bundle) AttachPacks(packs []Pack) { b.packs = packs }

// A MissingBaseError reports an earlier bundle of a line that is not at hand.
type MissingBaseError struct{ Bundle index.Bundle }

// Error names the bundle.
func (e *MissingBaseError) Error() string {
	sequence := ""
	if e.Bundle.Sequence > 0 {
		sequence = fmt.Sprintf("sequence %d, ", e.Bundle.Sequence)
	}
	return fmt.Sprintf("an earlier bundle of the line is not at hand: %s, %sid %.16s", e.Bundle.Name, sequence, e.Bundle.Digest)
}
