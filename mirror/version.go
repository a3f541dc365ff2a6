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

// version fetches, checks and commits the files of a version. Files that the upstream refuses are
// in missing; without its go.mod or its record the version is not carried.
func (r *run) version(ctx context.Context, w *modgraph.Wanted) (v Version, missing []Missing, err error) {
	v.Mod = w.Mod
	refused := func(what string, err error) { missing = append(missing, r.missingOf(w, what, err)) }
	if _, err := r.fetch.stagedMod(ctx, w.Mod); modgraph.IsAbsent(err) {
		refused("go.mod", err)
		return v, missing, nil
	} else if err != nil {
		return v, nil, err
	}
	inf, zip, err := r.fetchFiles(ctx, w, refused)
	defer zip.discard()
	if err != nil {
		return v, nil, err
	}
	if r.public(w.Mod) {
		select {
		case <-r.proven:
		case <-ctx.Done(): // the proof may have failed
			return v, nil, ctx.Err()
		}
		record, err := r.sums.lookup(ctx, w.Mod)
		if upstream.Refused(err) {
			refused("record", err)
			return v, missing, nil
		}
		if err != nil {
			return v, nil, err
		}
		v.Record, v.H1, v.GoModH1 = &record, record.H1, record.GoModH1
	}
	mod, err := r.fetch.stagedMod(ctx, w.Mod)
	if err != nil {
		return v, nil, err
	}
	if err := r.checkFiles(w.Mod, mod, zip, &v); err != nil {
		return v, nil, err
	}
	return v, missing, r.commit(&v, mod, inf, zip)
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
	v.Zip, v.H1 = &zip.File, zip.h1
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
