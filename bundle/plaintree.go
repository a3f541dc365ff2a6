package bundle

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/safefile"
)

// A PlainTree is a folder to which files of bundles are written, verified. Nothing is written
// outside of it, wherever links in it lead, and what modmirror did not make is not replaced. Files
// of different paths may be written by several goroutines.
type PlainTree struct {
	Dir     string
	Replace bool // regular files with other contents may be replaced: those of an earlier bundle of the line

	root *os.Root
}

// An OccupiedError says that something else is where a file is to be written.
type OccupiedError struct {
	File   string
	Reason string // what is there
}

// Error names the file.
func (e *OccupiedError) Error() string {
	return fmt.Sprintf("%s is there already and stays as it is: %s", e.File, e.Reason)
}

// OpenPlainTree opens the folder dir, which is made when it is not there.
func OpenPlainTree(dir string) (*PlainTree, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	if err := safefile.SweepOld(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &PlainTree{Dir: dir, root: root}, nil
}

// Close closes the folder.
func (t *PlainTree) Close() error { return t.root.Close() }

// Read returns the content of a regular file of at most limit bytes. The error wraps fs.ErrNotExist
// when there is none.
func (t *PlainTree) Read(name string, limit int64) ([]byte, error) {
	if err := t.regular(name); err != nil {
		return nil, err
	}
	f, err := t.root.Open(filepath.FromSlash(name))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", filepath.Join(t.Dir, name), limit)
	}
	return data, err
}

// regular returns an *OccupiedError when what is at a path is no regular file.
func (t *PlainTree) regular(name string) error {
	st, err := t.root.Lstat(filepath.FromSlash(name))
	switch {
	case err != nil:
		return err
	case st.Mode().IsRegular():
		return nil
	case st.Mode()&fs.ModeSymlink != 0:
		return &OccupiedError{filepath.Join(t.Dir, name), "it is a link"}
	}
	return &OccupiedError{filepath.Join(t.Dir, name), "it is not a regular file"}
}

// Has reports whether a file with a SHA-256 is at a path. When something else is there that may not
// be replaced, the error is an *OccupiedError.
func (t *PlainTree) Has(name string, sum [32]byte) (bool, error) {
	err := t.regular(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, t.escape(name, err)
	}
	f, err := t.root.Open(filepath.FromSlash(name))
	if err != nil {
		return false, err
	}
	defer f.Close()
	have, err := media.Hash(f)
	if err == nil && have != sum && !t.Replace {
		err = &OccupiedError{filepath.Join(t.Dir, name), "its contents are others"}
	}
	return have == sum, err
}

// escape has a link that leads out of the tree be an *OccupiedError.
func (t *PlainTree) escape(name string, err error) error {
	if _, ok := errors.AsType[*OccupiedError](err); ok {
		return err
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if st, lerr := t.root.Lstat(filepath.FromSlash(dir)); lerr == nil && !st.IsDir() {
			return &OccupiedError{filepath.Join(t.Dir, dir), "it is no folder"}
		}
	}
	return err
}

// Write writes a file whose SHA-256 must be sum, unless it is there already, and reports whether it
// was not. It survives a crash after Sync.
func (t *PlainTree) Write(name string, content io.Reader, sum [32]byte, buf []byte) (wrote bool, err error) {
	if same, err := t.Has(name, sum); same || err != nil {
		return false, err
	}
	out, err := safefile.CreateInRoot(t.root, filepath.FromSlash(name), 0o666)
	if err != nil {
		return false, t.escape(name, err)
	}
	defer out.Discard()
	h := sha256.New()
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(out, h)}, struct{ io.Reader }{content}, buf); err != nil {
		return false, err
	}
	if [32]byte(h.Sum(nil)) != sum {
		return false, &NotVerifiedError{What: name, Err: media.ErrHash}
	}
	return true, out.CommitNoSync()
}

// Sync makes what was written survive a crash.
func (t *PlainTree) Sync() error {
	if ok, err := safefile.SyncAll(t.Dir); ok {
		return err
	}
	return filepath.WalkDir(t.Dir, func(name string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			err = safefile.SyncDir(name)
		}
		return err
	})
}

// continueTree finds out whether t is the tree of an earlier bundle of b's line, which the MANIFEST
// in it says, so that its files may be replaced. A tree of a newer one is a *RollbackError.
func (b *Bundle) continueTree(t *PlainTree, keyring *trust.Keyring) error {
	data, err := t.Read(manifestName, ManifestSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m, err := OpenManifest(data, keyring.Lenient())
	switch {
	case err != nil:
		return &OccupiedError{filepath.Join(t.Dir, manifestName), "it is not the MANIFEST of a bundle that a trusted key signed"}
	case m.Name != b.Manifest.Name:
		return &OccupiedError{filepath.Join(t.Dir, manifestName), fmt.Sprintf("the tree is of the line %s, not of %s", m.Name, b.Manifest.Name)}
	case m.Sequence > b.Manifest.Sequence:
		return &RollbackError{b.path, fmt.Sprintf("its sequence is %d, and the tree in %s is of %d", b.Manifest.Sequence, t.Dir, m.Sequence)}
	}
	t.Replace = true
	return nil
}
