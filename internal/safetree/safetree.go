// Package safetree writes files of bundles to a folder, as a GOPROXY tree for a web server.
package safetree

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/internal/safefile"
)

// A Tree is a folder of verified files. Nothing is written outside of it, wherever links in it
// lead, and files of other contents are not replaced unless Replace is set. Different files may be
// written concurrently.
type Tree struct {
	Dir     string
	Replace bool // regular files of other contents may be replaced

	root *os.Root
}

// An OccupiedError reports something that is in the way of a file, and stays as it is.
type OccupiedError struct {
	File   string
	Reason string // what is in the way
}

// Error names the file.
func (e *OccupiedError) Error() string {
	return fmt.Sprintf("%s is there already and stays as it is: %s", e.File, e.Reason)
}

// Open opens the folder dir, and makes it if needed. The caller closes it.
func Open(dir string) (*Tree, error) {
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
	return &Tree{Dir: dir, root: root}, nil
}

// Close closes the folder.
func (t *Tree) Close() error { return t.root.Close() }

// ReadFile returns the content of a regular file of at most limit bytes. The error wraps
// fs.ErrNotExist when the file does not exist.
func (t *Tree) ReadFile(_ context.Context, name string, limit int64) ([]byte, error) {
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

// regular returns an *OccupiedError when something else than a regular file is at a path.
func (t *Tree) regular(name string) error {
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

// Has reports whether a file with a SHA-256 is at a path. The error is an *OccupiedError when
// something else is there that may not be replaced.
func (t *Tree) Has(name string, sum [32]byte) (bool, error) {
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

// escape returns err, or an *OccupiedError when a folder of the path is a link or a file.
func (t *Tree) escape(name string, err error) error {
	if _, ok := errors.AsType[*OccupiedError](err); ok {
		return err
	}
	for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
		if st, lerr := t.root.Lstat(filepath.FromSlash(dir)); lerr == nil && !st.IsDir() {
			return &OccupiedError{filepath.Join(t.Dir, dir), "it is not a folder"}
		}
	}
	return err
}

// Write writes a file whose SHA-256 must be sum, unless it exists already, and reports whether it
// did. Another SHA-256 is a *media.NotVerifiedError, and nothing is written. The file survives a
// crash after Sync.
func (t *Tree) Write(name string, content io.Reader, sum [32]byte, buf []byte) (wrote bool, err error) {
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
		return false, &media.NotVerifiedError{What: name, Err: media.ErrHash}
	}
	return true, out.CommitNoSync()
}

// Sync makes the written files survive a crash.
func (t *Tree) Sync() error {
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

// A File is a file of a tree.
type File struct {
	Path   string
	Size   int64 // in bytes
	SHA256 [32]byte

	ContentType, CacheControl string // for storage that keeps them
}

// Put writes f unless the tree has it, and reports whether it wrote. See Write.
func (t *Tree) Put(_ context.Context, f File, src io.ReaderAt) (wrote bool, err error) {
	return t.Write(f.Path, io.NewSectionReader(src, 0, f.Size), f.SHA256, nil)
}

// CheckFree returns an *OccupiedError when a file is in the way of files, which may have an error.
func (t *Tree) CheckFree(_ context.Context, files iter.Seq2[File, error]) error {
	for f, err := range files {
		if err == nil {
			_, err = t.Has(f.Path, f.SHA256)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// SetReplace sets Replace.
func (t *Tree) SetReplace() { t.Replace = true }
