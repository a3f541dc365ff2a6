// Package mirror is the connected side of modmirror: it takes sources (projects and
// modules) to a verified mirror directory.
//
// The way is: resolve queries; load the module graphs, as the go command does; that gives the
// closure, the set of versions of which the .mod, .info and perhaps .zip are wanted; fetch
// them; prove each version's record of the checksum database under one tree head; and only then
// give the files their names in the mirror directory. A file there is complete and
// verified, so a run that was killed loses what was under way and nothing else.
//
// Fetching is wide and hashing uses every core. Zips are never in memory; .mod and .info files
// of new versions are until their proof is done, some kilobytes each.
package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// DefaultParallel is how many requests are in flight at once unless told otherwise.
const DefaultParallel = 64

// readsInFlight bounds the goroutines that wait for one another's small reads.
const readsInFlight = 64

// maxMissing is how many versions may be missing: nobody reads a longer list, and one go.mod can
// name a hundred thousand that do not exist.
const maxMissing = 5_000

// waiting bounds the goroutines that wait for the network: each has a stack, and a go.mod can name
// tens of thousands of versions.
const waiting = 1000

// Config says how to sync. Its first group must be set.
type Config struct {
	Dir      string           // the mirror directory
	Upstream *upstream.Client // where modules come from

	DB       *proof.Database // checksum database; nil for GOSUMDB=off
	NoSumDB  string          // GONOSUMDB: patterns of modules outside the database
	NoProxy  string          // GONOPROXY: patterns of modules that are fetched directly, with the go command
	ModCache string          // GOMODCACHE to save downloads; "" for none
	Parallel int             // requests in flight; 0 means DefaultParallel
	Closed   bool            // closed closure for projects too
	Compat   bool            // also what go commands before 1.17 read, which prune no graphs

	Executable string // file of the modmirror that runs, for Self
	GoVersion  string // of the Go here, such as go1.26.8: a note says when a source needs a newer one

	Planned  func(build, all Size) // told what was planned, before it is downloaded: the build lists of the sources, and with their closed closures
	Waiting  func(holder string)   // told once when another process has the directory
	Progress *Progress             // updated while it runs; may be nil
}

// A Size is how much a closure is.
type Size struct {
	Versions int // module versions with their zip
	ModOnly  int // those of which only .mod and .info are wanted
}

// Progress is what a sync has done so far.
type Progress struct {
	Total, Done atomic.Int64 // module versions; Total is 0 while the graph is loaded
	Bytes       atomic.Int64 // fetched over the network
}

// A Version is a module version of a closure.
type Version struct {
	Mod         module.Version
	Time        time.Time
	Origin      string        // JSON of the .info file's Origin; "" without one
	Record      *proof.Record // proven; nil for a module outside the checksum database
	H1          string        // of the zip; "" when neither the zip nor a record is there
	GoModH1     string
	GoMod, Info File
	Zip         *File  // nil when only .mod and .info are carried
	Retracted   bool   // by the module's newest version, carried or not
	Reason      string // of the retraction
	Deprecated  string // the module's deprecation message, by the same
	Latest      string // that newest version, "" when the upstream did not say
}

// A Missing is a file of the closure that an upstream refuses.
type Missing struct {
	Mod     module.Version
	What    string   // "go.mod", "info", "zip", "record" or "list"
	Status  int      // HTTP status
	Reason  string   // what the upstream said
	Asked   string   // the whole error, with where it was asked for
	Chain   []string // the requirements that bring it in, from the source
	Allowed bool     // by a missing-ok line, or since only what a version without a go.mod imports brings it in

	Named bool   `json:"-"` // it was asked for by this name, and is not required by something else
	Near  string `json:"-"` // what was meant instead, "" when that cannot be told
}

// An UnverifiedError says that the checksum database is out of reach, so that nothing vouches for modules.
type UnverifiedError struct {
	Mods []module.Version
	Err  error
}

// Error says why it is out of reach; the caller names the modules.
func (e *UnverifiedError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *UnverifiedError) Unwrap() error { return e.Err }

// A Requirement is an edge of a module graph. From has no version when it is a project.
type Requirement struct {
	From, To module.Version
	Indirect bool
}

// A Closure is what was asked for, in the mirror directory and verified.
type Closure struct {
	Versions     []Version // by path and version
	Missing      []Missing
	Requirements []Requirement
	Queries      []Query
	DB           string           // name of the checksum database; "" for none
	Head         proof.Head       // that all records were proven under
	Heads        []proof.Head     // earlier ones that clients may remember, smallest first: Head continues them
	Notes        []string         // what is odd about it, and no reason to fail
	Vulns        []File           // the vulnerability database, when it is carried
	Selfs        []File           // modmirror and Go for hosts that have nothing yet
	Bare         []module.Version // that were asked for and have no go.mod: the latest versions of what they import are carried
	Tiles        []string         // GOPROXY paths of the tiles that a go command asks for
	Stats        Stats

	Repacked int // versions whose zips are packed in another way than in the lock, with the same h1

	Resolved map[string][]string // versions by module@query; none where there was no such thing

	newestMods map[string]*goMod // by module path: what judges its versions

	Toolchains []string // lines of a list that carry the toolchains that sources need, newer than the Go here, and that were not asked for
}

// Stats says where the time went.
type Stats struct {
	Resolve, Prove, Total time.Duration // wall time; Prove runs beside fetching
	Hash                  time.Duration // over all cores, beside fetching
	Fetched               int64         // bytes over the network
	Reused                int64         // zips taken from GOMODCACHE
}

// A Mirror is an open mirror directory with what is needed to fill it.
type Mirror struct {
	cfg Config
	dir *Dir
}

// Open locks the mirror directory.
func Open(ctx context.Context, cfg Config) (*Mirror, error) {
	if cfg.Parallel <= 0 {
		cfg.Parallel = DefaultParallel
	}
	if cfg.Progress == nil {
		cfg.Progress = new(Progress)
	}
	dir, err := OpenDir(ctx, cfg.Dir, cfg.Waiting)
	if err != nil {
		return nil, err
	}
	return &Mirror{cfg, dir}, nil
}

// Close gives the mirror directory back.
func (m *Mirror) Close() error { return m.dir.Close() }

// Path returns where in the file system the file at a GOPROXY path is.
func (m *Mirror) Path(rel string) string { return m.dir.Path(rel) }

// Sync brings the closure of the sources into the mirror directory. What an upstream refuses
// is in the result's Missing. A *DeniedError says what a deny line forbids. An error that wraps proof.ErrMismatch means that
// something was not what it should be; the file is in quarantine.
func (m *Mirror) Sync(ctx context.Context, src *Sources) (*Closure, error) {
	start := time.Now()
	all := *src
	all.List = slices.Clone(src.List)
	first := m.newRun(&all)
	defer first.fetch.discard()
	var stats Stats
	var vulns []File // in the first round
	for {
		r := &run{cfg: first.cfg, fetch: first.fetch, sums: first.sums, src: &all, out: &Closure{Vulns: vulns}, proven: make(chan struct{}), asked: make(chan struct{}), tools: make(map[int][]module.Version)}
		m.cfg.Progress.Total.Store(0)
		m.cfg.Progress.Done.Store(0)
		err := r.sync(ctx)
		if err == nil {
			err = r.checkTools()
		}
		if err != nil {
			return nil, err
		}
		vulns = r.out.Vulns
		stats.Resolve += r.out.Stats.Resolve
		stats.Prove += r.out.Stats.Prove
		more, err := r.addImports(&all)
		if err != nil {
			return nil, err
		}
		if !more {
			if err := r.selfs(ctx); err != nil {
				return nil, err
			}
			if err := m.dir.Sync(); err != nil {
				return nil, err
			}
			stats.Fetched, stats.Reused = r.fetch.bytes.Load(), r.fetch.reused.Load()
			stats.Hash, stats.Total = time.Duration(r.fetch.hashNanos.Load()), time.Since(start)
			r.out.Stats = stats
			r.out.Resolved = r.fetch.resolutions()
			r.touch()
			if src.Lock != nil {
				if err := src.Lock.check(r.out); err != nil {
					return nil, err
				}
			}
			return r.out, nil
		}
	}
}

// newRun returns a run with what all rounds of a Sync share.
func (m *Mirror) newRun(src *Sources) *run {
	first := &run{src: src, out: &Closure{}, tools: make(map[int][]module.Version), cfg: m.cfg, fetch: &fetcher{
		dir: m.dir, up: m.cfg.Upstream, modCache: m.cfg.ModCache,
		noProxy: m.cfg.NoProxy, direct: upstream.NewDirect(m.dir.Path(directDir)),
		net: make(limiter, m.cfg.Parallel), cpu: make(h1.Limiter, runtime.GOMAXPROCS(0)), zips: make(limiter, 2*runtime.GOMAXPROCS(0)),
		open: make(limiter, m.cfg.Parallel+4*runtime.GOMAXPROCS(0)),
		mods: make(map[module.Version]*staged), parsed: make(map[module.Version]*goMod), resolved: make(map[module.Version]*resolution),
		progress: &m.cfg.Progress.Bytes, lock: src.Lock,
	}}
	if m.cfg.DB != nil {
		first.sums = newChecksums(m.cfg.DB, first.fetch)
	}
	first.fetch.repacked = func(m module.Version) bool {
		return module.MatchPrefixPatterns(first.cfg.NoSumDB, m.Path) || module.MatchPrefixPatterns(first.cfg.NoProxy, m.Path)
	}
	first.fetch.record = func(ctx context.Context, m module.Version) (rec proof.Record, ok bool) {
		if !first.public(m) {
			return rec, false
		}
		rec, err := first.sums.lookup(ctx, m)
		return rec, err == nil
	}
	return first
}

// A run is one round of Sync: there is a further one when versions without a go.mod import what is not carried.
type run struct {
	cfg    Config
	src    *Sources
	out    *Closure
	fetch  *fetcher
	sums   *checksums // nil without a checksum database
	bare   []bare
	tools  map[int][]module.Version // by the number of the source: what a command was resolved to
	newest map[string]newest        // by module path, once asked is closed
	asked  chan struct{}
	proven chan struct{} // closed when every record was proven
	early  errgroup.Group
}

func (r *run) sync(ctx context.Context) error {
	start := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	r.early.SetLimit(waiting)
	defer func() { cancel(); r.early.Wait() }()
	lookupEarly := func(m module.Version) error { // asked now, needed later; the result is kept there
		r.sums.lookup(ctx, m)
		return nil
	}
	l := &loader{read: func(ctx context.Context, m module.Version) (*goMod, error) {
		mod, err := r.fetch.goMod(ctx, m)
		if err == nil && r.public(m) {
			r.early.Go(func() error { return lookupEarly(m) })
		}
		return mod, err
	}}
	plan, err := r.plan(ctx, l)
	if err != nil {
		return cmp.Or(r.disowned(ctx), err)
	}
	list := plan.sorted()
	r.cfg.Progress.Total.Store(int64(len(list)))
	r.out.Stats.Resolve = time.Since(start)

	versions := make([]Version, len(list))
	missing := make([][]Missing, len(list))
	eg, egctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return r.prove(egctx, list) })
	if r.out.Vulns == nil {
		eg.Go(func() error { return r.vulndb(egctx) })
	}
	eg.Go(func() error { return r.askNewest(egctx, list) })
	fetch, fetchctx := errgroup.WithContext(egctx)
	fetch.SetLimit(waiting)
	var gone atomic.Int64
	for i, w := range list {
		fetch.Go(func() (err error) {
			versions[i], missing[i], err = r.version(fetchctx, w)
			r.cfg.Progress.Done.Add(1)
			if n := len(missing[i]); n > 0 && gone.Add(int64(n)) > maxMissing {
				m := missing[i][0]
				return fmt.Errorf("more than %d versions cannot be had, among them %s, wanted by %s: %s", maxMissing, m.Mod, strings.Join(m.Chain, " → "), m.Asked)
			}
			return err
		})
	}
	eg.Go(fetch.Wait)
	if err := eg.Wait(); err != nil {
		return err
	}
	for i, v := range versions {
		if v.GoMod.Path != "" {
			r.out.Versions = append(r.out.Versions, v)
		}
		r.out.Missing = append(r.out.Missing, missing[i]...)
	}
	r.explainMissing(ctx)
	r.noteTrees()
	if err := r.judge(ctx); err != nil {
		return err
	}
	return r.lists()
}

// maxExplained is how many missing versions that were named are looked into.
const maxExplained = 10

// explainMissing finds out what was meant by versions that were asked for by name and that nobody
// has. What two sources lack is named once.
func (r *run) explainMissing(ctx context.Context) {
	seen := make(map[string]bool)
	r.out.Missing = slices.DeleteFunc(r.out.Missing, func(m Missing) bool {
		key := m.Mod.String() + " " + m.What
		defer func() { seen[key] = true }()
		return seen[key]
	})
	slices.Sort(r.out.Toolchains)
	r.out.Toolchains = slices.Compact(r.out.Toolchains)
	named := make(map[string]*Source)
	for i := range r.src.List {
		if s := &r.src.List[i]; s.Query.Path != "" && !s.maybe && !s.imported {
			named[s.Name] = s
		}
	}
	n := 0
	for i := range r.out.Missing {
		m := &r.out.Missing[i]
		if len(m.Chain) != 1 {
			continue
		}
		s := named[m.Chain[0]]
		if m.Named = s != nil && (s.Query == m.Mod || s.Tool != ""); !m.Named || m.Allowed || s.Tool != "" || m.What == "zip" {
			continue
		}
		if n++; n <= maxExplained {
			m.Near = r.near(ctx, m.Mod)
		}
	}
}

// near returns what is there and like m, "" when nothing is.
func (r *run) near(ctx context.Context, m module.Version) string {
	prefix, pathMajor, ok := module.SplitPathVersion(m.Path)
	if major := semver.Major(m.Version); ok && pathMajor == "" && len(major) > 1 && major != "v0" && major != "v1" {
		other := prefix + "/" + major
		if list, _, err := r.fetch.versions(ctx, other); err == nil && len(list) > 0 {
			return fmt.Sprintf("did you mean %s@%s?", other, modpath.Nearest(list, m.Version))
		}
	}
	if list, newest, err := r.fetch.versions(ctx, m.Path); err == nil {
		if releases := slices.DeleteFunc(slices.Clone(list), func(v string) bool { return semver.Prerelease(v) != "" }); len(releases) > 0 {
			list = releases
		}
		if v := "v" + m.Version; slices.Contains(list, v) {
			return fmt.Sprintf("did you mean %s@%s? Versions begin with v", m.Path, v)
		} else if semver.Canonical(v) == v {
			return fmt.Sprintf("did you mean %s@%s? Versions begin with v", m.Path, cmp.Or(modpath.Nearest(list, v), v))
		}
		switch v := modpath.Nearest(list, m.Version); {
		case v != "":
			return fmt.Sprintf("did you mean %s@%s?", m.Path, v)
		case len(list) > 0:
			return fmt.Sprintf("it has versions: %s@latest, or one of them", m.Path)
		case newest != "":
			return fmt.Sprintf("it has no tags; its newest commit is %s@%s", m.Path, newest)
		}
		return ""
	}
	for p, levels := path.Dir(m.Path), 0; modpath.CanBeModule(p) && levels < 4; p, levels = path.Dir(p), levels+1 {
		if list, newest, err := r.fetch.versions(ctx, p); err == nil && len(list)+len(newest) > 0 {
			return fmt.Sprintf("is that a package of the module %s? Name the module, or a command with a line: tool %s@%s", p, m.Path, m.Version)
		}
	}
	return ""
}

// noteTrees says which of the trees that clients remember nothing was carried for.
func (r *run) noteTrees() {
	for _, t := range r.src.Trees {
		why := ""
		switch {
		case r.out.DB == "":
			why = "no module of a checksum database is carried"
		case t.DB != r.out.DB:
			why = fmt.Sprintf("the checksum database is %s", r.out.DB)
		case t.Size > r.out.Head.N:
			why = fmt.Sprintf("the checksum database says that it has %d records; sync again later, when it has more", r.out.Head.N)
		default:
			continue
		}
		r.out.Notes = append(r.out.Notes, fmt.Sprintf("left out: %s: head %s %d: %s", t.Name, t.DB, t.Size, why))
	}
}

// disowned returns an error when a go.mod that graph loading read is not the one of the checksum database: what
// failed because of it is then the upstream's doing.
func (r *run) disowned(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // the error there is need not wait for more
	defer cancel()
	r.fetch.mu.Lock()
	defer r.fetch.mu.Unlock()
	for m, s := range r.fetch.mods {
		if ctx.Err() != nil {
			return nil
		}
		if rec, ok := r.fetch.record(ctx, m); ok && rec.GoModH1 != s.h1 {
			return r.mismatch(m, "go.mod", s, rec.GoModH1)
		}
	}
	return nil
}

// plan resolves queries and loads graphs.
func (r *run) plan(ctx context.Context, l *loader) (*plan, error) {
	p := &plan{versions: make(map[module.Version]*wanted), closed: make(map[module.Version]bool), requires: make(map[Requirement]bool), notes: slices.Clone(r.src.Notes), compat: r.cfg.Compat}
	names, imports, perhaps := make(map[module.Version]string), make(map[module.Version]string), make(map[module.Version]string)
	var todo, roots, tools, imported, maybes []module.Version
	answers := r.fetch.resolveAll(ctx, r.src.List)
	resolved := make(map[int][]module.Version)
	for i := range r.src.List {
		s := &r.src.List[i]
		if s.Mod != nil || s.Work != nil {
			add := p.addProject
			if s.Work != nil {
				add = p.addWorkspace
			}
			p.spare = s.InWork // a workspace builds without what its modules need alone
			added, err := add(ctx, l, s)
			p.spare = false
			if err != nil {
				return nil, err
			}
			if r.cfg.Closed {
				todo = append(todo, added...)
			}
			continue
		}
		mods, qs, err := answers[i].versions, answers[i].queries, answers[i].err
		if s.imported && err != nil && ctx.Err() == nil && !errors.Is(err, proof.ErrMismatch) {
			// Not every package that an old file imports is still there, and not every one is needed: it is named.
			miss := r.missing(s.Query, askedFor(err), []string{s.Name}, err)
			miss.Allowed = true
			r.out.Missing = append(r.out.Missing, miss)
			continue
		}
		if s.maybe && err != nil && ctx.Err() == nil && !errors.Is(err, proof.ErrMismatch) {
			p.notes = append(p.notes, leftOut(s, err))
			continue
		}
		if isAbsent(err) {
			r.out.Missing = append(r.out.Missing, r.missing(s.Query, askedFor(err), []string{s.Name}, err))
			continue
		}
		if err != nil {
			return nil, err
		}
		r.out.Queries = append(r.out.Queries, qs...)
		if s.Tool != "" && !s.imported {
			r.tools[i] = mods
		}
		if !s.imported && !s.maybe { // of what is imported no go command inside need be able to build all
			resolved[i] = mods
		}
		for _, m := range mods {
			if s.maybe {
				if _, err := r.fetch.goMod(ctx, m); err != nil {
					if ctx.Err() != nil || errors.Is(err, proof.ErrMismatch) {
						return nil, err
					}
					p.notes = append(p.notes, leftOut(s, err))
					continue
				}
			}
			if s.Alone {
				p.spare = s.maybe
				p.want(m, !s.noZip, func() []string { return []string{s.Name} })
				p.spare = false
				continue
			}
			if s.maybe {
				resolved[i] = append(resolved[i], m)
				if perhaps[m] == "" {
					perhaps[m] = s.Name
					maybes = append(maybes, m)
				}
				continue
			}
			if s.imported {
				if names[m] == "" && imports[m] == "" {
					imports[m] = s.Name
					imported = append(imported, m)
				}
				continue
			}
			names[m] = s.Name
			if s.Tool != "" && !r.cfg.Closed {
				tools = append(tools, m)
			} else {
				roots = append(roots, m)
			}
		}
	}
	if _, err := p.closeOver(ctx, l, tools, names, false); err != nil {
		return nil, err
	}
	lists, err := p.closeOver(ctx, l, roots, names, false)
	if err != nil {
		return nil, err
	}
	var closing Size // what closed closures add
	closed := func(roots, lists []module.Version, names map[module.Version]string) error {
		before := p.size()
		p.open(roots) // their build lists are known
		_, err := p.closeOver(ctx, l, lists, names, true)
		after := p.size()
		closing.Versions += after.Versions - before.Versions
		closing.ModOnly += after.ModOnly - before.ModOnly
		return err
	}
	if err := closed(roots, append(lists, todo...), names); err != nil {
		return nil, err
	}
	if err := r.addBare(ctx, names, false); err != nil {
		return nil, err
	}
	if err := r.addBare(ctx, imports, true); err != nil {
		return nil, err
	}
	if err := r.addBare(ctx, perhaps, true); err != nil {
		return nil, err
	}
	p.spare = true
	if lists, err = p.closeOver(ctx, l, maybes, perhaps, false); err != nil {
		return nil, err
	}
	if err := closed(maybes, lists, perhaps); err != nil {
		return nil, err
	}
	if lists, err = p.closeOver(ctx, l, imported, imports, false); err != nil {
		return nil, err
	}
	if r.cfg.Closed {
		if err := closed(imported, lists, imports); err != nil {
			return nil, err
		}
	}
	p.spare = false
	if err := r.toolchains(ctx, p, resolved); err != nil {
		return nil, err
	}
	if err := r.selfToolchains(p); err != nil {
		return nil, err
	}
	for req := range p.requires {
		if req.From.Path != "" {
			r.out.Requirements = append(r.out.Requirements, req)
		}
	}
	slices.SortFunc(r.out.Requirements, func(a, b Requirement) int {
		return cmp.Or(compareMod(a.From, b.From), compareMod(a.To, b.To), cmp.Compare(fmt.Sprint(a.Indirect), fmt.Sprint(b.Indirect)))
	})
	slices.SortFunc(r.out.Queries, func(a, b Query) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Query, b.Query))
	})
	r.out.Queries = slices.Compact(r.out.Queries)
	var denied DeniedError
	for _, w := range p.sorted() {
		if line := r.src.denied(w.mod.Path); line != "" && w.zip && (w.spare || w.spareZip) {
			delete(p.versions, w.mod)
			p.notes = append(p.notes, fmt.Sprintf("%s is not carried, since it is denied: %s", w.mod, strings.Join(w.chain, " → ")))
		} else if line != "" && w.zip {
			denied.Modules = append(denied.Modules, Denied{w.mod, line, w.chain})
		}
	}
	if denied.Modules != nil {
		return nil, &denied
	}
	for m := range r.src.MissingOK {
		if p.versions[m] == nil {
			p.notes = append(p.notes, fmt.Sprintf("nothing requires %s, so its missing-ok line changes nothing", m))
		}
	}
	slices.Sort(p.notes)
	r.out.Notes = slices.Compact(p.notes)
	if r.cfg.Planned != nil {
		all := p.size()
		r.cfg.Planned(Size{all.Versions - closing.Versions, all.ModOnly - closing.ModOnly}, all)
	}
	return p, nil
}

// askedFor returns which file a query was about that an upstream refused, as in Missing.What: a
// branch or a commit is asked for by its .info.
func askedFor(err error) string {
	if e, ok := errors.AsType[*upstream.Error](err); ok && strings.HasSuffix(e.URL, ".info") {
		return "info"
	}
	return "list"
}

// leftOut is the note about a line maybe of which nothing came.
func leftOut(s *Source, err error) string {
	return fmt.Sprintf("left out: maybe %s: %s", s.Name, strings.TrimPrefix(err.Error(), s.Name+": "))
}

// public reports whether the checksum database is to vouch for m.
func (r *run) public(m module.Version) bool {
	return r.sums != nil && !module.MatchPrefixPatterns(r.cfg.NoSumDB, m.Path) && checkName(m) == nil
}

// prove looks all versions up, proves the records and, only when all hold, closes
// r.proven. After an error the group's context ends those who wait for it.
func (r *run) prove(ctx context.Context, list []*wanted) (err error) {
	defer func() {
		if err == nil {
			close(r.proven)
		}
	}()
	if r.sums == nil {
		return nil
	}
	start := time.Now()
	eg, ctx2 := errgroup.WithContext(ctx)
	eg.SetLimit(waiting)
	var some atomic.Bool // of the versions have a record
	for _, w := range list {
		if r.public(w.mod) {
			eg.Go(func() error {
				_, err := r.sums.lookup(ctx2, w.mod)
				if err == nil {
					some.Store(true)
				}
				return notRefused(err) // version says so
			})
		}
	}
	for _, l := range r.src.Lines {
		if len(l.Records) > 0 {
			some.Store(true)
		}
	}
	if err := eg.Wait(); err != nil || !some.Load() {
		var away *upstream.SumDBError
		if errors.As(err, &away) {
			unverified := &UnverifiedError{Err: away}
			for _, w := range list {
				if r.public(w.mod) {
					unverified.Mods = append(unverified.Mods, w.mod)
				}
			}
			return unverified
		}
		return err
	}
	if err := r.early.Wait(); err != nil {
		return err
	}
	select { // so that the head has the records of newest versions, and all lookups are done
	case <-r.asked:
	case <-ctx.Done():
		return ctx.Err()
	}
	p, err := r.sums.prove(ctx, r.src, func(m module.Version) bool {
		_, in := slices.BinarySearchFunc(list, m, func(w *wanted, m module.Version) int { return compareMod(w.mod, m) })
		return in
	})
	if err != nil {
		return err
	}
	r.out.DB, r.out.Head, r.out.Heads, r.out.Tiles = r.cfg.DB.Name, p.head, p.heads, p.tiles
	r.out.Stats.Prove = time.Since(start)
	return nil
}

func (r *run) missing(m module.Version, what string, chain []string, err error) Missing {
	miss := Missing{Mod: m, What: what, Chain: chain, Reason: err.Error(), Asked: err.Error(), Allowed: r.src.MissingOK[m]}
	var e *upstream.Error
	if errors.As(err, &e) {
		miss.Status, miss.Reason = e.Status, e.Reason()
	}
	return miss
}

// version fetches, checks and commits the files of a version.
func (r *run) version(ctx context.Context, w *wanted) (v Version, miss []Missing, err error) {
	v.Mod = w.mod
	refused := func(what string, err error) {
		m := r.missing(w.mod, what, w.chain, err)
		m.Allowed = m.Allowed || w.spare || w.spareZip && what == "zip"
		miss = append(miss, m)
	}
	if _, err := r.fetch.stagedMod(ctx, w.mod); isAbsent(err) {
		refused("go.mod", err)
		return v, miss, nil
	} else if err != nil {
		return v, nil, err
	}
	var zip, inf *staged
	var i info
	eg, egctx := errgroup.WithContext(ctx)
	var infoErr, zipErr error
	eg.Go(func() error {
		inf, i, infoErr = r.fetch.info(egctx, w.mod)
		return notRefused(infoErr)
	})
	if w.zip {
		eg.Go(func() error {
			zip, zipErr = r.fetch.zip(egctx, w.mod)
			return notRefused(zipErr)
		})
	}
	err = eg.Wait()
	defer func() {
		if zip != nil && zip.temp != nil {
			zip.temp.Discard()
		}
	}()
	if err != nil {
		return v, nil, err
	}
	if infoErr != nil {
		refused("info", infoErr)
	}
	if zipErr != nil {
		refused("zip", zipErr)
	}
	if r.public(w.mod) {
		select {
		case <-r.proven:
		case <-ctx.Done(): // perhaps because the proof failed
			return v, nil, ctx.Err()
		}
		record, err := r.sums.lookup(ctx, w.mod)
		if upstream.Refused(err) {
			refused("record", err)
			return v, miss, nil
		}
		if err != nil {
			return v, nil, err
		}
		v.Record, v.H1, v.GoModH1 = &record, record.H1, record.GoModH1
	}
	mod, err := r.fetch.stagedMod(ctx, w.mod)
	if err != nil {
		return v, nil, err
	}
	if err := r.check(w.mod, module.Version{Path: w.mod.Path, Version: w.mod.Version + "/go.mod"}, "go.mod", mod, v.GoModH1); err != nil {
		return v, nil, err
	}
	if zip != nil {
		if err := r.check(w.mod, w.mod, "zip", zip, v.H1); err != nil {
			return v, nil, err
		}
		// Zips from before modules have no go.mod; the .mod file is made up for them.
		if zip.goModH1 != "" && zip.goModH1 != mod.h1 {
			return v, nil, r.fetch.reject(zip, fmt.Errorf("%s: the go.mod in the zip is not the .mod file: %w", w.mod, proof.ErrMismatch))
		}
	}
	v.GoModH1 = mod.h1
	v.GoMod = mod.File
	if err := r.fetch.commit(mod); err != nil {
		return v, nil, err
	}
	if inf != nil {
		v.Info, v.Time, v.Origin = inf.File, i.Time, string(i.Origin)
		if err := r.fetch.commit(inf); err != nil {
			return v, nil, err
		}
	}
	if zip != nil && inf != nil {
		v.Zip, v.H1 = &zip.File, zip.h1
		if err := r.fetch.commit(zip); err != nil {
			return v, nil, err
		}
	}
	return v, miss, nil
}

func notRefused(err error) error {
	if upstream.Refused(err) {
		return nil
	}
	return err
}

// check compares the hash of a file with the checksum database and the go.sum files.
func (r *run) check(m, sumKey module.Version, what string, s *staged, want string) error {
	if want != "" && s.h1 != want {
		return r.mismatch(m, what, s, want)
	}
	for _, src := range r.src.List {
		if err := src.goSum.check(sumKey, s.h1); err != nil {
			if want != "" { // the database agrees with the file, so it is the go.sum that is wrong
				return &GoSumError{err}
			}
			return r.fetch.reject(s, err)
		}
	}
	return nil
}

// mismatch puts a file in quarantine that is not what the checksum database says.
func (r *run) mismatch(m module.Version, what string, s *staged, want string) error {
	return r.fetch.reject(s, fmt.Errorf("%s: %s is %s, but checksum database %s says %s: %w", m, what, s.h1, r.cfg.DB.Name, want, proof.ErrMismatch))
}

// lists writes the list file of every module that has a zip, so that the mirror
// directory stays a proxy of its own.
func (r *run) lists() error {
	last := ""
	for _, v := range r.out.Versions {
		if v.Zip == nil || v.Mod.Path == last {
			continue
		}
		last = v.Mod.Path
		files, err := os.ReadDir(filepath.Dir(r.fetch.dir.Path(v.Zip.Path)))
		if err != nil {
			return err
		}
		var list []string
		for _, f := range files {
			name, isZip := strings.CutSuffix(f.Name(), ".zip")
			if version, err := module.UnescapeVersion(name); err == nil && isZip {
				list = append(list, version)
			}
		}
		rel := modpath.Request{Kind: modpath.List, Path: v.Mod.Path}.String()
		if err := r.fetch.dir.update(rel, modpath.ListText(list)); err != nil {
			return err
		}
	}
	return nil
}
