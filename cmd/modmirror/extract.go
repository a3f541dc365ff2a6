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
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/hint"
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

Writes the files at the given GOPROXY paths, or all files, below a folder. Unlike tar
it verifies the hash of each file. The result works as GOPROXY=file:///FOLDER. Extract
a line into one folder, the full bundle first and then its deltas, oldest first.

With --catalog it writes the two small files that the next sync needs: those of a
bundle, or of each line of a store.

Example:
  modmirror extract -d /srv/go team.tar
  modmirror extract --catalog -d /media/usb /srv/modmirror
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVarP(&dir, "dir", "d", ".", "`folder` to write to")
			fs.BoolVar(&asJSON, "json", false, "print a JSON object for each file written")
			guard.flags(fs)
			fs.BoolVar(&catalog, "catalog", false,
				"write NAME.manifest and NAME.index.sqlite, a base for the next sync")
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
			keyring, err := e.keyring(oneKey)
			if err != nil {
				return err
			}
			wrote := func(f index.File) error {
				if !asJSON {
					return nil
				}
				return json.NewEncoder(e.stdout).Encode(extracted{f.Path, f.Size, hex.EncodeToString(f.SHA256[:])})
			}
			x := bundle.Extraction{Paths: args[1:], Replace: guard.Overwrite, Trust: keyring, Wrote: wrote}
			n, err := b.Extract(ctx, dir, x)
			if err == nil || n > 0 {
				then := ""
				if err != nil {
					then = ", and then:"
				}
				e.say("wrote %s below %s%s", number(n, "file"), dir, then)
			}
			return extractHint(err, args[0])
		},
	}
}

// extractHint adds the file to an error of extract, and the next step that extract alone knows.
func extractHint(err error, file string) error {
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s: %w", file, err)
	_, older := errors.AsType[*bundle.RollbackError](err)
	_, occupied := errors.AsType[*bundle.OccupiedError](err)
	switch {
	case older:
		return &hint.Error{Err: err, Hint: "extract it to another folder; or --overwrite writes it over the newer one"}
	case noSuchFile(err) && !occupied:
		return &hint.Error{Err: err, Hint: "tar tf " + file + " lists the paths"}
	}
	return err
}

// extracted is what extract prints of a file with --json.
type extracted struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// extractCatalog writes the catalog of a bundle, or of each line of a store: its manifest and its
// index.
func extractCatalog(ctx context.Context, e *env, guard *outputGuard, name, dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	lines, skipped, done, err := openForCatalog(ctx, e, name)
	if err != nil {
		return err
	}
	defer done()
	for _, b := range lines {
		manifest, index := b.CatalogFiles(dir)
		guard.reads(b.Path(), name)
		made := e.bundleOfLine(b.Manifest.Name)
		if err := guard.check(manifest, made); err != nil {
			return err
		}
		// The index is replaced with the manifest beside it.
		if err := guard.check(index, func(string) error { return made(manifest) }); err != nil {
			return err
		}
	}
	for _, b := range lines {
		file, err := b.WriteCatalog(dir)
		if err != nil {
			return err
		}
		e.say("wrote %s and the index beside it: %s, sequence %d", file, b.Manifest.Name, b.Manifest.Sequence)
	}
	for _, err := range skipped {
		e.complain("not in the catalogs: %s", oneLine(err))
	}
	if len(skipped) > 0 {
		return errIncomplete
	}
	return nil
}

// openForCatalog opens the newest bundle of each line of a store, or one bundle. skipped says which
// lines of the store are left out, and why. The caller calls done.
func openForCatalog(ctx context.Context, e *env, name string) (
	lines []*bundle.Bundle, skipped []error, done func() error, err error) {
	if !isFolder(name) {
		b, err := openBundle(ctx, e, name)
		if err != nil {
			return nil, nil, nil, err
		}
		return []*bundle.Bundle{b}, nil, b.Close, nil
	}
	keyring, err := e.keyring(oneKey)
	if err != nil {
		return nil, nil, nil, err
	}
	store, err := store.Open(name, keyring, stateDir())
	if err != nil {
		return nil, nil, nil, err
	}
	v, err := store.View(ctx, func(file string, err error) {
		skipped = append(skipped, fmt.Errorf("%s: %w", file, err))
	})
	if err != nil {
		return nil, nil, nil, err
	}
	return v.Lines, append(skipped, v.Skipped...), v.Close, nil
}
