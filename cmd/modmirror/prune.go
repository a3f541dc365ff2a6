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
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// abandonedPieces is how long pieces wait for the others of their bundle before prune removes them.
const abandonedPieces = 30 * 24 * time.Hour

func pruneCommand() *command {
	var store, state, dir, olderThan string
	var keep int
	var locks, bundles []string
	var dryRun, asJSON bool
	return &command{
		name:    "prune",
		summary: "remove old bundles from a store, or unused modules from a mirror directory",
		usage: `
Usage: modmirror prune --store DIR --keep N [--dry-run]
       modmirror prune --mirror DIR --older-than 90d [flags] [SOURCE...]

Of a store it keeps the newest N bundles of each line, and all that the newest of
each names, which it packs first. Of a mirror directory it removes what no sync
has used for so long, and nothing that a lock, a bundle or a source needs.

Example:
  modmirror prune --store /srv/modmirror --keep 5
  modmirror prune --mirror ~/.cache/modmirror --older-than 90d list.txt
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&store, "store", "", "`folder` of a store")
			fs.IntVar(&keep, "keep", 0, "how `many` bundles of each line stay in the store")
			fs.StringVar(&state, "state", stateDir(), "`folder` for what was verified and seen before")
			fs.StringVar(&dir, "mirror", "", "mirror directory: a `folder`; the usual one is "+filepath.Join(xdg.CacheHome, "modmirror"))
			fs.StringVar(&olderThan, "older-than", "", "what was not used for this `time`, such as 90d")
			fs.StringSliceVar(&locks, "lock", nil, "keep what a lock `file` names")
			fs.StringSliceVar(&bundles, "bundle", nil, "keep what a `bundle` or catalogue names")
			fs.BoolVar(&dryRun, "dry-run", false, "say what would be removed, and remove nothing")
			fs.BoolVar(&asJSON, "json", false, "print JSON")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			switch {
			case (store == "") == (dir == ""):
				return usagef("want --store or --mirror")
			case store != "" && (keep < 1 || len(args) > 0):
				return usagef("want --keep N, 1 or more, and nothing else")
			case store != "":
				return pruneStore(ctx, e, store, state, keep, dryRun, asJSON)
			case olderThan == "":
				return usagef("want --older-than TIME")
			}
			age, err := parseAge(olderThan)
			if err != nil {
				return err
			}
			return pruneMirror(ctx, e, dir, age, locks, bundles, args, dryRun, asJSON)
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

func pruneStore(ctx context.Context, e *env, dir, state string, keep int, dryRun, asJSON bool) error {
	if _, err := os.Stat(filepath.Join(dir, "lock")); err != nil {
		return fmt.Errorf("%s: not a store that import made", dir)
	}
	keyring, err := e.keyring(1)
	if err != nil {
		return err
	}
	s, unlock, err := lockStore(ctx, e, dir, keyring, state)
	if err != nil {
		return err
	}
	defer unlock()
	p, err := s.Prune(ctx, keep, dryRun)
	if err != nil {
		return err
	}
	result := pruneResult{append([]string{}, p.Bundles...), p.Bytes, p.Packed, p.Pack, 0, dryRun}
	if !asJSON {
		for _, b := range p.Bundles {
			fmt.Fprintln(e.stdout, b)
		}
	}
	e.say("%s %s, %s in all; %s of it are still in use, %s", removed(dryRun), number(len(p.Bundles), "bundle"), bytesText(p.Bytes), number(p.Packed, "file"), bytesText(p.Pack))
	abandoned, err := s.AbandonedPieces(abandonedPieces)
	if err != nil {
		return err
	}
	for _, dir := range abandoned {
		if result.Removed = append(result.Removed, dir); !asJSON {
			fmt.Fprintln(e.stdout, dir)
		}
		if dryRun {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if asJSON {
		return writeJSON(e.stdout, result)
	}
	return nil
}

func pruneMirror(ctx context.Context, e *env, dir string, age time.Duration, locks, bundles, args []string, dryRun, asJSON bool) error {
	if _, err := os.Stat(filepath.Join(dir, "lock")); err != nil {
		return fmt.Errorf("%s: not a mirror directory", dir)
	}
	keep := make(map[module.Version]bool)
	for _, file := range locks {
		lock, err := assemble.ReadLock(file)
		if err == nil && lock == nil {
			err = fmt.Errorf("%s: %w", file, os.ErrNotExist)
		}
		if err != nil {
			return hinted(err)
		}
		for _, v := range lock.Versions {
			keep[module.Version{Path: v.Path, Version: v.Version}] = true
		}
	}
	for _, file := range bundles {
		b, err := openBundle(ctx, e, file)
		if err != nil {
			return err
		}
		for v, err := range b.Index.Versions(ctx, "") {
			if err != nil {
				b.Close()
				return err
			}
			keep[module.Version{Path: v.Path, Version: v.Version}] = true
		}
		b.Close()
	}
	m, err := openForPruning(ctx, e, dir)
	if err != nil {
		return err
	}
	defer m.Close()
	if len(args) > 0 {
		settings, err := readGoEnv(ctx)
		if err != nil {
			return err
		}
		src, err := parseSources(e, settings, args)
		if err != nil {
			return err
		}
		wanted, err := m.Wanted(ctx, src)
		if err != nil {
			return &hintError{fmt.Errorf("finding out what the sources need, from the mirror directory alone: %w", err), "run sync with them first; nothing was removed"}
		}
		for _, v := range wanted {
			keep[v] = true
		}
	}
	p, err := m.Prune(ctx, age, keep, dryRun)
	if err != nil {
		return err
	}
	result := pruneResult{Removed: []string{}, Bytes: p.Bytes, Tiles: p.Tiles, DryRun: dryRun}
	for _, v := range p.Versions {
		if result.Removed = append(result.Removed, v.String()); !asJSON {
			fmt.Fprintln(e.stdout, v)
		}
	}
	if asJSON {
		return writeJSON(e.stdout, result)
	}
	e.say("%s %s and %s, %s", removed(dryRun), number(len(p.Versions), "version"), number(p.Tiles, "tile"), bytesText(p.Bytes))
	return nil
}

// removed says what prune did with what it lists.
func removed(dryRun bool) string {
	if dryRun {
		return "would remove"
	}
	return "removed"
}

// openForPruning opens a mirror directory as its own upstream.
func openForPruning(ctx context.Context, e *env, dir string) (*mirror.Mirror, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	settings, err := readGoEnv(ctx)
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
