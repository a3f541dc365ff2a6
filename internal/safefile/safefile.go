// Package safefile writes files so that a reader, or the next run after a crash, sees the old file
// or the new one and never a part of one.
//
// It writes a file under a temporary name, syncs it, renames it to its final name, and syncs its
// folder. modmirror writes every file that it reads again with this package.
package safefile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"
)

// TempPrefix begins the name of every temporary file, so that leftovers of killed runs can be
// recognized.
const TempPrefix = ".modmirror-tmp-"

// newName returns the end of a temporary file's name. It cannot be predicted.
var newName = rand.Text

// A File is a file that is being written. It does not change its final path before Commit.
type File struct {
	*os.File
	root   *os.Root // contains path and temp; nil when those are paths of the file system
	temp   string   // path of the temporary file
	path   string
	closed bool
	done   bool

	written atomic.Int64 // bytes that the disk was not told to write yet
}

// writeBack is after how many bytes the disk is told to write what is in memory.
const writeBack = 8 << 20

// Write writes at the file's offset. A large file goes to the disk while it is written, so that
// Commit need not wait for all of it.
func (f *File) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.wrote(n)
	return n, err
}

// WriteAt is like Write at an offset. Several goroutines may call it at once.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(p, off)
	f.wrote(n)
	return n, err
}

// wrote counts n bytes.
func (f *File) wrote(n int) {
	if sum := f.written.Add(int64(n)); sum >= writeBack && f.written.CompareAndSwap(sum, 0) {
		beginWriteBack(f.File)
	}
}

// Create starts writing path, with the temporary file in the same folder.
func Create(path string, perm fs.FileMode) (*File, error) {
	return CreateIn(filepath.Dir(path), path, perm)
}

// CreateIn is like Create with the temporary file in tmp, a folder of the same file system. Commit
// creates the folder of path if needed.
func CreateIn(tmp, path string, perm fs.FileMode) (*File, error) {
	f, err := os.OpenFile(filepath.Join(tmp, TempPrefix+newName()), os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	return &File{File: f, temp: f.Name(), path: path}, nil
}

// CreateInRoot is like Create for a path in a root, which links cannot leave. It creates the folder
// of path if needed. The temporary file is at the top of the root, where SweepOld finds it.
func CreateInRoot(root *os.Root, path string, perm fs.FileMode) (*File, error) {
	dir := filepath.Dir(path)
	if err := root.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	temp := TempPrefix + newName()
	f, err := root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return nil, err
	}
	return &File{File: f, root: root, temp: temp, path: path}, nil
}

func (f *File) rename() error {
	if f.root != nil {
		return f.root.Rename(f.temp, f.path)
	}
	return os.Rename(f.temp, f.path)
}

func (f *File) remove() {
	if f.root != nil {
		f.root.Remove(f.temp)
	} else {
		os.Remove(f.temp)
	}
}

// Path returns the final path.
func (f *File) Path() string { return f.path }

// Commit gives the content that was written to the final path. When Commit returns, the content
// survives a crash. Files of CreateInRoot are committed with CommitNoSync.
func (f *File) Commit() error {
	if err := f.CommitNoSync(); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(f.path))
}

// CommitTo is like Commit for another path of the same file system.
func (f *File) CommitTo(path string) error {
	f.path = path
	return f.Commit()
}

// CommitNoSync is like Commit without the sync of the folder: after a crash the file may be absent,
// but never partial. Callers that commit many files sync each folder once at the end.
func (f *File) CommitNoSync() error {
	if f.done {
		return fs.ErrClosed
	}
	if err := f.Finish(); err != nil {
		return err
	}
	f.done = true
	err := f.rename()
	if errors.Is(err, fs.ErrNotExist) && f.root == nil {
		if err = os.MkdirAll(filepath.Dir(f.path), 0o777); err == nil {
			err = f.rename()
		}
	}
	if err != nil {
		f.remove()
	}
	return err
}

// Finish syncs and closes the temporary file, so that many files can wait for Commit without being
// open. Nothing can be written after it.
func (f *File) Finish() error {
	if f.closed {
		return nil
	}
	if err := f.Sync(); err != nil {
		f.Discard()
		return err
	}
	return f.FinishNoSync()
}

// FinishNoSync is like Finish without the sync. The caller syncs the file system with SyncAll
// before Commit.
func (f *File) FinishNoSync() error {
	if f.closed {
		return nil
	}
	if err := f.Close(); err != nil {
		f.Discard()
		return err
	}
	f.closed = true
	return nil
}

// Discard removes the temporary file and leaves the final path alone. It does nothing after Commit,
// so callers can defer it.
func (f *File) Discard() {
	if f.done {
		return
	}
	f.done = true
	f.Close()
	f.remove()
}

// Write replaces the content of path with data. It creates the folder of path if needed.
func Write(path string, data []byte, perm fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	f, err := Create(path, perm)
	if err != nil {
		return err
	}
	defer f.Discard()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// SyncDir makes the names in dir survive a crash.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("syncing folder %s: %w", dir, err)
	}
	return nil
}

// Remove removes a file. It is no error when the file does not exist.
func Remove(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
