package mirror

import (
	"context"
	"fmt"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/modgraph"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// A fetched version has its files, and waits for the proof of its record.
type fetched struct {
	w       *modgraph.Wanted
	v       Version // is carried when its go.mod is set
	missing []Missing
	inf     *stagedInfo // nil when the upstream refused it
	zip     *staged     // nil when it is not wanted, or refused
	absent  bool        // the upstream refused the go.mod
}

// refused adds a file that the upstream refused.
func (f *fetched) refused(r *run, what string, err error) {
	f.missing = append(f.missing, r.missingOf(f.w, what, err))
}

// fetchVersion fetches the files of a version. It returns the version after an error too: the
// caller discards its zip.
func (r *run) fetchVersion(ctx context.Context, w *modgraph.Wanted) (*fetched, error) {
	f := &fetched{w: w, v: Version{Mod: w.Mod}}
	if _, err := r.fetch.stagedMod(ctx, w.Mod); modgraph.IsAbsent(err) {
		f.absent = true
		f.refused(r, "go.mod", err)
		return f, nil
	} else if err != nil {
		return f, err
	}
	var err error
	f.inf, f.zip, err = r.fetchFiles(ctx, w, func(what string, err error) { f.refused(r, what, err) })
	return f, err
}

// finishVersion checks and commits the files of a version, whose record is proven by now if it has
// one. Without its go.mod or its record the version is not carried.
func (r *run) finishVersion(ctx context.Context, f *fetched) error {
	if f.absent {
		return nil
	}
	v := &f.v
	if r.public(v.Mod) {
		record, err := r.sums.lookup(ctx, v.Mod)
		if upstream.Refused(err) {
			f.refused(r, "record", err)
			return nil
		}
		if err != nil {
			return err
		}
		v.Record, v.H1, v.GoModH1 = &record, record.H1, record.GoModH1
	}
	mod, err := r.fetch.stagedMod(ctx, v.Mod)
	if err != nil {
		return err
	}
	if err := r.checkFiles(v.Mod, mod, f.zip, v); err != nil {
		return err
	}
	return r.commit(v, mod, f.inf, f.zip)
}

// A stagedInfo is a staged .info file with its content.
type stagedInfo struct {
	*staged
	info
}

// fetchFiles fetches the .info and, when it is wanted, the zip of a version. It calls refused for
// those that the upstream refuses; they are nil then. The caller discards the zip, on error too.
func (r *run) fetchFiles(
	ctx context.Context, w *modgraph.Wanted, refused func(what string, err error),
) (inf *stagedInfo, zip *staged, err error) {
	var infoErr, zipErr error
	eg, ctx := errgroup.WithContext(ctx)
	eg.Go(func() error {
		s, i, err := r.fetch.info(ctx, w.Mod)
		if infoErr = err; err == nil {
			inf = &stagedInfo{s, i}
		}
		return notRefused(err)
	})
	if w.Zip {
		eg.Go(func() error {
			zip, zipErr = r.fetch.zip(ctx, w.Mod)
			return notRefused(zipErr)
		})
	}
	if err := eg.Wait(); err != nil {
		return inf, zip, err
	}
	if infoErr != nil {
		refused("info", infoErr)
	}
	if zipErr != nil {
		refused("zip", zipErr)
	}
	return inf, zip, nil
}

// notRefused returns err, or nil when it is an upstream's refusal.
func notRefused(err error) error {
	if upstream.Refused(err) {
		return nil
	}
	return err
}

// checkFiles compares the hashes of a version's files with the record in v, the go.sum files and
// each other. zip may be nil.
func (r *run) checkFiles(m module.Version, mod, zip *staged, v *Version) error {
	modKey := module.Version{Path: m.Path, Version: m.Version + "/go.mod"} // as in go.sum
	if err := r.check(m, modKey, "go.mod", mod, v.GoModH1); err != nil {
		return err
	}
	if zip == nil {
		return nil
	}
	if err := r.check(m, m, "zip", zip, v.H1); err != nil {
		return err
	}
	// Zips from before modules have no go.mod; proxies make up the .mod file for them.
	if zip.goModH1 != "" && zip.goModH1 != mod.h1 {
		return r.fetch.reject(zip, fmt.Errorf("%s: the go.mod in the zip is not the .mod file: %w",
			m, proof.ErrMismatch))
	}
	return nil
}

// commit gives the checked files of a version their names, and enters them in v. inf and zip may be
// nil; a zip is carried only with a .info file.
func (r *run) commit(v *Version, mod *staged, inf *stagedInfo, zip *staged) error {
	v.GoModH1, v.GoMod = mod.h1, mod.File
	if err := r.fetch.commit(mod); err != nil {
		return err
	}
	if inf == nil {
		return nil
	}
	v.Info, v.Time, v.Origin = inf.File, inf.Time, string(inf.Origin)
	if err := r.fetch.commit(inf.staged); err != nil || zip == nil {
		return err
	}
	v.Zip, v.H1, v.Facts = &zip.File, zip.h1, zip.facts
	return r.fetch.commit(zip)
}

// A GoSumError says that a file is not the one that a go.sum has, although the checksum database
// agrees with the file.
type GoSumError struct{ Err error }

// Error names the file and both hashes.
func (e *GoSumError) Error() string { return e.Err.Error() }

// Unwrap returns an error that wraps proof.ErrMismatch.
func (e *GoSumError) Unwrap() error { return e.Err }

// check compares the hash of a file with want, the checksum database's, when that is not "", and
// with the go.sum files of all sources.
func (r *run) check(m, sumKey module.Version, what string, s *staged, want string) error {
	if want != "" && s.h1 != want {
		return r.mismatch(m, what, s, want)
	}
	for _, src := range r.job.List {
		if err := src.GoSum.Check(sumKey, s.h1); err != nil {
			if want != "" { // the database agrees with the file, so the go.sum is wrong
				return &GoSumError{err}
			}
			return r.fetch.reject(s, err)
		}
	}
	return nil
}

// mismatch puts a file that contradicts the checksum database into quarantine and returns the
// error.
func (r *run) mismatch(m module.Version, what string, s *staged, want string) error {
	return r.fetch.reject(s, fmt.Errorf("%s: %s is %s, but checksum database %s says %s: %w",
		m, what, s.h1, r.cfg.DB.Name, want, proof.ErrMismatch))
}
