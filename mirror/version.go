package mirror

import (
	"context"
	"fmt"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/upstream"
)

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
