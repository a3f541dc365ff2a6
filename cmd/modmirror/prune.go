package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/adrg/xdg"
	"github.com/spf13/pflag"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/assemble"
	"github.com/modmirror/modmirror/internal/goenv"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// abandonedPieces is how long a store keeps pieces of a bundle whose other pieces do not come.
const abandonedPieces = 30 * 24 * time.Hour

// pruneFlags are the flags of prune.
type pruneFlags struct {
	store, state   string
	keep           int
	mirror         string
	olderThan      string
	locks, bundles []string
	dryRun, asJSON bool
}

func pruneCommand() *command {
	f := new(pruneFlags)
	return &command{
		name:    "prune",
		summary: "remove old bundles from a store, or unused modules from a mirror directory",
		usage: `
Usage: modmirror prune --store DIR --keep N [--dry-run]
       modmirror prune --mirror DIR --older-than 90d [flags] [SOURCE...]

From a store it removes all but the newest N bundles of each line. Files that the
newest bundle of a line still needs are packed first, and stay. From a mirror
directory it removes modules that no sync has used for the given time, except those
that a lock, a bundle or a source needs.

Example:
  modmirror prune --store /srv/modmirror --keep 5
  modmirror prune --mirror ~/.cache/modmirror --older-than 90d list.txt
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&f.store, "store", "", "`folder` of a store")
			fs.IntVar(&f.keep, "keep", 0, "how `many` bundles of each line stay in the store")
			stateFlag(fs, &f.state)
			fs.StringVar(&f.mirror, "mirror", "",
				"mirror directory: a `folder`; the usual one is "+filepath.Join(xdg.CacheHome, "modmirror"))
			fs.StringVar(&f.olderThan, "older-than", "", "remove what no sync has used for this `time`, such as 90d")
			fs.StringSliceVar(&f.locks, "lock", nil, "keep the modules that a lock `file` names")
			fs.StringSliceVar(&f.bundles, "bundle", nil, "keep the modules that a `bundle` or catalog names")
			fs.BoolVar(&f.dryRun, "dry-run", false, "say what would be removed, and remove nothing")
			fs.BoolVar(&f.asJSON, "json", false, "print JSON")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			switch {
			case (f.store == "") == (f.mirror == ""):
				return usagef("want --store or --mirror")
			case f.store != "" && (f.keep < 1 || len(args) > 0):
				return usagef("want --keep N, 1 or more, and nothing else")
			case f.store != "":
				return pruneStore(ctx, e, f)
			case f.olderThan == "":
				return usagef("want --older-than TIME")
			}
			return pruneMirror(ctx, e, f, args)
		},
	}
}

// pruneResult is what prune prints with --json.
type pruneResult struct {
	Removed []string `json:"removed"` // bundles and folders of pieces, or module@version
	Bytes   int64    `json:"bytes"`
	Packed  int      `json:"packed,omitempty"` // files that are still in use
	Pack    int64    `json:"pack,omitempty"`   // their bytes
	Tiles   int      `json:"tiles,omitempty"`
	DryRun  bool     `json:"dryRun,omitempty"`
}

// verb returns what prune does with what it lists.
func (f *pruneFlags) verb() string {
	if f.dryRun {
		return "would remove"
	}
	return "removed"
}

// name adds what is removed to the result and, without --json, prints it.
func (f *pruneFlags) name(e *env, r *pruneResult, removed string) {
	r.Removed = append(r.Removed, removed)
	if !f.asJSON {
		fmt.Fprintln(e.stdout, removed)
	}
}

func pruneStore(ctx context.Context, e *env, f *pruneFlags) error {
	if _, err := os.Stat(filepath.Join(f.store, "lock")); err != nil {
		return fmt.Errorf("%s: not a store that import made", f.store)
	}
	keyring, err := e.keyring(oneKey)
	if err != nil {
		return err
	}
	s, unlock, err := lockStore(ctx, e, f.store, keyring, f.state)
	if err != nil {
		return err
	}
	defer unlock()
	p, err := s.Prune(ctx, f.keep, f.dryRun)
	if err != nil {
		return err
	}
	result := pruneResult{Removed: []string{}, Bytes: p.Bytes, Packed: p.Packed, Pack: p.Pack, DryRun: f.dryRun}
	for _, b := range p.Bundles {
		f.name(e, &result, b)
	}
	e.say("%s %s, %s in all; %s of it are still in use, %s", f.verb(), number(len(p.Bundles), "bundle"),
		bytesText(p.Bytes), number(p.Packed, "file"), bytesText(p.Pack))
	abandoned, err := s.AbandonedPieces(abandonedPieces)
	if err != nil {
		return err
	}
	for _, dir := range abandoned {
		f.name(e, &result, dir)
		if f.dryRun {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if f.asJSON {
		return writeJSON(e.stdout, result)
	}
	return nil
}

func pruneMirror(ctx context.Context, e *env, f *pruneFlags, sources []string) error {
	age, err := parseAge(f.olderThan)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(f.mirror, "lock")); err != nil {
		return fmt.Errorf("%s: not a mirror directory", f.mirror)
	}
	keep := make(kept)
	for _, file := range f.locks {
		if err := keep.lock(file); err != nil {
			return err
		}
	}
	for _, file := range f.bundles {
		if err := keep.bundle(ctx, e, file); err != nil {
			return err
		}
	}
	m, err := openForPruning(ctx, e, f.mirror)
	if err != nil {
		return err
	}
	defer m.Close()
	if len(sources) > 0 {
		if err := keep.sources(ctx, e, m, sources); err != nil {
			return err
		}
	}
	p, err := m.Prune(ctx, age, keep, f.dryRun)
	if err != nil {
		return err
	}
	result := pruneResult{Removed: []string{}, Bytes: p.Bytes, Tiles: p.Tiles, DryRun: f.dryRun}
	for _, v := range p.Versions {
		f.name(e, &result, v.String())
	}
	if f.asJSON {
		return writeJSON(e.stdout, result)
	}
	e.say("%s %s and %s, %s", f.verb(), number(len(p.Versions), "version"), number(p.Tiles, "tile"), bytesText(p.Bytes))
	return nil
}

// kept are the versions that stay in a mirror directory, whatever their age.
type kept map[module.Version]bool

// lock keeps the versions that a lock names.
func (k kept) lock(file string) error {
	lock, err := assemble.ReadLock(file)
	if err == nil && lock == nil {
		err = fmt.Errorf("%s: %w", file, os.ErrNotExist)
	}
	if err != nil {
		return err
	}
	for _, v := range lock.Versions {
		k[module.Version{Path: v.Path, Version: v.Version}] = true
	}
	return nil
}

// bundle keeps the versions that a bundle or catalog names.
func (k kept) bundle(ctx context.Context, e *env, file string) error {
	b, err := openBundle(ctx, e, file)
	if err != nil {
		return err
	}
	defer b.Close()
	for v, err := range b.Index.Versions(ctx, "") {
		if err != nil {
			return err
		}
		k[module.Version{Path: v.Path, Version: v.Version}] = true
	}
	return nil
}

// sources keeps the versions that sources need, as far as the mirror directory can tell.
func (k kept) sources(ctx context.Context, e *env, m *mirror.Mirror, args []string) error {
	settings, err := goenv.Read(ctx)
	if err != nil {
		return err
	}
	src, err := parseSources(e, settings, args)
	if err != nil {
		return err
	}
	wanted, err := m.Wanted(ctx, src)
	if err != nil {
		return &hint.Error{Err: fmt.Errorf("finding out what the sources need, from the mirror directory alone: %w", err), Hint: "run sync with them first; nothing was removed"}
	}
	for _, v := range wanted {
		k[v] = true
	}
	return nil
}

// openForPruning opens a mirror directory as its own upstream, so that nothing is fetched.
func openForPruning(ctx context.Context, e *env, dir string) (*mirror.Mirror, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	settings, err := goenv.Read(ctx)
	if err != nil {
		return nil, err
	}
	db, err := proof.ParseGOSUMDB(settings.GOSUMDB)
	if err != nil {
		return nil, err
	}
	up, err := upstream.New("file://"+filepath.ToSlash(abs), "off", 1)
	if err != nil {
		return nil, errors.New("the mirror directory cannot be read as a proxy")
	}
	return mirror.Open(ctx, mirror.Config{Dir: dir, Upstream: up, DB: db, NoSumDB: settings.GONOSUMDB,
		Waiting: e.waiting("the mirror directory " + dir)})
}
