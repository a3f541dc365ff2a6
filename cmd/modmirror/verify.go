package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/review/provenance"
)

// severity lists the results of verifying a bundle, the worst last.
var severity = []error{nil, errIncomplete, errFailed, errDamaged}

// worse returns the worse of two results.
func worse(a, b error) error {
	if slices.Index(severity, b) > slices.Index(severity, a) {
		return b
	}
	return a
}

const (
	// maxDamages is how many damaged entries of a bundle are named on the terminal.
	maxDamages = 20

	// maxDamagesJSON is how many damaged entries are in a verifyResult.
	maxDamagesJSON = 10_000

	// verifyGC is GOGC while bundles are verified or imported, in percent. The live heap has a few
	// MiB, which are soon looked through.
	verifyGC = 50
)

func verifyCommand() *command {
	v := new(verification)
	var gosumdb, list string
	var private []string
	var require string
	guard := new(outputGuard)
	return &command{
		name:    "verify",
		summary: "check every byte of bundles; --deep every hash and proof again",
		usage: `
Usage: modmirror verify [flags] BUNDLE|STORE...

Verifies the signature, the index and every byte. With --deep it also verifies the h1
of every zip and go.mod, and proves under the checksum database's own key that the
hashes of every public module are in that database. Ends with 3 when something does
not verify.

Example:
  modmirror verify --deep team.tar
`,
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&v.deep, "deep", false, "check every h1 and every inclusion proof again")
			requireFlag(fs, &require)
			fs.BoolVar(&v.asJSON, "json", false, "print a JSON object for each bundle")
			fs.StringVar(&list, "bad", "", "write damaged entries to `file` as a list for sync, to be carried again")
			guard.flags(fs)
			fs.StringVar(&gosumdb, "gosumdb", "", "checksum `database` instead of go env GOSUMDB")
			fs.StringSliceVar(&private, "private", nil,
				"no modules but those of these `patterns`, as in GOPRIVATE, may be outside the checksum database")
		},
		run: func(ctx context.Context, e *env, args []string) (err error) {
			debug.SetGCPercent(verifyGC)
			if len(args) == 0 {
				return usagef("want a bundle")
			}
			if list != "" {
				for _, file := range args {
					guard.reads(append(media.Pieces(file), file)...)
				}
				if err := guard.check(list, isBadList); err != nil {
					return err
				}
			}
			if v.deep {
				if v.db, err = pinnedDatabase(ctx, gosumdb); err != nil {
					return err
				}
			}
			if v.keyring, err = e.keyring(require); err != nil {
				return err
			}
			v.e, v.files, v.private = e, args, strings.Join(private, ",")
			worst, err := v.all(ctx)
			if err != nil {
				return err
			}
			if list == "" {
				if len(v.bad.lines) > 0 {
					e.hint("modmirror verify --bad FILE writes a list of them for sync, to be carried again")
				}
				return worst
			}
			if err := safefile.Write(list, v.bad.text(), 0o666); err != nil {
				return err
			}
			e.say("wrote %s, a list of %s for sync", list, number(len(v.bad.lines), "entry"))
			return worst
		},
	}
}

// A verification verifies bundles and collects the damaged entries.
type verification struct {
	e       *env
	asJSON  bool
	deep    bool            // verify every h1 and proof too
	db      *proof.Database // whose key is known here; for deep
	private string          // patterns of modules that may be outside the checksum database, "" for all
	keyring *trust.Keyring
	files   []string // bundles and stores to verify; a delta may need the others
	bad     badList
}

// all verifies all files, whatever the results of the others, and returns the worst result. An
// error ends it: it was interrupted.
func (v *verification) all(ctx context.Context) (worst, err error) {
	for _, file := range v.files {
		err := v.file(ctx, file)
		if ctx.Err() != nil {
			return worst, ctx.Err()
		}
		if err != nil && !errors.Is(err, errDamaged) {
			switch v.e.report(ctx, "verify", err) {
			case exitNotVerified:
				err = errDamaged
			case exitIncomplete:
				err = errIncomplete
			default:
				err = errFailed
			}
		}
		worst = worse(worst, err)
	}
	return worst, nil
}

// file verifies a bundle or a store and prints the result. errDamaged says that it has named what
// is damaged.
func (v *verification) file(ctx context.Context, file string) error {
	if isFolder(file) {
		return v.store(ctx, file)
	}
	b, done, err := v.open(ctx, file)
	if err != nil {
		return err
	}
	defer done()
	v.e.sayOther(file, b.OtherSignature)
	return v.bundle(ctx, b, file, v.deep)
}

// open opens a bundle and, for a deep verification of a delta, the other bundles that it may need.
func (v *verification) open(ctx context.Context, file string) (b *bundle.Bundle, done func(), err error) {
	if b, err = bundle.Open(ctx, file, v.keyring, ""); err != nil {
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
		if list, err := store.OpenManifests(other, v.keyring, nil); err == nil { // all reports its error
			opened = append(opened, list...)
		}
	}
	b.Attach(opened[1:]...)
	return b, done, nil
}

// store verifies all bundles of a store. A deep verification is of the newest bundle of each line,
// with the contents that it needs from other bundles and from packs.
func (v *verification) store(ctx context.Context, dir string) error {
	bad := 0
	fail := func(file string, err error) {
		bad++
		v.e.complain("%s: %s", file, oneLine(err))
	}
	fronts, err := store.OpenManifests(dir, v.keyring, fail)
	if err != nil {
		return err
	}
	s := store.Stateless(dir, v.keyring)
	view, viewErr := s.View(ctx, nil)
	if viewErr == nil {
		defer view.Close()
	}
	newest := func(file string) bool {
		return viewErr == nil && slices.ContainsFunc(view.Lines,
			func(b *bundle.Bundle) bool { return b.Path() == file })
	}
	for _, front := range fronts {
		front.Close()
		if v.deep && newest(front.Path()) { // verified below
			continue
		}
		err := v.bytes(ctx, front.Path())
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
	for _, err := range view.Skipped {
		fail(dir, err)
	}
	if v.deep {
		for _, b := range view.Lines {
			if err := v.bundle(ctx, b, b.Path(), true); errors.Is(err, errDamaged) {
				bad++
			} else if err != nil {
				return err
			}
		}
	}
	if bad > 0 {
		return errDamaged
	}
	return nil
}

// bytes verifies the bytes of a bundle, not deep.
func (v *verification) bytes(ctx context.Context, file string) error {
	b, err := bundle.Open(ctx, file, v.keyring, "")
	if err != nil {
		return err
	}
	defer b.Close()
	return v.bundle(ctx, b, file, false)
}

// bundle verifies an open bundle and prints the result.
func (v *verification) bundle(ctx context.Context, b *bundle.Bundle, file string, deep bool) error {
	damaged := 0
	result := verifyResult{
		File: file, Name: b.Manifest.Name, Sequence: b.Manifest.Sequence, ID: b.ID(),
		SignedBy: b.Signers, Deep: deep, Damaged: []verifyDamage{}, Private: []string{},
	}
	report := func(d bundle.Damage) {
		v.bad.add(d.Path)
		if len(result.Damaged) < maxDamagesJSON {
			result.Damaged = append(result.Damaged, verifyDamage{d.Path, oneLine(d.Err)})
		}
		if damaged++; damaged <= maxDamages {
			v.e.complain("%s: %s: %s", file, d.Path, oneLine(d.Err))
		}
	}
	if err := v.read(ctx, b, deep, report); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if damaged == 0 {
		if _, err := provenance.Read(ctx, b, v.keyring); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if v.asJSON {
		for path, err := range b.Index.Private(ctx) {
			if err != nil {
				return err
			}
			result.Private = append(result.Private, path)
		}
		private := v.checkPrivate(ctx, b, file, io.Discard)
		result.Verified = damaged == 0 && private == nil
		if err := writeJSON(v.e.stdout, result); err != nil || damaged == 0 {
			return cmp.Or(err, private)
		}
	}
	if damaged > 0 {
		if damaged > maxDamages {
			v.e.complain("%s: and %d more", file, damaged-maxDamages)
		}
		v.e.complain("verify: %s: %s damaged", file, number(damaged, "entry"))
		return errDamaged
	}
	v.printVerified(b, file, deep)
	list := io.Discard
	if deep {
		list = v.e.stdout
	}
	return v.checkPrivate(ctx, b, file, list)
}

// read verifies an open bundle under a progress bar.
func (v *verification) read(ctx context.Context, b *bundle.Bundle, deep bool, report func(bundle.Damage)) error {
	total := b.Manifest.Size
	if deep {
		total *= 2
	}
	bar := v.e.bar(total, "verifying")
	defer bar.done()
	if deep {
		return b.VerifyDeep(ctx, &bundle.Deep{DB: v.db}, bar.add, report)
	}
	return b.Verify(ctx, bar.add, report)
}

// printVerified prints what was verified about a bundle without damage.
func (v *verification) printVerified(b *bundle.Bundle, file string, deep bool) {
	m, w := b.Manifest, v.e.stdout
	fmt.Fprintf(w, "%s: verified: %s, %s, signed by %s\n", file, number(m.Counts.Files, "file"), bytesText(m.Size),
		strings.Join(b.Signers, ", "))
	if !deep {
		return
	}
	versions := m.Counts.Versions + m.Counts.ModOnly
	fmt.Fprintf(w, "%s: deep: %s with the right h1; ", file, number(versions, "module version"))
	if m.DB != "" {
		fmt.Fprintf(w, "%d proven to be in %s under its own key, tree %d\n", versions-m.Counts.Private, m.DB, m.Head.N)
	} else {
		fmt.Fprintln(w, "nothing is proven, since there is no checksum database")
	}
	if m.Counts.Private > 0 {
		fmt.Fprintf(w, "%s: %s outside of it, for which only the bundle's signature vouches:\n", file,
			number(m.Counts.Private, "version"))
	}
}

// verifyResult is what verify prints of a bundle with --json.
type verifyResult struct {
	File     string         `json:"file"`
	Verified bool           `json:"verified"`
	Deep     bool           `json:"deep"`
	Name     string         `json:"name"`
	Sequence int64          `json:"sequence"`
	ID       string         `json:"id"`
	SignedBy []string       `json:"signedBy"`
	Damaged  []verifyDamage `json:"damaged"` // maxDamagesJSON at most
	Private  []string       `json:"private"` // modules outside the checksum database
}

// verifyDamage is an entry that does not verify.
type verifyDamage struct {
	Path  string `json:"path"`
	Error string `json:"error"`
}

// checkPrivate prints the modules outside the checksum database on w. It returns errDamaged when it
// has named some that --private does not allow.
func (v *verification) checkPrivate(ctx context.Context, b *bundle.Bundle, file string, w io.Writer) error {
	wrong := 0
	for path, err := range b.Index.Private(ctx) {
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%s:   %s\n", file, path)
		if v.private != "" && !module.MatchPrefixPatterns(v.private, path) {
			v.e.complain("verify: %s: %s is outside the checksum database, and --private does not allow that", file,
				path)
			wrong++
		}
	}
	if wrong > 0 {
		return errDamaged
	}
	return nil
}

// badList collects damaged entries as lines of a list file for sync.
type badList struct{ lines []string }

// add adds the entry at a GOPROXY path.
func (l *badList) add(path string) {
	line := "# " + path // sync makes it for every bundle
	if r, err := modpath.Parse(path); err == nil && r.Version != "" {
		line = "only " + r.Path + "@" + r.Version
	}
	l.lines = append(l.lines, line)
}

// text returns the sorted list.
func (l *badList) text() []byte {
	slices.Sort(l.lines)
	l.lines = slices.Compact(l.lines)
	return []byte(badListStart + strings.Join(append(l.lines, ""), "\n"))
}

// badListStart begins every list that verify --bad writes.
const badListStart = "# To be carried again: modmirror sync -o again.tar FILE\n"

// isBadList returns nil for a list that verify --bad wrote. It is a check for outputGuard.check.
func isBadList(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	start := make([]byte, len(badListStart))
	if _, err := io.ReadFull(f, start); err != nil || string(start) != badListStart {
		return errors.New("verify --bad did not write it")
	}
	return nil
}
