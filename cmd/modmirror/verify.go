package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
)

// byWeight are the results of verifying a bundle, the worst last.
var byWeight = []error{nil, errIncomplete, errFailed, errDamaged}

// maxDamages is how many damaged entries are named on the terminal.
const maxDamages = 20

func verifyCommand() *command {
	var deep bool
	var require int
	var bad, gosumdb string
	var private []string
	var asJSON bool
	guard := new(outputGuard)
	return &command{
		name:    "verify",
		summary: "check every byte of bundles; --deep every hash and proof again",
		usage: `
Usage: modmirror verify [flags] BUNDLE|STORE...

Checks the signature, the index and every byte. With --deep also the h1 of every
zip and go.mod, and that every public module's hashes stand in the checksum
database, by proofs under the database's own key. Ends with 3 when something
does not verify.

Example:
  modmirror verify --deep team.tar
`,
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&deep, "deep", false, "check every h1 and every inclusion proof again")
			requireFlag(fs, &require)
			fs.BoolVar(&asJSON, "json", false, "print a JSON object for each bundle")
			fs.StringVar(&bad, "bad", "", "write damaged entries to `file` as a list for sync, to be carried again")
			guard.flags(fs)
			fs.StringVar(&gosumdb, "gosumdb", "", "checksum `database` instead of go env GOSUMDB")
			fs.StringSliceVar(&private, "private", nil, "no modules but those of these `patterns`, as in GOPRIVATE, may be outside the checksum database")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) == 0 {
				return usagef("want a bundle")
			}
			if bad != "" {
				for _, file := range args {
					guard.reads(append(bundle.Pieces(file), file)...)
				}
				if err := guard.check(bad, isBadList); err != nil {
					return err
				}
			}
			var db *proof.Database
			var err error
			if deep {
				if db, err = pinnedDatabase(ctx, gosumdb); err != nil {
					return err
				}
			}
			v := &verification{asJSON: asJSON, deep: deep, db: db, private: strings.Join(private, ","), files: args}
			if v.trust, err = e.trust(require); err != nil {
				return err
			}
			var worst error // every bundle is looked at, whatever the one before it was
			for _, file := range args {
				err := v.file(ctx, e, file)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil && !errors.Is(err, errDamaged) {
					switch e.report(ctx, "verify", err) {
					case exitNotVerified:
						err = errDamaged
					case exitIncomplete:
						err = errIncomplete
					default:
						err = errFailed
					}
				}
				if slices.Index(byWeight, err) > slices.Index(byWeight, worst) {
					worst = err
				}
			}
			if bad != "" {
				text := v.bad.text()
				if err := safefile.Write(bad, text, 0o666); err != nil {
					return err
				}
				e.say("wrote %s, a list of %s for sync", bad, number(len(v.bad.lines), "entry"))
			} else if len(v.bad.lines) > 0 {
				e.hint("modmirror verify --bad FILE writes a list of them for sync, to be carried again")
			}
			return worst
		},
	}
}

// A verification is what verify is to do, and what it found to be damaged.
type verification struct {
	asJSON  bool
	deep    bool
	db      *proof.Database
	private string // patterns of what may be outside the checksum database, "" for anything
	trust   *bundle.Trust
	files   []string // all that are verified: a delta needs those before it
	bad     badList
}

// open opens a bundle, and those of the others that a deep look at a delta needs.
func (v *verification) open(ctx context.Context, file string) (b *bundle.Bundle, done func(), err error) {
	if b, err = bundle.Open(ctx, file, v.trust, ""); err != nil {
		return nil, nil, err
	}
	opened := []*bundle.Bundle{b}
	done = func() {
		for _, b := range opened {
			b.Close()
		}
	}
	if !v.deep || len(b.Line()) == 0 {
		return b, done, nil
	}
	for _, other := range v.files {
		if other == file {
			continue
		}
		if list, err := bundle.Fronts(other, v.trust, nil); err == nil { // it is verified for itself
			opened = append(opened, list...)
		}
	}
	b.Attach(opened[1:]...)
	return b, done, nil
}

// store verifies all bundles of a store, and deep the newest of each line with what it needs of the others and of packs.
func (v *verification) store(ctx context.Context, e *env, dir string) error {
	bad := 0
	fail := func(file string, err error) {
		bad++
		e.complain("%s: %s", file, oneLine(err))
	}
	fronts, err := bundle.Fronts(dir, v.trust, fail)
	if err != nil {
		return err
	}
	s := bundle.Store{Dir: dir, Trust: v.trust, State: bundle.NoState()}
	view, viewErr := s.View(ctx, nil)
	if viewErr == nil {
		defer view.Close()
	}
	newest := func(file string) bool {
		return viewErr == nil && slices.ContainsFunc(view.Lines, func(b *bundle.Bundle) bool { return b.Path() == file })
	}
	for _, front := range fronts {
		front.Close()
		if v.deep && newest(front.Path()) { // verified below
			continue
		}
		b, err := bundle.Open(ctx, front.Path(), v.trust, "")
		if err == nil {
			err = v.check(ctx, e, b, front.Path(), false)
			b.Close()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errDamaged) {
			bad++
		} else if err != nil {
			fail(front.Path(), err)
		}
	}
	if viewErr != nil {
		return viewErr
	}
	for _, err := range view.Passed {
		fail(dir, err)
	}
	for _, b := range view.Lines {
		if !v.deep {
			continue
		}
		if err := v.check(ctx, e, b, b.Path(), true); errors.Is(err, errDamaged) {
			bad++
		} else if err != nil {
			return err
		}
	}
	if bad > 0 {
		return errDamaged
	}
	return nil
}

// file verifies a bundle and names what is damaged.
func (v *verification) file(ctx context.Context, e *env, file string) error {
	if st, err := os.Stat(file); err == nil && st.IsDir() {
		return v.store(ctx, e, file)
	}
	b, done, err := v.open(ctx, file)
	if err != nil {
		return err
	}
	e.sayOther(file, b.OtherSignature)
	defer done()
	return v.check(ctx, e, b, file, v.deep)
}

// check verifies an open bundle and names what is damaged.
func (v *verification) check(ctx context.Context, e *env, b *bundle.Bundle, file string, deep bool) error {
	n := 0
	result := verifyResult{File: file, Name: b.Manifest.Name, Sequence: b.Manifest.Sequence, ID: b.ID(), SignedBy: b.Signers, Deep: deep, Damaged: []verifyDamage{}, Private: []string{}}
	report := func(d bundle.Damage) {
		v.bad.add(d.Path)
		if len(result.Damaged) < maxDamagesJSON {
			result.Damaged = append(result.Damaged, verifyDamage{d.Path, oneLine(d.Err)})
		}
		if n++; n <= maxDamages {
			e.complain("%s: %s: %s", file, d.Path, oneLine(d.Err))
		}
	}
	total := b.Manifest.Size
	if deep {
		total *= 2
	}
	bar := e.bar(total, "verifying")
	err := b.Verify(ctx, bar.add, report)
	if err == nil && deep {
		err = b.Deep(ctx, v.db, nil, bar.add, report)
	}
	bar.done()
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if v.asJSON {
		for path, err := range b.Index.Private(ctx) {
			if err != nil {
				return err
			}
			result.Private = append(result.Private, path)
		}
		private := v.checkPrivate(ctx, e, b, file, io.Discard)
		result.Verified = n == 0 && private == nil
		if err := writeJSON(e.stdout, result); err != nil || n == 0 {
			return cmp.Or(err, private)
		}
	}
	if n > 0 {
		if n > maxDamages {
			e.complain("%s: and %d more", file, n-maxDamages)
		}
		e.complain("verify: %s: %s damaged", file, number(n, "entry"))
		return errDamaged
	}
	m := b.Manifest
	fmt.Fprintf(e.stdout, "%s: verified: %s, %s, signed by %s\n", file, number(m.Counts.Files, "file"), bytesText(m.Size), strings.Join(b.Signers, ", "))
	if !deep {
		return v.checkPrivate(ctx, e, b, file, io.Discard)
	}
	fmt.Fprintf(e.stdout, "%s: deep: %s with the right h1; ", file, number(m.Counts.Versions+m.Counts.ModOnly, "module version"))
	if m.DB != "" {
		fmt.Fprintf(e.stdout, "%d proven to be in %s under its own key, tree %d\n", m.Counts.Versions+m.Counts.ModOnly-m.Counts.Private, m.DB, m.Head.N)
	} else {
		fmt.Fprintln(e.stdout, "nothing is proven, since there is no checksum database")
	}
	if m.Counts.Private > 0 {
		fmt.Fprintf(e.stdout, "%s: %s outside of it, for which only the bundle's signature vouches:\n", file, number(m.Counts.Private, "version"))
	}
	return v.checkPrivate(ctx, e, b, file, e.stdout)
}

// maxDamagesJSON is how many damaged entries are in a verifyResult.
const maxDamagesJSON = 10_000

// verifyResult is what verify prints of a bundle with --json.
type verifyResult struct {
	File     string         `json:"file"`
	Verified bool           `json:"verified"`
	Deep     bool           `json:"deep"`
	Name     string         `json:"name"`
	Sequence int64          `json:"sequence"`
	ID       string         `json:"id"`
	SignedBy []string       `json:"signedBy"`
	Damaged  []verifyDamage `json:"damaged"`
	Private  []string       `json:"private"` // modules outside the checksum database
}

// verifyDamage is an entry that does not verify.
type verifyDamage struct {
	Path  string `json:"path"`
	Error string `json:"error"`
}

// checkPrivate lists the modules outside the checksum database on w, and names those that may not be.
func (v *verification) checkPrivate(ctx context.Context, e *env, b *bundle.Bundle, file string, w io.Writer) error {
	wrong := 0
	for path, err := range b.Index.Private(ctx) {
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s:   %s\n", file, path)
		if v.private != "" && !module.MatchPrefixPatterns(v.private, path) {
			e.complain("verify: %s: %s is outside the checksum database, and --private does not say that it may be", file, path)
			wrong++
		}
	}
	if wrong > 0 {
		return errDamaged
	}
	return nil
}

// badList collects damaged entries as lines of a list file.
type badList struct{ lines []string }

func (l *badList) add(path string) {
	line := "# " + path // made anew with every bundle
	if r, err := modpath.Parse(path); err == nil && r.Version != "" {
		line = "only " + r.Path + "@" + r.Version
	}
	l.lines = append(l.lines, line)
}

func (l *badList) text() []byte {
	slices.Sort(l.lines)
	l.lines = slices.Compact(l.lines)
	return []byte(badListStart + strings.Join(append(l.lines, ""), "\n"))
}

// badListStart begins a list of what is damaged.
const badListStart = "# To be carried again: modmirror sync -o again.tar FILE\n"

// isBadList is a check for outputGuard.check.
func isBadList(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	start := make([]byte, len(badListStart))
	if _, err := io.ReadFull(f, start); err != nil || string(start) != badListStart {
		return errors.New("it is no list that verify --bad wrote")
	}
	return nil
}
