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

// Pruned says what Prune removed, or would remove.
type Pruned struct {
	Versions []module.Version
	Tiles    int
	Bytes    int64
}

// Wanted returns the versions that the job's sources need. It returns an error when the mirror
// directory lacks one of them.
func (m *Mirror) Wanted(ctx context.Context, job *Job) ([]module.Version, error) {
	r := m.newRun(job)
	defer r.fetch.discard()
	c, err := r.plan(ctx, r.fetch.goMod)
	if err != nil {
		return nil, err
	}
	if len(r.out.Missing) > 0 {
		return nil, errors.New(r.out.Missing[0].Asked)
	}
	var list []module.Version
	for _, w := range c.Versions() {
		if _, err := os.Stat(m.dir.Path(versionFile(modpath.Mod, w.Mod.Path, w.Mod.Version))); err != nil {
			return nil, fmt.Errorf("%s is not in the mirror directory", w.Mod)
		}
		list = append(list, w.Mod)
	}
	return list, nil
}

// touch marks the files of the closure as used now; Prune goes by that. It ignores errors.
func (r *run) touch() {
	now := time.Now()
	for _, v := range r.out.Versions {
		os.Chtimes(r.fetch.dir.Path(v.GoMod.Path), now, now)
	}
	for _, t := range r.out.Tiles {
		os.Chtimes(r.fetch.dir.Path(t), now, now)
	}
}

// Prune removes versions that no sync has used for age and that keep does not have. It also removes
// tiles of the checksum database and files in quarantine that are as old. With dryRun it removes
// nothing and returns what it would remove. The directory is a valid proxy at all times.
func (m *Mirror) Prune(
	ctx context.Context, age time.Duration, keep map[module.Version]bool, dryRun bool,
) (*Pruned, error) {
	p := &pruning{m: m, keep: keep, before: time.Now().Add(-age), dryRun: dryRun}
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
		return p.visit(filepath.ToSlash(rel), d)
	})
	if err == nil {
		err = p.pruneTiles(ctx)
	}
	if err == nil {
		err = p.pruneVersions()
	}
	return &p.out, err
}

// A pruning is one call of Prune.
type pruning struct {
	m      *Mirror
	keep   map[module.Version]bool
	before time.Time
	dryRun bool
	out    Pruned
	stays  []module.Version
	tiles  []string // GOPROXY paths of old ones
}

// visit decides on a file of the mirror directory. It removes old files in quarantine.
func (p *pruning) visit(rel string, d fs.DirEntry) error {
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
	old := st.ModTime().Before(p.before)
	req, err := modpath.Parse(rel)
	switch {
	case strings.HasPrefix(rel, quarantineDir+"/") && old:
		return p.remove(rel)
	case err == nil && req.Kind == modpath.SumTile && old:
		p.tiles = append(p.tiles, rel)
	case err == nil && req.Kind == modpath.Mod:
		v := module.Version{Path: req.Path, Version: req.Version}
		if p.keep[v] || !old {
			p.stays = append(p.stays, v)
		} else {
			p.out.Versions = append(p.out.Versions, v)
		}
	}
	return nil
}

// pruneTiles removes old tiles, except those that prove versions that stay or heads that the
// directory remembers.
func (p *pruning) pruneTiles(ctx context.Context) error {
	m := p.m
	if len(p.tiles) == 0 || m.cfg.DB == nil {
		return nil
	}
	c := newChecksums(m.cfg.DB, m.newRun(new(Job)).fetch)
	var records []proof.Record
	for _, v := range p.stays {
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
	for _, rel := range p.tiles {
		if needed[rel] {
			continue
		}
		p.out.Tiles++
		if err := p.remove(rel); err != nil {
			return err
		}
	}
	return nil
}

// pruneVersions removes the files of p.out.Versions. It changes the lists first, so that no list
// names a version that is gone.
func (p *pruning) pruneVersions() error {
	slices.SortFunc(p.out.Versions, modgraph.Compare)
	if !p.dryRun {
		gone := make(map[string]map[string]bool) // versions by path
		for _, v := range p.out.Versions {
			if gone[v.Path] == nil {
				gone[v.Path] = make(map[string]bool)
			}
			gone[v.Path][v.Version] = true
		}
		for path, versions := range gone {
			if err := p.m.dropFromList(path, versions); err != nil {
				return err
			}
		}
		if err := p.m.dir.Sync(); err != nil {
			return err
		}
	}
	for _, v := range p.out.Versions {
		if err := p.removeVersion(v); err != nil {
			return err
		}
	}
	return nil
}

// dropFromList takes versions out of a module's list.
func (m *Mirror) dropFromList(path string, gone map[string]bool) error {
	rel := versionFile(modpath.List, path, "")
	data, ok, err := m.dir.read(rel)
	if err != nil || !ok {
		return err
	}
	list := slices.DeleteFunc(strings.Fields(string(data)), func(v string) bool { return gone[v] })
	return m.dir.update(rel, modpath.ListText(list))
}

// remove counts the bytes of a file and, without dryRun, removes it.
func (p *pruning) remove(rel string) error {
	name := p.m.dir.Path(rel)
	st, err := os.Stat(name)
	if err != nil {
		return err
	}
	p.out.Bytes += st.Size()
	if p.dryRun {
		return nil
	}
	return os.Remove(name)
}

// removeVersion removes the files of a version. The .mod file, by which Prune finds versions, goes
// last.
func (p *pruning) removeVersion(v module.Version) error {
	zip := versionFile(modpath.Zip, v.Path, v.Version)
	files := []string{zip, hashesFile(zip), versionFile(modpath.Info, v.Path, v.Version)}
	if db := p.m.cfg.DB; db != nil {
		files = append(files, modpath.Lookup(db.Name, v))
	}
	files = append(files, versionFile(modpath.Mod, v.Path, v.Version))
	for _, rel := range files {
		if err := p.remove(rel); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if !p.dryRun {
		p.m.removeEmpty(filepath.Dir(p.m.dir.Path(zip)))
	}
	return nil
}

// removeEmpty removes the folder of a module's versions when it holds nothing but an empty list,
// and the folders above it that are empty then.
func (m *Mirror) removeEmpty(dir string) {
	if st, err := os.Stat(filepath.Join(dir, "list")); err == nil && st.Size() == 0 {
		if files, err := os.ReadDir(dir); err == nil && len(files) == 1 {
			os.Remove(filepath.Join(dir, "list"))
		}
	}
	for ; dir != m.dir.root && os.Remove(dir) == nil; dir = filepath.Dir(dir) {
	}
}
