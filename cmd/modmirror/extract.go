package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
)

func extractCommand() *command {
	dir := "."
	var catalog, asJSON bool
	guard := new(outputGuard)
	return &command{
		name:    "extract",
		summary: "write files of a bundle to a folder, verified",
		usage: `
Usage: modmirror extract [flags] BUNDLE|STORE [PATH...]
       modmirror extract --catalog [flags] BUNDLE|STORE

Writes the files at the GOPROXY paths, or all, below a folder. Unlike tar it checks
each file's hash on the way. The result works as GOPROXY=file:///FOLDER; deltas are
extracted in their order, one over the other. With --catalog it writes the two small
files that the next sync needs of a bundle, or of each line in a store.

Example:
  modmirror extract -d /srv/go team.tar
  modmirror extract --catalog -d /media/usb /srv/modmirror
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVarP(&dir, "dir", "d", ".", "`folder` to write to")
			fs.BoolVar(&asJSON, "json", false, "print a JSON object for each file that was written")
			guard.flags(fs)
			fs.BoolVar(&catalog, "catalog", false, "write NAME.manifest and NAME.index.sqlite, a base for the next sync")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) == 0 {
				return usagef("want a bundle")
			}
			if st, err := os.Stat(dir); err == nil && !st.IsDir() {
				return usagef("%s: not a folder", dir)
			}
			if catalog {
				if len(args) > 1 {
					return usagef("--catalog takes one bundle or store")
				}
				return extractCatalog(ctx, e, guard, args[0], dir)
			}
			b, err := openBundle(ctx, e, args[0])
			if err != nil {
				return err
			}
			defer b.Close()
			trust, err := e.trust(1)
			if err != nil {
				return err
			}
			tree, err := bundle.OpenPlainTree(dir)
			if err != nil {
				return err
			}
			defer tree.Close()
			tree.Replace = guard.overwrite
			n, err := b.Extract(ctx, tree, args[1:], trust, func(f index.File) error {
				if !asJSON {
					return nil
				}
				return json.NewEncoder(e.stdout).Encode(extracted{f.Path, f.Size, hex.EncodeToString(f.SHA256[:])})
			})
			if err != nil {
				if n > 0 {
					e.say("wrote %s below %s, and then:", number(n, "file"), dir)
				}
				err = fmt.Errorf("%s: %w", args[0], err)
				if _, older := errors.AsType[*bundle.RollbackError](err); older {
					return &hintError{err, "extract it to another folder; or --overwrite writes it over the newer one"}
				}
				if _, occupied := errors.AsType[*bundle.OccupiedError](err); noSuchFile(err) && !occupied {
					err = &hintError{err, "tar tf " + args[0] + " lists the paths"}
				}
				return err
			}
			e.say("wrote %s below %s", number(n, "file"), dir)
			return nil
		},
	}
}

// extracted is what extract prints with --json.
type extracted struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// extractCatalog writes the catalogue of a bundle, or of each line of a store.
func extractCatalog(ctx context.Context, e *env, guard *outputGuard, name, dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	var lines []*bundle.Bundle
	var passed []error
	if st, err := os.Stat(name); err == nil && st.IsDir() {
		trust, err := e.trust(1)
		if err != nil {
			return err
		}
		store, err := bundle.OpenStore(name, trust, stateDir())
		if err != nil {
			return err
		}
		v, err := store.View(ctx, func(file string, err error) { passed = append(passed, fmt.Errorf("%s: %w", file, err)) })
		if err != nil {
			return err
		}
		defer v.Close()
		lines, passed = v.Lines, append(passed, v.Passed...)
	} else {
		b, err := openBundle(ctx, e, name)
		if err != nil {
			return err
		}
		defer b.Close()
		lines = []*bundle.Bundle{b}
	}
	for _, b := range lines {
		manifest, index := b.CatalogFiles(dir)
		guard.reads(b.Path(), name)
		if err := guard.check(manifest, e.bundleOfLine(b.Manifest.Name)); err != nil {
			return err
		}
		// The index belongs to the manifest beside it.
		if err := guard.check(index, func(string) error { return e.bundleOfLine(b.Manifest.Name)(manifest) }); err != nil {
			return err
		}
	}
	for _, b := range lines {
		file, err := b.WriteCatalogue(dir)
		if err != nil {
			return err
		}
		e.say("wrote %s and the index beside it: %s, sequence %d", file, b.Manifest.Name, b.Manifest.Sequence)
	}
	for _, err := range passed {
		e.complain("not in the catalogues: %s", oneLine(err))
	}
	if len(passed) > 0 {
		return errIncomplete
	}
	return nil
}
