package mirror

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/upstream"
)

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

// public reports whether the checksum database is to vouch for m.
func (r *run) public(m module.Version) bool {
	return r.sums != nil && !module.MatchPrefixPatterns(r.cfg.NoSumDB, m.Path) && checkName(m) == nil
}
