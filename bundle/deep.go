package bundle

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"
	"slices"
	"sync"

	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
)

// VerifyDeep checks what Verify takes on the word of the bundle's signature: that every zip and
// go.mod has the h1 in the index; that the checksum database has every h1 of a public module, by a
// proof under the database's own key; and that its tree head continues all earlier ones of the
// line. So a stolen bundle key cannot forge a public module. db may be nil for a bundle without a
// database. progress, which may be nil, is told of the bytes of each version.
//
// Of a delta the whole line is checked, so that earlier bundles must be attached. Files that are
// the same in before, a bundle of the line that passed VerifyDeep, are skipped; before may be nil.
func (b *Bundle) VerifyDeep(ctx context.Context, db *proof.Database, before *Bundle, progress func(n int64), report func(Damage)) error {
	var mu sync.Mutex
	damage := func(path string, err error) {
		mu.Lock()
		defer mu.Unlock()
		report(Damage{path, err})
	}
	var heads []proof.Head
	if b.Manifest.DB != "" {
		if db == nil || db.Name != b.Manifest.DB {
			return fmt.Errorf("the bundle's checksum database is %s, whose key is not at hand: set GOSUMDB", b.Manifest.DB)
		}
		var err error
		if heads, err = b.proveHeads(ctx, db); err != nil {
			return err
		}
		if err := b.proveRecords(ctx, heads[len(heads)-1], damage); err != nil {
			return err
		}
	}
	if err := b.explainFiles(ctx, heads, before, damage); err != nil {
		return err
	}
	if err := b.CheckCarried(ctx, before, damage); err != nil {
		return err
	}
	if err := b.checkBootstraps(ctx, damage); err != nil {
		return err
	}
	cpu := make(h1.Limiter, runtime.GOMAXPROCS(0))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(cap(cpu))
	for v, err := range b.Index.Versions(ctx, "") {
		if err != nil {
			eg.Wait()
			return wrapBad(ctx, err)
		}
		eg.Go(func() error {
			same, err := b.unchanged(ctx, before, v)
			if err != nil {
				return wrapBad(ctx, err)
			}
			if same {
				return nil
			}
			n, path, err := b.deepVersion(ctx, cpu, v)
			if away, ok := errors.AsType[*NotAtHandError](err); ok {
				return away
			}
			if err != nil {
				damage(path, err)
			}
			if progress != nil {
				progress(n)
			}
			return ctx.Err()
		})
	}
	return eg.Wait()
}

// deepVersion compares the files of a version with its h1. It returns the number of bytes read, and
// the path of a file that does not verify.
func (b *Bundle) deepVersion(ctx context.Context, cpu h1.Limiter, v index.Version) (n int64, path string, err error) {
	m := module.Version{Path: v.Path, Version: v.Version}
	path = modpath.Request{Kind: modpath.Mod, Path: v.Path, Version: v.Version}.String()
	data, err := b.ReadFile(ctx, path, modzip.MaxGoMod)
	if err != nil {
		return 0, path, err
	}
	if sum := h1.GoMod(data); sum != v.GoModH1 {
		err = fmt.Errorf("its h1 is %s, the index says %s", sum, v.GoModH1)
	}
	if err != nil || v.ZipSize == nil {
		return v.ModSize, path, err
	}
	path = modpath.Request{Kind: modpath.Zip, Path: v.Path, Version: v.Version}.String()
	f, ok, err := b.Index.File(ctx, path)
	if err != nil {
		return v.ModSize, path, err
	}
	if !ok || f.Size != *v.ZipSize {
		return v.ModSize, path, errors.New("the index has no such file of that size")
	}
	content, err := b.Content(ctx, f)
	if err != nil {
		return v.ModSize, path, err
	}
	z, err := h1.Zip(ctx, cpu, m, content, f.Size)
	if err == nil && z.H1 != v.H1 {
		err = fmt.Errorf("its h1 is %s, the index says %s", z.H1, v.H1)
	}
	return v.ModSize + f.Size, path, err
}

// unchanged reports whether before has the version with the same hashes and the same files.
func (b *Bundle) unchanged(ctx context.Context, before *Bundle, v index.Version) (bool, error) {
	if before == nil {
		return false, nil
	}
	old, ok, err := before.Index.Lookup(ctx, v.Path, v.Version)
	if err != nil || !ok || old.H1 != v.H1 || old.GoModH1 != v.GoModH1 || (old.ZipSize == nil) != (v.ZipSize == nil) {
		return false, err
	}
	for _, kind := range []modpath.Kind{modpath.Mod, modpath.Zip} {
		path := modpath.Request{Kind: kind, Path: v.Path, Version: v.Version}.String()
		f1, ok1, err1 := before.Index.File(ctx, path)
		f2, ok2, err2 := b.Index.File(ctx, path)
		if err := errors.Join(err1, err2); err != nil || ok1 != ok2 || f1.SHA256 != f2.SHA256 || f1.Size != f2.Size {
			return false, err
		}
	}
	return true, nil
}

// CheckCarried compares the files of earlier bundles with the SHA-256 in the index. It skips files
// that before, which may be nil, has at the same place.
func (b *Bundle) CheckCarried(ctx context.Context, before *Bundle, damage func(string, error)) error {
	buf := make([]byte, 256<<10)
	for _, x := range b.Line() {
		for f, err := range b.Index.FilesIn(ctx, x.ID) {
			if err != nil {
				return wrapBad(ctx, err)
			}
			at, err := b.Find(f)
			if err != nil {
				return err
			}
			if before != nil {
				old, ok, err := before.Index.File(ctx, f.Path)
				if err != nil {
					return wrapBad(ctx, err)
				}
				if ok && old.SHA256 == f.SHA256 && old.Size == f.Size {
					if place, err := before.Find(old); err == nil && place == at {
						continue
					}
				}
			}
			h := sha256.New()
			if _, err := io.CopyBuffer(h, struct{ io.Reader }{io.NewSectionReader(media.ReaderAt(ctx, at.Media), at.Offset, f.Size)}, buf); err != nil {
				return err
			}
			if [32]byte(h.Sum(nil)) != f.SHA256 {
				damage(f.Path, fmt.Errorf("in the earlier bundle %s: %w", at.Media.Name(), media.ErrHash))
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return nil
}

// proveHeads verifies the signatures on all tree heads, proves each from the tiles, and proves that
// the last one continues the others.
func (b *Bundle) proveHeads(ctx context.Context, db *proof.Database) ([]proof.Head, error) {
	heads, err := b.Heads(ctx)
	if err != nil {
		return nil, err
	}
	last := heads[len(heads)-1]
	p := &proof.Prover{Head: last, Source: Tiles(ctx, b)}
	for _, h := range heads {
		name := fmt.Sprintf("tree head %d", h.N)
		if _, err := db.ParseHead(h.Note); err != nil {
			return nil, &NotVerifiedError{What: name, Err: err}
		}
		edge := &proof.Prover{Head: h, Source: p.Source}
		for _, err := range []error{edge.ProveHead(), p.ProveConsistency(h)} {
			if away, ok := errors.AsType[*NotAtHandError](err); ok {
				return nil, away
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			if err != nil {
				return nil, &NotVerifiedError{What: name, Err: err}
			}
		}
	}
	path := modpath.Request{Kind: modpath.SumLatest, DB: db.Name}.String()
	msg, err := b.ReadFile(ctx, path, proof.MaxLookup)
	if errors.Is(err, fs.ErrNotExist) {
		err = &NotVerifiedError{What: path, Err: err}
	}
	if err == nil && !bytes.Equal(msg, last.Note) {
		err = &NotVerifiedError{What: path, Err: errors.New("not the head that the manifest names")}
	}
	return heads, err
}

// proveRecords proves all records under a head, in batches.
func (b *Bundle) proveRecords(ctx context.Context, head proof.Head, damage func(string, error)) error {
	p := &proof.Prover{Head: head, Source: Tiles(ctx, b)}
	return b.EachRecords(ctx, func(batch []proof.Record) error {
		err := p.Records(batch)
		if err == nil {
			return nil
		}
		for _, r := range batch { // to find out which
			if ctx.Err() != nil {
				return ctx.Err()
			}
			err := p.Records([]proof.Record{r})
			if away, ok := errors.AsType[*NotAtHandError](err); ok {
				return away
			}
			if err != nil {
				damage(modpath.Lookup(b.Manifest.DB, r.Mod), err)
			}
		}
		return nil
	})
}

// explainFiles checks that every .mod, .zip and lookup file belongs to a version in the index: a
// file of no version would be served although nothing proved it. A lookup file must be the record
// under one of the heads, and nothing else.
func (b *Bundle) explainFiles(ctx context.Context, heads []proof.Head, before *Bundle, damage func(string, error)) error {
	for f, err := range b.Index.Files(ctx) {
		if err != nil {
			return wrapBad(ctx, err)
		}
		r, _ := modpath.Parse(f.Path) // README.txt is no such path
		switch r.Kind {
		case modpath.Mod, modpath.Zip, modpath.SumLookup:
		default:
			continue
		}
		v, ok, err := b.Index.Lookup(ctx, r.Path, r.Version)
		if err != nil {
			return wrapBad(ctx, err)
		}
		switch {
		case !ok, r.Kind == modpath.Zip && v.ZipSize == nil, r.Kind == modpath.SumLookup && (v.Record == nil || r.DB != b.Manifest.DB):
			damage(f.Path, errors.New("no version in the index accounts for it"))
		case r.Kind == modpath.SumLookup:
			if same, err := b.sameLookup(ctx, before, f, v); err != nil {
				return wrapBad(ctx, err)
			} else if same {
				continue
			}
			data, err := b.Read(ctx, f, proof.MaxLookup)
			if away, ok := errors.AsType[*NotAtHandError](err); ok {
				return away
			}
			record := recordOf(v)
			if err == nil && !slices.ContainsFunc(heads, func(h proof.Head) bool { return record.ID < h.N && bytes.Equal(data, record.Lookup(h)) }) {
				err = errors.New("not the record that the index has, under one of the heads")
			}
			if err != nil {
				damage(f.Path, err)
			}
		}
	}
	return nil
}

// sameLookup reports whether before has the same lookup file for the same record.
func (b *Bundle) sameLookup(ctx context.Context, before *Bundle, f index.File, v index.Version) (bool, error) {
	if before == nil {
		return false, nil
	}
	old, ok, err := before.Index.File(ctx, f.Path)
	if err != nil || !ok || old.SHA256 != f.SHA256 {
		return false, err
	}
	w, ok, err := before.Index.Lookup(ctx, v.Path, v.Version)
	return ok && w.Record != nil && recordOf(w) == recordOf(v), err
}
