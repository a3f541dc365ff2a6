package mirror

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/modgraph"
	"github.com/modmirror/modmirror/mirror/sources"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// A Job is what Sync does: the sources to carry, and what binds the result.
type Job struct {
	sources.Sources
	Lines []Line // lines of bundles that the result joins
	Lock  *Lock  // the result must match it; nil for no lock
}

// A Line is the part of a line of bundles that concerns the checksum database. A sync proves its
// records again, under the new head, and proves that the new head continues the line's heads.
type Line struct {
	Own     bool // the result continues this line; other lines are only served beside it
	Heads   []proof.Head
	Records []proof.Record
	Has     func(path string) (bool, error) // reports whether the line carries a file
}

// Sync brings the closure of the job's sources into the mirror directory. It does not change job.
//
// Files that an upstream refuses are in the result's Missing. A *DeniedError lists versions that a
// deny line forbids, a *LockError says what differs from job.Lock, and an *UnverifiedError says
// that the checksum database is out of reach. An error that wraps proof.ErrMismatch means that a
// file or an answer does not verify; a file is then in quarantine.
func (m *Mirror) Sync(ctx context.Context, job *Job) (*Closure, error) {
	start := time.Now()
	all := *job
	all.List = slices.Clone(job.List)
	first := m.newRun(&all)
	defer first.fetch.discard()
	var stats Stats
	var vulns []File // of the first round
	for {
		r := &run{
			cfg: first.cfg, fetch: first.fetch, sums: first.sums, job: &all, out: &Closure{Vulns: vulns},
			proven: make(chan struct{}), asked: make(chan struct{}), tools: make(map[int][]module.Version),
		}
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
		more, err := r.addImports(&all.Sources)
		if err != nil {
			return nil, err
		}
		if !more {
			return r.finish(ctx, stats, start)
		}
	}
}

// finish completes the last round of a sync that began at start: bootstraps, names on disk,
// statistics, and the lock.
func (r *run) finish(ctx context.Context, stats Stats, start time.Time) (*Closure, error) {
	if err := r.bootstraps(ctx); err != nil {
		return nil, err
	}
	if err := r.fetch.recent.write(r.fetch.dir); err != nil {
		return nil, err
	}
	if err := r.fetch.dir.Sync(); err != nil {
		return nil, err
	}
	stats.Fetched, stats.Reused = r.fetch.bytes.Load(), r.fetch.reused.Load()
	stats.Hash, stats.Total = time.Duration(r.fetch.hashNanos.Load()), time.Since(start)
	r.out.Stats = stats
	r.out.Resolved = r.fetch.resolutions()
	r.touch()
	if r.job.Lock != nil {
		if err := r.job.Lock.check(r.out); err != nil {
			return nil, err
		}
	}
	return r.out, nil
}

// newRun returns a run with the parts that all rounds of a Sync share.
func (m *Mirror) newRun(job *Job) *run {
	cores := runtime.GOMAXPROCS(0)
	fetch := &fetcher{
		dir:      m.dir,
		up:       m.cfg.Upstream,
		modCache: m.cfg.ModCache,
		noProxy:  m.cfg.NoProxy,
		direct:   upstream.NewDirect(m.dir.Path(directDir)),
		net:      newLimiter(m.cfg.Parallel),
		cpu:      make(h1.Limiter, cores),
		zips:     newLimiter(2 * cores),
		open:     newLimiter(m.cfg.Parallel + 4*cores),
		progress: &m.cfg.Progress.Bytes,
		recent:   readRecent(m.dir, m.cfg.MaxAge),
		lock:     job.Lock,
		mods:     make(map[module.Version]*goMod),
		infos:    make(map[module.Version]*goInfo),
		resolved: make(map[module.Version]*resolution),
	}
	first := &run{job: job, out: &Closure{}, tools: make(map[int][]module.Version), cfg: m.cfg, fetch: fetch}
	if m.cfg.DB != nil {
		first.sums = newChecksums(m.cfg.DB, first.fetch)
		if m.cfg.Sightings || m.cfg.Cooldown > 0 {
			first.sums.seen = first.sums.sightings(time.Now())
		}
	}
	fetch.repacked = func(v module.Version) bool {
		return module.MatchPrefixPatterns(m.cfg.NoSumDB, v.Path) || module.MatchPrefixPatterns(m.cfg.NoProxy, v.Path)
	}
	fetch.young = first.youngFor(m.cfg.Cooldown)
	fetch.record = func(ctx context.Context, m module.Version) (rec proof.Record, ok bool) {
		if !first.public(m) {
			return rec, false
		}
		rec, err := first.sums.lookup(ctx, m)
		return rec, err == nil
	}
	return first
}

// A run is one round of a Sync. There is a further round when versions without a go.mod import
// packages whose modules are not carried yet.
type run struct {
	cfg     Config
	job     *Job
	out     *Closure
	fetch   *fetcher
	sums    *checksums // nil without a checksum database
	noGoMod []noGoMod
	tools   map[int][]module.Version // what a command was resolved to, by the number of its source
	newest  map[string]newest        // by module path; complete once asked is closed
	asked   chan struct{}
	proven  chan struct{} // closed when every record is proven

	early  errgroup.Group // asks for what the graphs name
	mu     sync.Mutex
	queue  []module.Version // that nobody asks for yet; guarded by mu
	asking int              // goroutines of early; guarded by mu
}

// sync resolves, fetches, proves and commits the versions of one round.
func (r *run) sync(ctx context.Context) error {
	start := time.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer func() { cancel(); r.early.Wait() }()
	plan, err := r.plan(urgent(ctx), func(graph context.Context, m module.Version) (*modgraph.GoMod, error) {
		mod, err := r.fetch.goMod(graph, m)
		if err == nil {
			r.ahead(ctx, m)
		}
		return mod, err
	})
	if err != nil {
		return cmp.Or(r.contradictsSumDB(ctx), err)
	}
	list := plan.Versions()
	r.cfg.Progress.Total.Store(int64(len(list)))
	r.out.Stats.Resolve = time.Since(start)

	eg, egctx := errgroup.WithContext(ctx)
	eg.Go(func() error { return r.prove(egctx, list) })
	if r.out.Vulns == nil {
		eg.Go(func() error { return r.vulndb(egctx) })
	}
	eg.Go(func() error { return r.askNewest(egctx, list) })
	eg.Go(func() error { return r.versions(egctx, list) })
	if err := eg.Wait(); err != nil {
		return err
	}
	r.explainMissing(ctx)
	r.noteTrees()
	if err := r.applyRetractions(ctx); err != nil {
		return err
	}
	return r.lists()
}

// ahead asks for what is wanted of a version besides its go.mod, while the graphs are loaded. What
// comes is kept until it is needed, and errors will come again. ctx outlives the graphs, which do
// not wait for this.
func (r *run) ahead(ctx context.Context, m module.Version) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, m)
	if r.asking < 2*r.cfg.Parallel {
		r.asking++
		r.early.Go(func() error {
			for m, ok := r.next(); ok; m, ok = r.next() {
				if r.public(m) {
					r.sums.lookup(ctx, m)
				}
				r.fetch.info(ctx, m)
			}
			return nil
		})
	}
}

// next returns a version of the queue. Without one the asking goroutine ends.
func (r *run) next() (m module.Version, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.queue) == 0 {
		r.asking--
		return m, false
	}
	m, r.queue = r.queue[0], r.queue[1:]
	return m, true
}

// versions fetches, checks and commits the versions of a plan, and adds them to the result. Those
// that wait for their proof keep no others from being fetched.
func (r *run) versions(ctx context.Context, list []*modgraph.Wanted) error {
	all := make([]*fetched, len(list))
	defer func() {
		for _, f := range all {
			if f != nil {
				f.zip.discard()
			}
		}
	}()
	var gone atomic.Int64
	finish := func(ctx context.Context, f *fetched) error {
		err := r.finishVersion(ctx, f)
		r.cfg.Progress.Done.Add(1)
		if n := len(f.missing); n > 0 && gone.Add(int64(n)) > maxMissing {
			m := f.missing[0]
			return fmt.Errorf("more than %d versions cannot be had, for instance %s, required by %s: %s",
				maxMissing, m.Mod, strings.Join(m.Chain, " → "), m.Asked)
		}
		return err
	}
	unproven := make(chan *fetched, len(list))
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error {
		defer close(unproven)
		eg, ctx := errgroup.WithContext(ctx)
		eg.SetLimit(waiting)
		for i, w := range list {
			eg.Go(func() (err error) {
				all[i], err = r.fetchVersion(ctx, w)
				switch {
				case err != nil:
					return err
				case r.public(w.Mod) && !all[i].absent:
					unproven <- all[i]
					return nil
				}
				return finish(ctx, all[i])
			})
		}
		return eg.Wait()
	})
	eg.Go(func() error {
		select {
		case <-r.proven:
		case <-ctx.Done(): // the proof may have failed
			return ctx.Err()
		}
		eg, ctx := errgroup.WithContext(ctx)
		eg.SetLimit(readsInFlight)
		for f := range unproven {
			eg.Go(func() error { return finish(ctx, f) })
		}
		return eg.Wait()
	})
	if err := eg.Wait(); err != nil {
		return err
	}
	for _, f := range all {
		if f.v.GoMod.Path != "" {
			r.out.Versions = append(r.out.Versions, f.v)
		}
		r.out.Missing = append(r.out.Missing, f.missing...)
	}
	return nil
}

// lists writes the list file of every module that has a zip, so that the mirror directory is a
// proxy by itself.
func (r *run) lists() error {
	if err := r.fetch.dir.flush(); err != nil { // the names of zips are read
		return err
	}
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
		rel := versionFile(modpath.List, v.Mod.Path, "")
		if err := r.fetch.dir.update(rel, modpath.ListText(list)); err != nil {
			return err
		}
	}
	return nil
}

// contradictsSumDB returns an error when a go.mod that graph loading read is not the one that the
// checksum database has: an earlier error is then the upstream's doing.
func (r *run) contradictsSumDB(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second) // the earlier error waits no longer
	defer cancel()
	r.fetch.mu.Lock()
	mods := maps.Clone(r.fetch.mods)
	r.fetch.mu.Unlock()
	for m, g := range mods {
		if ctx.Err() != nil {
			return nil
		}
		if !g.asking.TryLock() { // it did not come
			continue
		}
		s := g.staged
		g.asking.Unlock()
		if s == nil {
			continue
		}
		if rec, ok := r.fetch.record(ctx, m); ok && rec.GoModH1 != s.h1 {
			return r.mismatch(m, "go.mod", s, rec.GoModH1)
		}
	}
	return nil
}

// public reports whether m must have a record of the checksum database.
func (r *run) public(m module.Version) bool {
	return r.sums != nil && !module.MatchPrefixPatterns(r.cfg.NoSumDB, m.Path) && checkName(m) == nil
}
