package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
)

// maxDamages is how many damaged entries are named on the terminal.
const maxDamages = 20

func verifyCommand() *command {
	var deep bool
	var bad, gosumdb string
	return &command{
		name:    "verify",
		summary: "check every byte of bundles; --deep every hash and proof again",
		usage: `
Usage: modmirror verify [flags] BUNDLE...

Checks the signature, the index and every byte. With --deep also the h1 of every
zip and go.mod, and that every public module's hashes stand in the checksum
database, by proofs under the database's own key. Ends with 3 when something
does not verify.

Example:
  modmirror verify --deep team.tar
`,
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&deep, "deep", false, "check every h1 and every inclusion proof again")
			fs.StringVar(&bad, "bad", "", "write damaged entries to `file` as a list for sync, to be carried again")
			fs.StringVar(&gosumdb, "gosumdb", "", "checksum `database` instead of go env GOSUMDB")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) == 0 {
				return usagef("verify needs a bundle")
			}
			var db *proof.Database
			if deep {
				var err error
				if db, err = pinnedDatabase(ctx, gosumdb); err != nil {
					return err
				}
			}
			list := &badList{}
			var failed error
			for _, file := range args {
				b, err := openBundle(ctx, e, file)
				if err != nil {
					return err
				}
				err = verifyBundle(ctx, e, b, file, deep, db, list)
				b.Close()
				if errors.Is(err, errDamaged) {
					failed = err
				} else if err != nil {
					return err
				}
			}
			if bad != "" {
				if err := safefile.Write(bad, list.text(), 0o666); err != nil {
					return err
				}
			}
			return failed
		},
	}
}

// pinnedDatabase returns the checksum database whose key is known here. "off" does not
// turn verification off: it means that of Go's own.
func pinnedDatabase(ctx context.Context, gosumdb string) (*proof.Database, error) {
	if gosumdb == "" {
		settings, err := readGoEnv(ctx)
		if err != nil {
			return nil, err
		}
		gosumdb = settings.GOSUMDB
	}
	if gosumdb == "off" {
		gosumdb = "sum.golang.org"
	}
	return proof.ParseGOSUMDB(gosumdb)
}

// openBundle opens a bundle under the trusted keys.
func openBundle(ctx context.Context, e *env, file string) (*bundle.Bundle, error) {
	trust, err := bundle.ReadTrust(e.trustFile())
	if err != nil {
		return nil, err
	}
	return bundle.Open(ctx, file, trust.Verifiers(), "")
}

// verifyBundle verifies an open bundle and names what is damaged.
func verifyBundle(ctx context.Context, e *env, b *bundle.Bundle, file string, deep bool, db *proof.Database, list *badList) error {
	n := 0
	report := func(d bundle.Damage) {
		list.add(d.Path)
		if n++; n <= maxDamages {
			e.complain("%s: %s: %s", file, d.Path, oneLine(d.Err))
		}
	}
	total := b.Manifest.Size
	if deep {
		total *= 2
	}
	bar := e.bar(total, "verifying")
	var mu sync.Mutex
	progress := func(n int64) {
		if bar != nil {
			mu.Lock()
			defer mu.Unlock()
			bar.Add64(n)
		}
	}
	err := b.Verify(ctx, progress, report)
	if err == nil && deep {
		err = b.Deep(ctx, db, progress, report)
	}
	if bar != nil {
		bar.Finish()
	}
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if n > 0 {
		if n > maxDamages {
			e.complain("%s: and %d more", file, n-maxDamages)
		}
		e.complain("verify: %s: %d entries do not verify", file, n)
		e.hint("modmirror verify --bad FILE writes a list of them for sync, to be carried again")
		return errDamaged
	}
	m := b.Manifest
	fmt.Fprintf(e.stdout, "%s: verified: %d files, %s, signed by %s\n", file, m.Counts.Files, bytesText(m.Size), b.Signers[0])
	if deep {
		fmt.Fprintf(e.stdout, "%s: deep: %d module versions have their h1", file, m.Counts.Versions+m.Counts.ModOnly)
		if m.DB != "" {
			fmt.Fprintf(e.stdout, "; %d are proven to be in %s under its own key, tree %d", m.Counts.Versions+m.Counts.ModOnly-m.Counts.Private, m.DB, m.Head.N)
		}
		fmt.Fprintln(e.stdout)
		if m.Counts.Private > 0 {
			fmt.Fprintf(e.stdout, "%s: %d versions are outside of it: only the bundle's signature vouches for them\n", file, m.Counts.Private)
			for path, err := range b.Index.Private(ctx) {
				if err != nil {
					return err
				}
				fmt.Fprintf(e.stdout, "%s:   %s\n", file, path)
			}
		}
	}
	return nil
}

// badList collects damaged entries as lines of a list file.
type badList struct{ lines []string }

func (l *badList) add(path string) {
	line := "# " + path
	if r, err := modpath.Parse(path); err == nil && r.Version != "" {
		line = r.Path + "@" + r.Version
	}
	l.lines = append(l.lines, line)
}

func (l *badList) text() []byte {
	slices.SortFunc(l.lines, func(a, b string) int { return cmp.Compare(a, b) })
	var out []byte
	for _, line := range slices.Compact(l.lines) {
		out = append(out, line+"\n"...)
	}
	return out
}

func extractCommand() *command {
	dir := "."
	return &command{
		name:    "extract",
		summary: "write files of a bundle to a folder, verified",
		usage: `
Usage: modmirror extract [flags] BUNDLE [PATH...]

Writes the files at the GOPROXY paths, or all, below a folder. Unlike tar it checks
each file's hash on the way. The result works as GOPROXY=file:///FOLDER.

Example:
  modmirror extract -d /srv/go team.tar
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVarP(&dir, "dir", "d", ".", "`folder` to write to")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) == 0 {
				return usagef("extract needs a bundle")
			}
			if st, err := os.Stat(dir); err == nil && !st.IsDir() {
				return fmt.Errorf("%s: not a folder", dir)
			}
			b, err := openBundle(ctx, e, args[0])
			if err != nil {
				return err
			}
			defer b.Close()
			n, err := b.Extract(ctx, dir, args[1:])
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			e.say("wrote %d files below %s", n, dir)
			return nil
		},
	}
}
