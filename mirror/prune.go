package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/modgraph"
)

// Pruned is what Prune removed, or would remove.
type Pruned struct {
	Versions []module.Version
	Tiles    int
	Bytes    int64
}

// Wanted returns the versions that the sources need, by what the mirror directory has.
func (m *Mirror) Wanted(ctx context.Context, job *Job) ([]module.Version, error) {
	r := m.newRun(job)
	defer r.fetch.discard()
	p, err := r.plan(ctx, r.fetch.goMod)
	if err != nil {
		return nil, err
	}
	if len(r.out.Missing) > 0 {
		return nil, errors.New(r.out.Missing[0].Asked)
	}
	var list []module.Version
	for _, w := range p.Versions() {
		if _, err := os.Stat(m.dir.Path(versionFile(modpath.Mod, w.Mod.Path, w.Mod.Version))); err != nil {
			return nil, fmt.Errorf("%s is not in the mirror directory", w.Mod)
		}
		list = append(list, w.Mod)
	}
	return list, nil
}

// touch has the files of a closure count as used now, which Prune goes by. An error is no reason to fail.
func (r *run) touch() {
	now := time.Now()
	for _, v := range r.out.Versions {
		os.Chtimes(r.fetch.dir.Path(v.GoMod.Path), now, now)
	}
	for _, t := range r.out.Tiles {
		os.Chtimes(r.fetch.dir.Path(t), now, now)
	}
}

// Prune removes versions that no sync has used for an age and that keep does not name, and tiles of the checksum database and files in
// quarantine of that age. The directory is a valid proxy all the time.
func (m *Mirror) Prune(ctx context.Context, age time.Duration, keep map[module.Version]bool, dryRun bool) (*Pruned, error) {
	p := &Pruned{}
	before := time.Now().Add(-age)
	lists := make(map[string]bool) // modules of which versions go
	var stays []module.Version
	var tiles []string // that are old
	err := filepath.WalkDir(m.dir.root, func(name string, d fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(m.dir.root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			if rel == directDir || rel == tmpDir {
				return filepath.SkipDir
			}
			return nil
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		old := st.ModTime().Before(before)
		req, err := modpath.Parse(rel)
		switch {
		case strings.HasPrefix(rel, quarantineDir+"/") && old:
			p.Bytes += st.Size()
			if !dryRun {
				return os.Remove(name)
			}
		case err == nil && req.Kind == modpath.SumTile && old:
			tiles = append(tiles, rel)
		case err == nil && req.Kind == modpath.Mod:
			v := module.Version{Path: req.Path, Version: req.Version}
			if keep[v] || !old {
				stays = append(stays, v)
				return nil
			}
			p.Versions = append(p.Versions, v)
			lists[v.Path] = true
		}
		return nil
	})
	if err != nil {
		return p, err
	}
	if err := m.pruneTiles(ctx, tiles, stays, p, dryRun); err != nil {
		return p, err
	}
	slices.SortFunc(p.Versions, modgraph.Compare)
	gone := make(map[module.Version]bool, len(p.Versions))
	for _, v := range p.Versions {
		gone[v] = true
	}
	if !dryRun {
		for path := range lists { // before the files, so that no list names what is not there
			if err := m.dropFromList(path, gone); err != nil {
				return p, err
			}
		}
		if err := m.dir.Sync(); err != nil {
			return p, err
		}
	}
	for _, v := range p.Versions {
		if err := m.removeVersion(v, p, dryRun); err != nil {
			return p, err
		}
	}
	return p, nil
}

// pruneTiles removes tiles that no version that stays, and no remembered head, is proven by.
func (m *Mirror) pruneTiles(ctx context.Context, tiles []string, stays []module.Version, p *Pruned, dryRun bool) error {
	if len(tiles) == 0 || m.cfg.DB == nil {
		return nil
	}
	c := newChecksums(m.cfg.DB, m.newRun(new(Job)).fetch)
	var records []proof.Record
	for _, v := range stays {
		data, ok, err := m.dir.read(modpath.Lookup(m.cfg.DB.Name, v))
		if err != nil {
			return err
		}
		if r, _, err := m.cfg.DB.ParseLookup(v, data); ok && err == nil {
			records = append(records, r)
		}
	}
	needed, err := c.needed(ctx, records)
	if err != nil {
		return fmt.Errorf("finding out which tiles of the checksum database are needed: %w", err)
	}
	for _, rel := range tiles {
		if needed[rel] {
			continue
		}
		p.Tiles++
		if err := m.remove(rel, p, dryRun); err != nil {
			return err
		}
	}
	return nil
}

// dropFromList takes versions out of a module's list.
func (m *Mirror) dropFromList(path string, gone map[module.Version]bool) error {
	rel := modpath.Request{Kind: modpath.List, Path: path}.String()
	data, ok, err := m.dir.read(rel)
	if err != nil || !ok {
		return err
	}
	list := slices.DeleteFunc(strings.Fields(string(data)), func(v string) bool { return gone[module.Version{Path: path, Version: v}] })
	return m.dir.update(rel, modpath.ListText(list))
}

// remove removes a file of the directory, or only counts it.
func (m *Mirror) remove(rel string, p *Pruned, dryRun bool) error {
	st, err := os.Stat(m.dir.Path(rel))
	if err != nil {
		return err
	}
	p.Bytes += st.Size()
	if dryRun {
		return nil
	}
	return os.Remove(m.dir.Path(rel))
}

// removeVersion removes the files of a version, the .mod, by which it is found, last.
func (m *Mirror) removeVersion(v module.Version, p *Pruned, dryRun bool) error {
	zip := versionFile(modpath.Zip, v.Path, v.Version)
	files := []string{zip, hashesFile(zip), versionFile(modpath.Info, v.Path, v.Version), versionFile(modpath.Mod, v.Path, v.Version)}
	if m.cfg.DB != nil {
		files = slices.Insert(files, 3, modpath.Lookup(m.cfg.DB.Name, v))
	}
	for _, rel := range files {
		if err := m.remove(rel, p, dryRun); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if !dryRun {
		m.removeEmpty(filepath.Dir(m.dir.Path(zip)))
	}
	return nil
}

// removeEmpty removes the folder of a module's versions when nothing but its empty list is in it, and the empty ones above it.
func (m *Mirror) removeEmpty(dir string) {
	if st, err := os.Stat(filepath.Join(dir, "list")); err == nil && st.Size() == 0 {
		if files, err := os.ReadDir(dir); err == nil && len(files) == 1 {
			os.Remove(filepath.Join(dir, "list"))
		}
	}
	for ; dir != m.dir.root && os.Remove(dir) == nil; dir = filepath.Dir(dir) {
	}
}
