package mirror

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/mirror/modgraph"
)

// newestGoMod returns the go.mod whose retractions count, that of the latest version of a list,
// which may retract itself. It returns nil when there is none.
func (f *fetcher) newestGoMod(ctx context.Context, path string, list []string) (*modgraph.GoMod, error) {
	v, err := f.newestOf(ctx, path, list)
	if v == "" || err != nil {
		return nil, err
	}
	mod, err := f.goMod(ctx, module.Version{Path: path, Version: v})
	if modgraph.IsAbsent(err) {
		return nil, nil
	}
	return mod, err
}

// newestOf returns the latest version of a list, which may retract itself: the highest release, or
// else the highest prerelease, or else "".
func (f *fetcher) newestOf(ctx context.Context, path string, list []string) (string, error) {
	releases, prereleases, err := f.filter(ctx, path, list, nil, false)
	if len(releases) == 0 {
		releases = prereleases
	}
	if err != nil || len(releases) == 0 {
		return "", err
	}
	return releases[len(releases)-1], nil
}

// A newest is the newest version of a module that the upstream has. Its go.mod says which versions
// are retracted and whether the module is deprecated, as for the go command (modload/modfile.go
// latestVersionIgnoringRetractions).
type newest struct {
	version string
	mod     *modgraph.GoMod // nil when it cannot be had or read
}

// askNewest asks the upstream for the newest version of each module that has a zip in the plan, and
// the checksum database for those versions. It leaves out what is not answered in time: nothing
// that is carried needs it. It closes r.asked.
func (r *run) askNewest(ctx context.Context, list []*modgraph.Wanted) error {
	defer close(r.asked)
	r.newest = make(map[string]newest)
	var mu sync.Mutex
	// A module that does not answer in time is left out; the rest of the sync waits for this.
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, newestTimeout)
	defer cancel()
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(readsInFlight)
	last := ""
	for _, w := range list { // sorted by path
		if !w.Zip || w.Mod.Path == last || w.Mod.Path == modpath.Toolchain {
			continue
		}
		last = w.Mod.Path
		eg.Go(func() error {
			n := r.newestVersion(ctx, w.Mod.Path)
			if m := (module.Version{Path: w.Mod.Path, Version: n.version}); n.mod != nil && r.public(m) {
				if _, err := r.sums.lookup(ctx, m); err != nil {
					n.mod = nil
				}
			}
			mu.Lock()
			defer mu.Unlock()
			r.newest[w.Mod.Path] = n
			return nil
		})
	}
	eg.Wait()
	return whole.Err()
}

// checkNewest compares the go.mod files of newest versions with their proven records.
func (r *run) checkNewest(ctx context.Context) error {
	for _, path := range slices.Sorted(maps.Keys(r.newest)) {
		n := r.newest[path]
		m := module.Version{Path: path, Version: n.version}
		if n.mod == nil || !r.public(m) {
			continue
		}
		if r.out.DB == "" { // nothing was proven, because no carried version has a record
			r.newest[path] = newest{version: n.version}
			continue
		}
		rec, err := r.sums.lookup(ctx, m)
		if err != nil {
			return err
		}
		s, err := r.fetch.stagedMod(ctx, m)
		if err == nil && s.h1 != rec.GoModH1 {
			err = r.mismatch(m, "go.mod", s, rec.GoModH1)
		}
		if err == nil { // the next sync wants it too
			err = r.fetch.commit(s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// newestTimeout bounds the requests for newest versions. They only serve advice, and requests to a
// proxy in trouble are repeated for minutes.
var newestTimeout = 30 * time.Second // a variable for tests

func (r *run) newestVersion(ctx context.Context, path string) (n newest) {
	var err error
	recent, known := r.fetch.recent.newest(path)
	switch {
	case r.job.Lock != nil:
		n.version = r.job.Lock.latest(path)
	case known:
		n.version = recent
	default:
		list, _, err := r.fetch.versions(ctx, path)
		if err != nil {
			return n
		}
		if n.version, err = r.fetch.newestOf(ctx, path, list); err != nil {
			return newest{}
		}
		r.fetch.recent.setNewest(path, n.version)
	}
	if n.version == "" {
		return newest{}
	}
	if n.mod, err = r.fetch.goMod(ctx, module.Version{Path: path, Version: n.version}); err != nil {
		n.mod = nil
	}
	return n
}

// applyRetractions enters retractions and deprecations into the versions of the result. They come
// from the go.mod of the module's newest version upstream, or else from the highest version that is
// carried, which is all that a go command inside sees.
func (r *run) applyRetractions(ctx context.Context) error {
	if err := r.checkNewest(ctx); err != nil {
		return err
	}
	vs := r.out.Versions
	for len(vs) > 0 {
		n := 1
		for n < len(vs) && vs[n].Mod.Path == vs[0].Mod.Path {
			n++
		}
		same := vs[:n]
		vs = vs[n:]
		mod := r.newest[same[0].Mod.Path].mod
		if mod != nil {
			if r.out.newestMods == nil {
				r.out.newestMods = make(map[string]*modgraph.GoMod)
			}
			r.out.newestMods[same[0].Mod.Path] = mod
		} else {
			var err error
			if mod, err = r.highestGoMod(ctx, same); err != nil {
				return err
			}
		}
		for i := range same {
			same[i].Latest = r.newest[same[i].Mod.Path].version
			if mod != nil {
				same[i].Reason, same[i].Retracted = mod.Retracted(same[i].Mod.Version)
				same[i].Deprecated = mod.Deprecated
			}
		}
	}
	return nil
}

// Retraction reports whether the newest go.mod of a module retracts a version, which need not be in
// the closure. known is false for modules that are not in the closure, and when the upstream did
// not say which version is the newest.
func (c *Closure) Retraction(path, version string) (reason string, is, known bool) {
	mod := c.newestMods[path]
	if mod == nil {
		return "", false, false
	}
	reason, is = mod.Retracted(version)
	return reason, is, true
}

// highestGoMod returns the go.mod of the highest of a module's versions that has a zip. It returns
// nil when there is none, or none that can be read.
func (r *run) highestGoMod(ctx context.Context, same []Version) (*modgraph.GoMod, error) {
	highest := -1
	for i := range same {
		if same[i].Zip != nil && (highest < 0 || semver.Compare(same[i].Mod.Version, same[highest].Mod.Version) > 0) {
			highest = i
		}
	}
	if highest < 0 {
		return nil, nil
	}
	mod, err := r.fetch.goMod(ctx, same[highest].Mod)
	if _, ok := errors.AsType[*modgraph.BadModError](err); ok {
		return nil, nil // a go command cannot read it either
	}
	return mod, err
}
