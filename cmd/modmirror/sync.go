package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	goversion "go/version"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/adrg/xdg"
	"github.com/spf13/pflag"
	"golang.org/x/mod/module"
	"golang.org/x/term"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// syncFlags are the flags of sync.
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
	bases, drop               []string
	full                      bool
	passphraseFile, lock      string
	named                     bool         // by --name
	release                   func() error // gives the mirror directory back
	asJSON                    bool
	result                    syncResult
	contents                  string // digest of what is written
	index                     string // SHA-256 of the index of what was written
	packaging
	outputGuard
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

Proxies, checksum database and credentials are those of "go env"; what GOPRIVATE names is
fetched directly, by the go command.

With --base the bundle is a delta: it holds what the line of the base lacks, and its index is
the catalogue of the whole line. A catalogue (modmirror extract --catalog) is base enough.

Example:
  modmirror sync -o team.tar . ../other golang.org/x/tools/gopls@latest
  modmirror sync -o team-2.tar --base team.tar . ../other
  modmirror sync -o team.tar --rehearse='go test ./...'
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVarP(&f.output, "output", "o", "", "bundle `file` to write, - for stdout (default NAME.tar)")
			fs.StringVar(&f.name, "name", "", "`name` of the bundle's line (default the output's name, or the module's)")
			fs.StringVar(&f.rehearse, "rehearse", "", "prove the bundle before it is signed: run `command` on the sources offline")
			fs.Lookup("rehearse").NoOptDefVal = defaultRehearsal
			fs.BoolVar(&f.learn, "learn", false, "rehearse, take what is missing into the bundle, and repeat until nothing is")
			fs.BoolVar(&f.closed, "closed", false, "also what a new project inside needs to start from any carried version")
			fs.StringVar(&f.compat, "compat", "", "also the go.mod files that go commands of this `version` and older read, before 1.17: many small ones")
			fs.BoolVar(&f.keepGoing, "keep-going", false, "write the bundle although something could not be had; still ends with 4")
			fs.StringSliceVar(&f.bases, "base", nil, "make a delta to this `bundle` or catalogue; one of another line is what it will be served beside")
			fs.BoolVar(&f.full, "full", false, "with --base: a full bundle of the whole line, to begin it again")
			fs.StringSliceVar(&f.drop, "drop", nil, "with --base: modules of these `patterns`, perhaps with @version, leave the line; \"unused\": all that the sources do not need")
			fs.BoolVar(&f.dryRun, "dry-run", false, "say what would be fetched and how large the bundle becomes, and write nothing")
			fs.StringSliceVar(&f.toolchains, "toolchain", nil, "also carry Go of `version` go1.26.8, or auto: what the sources' go and toolchain lines need")
			fs.StringSliceVar(&f.platforms, "platform", nil, "`os/arch` of those toolchains (default that of this machine)")
			fs.StringVar(&f.vulndb, "vulndb", "", "also carry the vulnerability database of a `URL or folder` (default "+sources.DefaultVulnDB+")")
			fs.Lookup("vulndb").NoOptDefVal = sources.DefaultVulnDB
			fs.StringVar(&f.lock, "lock", "", "`file` that says what comes out: made when it is not there, else the same bytes are made again, or it is an error")
			f.packaging.flags(fs)
			f.outputGuard.flags(fs)
			fs.StringVar(&f.key, "key", "", "signing key `file`, or ssh-agent:COMMENT (default key in the config folder, made when it is not there)")
			fs.StringVar(&f.passphraseFile, "passphrase-file", "", "`file` with the passphrase of the key, - for stdin (default it is asked for)")
			fs.StringVar(&f.mirror, "mirror", filepath.Join(xdg.CacheHome, "modmirror"), "mirror directory: a `folder` kept between runs")
			fs.Int64Var(&f.sequence, "sequence", 0, "sequence `number` (default the time of creation in Unix seconds)")
			fs.StringVar(&f.goproxy, "goproxy", "", "`list` of proxies instead of go env GOPROXY")
			fs.StringVar(&f.gosumdb, "gosumdb", "", "checksum `database` instead of go env GOSUMDB")
			fs.BoolVar(&f.asJSON, "json", false, "print what was done, or with --dry-run what would be, as JSON")
			fs.IntVar(&f.parallel, "parallel", mirror.DefaultParallel, "requests in flight")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if f.asJSON && f.output == "-" {
				return usagef("--json and the bundle cannot both go to stdout")
			}
			err := runSync(ctx, e, f, args)
			if !f.asJSON || f.dryRun || err != nil && !errors.Is(err, errIncomplete) {
				return err
			}
			return cmp.Or(writeJSON(e.stdout, f.result), err)
		},
	}
}

// syncHeap is the heap that the garbage collector aims at during a sync, in bytes. What a sync
// holds grows with its closure; what it throws away need not.
const syncHeap = 128 << 20

func runSync(ctx context.Context, e *env, f *syncFlags, args []string) error {
	debug.SetMemoryLimit(syncHeap)
	if len(args) == 0 {
		args = []string{"."}
	}
	if f.learn && f.rehearse == "" {
		f.rehearse = defaultRehearsal
	}
	if f.parallel < 1 {
		return usagef("--parallel %d: want 1 or more", f.parallel)
	}
	if f.compat != "" && (!goversion.IsValid("go"+f.compat) || goversion.Compare("go"+f.compat, "go1.17") >= 0) {
		return usagef("--compat %s: want a Go before 1.17, such as 1.16: later ones need nothing besides", f.compat)
	}
	created, err := creationTime()
	if err != nil {
		return err
	}
	settings, err := readGoEnv(ctx)
	if err != nil {
		return err
	}
	settings.override(f.goproxy, f.gosumdb)
	settings.warnPatterns(e)
	src, err := parseSources(e, settings, args)
	if err != nil {
		return err
	}
	if len(f.bases) == 0 && (f.full || f.drop != nil) {
		return usagef("--full and --drop are about the line of a --base")
	}
	if err := f.checkDrop(); err != nil {
		return err
	}
	if err := f.packaging.parse(); err != nil {
		return err
	}
	if f.dryRun && f.lock != "" {
		return usagef("--lock and --dry-run do not go together")
	}
	lock, err := readLock(f.lock)
	if err != nil {
		return err
	}
	if lock != nil {
		if err := f.useLock(lock); err != nil {
			return err
		}
		src.Lock, created = lock, lock.Created
	}
	bs, err := openBases(ctx, e, f.bases, f.name)
	if err != nil {
		return err
	}
	defer bs.close()
	if err := f.defaults(src, bs, created); err != nil {
		return err
	}
	if f.rehearse != "" && !f.full {
		if err := bs.rehearsable(); err != nil {
			return err
		}
	}
	if f.full {
		if err := bs.wholeSources(ctx, src, f); err != nil {
			return err
		}
	}
	if f.output == "-" && term.IsTerminal(int(e.stdout.Fd())) {
		return usagef("a bundle is not for a terminal: send stdout to a file or a pipe")
	}
	var key *trust.Key
	if err := f.checkOutput(e, src); err != nil {
		return err
	}
	if !f.dryRun {
		if key, err = signingKey(e, f.key, f.passphraseFile); err != nil {
			return err
		}
		if err := f.sayLine(e, bs, key); err != nil {
			return err
		}
	}
	if f.vulndb != "" {
		src.VulnDB = f.vulndb
	}
	if err := addToolchains(src, f); err != nil {
		return err
	}
	m, err := openMirror(ctx, e, f, settings)
	if err != nil {
		return err
	}
	defer m.release()
	f.release = m.release
	asked := *src // and not what is added: a rehearsal is of what was named
	if err := bs.addLines(ctx, src, f); err != nil {
		return err
	}
	tidied, err := addTidied(ctx, e, src, f.rehearse != "")
	if err != nil {
		return err
	}
	if lock != nil {
		src.Learn(lock.Learned)
	}
	if err := bs.checkLock(lock); err != nil {
		return err
	}
	var learnedAll []string
	if f.dryRun {
		return m.dryRun(ctx, e, src, bs, f)
	}
	for round := 1; ; round++ {
		if err := m.ensure(ctx); err != nil { // a rehearsal gave it back
			return err
		}
		c, err := makeBundle(ctx, e, f, settings, m, src, &asked, bs, created, key)
		if c != nil && f.lock != "" && lock == nil {
			if lockErr := f.writeLock(e, c, bs, created, tidied, learnedAll); lockErr != nil {
				return lockErr
			}
		}
		missed, ok := errors.AsType[*missesError](err)
		if !ok || !f.learn {
			return err
		}
		learned := src.Learn(missed.misses)
		learnedAll = append(learnedAll, missed.misses...)
		if len(learned) == 0 || round == maxRounds {
			for _, m := range missed.misses {
				e.complain("asked for and not in the bundle: %s", m)
			}
			return &hintError{err, "without --learn, the rehearsal's output says what asked for it"}
		}
		for _, name := range learned {
			e.say("learned %s", name)
		}
	}
}

// maxRounds is how often a rehearsal that learns is repeated.
const maxRounds = 50

// makeBundle syncs the sources and writes the bundle, of which it returns the closure. A rehearsal is of what was asked for.
func makeBundle(ctx context.Context, e *env, f *syncFlags, settings goEnv, m *openedMirror, src, asked *mirror.Job, bs *bases, created time.Time, key *trust.Key) (*mirror.Closure, error) {
	closure, err := m.sync(ctx, e, src)
	if err != nil {
		return nil, err
	}
	all := closure.Missing
	if !f.full {
		if closure.Missing, err = bs.have(ctx, e, all); err != nil {
			return nil, err
		}
	}
	missing := e.reportMissing(closure.Missing)
	f.result.closure(closure)
	if missing > 0 && !f.keepGoing {
		e.complain("sync: %s could not be had, so no bundle was written", number(missing, "file"))
		e.hintMissing(closure.Missing, closure.Toolchains)
		return nil, errIncomplete
	}
	contents, err := bundleContents(closure, m.Path)
	if err != nil {
		return nil, err
	}
	contents.Name, contents.Sequence, contents.Created = f.name, f.sequence, created
	if f.full {
		contents.Whole = bs.own
	} else {
		contents.Base = bs.own
	}
	if f.drop != nil {
		contents.DropUnused = slices.Contains(f.drop, dropUnused)
		contents.Drop = func(path, version string) bool {
			return !bs.kept[module.Version{Path: path, Version: version}] && f.dropped(path, version)
		}
	}
	closure.Missing = all // for a lock
	contents.Retracted = func(path, version string) (*string, bool) {
		reason, is, known := closure.Retraction(path, version)
		if !is {
			return nil, known
		}
		return &reason, known
	}
	lock := src.Lock
	if f.contents, err = contents.Digest(); err != nil {
		return nil, err
	}
	if closure.Repacked > 0 {
		switch lock.Contents {
		case f.contents:
		case "":
			return nil, otherLock(&mirror.LockError{Reason: "it was made by an older modmirror, whose zips of private modules were packed in another way"})
		default:
			return nil, otherLock(errNotOfLock)
		}
		e.say("%s packed in another way than when the lock was made, with the same h1: the bundle has the same contents and other bytes", number(closure.Repacked, "zip"))
		lock = nil
	}
	if err := writeBundle(ctx, e, f, settings, asked, lock, contents, key); err != nil {
		if changed, ok := errors.AsType[*bundle.ChangedError](err); ok {
			// What is in the way of the next run is taken out of it.
			os.Remove(changed.File)
			return nil, &hintError{fmt.Errorf("%w: %w", err, proof.ErrMismatch), "the file was removed from the mirror directory: run sync again"}
		}
		return nil, err
	}
	if missing > 0 {
		return closure, errIncomplete
	}
	return closure, nil
}

// parseSources parses sources as the go command here would load them.
func parseSources(e *env, settings goEnv, args []string) (*mirror.Job, error) {
	modFile, leftOut := settings.modFile()
	if len(leftOut) > 0 {
		e.say("GOFLAGS has %s: left out, since what is carried serves builds with any such flags; a rehearsal builds without them", oneLine(errors.New(strings.Join(leftOut, " "))))
	}
	src, err := sources.Options{ModFile: modFile, GoWork: os.Getenv("GOWORK")}.Parse(args, e.stdin)
	if bad, ok := errors.AsType[*sources.Error](err); ok && bad.Hint != "" {
		return nil, &hintError{err, bad.Hint}
	}
	return src, err
}

// addToolchains adds the toolchains that flags name.
func addToolchains(src *mirror.Job, f *syncFlags) error {
	for _, p := range f.platforms {
		if err := modpath.CheckPlatform(p); err != nil {
			return usagef("--platform: %v", err)
		}
	}
	if len(f.platforms) > 0 && len(f.toolchains) == 0 && !src.AutoToolchain {
		return usagef("--platform says for which platforms --toolchain is: want both, or neither: modules serve all platforms")
	}
	src.Platforms = append(src.Platforms, f.platforms...)
	for _, t := range f.toolchains {
		if t == "auto" {
			src.AutoToolchain = true
		} else if err := src.AddToolchain("--toolchain "+t, t, f.platforms); err != nil {
			return usagef("%v", err)
		}
	}
	return nil
}

// defaults fills in output and name from each other and the sources.
func (f *syncFlags) defaults(src *mirror.Job, bs *bases, created time.Time) (err error) {
	if f.sequence < 0 {
		return usagef("--sequence must be positive")
	}
	if f.sequence == 0 {
		if f.sequence, err = bs.sequence(created.Unix()); err != nil {
			return err
		}
	}
	if bs.own != nil {
		if f.sequence <= bs.own.Manifest.Sequence {
			return usagef("--sequence %d: that of the base is %d", f.sequence, bs.own.Manifest.Sequence)
		}
		f.name = bs.own.Manifest.Name
		if f.output == "" {
			f.output = fmt.Sprintf("%s-%d.tar", f.name, f.sequence) + f.ext()
		}
		return nil
	}
	f.named = f.name != ""
	if len(src.List)+len(src.Bootstraps) == 0 && src.VulnDB == "" && f.vulndb == "" {
		return errors.New("nothing to do: the sources name no module, and lines head need a --base")
	}
	if f.name == "" {
		switch base := filepath.Base(f.output); {
		case f.output != "" && f.output != "-" && strings.TrimSuffix(strings.TrimSuffix(base, f.ext()), ".tar") != "":
			f.name = strings.TrimSuffix(strings.TrimSuffix(base, f.ext()), ".tar")
		case len(src.List) == 0 && len(src.Bootstraps) > 0:
			f.name = "self"
		case len(src.List) == 0 && (src.VulnDB != "" || f.vulndb != ""):
			f.name = "vulndb"
		case len(src.List) == 0:
			f.name = "bundle"
		case src.List[0].Mod != nil:
			prefix, _, _ := module.SplitPathVersion(src.List[0].Mod.Module.Mod.Path)
			f.name = path.Base(prefix)
		case src.List[0].Work != nil:
			dir, err := filepath.Abs(src.List[0].Dir)
			if err != nil {
				return err
			}
			f.name = filepath.Base(dir)
		default:
			f.name = "bundle"
		}
	}
	if err := bundle.CheckName(f.name); err != nil {
		return usagef("%v (set one with --name)", err)
	}
	if f.output == "" {
		f.output = f.name + ".tar" + f.ext()
	}
	return nil
}

// checkOutput checks that the bundle can be written, and the lock, without harm to anything that
// sync reads or did not make.
func (f *syncFlags) checkOutput(e *env, src *mirror.Job) error {
	f.reads(src.Files...)
	f.reads(e.keyFile(), e.trustFile(), f.key, f.passphraseFile)
	if !strings.Contains(src.VulnDB, "://") {
		f.reads(src.VulnDB)
	}
	if !strings.Contains(f.vulndb, "://") {
		f.reads(f.vulndb)
	}
	for _, s := range src.Bootstraps {
		f.reads(s.File)
	}
	for _, b := range f.bases {
		f.reads(append(media.Pieces(b), b)...)
	}
	if f.lock != "" {
		if same, err := samePath(f.lock, f.output); err != nil {
			return err
		} else if same {
			return usagef("%s cannot be the lock and the bundle", f.lock)
		}
		if src.Lock == nil { // else it was read, and is not written
			if err := f.check(f.lock, nil); err != nil {
				return err
			}
		}
		f.reads(f.lock)
	}
	if f.piece > 0 {
		return checkPieces(f.output)
	}
	if len(f.recipients) > 0 { // which line it is of cannot be told
		return cmp.Or(f.check(f.output, nil), checkNoSignatures(f.output))
	}
	var keys []string
	if key, err := trust.PublicKey(f.key); f.key != "" && err == nil {
		keys = []string{key}
	}
	return e.checkBundleOutput(&f.outputGuard, f.output, f.name, keys...)
}

// sayLine says what is easily overlooked: a key that is not trusted here, and a bundle that begins
// a new line beside others because of its name.
func (f *syncFlags) sayLine(e *env, bs *bases, key *trust.Key) error {
	keyring, err := e.keyring(1)
	if err != nil {
		return err
	}
	if !slices.Contains(keyring.Keys, key.Verifier) {
		e.say("the key %s+%08x is not trusted on this machine, so info and verify will refuse the bundle here", key.Signer.Name(), key.Signer.KeyHash())
		e.sayHint("modmirror trust add %s", key.Verifier)
	}
	if bs.own != nil || f.named || f.output == "-" {
		return nil
	}
	if beside := bundle.LinesBeside(f.name, filepath.Dir(f.output), keyring); beside != nil {
		e.say("%s begins a new line, %s, beside %s in its folder; a store serves all lines, each for ever", f.output, f.name, strings.Join(beside, ", "))
		e.sayHint("--base FILE continues a line; --name %s gives a full bundle its name", beside[0])
	}
	return nil
}

// samePath reports whether two names are of one file that may not be there yet.
func samePath(a, b string) (bool, error) {
	x, err1 := filepath.Abs(a)
	y, err2 := filepath.Abs(b)
	return x == y, errors.Join(err1, err2)
}

// ext returns what the name of an encrypted bundle ends in.
func (f *syncFlags) ext() string {
	if len(f.recipients) > 0 {
		return ageExt
	}
	return ""
}

// creationTime is now, or what SOURCE_DATE_EPOCH says (https://reproducible-builds.org/specs/source-date-epoch/).
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

// signingKey reads the key, making one and trusting it here when there is none yet.
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

// openedMirror is a mirror directory with its progress.
type openedMirror struct {
	*mirror.Mirror // nil after release
	config         mirror.Config
	progress       *mirror.Progress
}

// ensure opens the directory again after release.
func (m *openedMirror) ensure(ctx context.Context) (err error) {
	if m.Mirror == nil {
		m.Mirror, err = mirror.Open(ctx, m.config)
	}
	return err
}

// release gives the directory back to other processes.
func (m *openedMirror) release() error {
	if m.Mirror == nil {
		return nil
	}
	err := m.Mirror.Close()
	m.Mirror = nil
	return err
}

func openMirror(ctx context.Context, e *env, f *syncFlags, settings goEnv) (*openedMirror, error) {
	up, err := upstream.New(settings.GOPROXY, settings.GOAUTH, f.parallel)
	if err != nil {
		return nil, &hintError{err, "modmirror asks the proxies of go env GOPROXY, or of --goproxy"}
	}
	db, err := proof.ParseGOSUMDB(settings.GOSUMDB)
	if err != nil {
		return nil, err
	}
	if db == nil {
		e.say("GOSUMDB is off: nothing but go.sum and your signature vouches for the modules")
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	m := &openedMirror{progress: new(mirror.Progress)}
	m.config = mirror.Config{
		Dir: f.mirror, Upstream: up, DB: db, NoSumDB: settings.GONOSUMDB, NoProxy: settings.GONOPROXY,
		ModCache: settings.GOMODCACHE, Parallel: f.parallel, Closed: f.closed, Compat: f.compat != "", Progress: m.progress,
		GoVersion: settings.GOVERSION, Executable: executable,
		Planned: func(build, all modgraph.Size) {
			if build == all {
				e.say("to be carried: %s", sizeText(all))
			} else {
				e.say("to be carried: %s; the build lists alone, from which not every version can start a project, would be %s", sizeText(all), sizeText(build))
			}
		},
		Waiting: e.waiting("the mirror directory " + f.mirror),
	}
	return m, m.ensure(ctx)
}

// perVersion is about how many bytes a version takes in a bundle besides its zip: .mod, .info, lookup and tiles, their tar headers and rows.
const perVersion = 14 << 10

// dryRun says what sync would do, and ends as it would.
func (m *openedMirror) dryRun(ctx context.Context, e *env, src *mirror.Job, bs *bases, f *syncFlags) error {
	carried := func(module.Version) (bool, error) { return false, nil }
	if bs.own != nil && !f.full {
		carried = func(m module.Version) (bool, error) {
			v, ok, err := bs.own.Index.Lookup(ctx, m.Path, m.Version)
			return ok && v.ZipSize != nil, err
		}
	}
	p, err := m.Plan(ctx, src, carried)
	if err != nil {
		return m.failed(ctx, e, err)
	}
	e.sayNotes(p.Notes)
	if f.asJSON {
		return m.dryRunJSON(e, p, f)
	}
	if p.Carried > 0 {
		fmt.Fprintf(e.stdout, "in the line already: %s\n", number(p.Carried, "zip"))
	}
	fmt.Fprintf(e.stdout, "zips: %d, %s; to be fetched: %d, %s\n", p.Versions, bytesText(p.Bytes), p.Fetch, bytesText(p.ToFetch))
	if p.Unknown > 0 {
		fmt.Fprintf(e.stdout, "not in that: %s of a size that the upstream does not say\n", number(p.Unknown, "zip"))
	}
	if !f.full {
		if p.Missing, err = bs.have(ctx, e, p.Missing); err != nil {
			return err
		}
	}
	missing := e.reportMissing(p.Missing)
	if missing == 0 || f.keepGoing {
		fmt.Fprintf(e.stdout, "the bundle will have about %s\n", bytesText(p.Bytes+perVersion*int64(p.Versions+p.ModOnly)))
	}
	if missing > 0 {
		if !f.keepGoing {
			e.complain("sync: %s cannot be had, so no bundle would be written", number(missing, "file"))
			e.hintMissing(p.Missing, p.Toolchains)
		}
		return errIncomplete
	}
	return nil
}

// dryRunJSON is dryRun for programs.
func (m *openedMirror) dryRunJSON(e *env, p *mirror.Plan, f *syncFlags) error {
	f.result.missing(p.Missing)
	err := writeJSON(e.stdout, struct {
		Zips    int           `json:"zips"`
		ModOnly int           `json:"modOnly"`
		Bytes   int64         `json:"bytes"` // of the zips
		Fetch   int           `json:"fetch"`
		ToFetch int64         `json:"toFetch"` // bytes
		Unknown int           `json:"unknown"` // zips whose size the upstream does not say
		Carried int           `json:"carried"` // zips that the line has
		Missing []syncMissing `json:"missing"`
		Notes   []string      `json:"notes"`
	}{p.Versions, p.ModOnly, p.Bytes, p.Fetch, p.ToFetch, p.Unknown, p.Carried, f.result.Missing, append([]string{}, p.Notes...)})
	if err == nil && slices.ContainsFunc(p.Missing, func(m mirror.Missing) bool { return !m.Allowed }) {
		return errIncomplete
	}
	return err
}

// syncResult is what sync prints with --json.
type syncResult struct {
	Output   string        `json:"output,omitempty"` // no bundle was written without it
	Name     string        `json:"name,omitempty"`
	Sequence int64         `json:"sequence,omitempty"`
	ID       string        `json:"id,omitempty"`
	Size     int64         `json:"size,omitempty"` // bytes
	Versions int           `json:"versions"`       // with their zip
	ModOnly  int           `json:"modOnly"`
	Fetched  int64         `json:"fetched"` // bytes
	Missing  []syncMissing `json:"missing"`
	Notes    []string      `json:"notes"`
}

// syncMissing is what could not be had.
type syncMissing struct {
	Path    string   `json:"path"`
	Version string   `json:"version"`
	What    string   `json:"what"` // go.mod, info, zip, record or list
	Reason  string   `json:"reason"`
	Chain   []string `json:"chain"`
	Allowed bool     `json:"allowed"`
	Hint    string   `json:"hint,omitempty"`
}

func (r *syncResult) missing(list []mirror.Missing) {
	r.Missing = []syncMissing{}
	for _, m := range list {
		r.Missing = append(r.Missing, syncMissing{m.Mod.Path, m.Mod.Version, m.What, m.Asked, m.Chain, m.Allowed, m.Near})
	}
}

func (r *syncResult) closure(c *mirror.Closure) {
	r.missing(c.Missing)
	r.Notes, r.Fetched = append([]string{}, c.Notes...), c.Stats.Fetched
	r.Versions, r.ModOnly = 0, 0
	for _, v := range c.Versions {
		if v.Zip != nil {
			r.Versions++
		} else {
			r.ModOnly++
		}
	}
}

// sayNotes says what is odd about a closure, and no reason to fail.
func (e *env) sayNotes(notes []string) {
	for _, note := range notes {
		e.say("%s", oneLine(errors.New(note)))
	}
}

func sizeText(s modgraph.Size) string {
	return fmt.Sprintf("%s and %d go.mod", number(s.Versions, "module version"), s.ModOnly)
}

// sync runs the mirror's Sync under a progress bar and says what it cost.
func (m *openedMirror) sync(ctx context.Context, e *env, src *mirror.Job) (*mirror.Closure, error) {
	stop := e.showProgress(m.progress)
	c, err := m.Sync(ctx, src)
	stop()
	if err != nil {
		return nil, m.failed(ctx, e, err)
	}
	zips := 0
	for _, v := range c.Versions {
		if v.Zip != nil {
			zips++
		}
	}
	for _, m := range c.NoGoMod {
		e.say("%s has no go.mod: carried is the latest version of what it imports, as go commands choose it (a line \"only %[1]s\" carries it alone)", m)
	}
	e.sayNotes(c.Notes)
	if len(c.Versions) == 0 {
		return c, nil
	}
	s := c.Stats
	e.say("%s and the go.mod of %d more in %.1f s (graph %.1f s, then proofs %.1f s beside hashing %.1f s of CPU); %s fetched, %s from GOMODCACHE",
		number(zips, "module version"), len(c.Versions)-zips, s.Total.Seconds(), s.Resolve.Seconds(), s.Prove.Seconds(), s.Hash.Seconds(), bytesText(s.Fetched), number(s.Reused, "zip"))
	return c, nil
}

// failed explains why a sync failed.
func (m *openedMirror) failed(ctx context.Context, e *env, err error) error {
	if _, ok := errors.AsType[*mirror.LockError](err); ok {
		return otherLock(err)
	}
	if denied, ok := errors.AsType[*mirror.DeniedError](err); ok {
		for _, d := range denied.Modules {
			e.complain("sync: %s is denied by the line \"deny %s\"", d.Mod, d.Line)
			e.complain("  wanted by %s", oneLine(errors.New(strings.Join(d.Chain, " → "))))
		}
		return errDenied
	}
	if unverified, ok := errors.AsType[*mirror.UnverifiedError](err); ok {
		const some = 20
		for _, m := range unverified.Mods[:min(some, len(unverified.Mods))] {
			e.complain("unverified: %s", m)
		}
		if n := len(unverified.Mods) - some; n > 0 {
			e.complain("unverified: %d more", n)
		}
		return &hintError{err, upstream.SumDBHint + "; GONOSUMDB names modules that nothing but go.sum and your signature vouches for"}
	}
	if errors.Is(err, upstream.ErrOff) || errors.Is(err, upstream.ErrDirect) {
		return &hintError{err, "modmirror asks the proxies of go env GOPROXY, or of --goproxy"}
	}
	if up, ok := errors.AsType[*upstream.Error](err); ok && ctx.Err() == nil {
		return upstreamHint(up, err)
	}
	if _, ok := errors.AsType[*mirror.GoSumError](err); ok {
		return &hintError{err, "the checksum database agrees with what was fetched: go.sum is wrong, or the module was tagged again after it was written"}
	}
	return err
}

// upstreamHint adds to err, for which an upstream's failure is the reason, a next step.
func upstreamHint(up *upstream.Error, err error) error {
	module, version := strings.TrimPrefix(up.URL, "direct:"), ""
	if r, err := modpath.Parse(module); err == nil {
		module, version = r.Path, cmp.Or(r.Version, "latest")
	}
	if none, ok := errors.AsType[*upstream.NoVCSError](err); ok {
		return &hintError{err, "install " + none.Name}
	}
	switch layer, advice := upstream.Diagnose(err); {
	case strings.HasPrefix(up.URL, "direct:"):
		return &hintError{err, fmt.Sprintf(`GOPRIVATE or GONOPROXY has it fetched directly: does "go mod download %s@%s" work here with GOPROXY=direct?`, module, version)}
	case up.Status == 0 || layer == upstream.LayerCredentials:
		return &hintError{err, advice + " (modmirror doctor tells more)"}
	}
	return err
}

// reportMissing names what could not be had and returns how much of it is not accepted.
func (e *env) reportMissing(list []mirror.Missing) (n int) {
	for _, m := range list {
		if !m.Allowed {
			n++
		}
		what := "cannot have"
		if m.Allowed {
			what = "goes without"
		}
		e.complain("%s the %s of %s: %s", what, m.What, m.Mod, oneLine(errors.New(m.Asked)))
		e.complain("  wanted by %s", oneLine(errors.New(strings.Join(m.Chain, " → "))))
		if m.Near != "" {
			e.hint("%s", oneLine(errors.New(m.Near)))
		}
	}
	if slices.ContainsFunc(list, func(m mirror.Missing) bool { return strings.Contains(m.Asked, "GET direct:") }) {
		e.hint("GOPRIVATE or GONOPROXY has it fetched directly: does \"go mod download MODULE@VERSION\" work here with GOPROXY=direct?")
	}
	return n
}

// hintMissing says what to do about what could not be had and is not accepted. What was asked for
// by name is to be asked for by another one.
func (e *env) hintMissing(list []mirror.Missing, toolchains []string) {
	for _, line := range toolchains {
		e.hint("--toolchain auto carries it, for clients inside with an older Go; or a line in a list: %s", line)
	}
	required := func(m mirror.Missing) bool { return !m.Allowed && !m.Named && m.Mod.Path != modpath.Toolchain }
	if slices.ContainsFunc(list, required) {
		e.hint("--keep-going writes it without them; a list line \"missing-ok module@version\" accepts one")
	}
}

// errNotOfLock is the error of a bundle that differs from its lock in something that no version
// shows.
var errNotOfLock = &mirror.LockError{Reason: "all versions are those of the lock, and the bundle is another one: flags, GONOSUMDB or the modmirror differ from when it was made"}

// writeBundle writes the bundle: into a temporary file, rehearsed, signed, renamed.
func writeBundle(ctx context.Context, e *env, f *syncFlags, settings goEnv, src *mirror.Job, lock *mirror.Lock, c *bundle.Contents, key *trust.Key) error {
	tmp, err := os.MkdirTemp("", "modmirror-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	draft, err := bundle.NewDraft(ctx, c, tmp)
	if need, ok := errors.AsType[*bundle.NeedError](err); ok {
		return &hintError{err, fmt.Sprintf("add a line to the list: only %s@%s", need.Module, need.Query)}
	}
	if err != nil {
		return err
	}
	f.index = hex.EncodeToString(draft.Manifest.Index[:])
	if lock != nil && lock.Index != f.index {
		return otherLock(errNotOfLock)
	}
	f.sayDropped(e, c)
	wrote := func(name string) {
		m := draft.Manifest
		f.result.Output, f.result.Name, f.result.Sequence, f.result.ID, f.result.Size = name, m.Name, m.Sequence, m.ID(), m.Size
		e.say("wrote %s: %s of %s, signed by %s+%08x, sequence %d, id %.16s", name, bytesText(m.Size), m.Name, key.Signer.Name(), key.Signer.KeyHash(), m.Sequence, m.ID())
	}
	if (f.output == "-" || !f.plain()) && f.rehearse == "" {
		s, err := f.packaging.open(f.output, e.stdout)
		if err != nil {
			return err
		}
		defer s.discard()
		if err := draft.Write(ctx, s, key); err != nil {
			return fmt.Errorf("writing %s: %w", s.name, err)
		}
		name, err := s.commit()
		if err == nil {
			wrote(name)
		}
		return err
	}
	name := f.output
	if name == "-" {
		name = filepath.Join(tmp, "bundle.tar")
	}
	out, err := safefile.Create(name, 0o666)
	if err != nil {
		return err
	}
	defer out.Discard()
	first := key
	if f.rehearse != "" { // the real signature comes when it has passed
		if first, err = trust.EphemeralKey("rehearsal"); err != nil {
			return err
		}
	}
	if err := draft.Write(ctx, out, first); err != nil {
		return fmt.Errorf("writing %s: %w", f.output, err)
	}
	if f.rehearse != "" {
		if err := f.release(); err != nil { // all of it is in the bundle; others may use the directory meanwhile
			return err
		}
		r := &rehearsal{bundle: out.Name(), key: first.Verifier, command: f.rehearse, sources: src, closure: c, settings: settings, tmp: tmp, learn: f.learn}
		if r.output, err = filepath.Abs(f.output); err != nil {
			return err
		}
		if c.Base != nil {
			keyring, err := e.keyring(1)
			if err != nil {
				return err
			}
			r.bases, r.trusted = f.bases, keyring.Keys
		}
		if err := r.run(ctx, e); err != nil {
			return err
		}
		if err := bundle.Resign(out, draft.Manifest, key); err != nil {
			return err
		}
	}
	if f.output != "-" && f.plain() {
		if err := out.Commit(); err != nil {
			return err
		}
		wrote(f.output)
		return nil
	}
	s, err := f.packaging.open(f.output, e.stdout)
	if err != nil {
		return err
	}
	defer s.discard()
	if _, err := out.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := e.copy(ctx, s, out, draft.Manifest.Size, "writing"); err != nil {
		return fmt.Errorf("writing %s: %w", s.name, err)
	}
	name, err = s.commit()
	if err == nil {
		wrote(name)
	}
	return err
}
