package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	goversion "go/version"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/assemble"
	"github.com/modmirror/modmirror/internal/goenv"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/rehearse"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/sources"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// syncFlags are the flags of sync. options makes an assemble.Options of them, once.
type syncFlags struct {
	output, name, key, mirror string
	rehearse                  string
	sequence                  int64
	toolchains, platforms     []string
	vulndb                    string
	closed, keepGoing         bool
	learn, dryRun             bool
	goproxy, gosumdb          string
	compat                    string
	parallel                  int
	maxAge                    time.Duration
	bases, drop               []string
	full                      bool
	passphraseFile, lock      string
	asJSON                    bool
	review                    string
	packaging                 packagingFlags
	guard                     outputGuard
	policy                    policyFlags
}

func syncCommand() *command {
	f := new(syncFlags)
	return &command{
		name:    "sync",
		summary: "make a signed bundle of what sources need (outside)",
		usage: `
Usage: modmirror sync [flags] [SOURCE...]

Resolves the sources' modules, downloads and verifies them, and writes a signed
bundle. A SOURCE is a folder with a go.work or go.mod, such a file, module@query, a file
that lists such lines, or - for a list on stdin. Without one it is the workspace
or module you are in.
A query is what go get knows: a version, latest, v1, ">=v1.2.0", a branch, a
commit; or all for every released version.

Proxies, checksum database and credentials are those of "go env"; the go command fetches
directly what GOPRIVATE names.

With --base the bundle is a delta: it holds what the line of the base lacks, and its index is
the catalog of the whole line. A catalog (modmirror extract --catalog) is base enough.

Example:
  modmirror sync -o team.tar . ../other golang.org/x/tools/gopls@latest
  modmirror sync -o team-2.tar --base team.tar . ../other
  modmirror sync -o team.tar --rehearse='go test ./...'
`,
		flags: f.flags,
		run: func(ctx context.Context, e *env, args []string) error {
			if f.asJSON && f.output == "-" {
				return usagef("--json and the bundle cannot both go to stdout")
			}
			report := &syncReport{e: e, progress: new(mirror.Progress)}
			err := explainSync(ctx, e, runSync(ctx, report, f, args))
			refused := errors.Is(err, errDenied) && report.result.Policy != nil
			if !f.asJSON || f.dryRun || err != nil && !errors.Is(err, errIncomplete) && !refused {
				return err
			}
			return cmp.Or(writeJSON(e.stdout, report.result), err)
		},
	}
}

// flags adds the flags of sync.
func (f *syncFlags) flags(fs *pflag.FlagSet) {
	fs.StringVarP(&f.output, "output", "o", "", "bundle `file` to write, - for stdout (default NAME.tar)")
	fs.StringVar(&f.name, "name", "", "`name` of the bundle's line (default the output's name, or the module's)")
	fs.StringVar(&f.rehearse, "rehearse", "", "prove the bundle before signing it: run `command` on the sources offline")
	fs.Lookup("rehearse").NoOptDefVal = rehearse.DefaultCommand
	fs.BoolVar(&f.learn, "learn", false, "rehearse, add what is missing to the bundle, and repeat until nothing is missing")
	fs.BoolVar(&f.closed, "closed", false, "also carry what a new project inside needs to start from any carried version")
	fs.StringVar(&f.compat, "compat", "", "also carry the go.mod files that go commands of this `version` and older read, before 1.17: many small ones")
	fs.BoolVar(&f.keepGoing, "keep-going", false, "write the bundle although something could not be had; the exit code is still 4")
	fs.StringSliceVar(&f.bases, "base", nil, "carry only what this `bundle` or catalog lacks; a base of another line only makes both servable together")
	fs.BoolVar(&f.full, "full", false, "with --base: make a full bundle of the whole line, which needs no earlier bundle")
	fs.StringSliceVar(&f.drop, "drop", nil, "with --base: drop modules of these `patterns`, perhaps with @version, from the line unless the sources need them; \"unused\" matches all")
	fs.BoolVar(&f.dryRun, "dry-run", false, "report what would be fetched and how large the bundle becomes, and write nothing")
	fs.StringSliceVar(&f.toolchains, "toolchain", nil, "also carry Go of `version` go1.26.8, or auto: what the sources' go and toolchain lines need")
	fs.StringSliceVar(&f.platforms, "platform", nil, "`os/arch` of those toolchains (default this machine's)")
	fs.StringVar(&f.vulndb, "vulndb", "", "also carry the vulnerability database of a `URL or folder` (default "+sources.DefaultVulnDB+")")
	fs.Lookup("vulndb").NoOptDefVal = sources.DefaultVulnDB
	fs.StringVar(&f.lock, "lock", "", "`file` that pins the bundle: sync writes it if it does not exist, and otherwise makes the same bytes again or fails")
	fs.StringVar(&f.review, "review", "", "carry a report, bills of materials, known vulnerabilities and how the bundle was made; `symbols`: also what the projects' code may call of these")
	fs.Lookup("review").NoOptDefVal = reviewVersions
	f.policy.flags(fs, "licenses, vulnerabilities, age and more (modmirror policy --help)")
	f.packaging.flags(fs)
	f.guard.flags(fs)
	fs.StringVar(&f.key, "key", "", "signing key `file`, or ssh-agent:COMMENT (default key in the config folder, made if it does not exist)")
	fs.StringVar(&f.passphraseFile, "passphrase-file", "", "`file` with the passphrase of the key, - for stdin (default is to ask for it)")
	upstreamFlags(fs, &f.mirror, &f.goproxy, &f.parallel)
	fs.Int64Var(&f.sequence, "sequence", 0, "sequence `number` (default the time of creation in Unix seconds)")
	fs.StringVar(&f.gosumdb, "gosumdb", "", "checksum `database` instead of go env GOSUMDB")
	fs.BoolVar(&f.asJSON, "json", false, "print what was done, or with --dry-run what would be done, as JSON")
	fs.DurationVar(&f.maxAge, "max-age", defaultMaxAge, "take what the last sync was told about newest versions and the head of the checksum database when it is no older than this `duration`; 0 to always ask")
}

// Values of --review.
const (
	reviewVersions = "versions"
	reviewSymbols  = "symbols"
)

// defaultMaxAge is short beside the time for which public proxies keep such answers.
const defaultMaxAge = 10 * time.Minute

// syncHeap is the heap that the garbage collector aims at during a sync, in bytes, and syncGC how
// much garbage it lets be there, in percent of the live heap. The live heap of a sync grows with
// its closure; its garbage need not.
const (
	syncHeap = 96 << 20
	syncGC   = 60
)

// syncMemory has the garbage collector keep a sync below its heap.
func syncMemory() {
	debug.SetMemoryLimit(syncHeap)
	debug.SetGCPercent(syncGC)
}

// runSync makes a bundle, or with --dry-run says what that would take.
func runSync(ctx context.Context, report *syncReport, f *syncFlags, args []string) error {
	e := report.e
	syncMemory()
	o, err := f.options(ctx, report, args)
	if err != nil {
		return err
	}
	run, err := assemble.New(ctx, o)
	if err != nil {
		return err
	}
	defer run.Close()
	report.named = namedVersions(o.Sources)
	if f.dryRun {
		if !report.policy.Empty() {
			e.say("--dry-run compares nothing with the policy")
		}
		p, err := run.Plan(ctx)
		if err != nil {
			return err
		}
		return report.plan(ctx, run, p, f)
	}
	key, err := signingKey(e, f.key, f.passphraseFile)
	if err != nil {
		return err
	}
	if err := sayLine(e, run, key); err != nil {
		return err
	}
	return run.Make(ctx, key)
}

// options checks the flags, reads the settings and sources, and returns what is to be made of them.
func (f *syncFlags) options(ctx context.Context, report *syncReport, args []string) (o assemble.Options, err error) {
	e := report.e
	if err := f.check(e); err != nil {
		return o, err
	}
	if o.Created, err = creationTime(); err != nil {
		return o, err
	}
	settings, err := goenv.Read(ctx)
	if err != nil {
		return o, err
	}
	settings.Override(f.goproxy, f.gosumdb)
	warnPatterns(e, &settings)
	if o.Sources, err = parseSources(e, settings, args); err != nil {
		return o, err
	}
	f.guard.reads(e.keyFile(), e.trustFile(), f.key, f.passphraseFile)
	if !strings.Contains(o.Sources.VulnDB, "://") {
		f.guard.reads(o.Sources.VulnDB)
	}
	o.Sources.VulnDB = cmp.Or(f.vulndb, o.Sources.VulnDB)
	if report.policy, err = readPolicy(f.policy.files, o.Sources.Policy); err != nil {
		return o, err
	}
	report.flags, report.reviews = &f.policy, f.review
	f.guard.reads(f.policy.files...)
	if o.Package, err = f.packaging.parse(); err != nil {
		return o, err
	}
	if o.Mirror, err = f.mirrorConfig(report, settings); err != nil {
		return o, err
	}
	o.Name, o.Sequence, o.Output, o.Stdout, o.Guard = f.name, f.sequence, f.output, e.stdout, &f.guard.Guard
	o.Bases, o.Full, o.Drop = f.bases, f.full, f.drop
	o.Toolchains, o.Platforms = f.toolchains, f.platforms
	o.Lock, o.KeepGoing, o.Learn = f.lock, f.keepGoing, f.learn
	o.OpenBase = func(ctx context.Context, file string) (*bundle.Bundle, error) { return openBundle(ctx, e, file) }
	o.Keys = func() ([]string, error) { return f.keys(e) }
	o.Review, o.Rehearse, o.Report = report.review, f.rehearsal(e, settings), report
	return o, nil
}

// check checks flags that need nothing but themselves.
func (f *syncFlags) check(e *env) error {
	if err := checkParallel(f.parallel); err != nil {
		return err
	}
	switch {
	case f.review != "" && f.review != reviewVersions && f.review != reviewSymbols:
		return usagef("--review=%s: want %s, or no value", f.review, reviewSymbols)
	case f.compat != "" && (!goversion.IsValid("go"+f.compat) || goversion.Compare("go"+f.compat, "go1.17") >= 0):
		return usagef("--compat %s: want a Go before 1.17, such as 1.16: later ones need nothing besides", f.compat)
	case f.dryRun && f.lock != "":
		return usagef("--lock and --dry-run do not go together")
	case f.output == "-" && term.IsTerminal(int(e.stdout.Fd())):
		return usagef("a bundle is not for a terminal: send stdout to a file or a pipe")
	}
	return nil
}

// keys returns the keys whose bundles sync may replace and rehearse: those that are trusted here,
// and that of --key.
func (f *syncFlags) keys(e *env) ([]string, error) {
	keys, err := e.trustedKeys()
	if err == nil && f.key != "" {
		if key, err := trust.PublicKey(f.key); err == nil {
			keys = append(keys, key)
		}
	}
	return keys, err
}

// rehearsal returns the function that rehearses a bundle, nil when no flag asks for that.
func (f *syncFlags) rehearsal(e *env, settings goenv.Settings) assemble.RehearseFunc {
	command := f.rehearse
	switch {
	case command == "" && f.learn:
		command = rehearse.DefaultCommand
	case command == "":
		return nil
	}
	return func(ctx context.Context, r assemble.Rehearsal) ([]string, error) {
		err := e.rehearsed(ctx, rehearse.Options{
			Bundle: r.Bundle, Bases: r.Bases, Keys: r.Keys, Command: command, Sources: r.Sources, Contents: r.Contents,
			GOSUMDB: settings.GOSUMDB, GOCACHE: settings.GOCACHE, Dir: r.Dir, Output: r.Output, Learn: f.learn,
		})
		if missed, ok := errors.AsType[*missesError](err); ok {
			return missed.Misses, err
		}
		return nil, err
	}
}

// mirrorConfig returns how the mirror directory is filled.
func (f *syncFlags) mirrorConfig(report *syncReport, settings goenv.Settings) (c mirror.Config, err error) {
	e := report.e
	up, err := upstream.New(settings.GOPROXY, settings.GOAUTH, f.parallel)
	if err != nil {
		return c, &hint.Error{Err: err, Hint: proxiesHint}
	}
	db, err := proof.ParseGOSUMDB(settings.GOSUMDB)
	if err != nil {
		return c, err
	}
	if db == nil {
		e.say("GOSUMDB is off: nothing but go.sum and your signature vouches for the modules")
	}
	executable, err := os.Executable()
	if err != nil {
		return c, err
	}
	report.upstreams = up.Proxies()
	return mirror.Config{
		Dir: f.mirror, Upstream: up, DB: db, NoSumDB: settings.GONOSUMDB, NoProxy: settings.GONOPROXY,
		ModCache: settings.GOMODCACHE, Parallel: f.parallel, MaxAge: f.maxAge, Closed: f.closed, Compat: f.compat != "",
		Cooldown: report.policy.Cooldown(), Sightings: !report.policy.Empty(),
		GoVersion: settings.GOVERSION, Executable: executable, Progress: report.progress,
		Planned: report.planned, Waiting: e.waiting("the mirror directory " + f.mirror),
	}, nil
}

// parseSources parses sources, without any the current folder, as the go command here would load
// them.
func parseSources(e *env, settings goenv.Settings, args []string) (*mirror.Job, error) {
	if len(args) == 0 {
		args = []string{"."}
	}
	modFile, leftOut := settings.ModFile()
	if len(leftOut) > 0 {
		e.sayClean("ignoring %s in GOFLAGS: the bundle serves builds with any such flags; "+
			"a rehearsal builds without them", strings.Join(leftOut, " "))
	}
	src, err := sources.Options{ModFile: modFile, GoWork: os.Getenv("GOWORK")}.Parse(args, e.stdin)
	if bad, ok := errors.AsType[*sources.Error](err); ok && bad.Hint != "" {
		return nil, &hint.Error{Err: err, Hint: bad.Hint}
	}
	if err != nil {
		return nil, err
	}
	return &mirror.Job{Sources: *src}, nil
}

// sayLine reports what is easily overlooked: a key that is not trusted here, and a bundle that
// begins a new line beside others because of its name.
func sayLine(e *env, run *assemble.Run, key *trust.Key) error {
	keyring, err := e.keyring(oneKey)
	if err != nil {
		return err
	}
	if !slices.Contains(keyring.Keys, key.Verifier) {
		e.say("the key %s+%08x is not trusted on this machine, so info and verify will refuse the bundle here",
			key.Signer.Name(), key.Signer.KeyHash())
		e.sayHint("modmirror trust add %s", key.Verifier)
	}
	if !run.NewLine() || run.Output() == "-" {
		return nil
	}
	if beside := store.LinesBeside(run.Name(), filepath.Dir(run.Output()), keyring); beside != nil {
		e.say("%s begins a new line, %s, beside %s in its folder; a store serves all lines, each forever",
			run.Output(), run.Name(), strings.Join(beside, ", "))
		e.sayHint("--base FILE continues a line; --name %s gives a full bundle its name", beside[0])
	}
	return nil
}

// creationTime returns the time in SOURCE_DATE_EPOCH, or now when that is not set
// (https://reproducible-builds.org/specs/source-date-epoch/).
func creationTime() (time.Time, error) {
	s := os.Getenv("SOURCE_DATE_EPOCH")
	if s == "" {
		return time.Now(), nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, usagef("SOURCE_DATE_EPOCH is %q: want Unix seconds", s)
	}
	return time.Unix(n, 0), nil
}

// signingKey reads the key from file or, when that is "", from its default file. If the default
// file does not exist, it makes a key and trusts it here.
func signingKey(e *env, file, passphraseFile string) (*trust.Key, error) {
	if _, err := os.Stat(e.keyFile()); file != "" || !errors.Is(err, fs.ErrNotExist) {
		return e.readKey(cmp.Or(file, e.keyFile()), passphraseFile)
	}
	key, err := trust.NewKey(e.keyFile(), "", nil)
	if err != nil {
		return nil, fmt.Errorf("making a signing key: %w", err)
	}
	keyring, err := trust.Read(e.trustFile())
	if err != nil {
		return nil, err
	}
	if _, err := keyring.Add(key.Verifier); err != nil {
		return nil, err
	}
	e.say("made a signing key, %s", e.keyFile())
	e.sayHint("inside, trust it once: modmirror trust add %s", key.Verifier)
	return key, nil
}
