package mirror

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
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
	pending  map[string]*pending // by GOPROXY path: files that have no name yet; guarded by mu
	inMemory int                 // bytes of pending files in memory; guarded by mu
	onDisk   int64               // bytes of pending files that have a temporary file; guarded by mu
	dirty    map[string]bool     // folders with new names that are not synced yet; guarded by mu
}

// A pending file waits for its name: in memory when it is small, else in a temporary file. Many
// goroutines that make files in one folder would wait for one another in the kernel.
type pending struct {
	data []byte
	temp *safefile.File // nil for data
	size int64          // of temp in bytes
}

// These bound the files that wait for their names. A killed run loses them.
const (
	maxPending  = 2000
	maxInMemory = 2 << 20
	maxOnDisk   = 128 << 20
)

// The names in a mirror directory that are not part of the tree that it serves. None can be the
// first element of a module path, which has a dot.
const (
	tmpDir        = "tmp"
	quarantineDir = "quarantine"
	directDir     = "direct" // module cache of the go command for private modules
	lockFile      = "lock"   // and recentFile
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
	d := &Dir{root: root, pending: make(map[string]*pending), dirty: make(map[string]bool)}
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

// flush names the pending files, after one sync for all of them. A zip gets its name before its
// hashes do. A file that cannot get its name keeps no other from it.
func (d *Dir) flush() error {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	return d.nameAll()
}

// nameAll is flush for a caller that holds d.flushing.
func (d *Dir) nameAll() error {
	d.mu.Lock()
	waiting := maps.Clone(d.pending)
	d.mu.Unlock()
	if len(waiting) == 0 {
		return nil
	}
	order := slices.Sorted(maps.Keys(waiting))
	slices.SortStableFunc(order, func(a, b string) int { return cmp.Compare(rank(a), rank(b)) })
	files := make([]*safefile.File, len(order))
	var err error
	for i, rel := range order {
		if files[i] = waiting[rel].temp; files[i] == nil && err == nil {
			files[i], err = d.put(rel, waiting[rel].data)
		}
	}
	if err == nil {
		err = d.syncFiles(files)
	}
	if err != nil {
		for i, rel := range order {
			if waiting[rel].temp == nil && files[i] != nil {
				files[i].Discard() // the content is in memory still
			}
		}
		return err
	}
	return d.nameFiles(order, files, waiting)
}

// nameFiles names synced files. After an error it goes on with the next one, and returns the first.
func (d *Dir) nameFiles(order []string, files []*safefile.File, waiting map[string]*pending) (err error) {
	replaced := false // zips got the names of others, which must survive a crash before the hashes do
	unnamed := make(map[string]bool)
	for i, rel := range order {
		switch {
		case rank(rel) == 0:
			replaced = replaced || isZip(rel) && exists(d.Path(rel))
		case unnamed[zipOfHashes(rel)]:
			files[i].Discard()
			d.named(rel, waiting[rel])
			continue
		case replaced:
			replaced = false
			if _, failed := safefile.SyncAll(d.root); failed != nil {
				err = cmp.Or(err, failed)
			}
		}
		failed := d.commit(files[i])
		if failed != nil {
			err, unnamed[rel] = cmp.Or(err, failed), true
		}
		if failed == nil || waiting[rel].temp != nil { // a temporary file is gone then
			d.named(rel, waiting[rel])
		}
	}
	return err
}

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// rank orders kinds of files: those of a higher rank get their names later.
func rank(rel string) int {
	if strings.HasSuffix(rel, hashesExt) {
		return 1
	}
	return 0
}

// named forgets a pending file that has its name, unless another content waits for that name by
// now.
func (d *Dir) named(rel string, p *pending) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pending[rel] == p {
		delete(d.pending, rel)
		d.count(p, -1)
	}
}

// count adds a pending file to the sums, or with -1 removes it. The caller holds d.mu.
func (d *Dir) count(p *pending, times int) {
	d.inMemory += times * len(p.data)
	if p.temp != nil {
		d.onDisk += int64(times) * p.size
	}
}

// syncFiles makes the contents of closed files survive a crash.
func (d *Dir) syncFiles(files []*safefile.File) error {
	if ok, err := safefile.SyncAll(d.root); ok || err != nil {
		return err
	}
	var eg errgroup.Group
	eg.SetLimit(syncsInFlight)
	for _, f := range files {
		eg.Go(func() error { return syncFile(f.Name()) })
	}
	return eg.Wait()
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
// finds it. The caller does not change data afterwards.
func (d *Dir) write(rel string, data []byte) error {
	return d.await(rel, &pending{data: data})
}

// adopt takes a file that is finished and has size bytes. The next flush names it.
func (d *Dir) adopt(rel string, f *safefile.File, size int64) error {
	return d.await(rel, &pending{temp: f, size: size})
}

// await adds a pending file. When there are too many, it flushes them, or goes on while another
// goroutine does, unless there are far too many.
func (d *Dir) await(rel string, p *pending) error {
	d.mu.Lock()
	if old := d.pending[rel]; old != nil {
		d.count(old, -1)
	}
	d.pending[rel] = p
	d.count(p, 1)
	over := max(len(d.pending)/maxPending, d.inMemory/maxInMemory, int(d.onDisk/maxOnDisk))
	d.mu.Unlock()
	switch {
	case over == 0:
		return nil
	case over > 1:
		return d.flush()
	case d.flushing.TryLock():
		defer d.flushing.Unlock()
		return d.nameAll()
	}
	return nil
}

// update writes a small file unless it has this content already.
func (d *Dir) update(rel string, data []byte) error {
	if old, ok, err := d.read(rel); err != nil || ok && bytes.Equal(old, data) {
		return err
	}
	return d.write(rel, data)
}

// put writes data to a temporary file and closes it.
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

// read reads a small file. ok is false when it does not exist. The caller does not change data.
func (d *Dir) read(rel string) (data []byte, ok bool, err error) {
	d.mu.Lock()
	p := d.pending[rel]
	d.mu.Unlock()
	if p != nil && p.temp == nil {
		return p.data, true, nil
	}
	if p != nil {
		data, err = os.ReadFile(p.temp.Name())
	}
	if p == nil || errors.Is(err, fs.ErrNotExist) { // a flush has just named it
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
