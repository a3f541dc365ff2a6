package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"filippo.io/age"
	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/policy"
)

func importCommand() *command {
	var dir, state, gosumdb, maxAge string
	var asJSON bool
	var identities []string
	var require string
	var judge policyFlags
	im := new(store.Import)
	return &command{
		name:    "import",
		summary: "verify carried bundles and add them to a store (inside)",
		usage: `
Usage: modmirror import --store DIR [flags] BUNDLE...

Reads each bundle once, verifies every byte, hash and proof, and checks that the bundle
continues its line. Only then it adds the bundle to the store; a server of the store
serves it at once. An interrupted import leaves the store as it was: run it again.

- is stdin. For a bundle in pieces name any piece; pieces on other disks may be
imported later.

Example:
  modmirror import --store /srv/modmirror /media/usb/team-12.tar
  ssh diode cat team-12.tar | modmirror import --store /srv/modmirror -
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&dir, "store", "", "`folder` of the store, made if it does not exist")
			stateFlag(fs, &state)
			fs.StringVar(&gosumdb, "gosumdb", "", "checksum `database` instead of go env GOSUMDB")
			requireFlag(fs, &require)
			fs.StringSliceVar(&identities, "identity", nil, "age identity `file` that opens encrypted bundles")
			fs.BoolVar(&im.AllowRollback, "allow-rollback", false,
				"accept a bundle although a newer one of its line was seen, or without a consistency proof from the tree that was served before")
			fs.Int64Var(&im.MinSequence, "min-sequence", 0, "refuse bundles below this sequence `number`")
			judge.flags(fs, "the enclave may be stricter than the outside (modmirror policy --help)")
			maxAgeFlag(fs, &maxAge)
			fs.BoolVar(&asJSON, "json", false, "print a JSON object for each bundle")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			debug.SetGCPercent(verifyGC)
			if dir == "" {
				return usagef("want --store DIR")
			}
			if len(args) == 0 {
				return usagef("want a bundle, or - for stdin")
			}
			age, err := parseAge(maxAge)
			if err != nil {
				return err
			}
			keyring, err := e.keyring(require)
			if err != nil {
				return err
			}
			if im.DB, err = pinnedDatabase(ctx, gosumdb); err != nil {
				return err
			}
			rules, err := readPolicy(judge.files, nil)
			if err != nil {
				return err
			}
			ids, err := readIdentities(identities)
			if err != nil {
				return err
			}
			s, unlock, err := lockStore(ctx, e, dir, keyring, state)
			if err != nil {
				return err
			}
			defer unlock()
			imp := &importer{
				e: e, store: s, im: im, ids: ids, keyring: keyring, age: age, asJSON: asJSON,
				staged: make(map[string]*store.Staging), policy: rules, policyFlags: judge,
			}
			if im.Accept = imp.accept; !rules.Empty() {
				reviewMemory()
			}
			im.Serves = func(v *store.View) {
				imp.unproven = unprovenOf(ctx, v)
				n, _ := v.Vulns(ctx) // an error would be one of the index, which was verified
				imp.vulndb = n > 0
			}
			if err := imp.all(ctx, args); err != nil {
				return err
			}
			if err := imp.reportVulns(ctx); err != nil {
				return err
			}
			return imp.reportUnproven(ctx)
		},
	}
}

// An importer adds files to a store that it has locked.
type importer struct {
	e       *env
	store   *store.Store
	im      *store.Import
	ids     []age.Identity // open encrypted bundles
	keyring *trust.Keyring
	age     time.Duration // from which warnAge warns
	asJSON  bool
	early   []*bundle.Manifest        // imported because the newest of their line was to follow
	staged  map[string]*store.Staging // complete pieces in the store, by the first piece

	unproven *unproven // after the last import; nil when the store has changed since
	vulndb   bool      // the store has a vulnerability database after the last import

	policy      *policy.Policy
	policyFlags policyFlags
	judged      *policy.Report // of the bundle that is being imported; nil without a policy
}

// reportVulns says how many versions in the store have known vulnerabilities.
func (i *importer) reportVulns(ctx context.Context) error {
	if !i.vulndb {
		return nil
	}
	v, err := i.store.View(ctx, nil)
	if err != nil {
		return err
	}
	defer v.Close()
	found, err := review.CarriedVulns(ctx, v.Lines...)
	i.e.sayVulns(found, err)
	return ctx.Err()
}

// reportUnproven reports what the store does not prove now.
func (i *importer) reportUnproven(ctx context.Context) error {
	if i.unproven == nil { // the last bundle was in the store already
		v, err := i.store.View(ctx, nil)
		if err != nil {
			return err
		}
		defer v.Close()
		i.unproven = unprovenOf(ctx, v)
	}
	return i.unproven.report(i.e, i.store.Dir)
}

// all adds bundles to the store, in the order of their lines and sequences. Pieces of a bundle that
// is not complete wait in the store, and all returns a *media.MissingPieceError in the end.
func (i *importer) all(ctx context.Context, args []string) error {
	files, missing, err := i.gather(ctx, args)
	if err != nil {
		return err
	}
	i.im.Ends = i.store.Ends(files)
	ended := false
	defer func() {
		if !ended { // without the newest, the older ones would be a rollback
			i.withdraw()
		}
	}()
	for _, file := range inOrder(files, i.keyring) {
		m, err := i.bundle(ctx, file)
		if err != nil {
			if bad := media.CheckPieces(media.Pieces(file)); bad != nil && ctx.Err() == nil {
				i.e.complain("%s", oneLine(bad))
			}
			return err
		}
		if staging := i.staged[file]; staging != nil {
			if err := staging.Remove(); err != nil {
				return err
			}
		}
		if m != nil {
			warnAge(slog.New(slog.NewTextHandler(i.e.stderr, nil)), *m, i.age)
		}
	}
	ended = true
	if len(missing) > 0 {
		return &media.MissingPieceError{Names: missing}
	}
	return nil
}

// withdraw removes the bundles that were imported only because the newest of their line was to
// follow.
func (i *importer) withdraw() {
	for _, m := range i.early {
		if err := i.store.Withdraw(m); err != nil {
			i.e.complain("%s, sequence %d, cannot be removed again: %s", m.Name, m.Sequence, oneLine(err))
		} else {
			i.e.complain("%s, sequence %d, is removed again, since the newest of its line did not come in", m.Name,
				m.Sequence)
		}
	}
}

// gather returns the files to import, with the first piece for a bundle in pieces, and the names of
// pieces that are missing. It copies pieces that must wait for others into the store.
func (i *importer) gather(ctx context.Context, args []string) (files, missing []string, err error) {
	var seen []string
	waiting := make(map[string]*store.Staging)
	for _, file := range args {
		pieces := media.Pieces(file)
		if slices.Contains(seen, file) { // belongs to pieces that were named before
			continue
		}
		if len(pieces) == 0 {
			files = append(files, file)
			continue
		}
		base := strings.TrimSuffix(pieces[0], filepath.Ext(pieces[0]))
		seen = append(seen, append(pieces, base+".sha256", base+".sig")...)
		must, err := i.store.MustStage(ctx, pieces)
		if err != nil {
			return nil, nil, err
		}
		if !must {
			files = append(files, pieces[0])
			continue
		}
		err = i.store.HasPieces(ctx, pieces)
		if already, ok := errors.AsType[*store.AlreadyError](err); ok {
			i.e.say("%s: %v", pieces[0], already)
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		for _, p := range pieces {
			staging, _, err := i.store.Stage(ctx, p)
			if err != nil {
				return nil, nil, err
			}
			i.e.say("%s waits in %s", p, staging.Dir)
			waiting[staging.Dir] = staging
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(waiting)) {
		names, err := i.store.MissingOf(ctx, waiting[dir])
		if err != nil {
			return nil, nil, err
		}
		if len(names) > 0 {
			missing = append(missing, names...)
			continue
		}
		first := waiting[dir].First()
		files = append(files, first)
		i.staged[first] = waiting[dir]
	}
	return files, missing, nil
}

// inOrder returns files sorted by line and sequence. Those that cannot be opened come first, to be
// refused later.
func inOrder(files []string, keyring *trust.Keyring) []string {
	type place struct {
		name     string
		sequence int64
	}
	at := make(map[string]place)
	for _, file := range files {
		if st, err := os.Stat(file); err != nil || !st.Mode().IsRegular() {
			continue
		}
		if list, err := store.OpenManifests(file, keyring.Lenient(), nil); err == nil {
			at[file] = place{list[0].Manifest.Name, list[0].Manifest.Sequence}
			list[0].Close()
		}
	}
	slices.SortStableFunc(files, func(a, b string) int {
		return cmp.Or(cmp.Compare(at[a].name, at[b].name), cmp.Compare(at[a].sequence, at[b].sequence))
	})
	return files
}

// open opens a bundle to be read once, decrypted. "-" is stdin.
func (i *importer) open(file string) (in io.Reader, name string, done func() error, err error) {
	name, raw := file, io.NopCloser(i.e.stdin)
	if file == "-" {
		name = "stdin"
	} else if raw, _, err = media.OpenInput(file); err != nil {
		return nil, name, nil, err
	}
	buffered := bufio.NewReaderSize(raw, 64<<10)
	if !media.IsAge(buffered) {
		return buffered, name, raw.Close, nil
	}
	if in, err = decrypt(name, buffered, i.ids); err != nil {
		raw.Close()
		return nil, name, nil, err
	}
	return in, name, raw.Close, nil
}

// bundle adds one bundle to the store. It returns nil for a bundle that the store has already.
func (i *importer) bundle(ctx context.Context, file string) (*bundle.Manifest, error) {
	in, name, done, err := i.open(file)
	if err != nil {
		return nil, err
	}
	defer done()
	i.judged = nil
	e, damaged := i.e, 0
	var progress *bar
	run := *i.im
	run.Began = func(m *bundle.Manifest) { progress = e.bar(2*m.Size, "importing") }
	run.Progress = func(n int64) { progress.add(n) }
	run.Report = func(d bundle.Damage) {
		if damaged++; damaged <= maxDamages {
			e.complain("%s: %s: %s", name, d.Path, oneLine(d.Err))
		}
	}
	run.Warn = func(err error) { e.complain("allowed: %s", oneLine(err)) }
	run.NewLine = func(beside []string) {
		e.say("%s begins a new line in the store, beside %s: all of them are served from now on", name,
			strings.Join(beside, ", "))
	}
	run.OtherSignature = func(what string) { e.sayOther(name, what) }
	m, err := i.store.Import(ctx, name, in, &run)
	progress.done()
	already, isThere := errors.AsType[*store.AlreadyError](err)
	switch {
	case isThere:
		i.unproven = nil
		e.say("%s: %v", name, already)
		return nil, i.report(importResult{File: name, Status: "already", Store: already.File})
	case errors.Is(err, store.ErrDamaged):
		e.complain("import: %s: %s damaged; nothing was imported", name, number(damaged, "entry"))
		e.hint(carryAgain)
		return nil, errDamaged
	case errors.Is(err, errDenied):
		return nil, cmp.Or(i.report(importResult{File: name, Status: "refused", Policy: i.judged}), err)
	case err != nil:
		return nil, err
	}
	if i.im.Ends[m.Name] && m.Sequence < i.store.State.Lines[m.Name].Sequence {
		i.early = append(i.early, m)
	}
	e.say("imported %s: %s, sequence %d, %s, id %.16s", name, m.Name, m.Sequence, bytesText(m.Size), m.ID())
	return m, i.report(importResult{name, "imported", "", m.Name, m.Sequence, m.ID(), m.Size, i.judged})
}

// importResult is what import prints of a bundle with --json.
type importResult struct {
	File     string `json:"file"`
	Status   string `json:"status"`          // "imported", "refused" by the policy, or "already" if the store had it
	Store    string `json:"store,omitempty"` // file of the store that had it
	Name     string `json:"name,omitempty"`
	Sequence int64  `json:"sequence,omitempty"`
	ID       string `json:"id,omitempty"`
	Size     int64  `json:"size,omitempty"` // bytes

	Policy *policy.Report `json:"policy,omitempty"` // nil without a policy
}

// report prints a result with --json.
func (i *importer) report(r importResult) error {
	if !i.asJSON {
		return nil
	}
	return writeJSON(i.e.stdout, r)
}

// An unproven says what of a view has no proof under the tree head that a server would choose.
type unproven struct {
	skipped  []error  // why lines are not served
	versions []string // up to maxDamages, as "path@version of line"
	n        int      // of versions
	heads    int      // tree heads of lines without a consistency proof
	err      error
}

// unprovenOf returns what a view does not prove.
func unprovenOf(ctx context.Context, v *store.View) *unproven {
	u := &unproven{skipped: v.Skipped}
	u.err = v.UnprovenVersions(ctx, func(b *bundle.Bundle, x index.Version) {
		if u.n++; u.n <= maxDamages {
			u.versions = append(u.versions, fmt.Sprintf("%s@%s of %s", x.Path, x.Version, b.Manifest.Name))
		}
	})
	for _, s := range v.Served() {
		u.heads += s.Heads
	}
	return u
}

// report names what is not proven, and says how to get the proofs.
func (u *unproven) report(e *env, dir string) error {
	for _, err := range u.skipped {
		e.complain("not served: %s", oneLine(err))
	}
	for _, v := range u.versions {
		e.complain("cannot be proven under the tree head that is served, so it is not: %s", v)
	}
	if u.err != nil {
		return u.err
	}
	if u.n > maxDamages {
		e.complain("and %d more", u.n-maxDamages)
	}
	if u.n+u.heads > 0 {
		if u.n == 0 {
			e.complain("no consistency proof connects the tree heads of the store's lines")
		}
		e.hint("carry the catalogs of the store to the next sync: modmirror extract --catalog -d DIR %s; then modmirror sync --base LINE.manifest --base OTHER.manifest …", dir)
	}
	return nil
}
