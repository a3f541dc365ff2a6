package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/safefile"
)

// syncsInFlight is how many small files are synced at once. Syncs that wait for the disk together
// share its work.
const syncsInFlight = 32

// A Dir is a mirror directory, locked by this process. It is safe for concurrent use.
//
// Its layout is that of GOMODCACHE/cache/download with sumdb/NAME/… beside it, so it is a valid
// file:// GOPROXY at all times. A file under its final name is complete and verified. Beside each
// .zip file stands a .hashes file with its h1 and its SHA-256 in hex, so that a zip is hashed once
// in its life here.
type Dir struct {
	root   string
	unlock func() error

	flushing sync.Mutex // serializes flush
	mu       sync.Mutex
	pending  map[string]*safefile.File // by GOPROXY path: files that are written and have no name yet; guarded by mu
	dirty    map[string]bool           // folders with new names that are not synced yet; guarded by mu
}

// maxPending bounds the small files that wait for their names. A killed run loses them.
const maxPending = 1000

// The names in a mirror directory that are not part of the tree that it serves. None can be the
// first element of a module path, which has a dot.
const (
	tmpDir        = "tmp"
	quarantineDir = "quarantine"
	directDir     = "direct" // module cache of the go command for private modules
	lockFile      = "lock"
)

// OpenDir opens and locks the mirror directory at root, and creates it if needed. While another
// process holds the lock, it calls waiting once, with the name of that process, and waits.
func OpenDir(ctx context.Context, root string, waiting func(holder string)) (*Dir, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(root, tmpDir), 0o777); err != nil {
		return nil, fmt.Errorf("making mirror directory: %w", err)
	}
	d := &Dir{root: root, pending: make(map[string]*safefile.File), dirty: make(map[string]bool)}
	if d.unlock, err = safefile.Lock(ctx, filepath.Join(root, lockFile), waiting); err != nil {
		return nil, err
	}
	if err := safefile.Sweep(filepath.Join(root, tmpDir)); err != nil {
		d.Close()
		return nil, err
	}
	return d, nil
}

// Close syncs the directory and unlocks it.
func (d *Dir) Close() error { return errors.Join(d.Sync(), d.unlock()) }

// Sync names the files that were written, and makes them survive a crash.
func (d *Dir) Sync() error {
	if err := d.flush(); err != nil {
		return err
	}
	d.mu.Lock()
	dirty := d.dirty
	d.dirty = make(map[string]bool)
	d.mu.Unlock()
	if len(dirty) == 0 {
		return nil
	}
	if ok, err := safefile.SyncAll(d.root); ok {
		return err
	}
	var eg errgroup.Group
	eg.SetLimit(syncsInFlight)
	for dir := range dirty {
		eg.Go(func() error { return safefile.SyncDir(dir) })
	}
	return eg.Wait()
}

// flush names the pending files, after one sync for all of them.
func (d *Dir) flush() error {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	d.mu.Lock()
	pending := make(map[string]*safefile.File, len(d.pending))
	for rel, f := range d.pending {
		pending[rel] = f
	}
	d.mu.Unlock()
	if len(pending) == 0 {
		return nil
	}
	if ok, err := safefile.SyncAll(d.root); err != nil {
		return err
	} else if !ok {
		var eg errgroup.Group
		eg.SetLimit(syncsInFlight)
		for _, f := range pending {
			eg.Go(func() error { return syncFile(f.Name()) })
		}
		if err := eg.Wait(); err != nil {
			return err
		}
	}
	for rel, f := range pending {
		if err := d.commit(f); err != nil {
			return err
		}
		d.mu.Lock()
		if d.pending[rel] == f {
			delete(d.pending, rel)
		}
		d.mu.Unlock()
	}
	return nil
}

func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Path returns the file name for a GOPROXY path.
func (d *Dir) Path(rel string) string { return filepath.Join(d.root, filepath.FromSlash(rel)) }

// create starts writing the file at a GOPROXY path.
func (d *Dir) create(rel string) (*safefile.File, error) {
	return safefile.CreateIn(filepath.Join(d.root, tmpDir), d.Path(rel), 0o666)
}

// commit gives f its name.
func (d *Dir) commit(f *safefile.File) error {
	if err := f.CommitNoSync(); err != nil {
		return err
	}
	d.mu.Lock()
	d.dirty[filepath.Dir(f.Path())] = true
	d.mu.Unlock()
	return nil
}

// write writes a small file. The next flush names it, together with many others; until then read
// finds it.
func (d *Dir) write(rel string, data []byte) error {
	f, err := d.put(rel, data)
	if err != nil {
		return err
	}
	return d.adopt(rel, f)
}

// update writes a small file unless it has this content already.
func (d *Dir) update(rel string, data []byte) error {
	if old, ok, err := d.read(rel); err != nil || ok && bytes.Equal(old, data) {
		return err
	}
	return d.write(rel, data)
}

// put writes data to a temporary file for adopt.
func (d *Dir) put(rel string, data []byte) (*safefile.File, error) {
	f, err := d.create(rel)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.FinishNoSync()
	}
	if err != nil {
		f.Discard()
		return nil, err
	}
	return f, nil
}

// adopt takes a file from put. The next flush names it.
func (d *Dir) adopt(rel string, f *safefile.File) error {
	d.mu.Lock()
	d.pending[rel] = f
	full := len(d.pending) >= maxPending
	d.mu.Unlock()
	if full {
		return d.flush()
	}
	return nil
}

// read reads a small file. ok is false when it does not exist.
func (d *Dir) read(rel string) (data []byte, ok bool, err error) {
	name := d.Path(rel)
	d.mu.Lock()
	if f := d.pending[rel]; f != nil {
		name = f.Name()
	}
	d.mu.Unlock()
	data, err = os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) && name != d.Path(rel) { // a flush has just named it
		data, err = os.ReadFile(d.Path(rel))
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	return data, err == nil, err
}

// quarantine moves a file that does not verify out of the tree, with the reason beside it.
func (d *Dir) quarantine(file, rel string, reason error) error {
	dir := filepath.Join(d.root, quarantineDir)
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	name := filepath.Join(dir, time.Now().UTC().Format("20060102T150405.000000000-")+quarantineName(rel))
	return errors.Join(os.Rename(file, name), os.WriteFile(name+".reason", []byte(rel+": "+reason.Error()+"\n"), 0o666))
}

// maxQuarantineName is the longest name of a file in quarantine in bytes, without its time. With
// the time and .reason it fits the 255 bytes of file systems.
const maxQuarantineName = 200

// quarantineName returns the file name for a GOPROXY path. A long name keeps its end and, instead
// of the rest, a hash of the whole.
func quarantineName(rel string) string {
	name := strings.ReplaceAll(rel, "/", "_")
	if len(name) <= maxQuarantineName {
		return name
	}
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte(rel)))[:16] + "-"
	return hash + name[len(name)-(maxQuarantineName-len(hash)):]
}

// versionFile returns the GOPROXY path of a file of a module. Lists and @latest have no version.
func versionFile(kind modpath.Kind, path, version string) string {
	return modpath.Request{Kind: kind, Path: path, Version: version}.String()
}
