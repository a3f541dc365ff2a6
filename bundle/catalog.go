package bundle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/safefile"
)

// Ends of the names of the two files of a catalog: a bundle without its files.
const (
	manifestExt = ".manifest"
	indexExt    = ".index.sqlite"
)

// ErrCatalog reports that a catalog was named where the files of a bundle are needed.
var ErrCatalog = errors.New("it is a catalog, which has no files: name the bundle itself")

// openCatalog opens a manifest and the index beside it.
func (b *Bundle) openCatalog(ctx context.Context, keyring *trust.Keyring, stateDir string) error {
	data, err := media.ReadSmall(b.path, ManifestSize)
	if err != nil {
		return err
	}
	if err := b.verifyManifest(data, keyring); err != nil {
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

// WriteCatalog writes the catalog of the bundle, NAME.manifest and NAME.index.sqlite, to dir, and
// returns the path of the manifest. The next sync needs no more as its base.
func (b *Bundle) WriteCatalog(dir string) (string, error) {
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

// CatalogFiles returns the paths that WriteCatalog writes to in dir.
func (b *Bundle) CatalogFiles(dir string) (manifest, index string) {
	base := filepath.Join(dir, b.Manifest.Name)
	return base + manifestExt, base + indexExt
}
