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
	"sync"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"
	modzip "golang.org/x/mod/zip"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
)

// A Damage is a file of a bundle that is not what the index says.
type Damage struct {
	Path string
	Err  error
}

// Verify reads every byte of the bundle and tells report of each damaged entry, in the
// order of the file. Manifest and index were verified by Open. It fails only when
// it cannot go on reading.
func (b *Bundle) Verify(ctx context.Context, progress func(n int64), report func(Damage)) error {
	// The index entry's padding is covered by nothing else.
	if err := b.checkBytes(b.payload-padding(b.Manifest.IndexSize), make([]byte, padding(b.Manifest.IndexSize))); err != nil {
		report(Damage{indexName, err})
	}
	buf := make([]byte, 256<<10)
	for f, err := range b.Index.Files(ctx) {
		if err != nil {
			return wrapBad(ctx, err)
		}
		if err := b.verifyEntry(f, buf); err != nil {
			report(Damage{f.Path, err})
		}
		if progress != nil {
			progress(entrySize(f.Path, f.Size))
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if err := b.checkBytes(b.Manifest.Size-endSize, make([]byte, endSize)); err != nil {
		report(Damage{"end of archive", err})
	}
	return nil
}

// verifyEntry checks the header, content and padding of a file.
func (b *Bundle) verifyEntry(f index.File, buf []byte) error {
	h := Header(f.Path, f.Size)
	if err := b.checkBytes(b.Offset(f)-int64(len(h)), h); err != nil {
		return fmt.Errorf("tar header: %w", err)
	}
	sum := sha256.New()
	if _, err := io.CopyBuffer(sum, struct{ io.Reader }{b.Content(f)}, buf); err != nil {
		return err
	}
	if [32]byte(sum.Sum(nil)) != f.SHA256 {
		return errHash
	}
	if err := b.checkBytes(b.Offset(f)+f.Size, make([]byte, padding(f.Size))); err != nil {
		return fmt.Errorf("padding: %w", err)
	}
	return nil
}

var errBytes = errors.New("not the bytes that must be there")

func (b *Bundle) checkBytes(at int64, want []byte) error {
	got := make([]byte, len(want))
	if _, err := b.file.ReadAt(got, at); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errBytes
	}
	return nil
}

// Deep checks what the signature alone vouches for in Verify: that every zip and
// go.mod has the h1 that the index gives, and that every h1 of a public module stands in
// the checksum database, by a proof under the database's own key. db may be nil
// only for a bundle without a database. A stolen bundle key does not pass this with a forged
// public module. It calls progress with the bytes of each version.
func (b *Bundle) Deep(ctx context.Context, db *proof.Database, progress func(n int64), report func(Damage)) error {
	var mu sync.Mutex
	damage := func(path string, err error) {
		mu.Lock()
		defer mu.Unlock()
		report(Damage{path, err})
	}
	var head proof.Head
	if b.Manifest.DB != "" {
		if db == nil || db.Name != b.Manifest.DB {
			return fmt.Errorf("the bundle's checksum database is %s, whose key is not at hand: set GOSUMDB", b.Manifest.DB)
		}
		var err error
		if head, err = b.proveRecords(ctx, db, damage); err != nil {
			return err
		}
	}
	if err := b.explainFiles(ctx, head, damage); err != nil {
		return err
	}
	if err := b.deepSelfs(ctx, damage); err != nil {
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
			n, path, err := b.deepVersion(ctx, cpu, v)
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

// proveRecords proves all records under the head, in batches.
func (b *Bundle) proveRecords(ctx context.Context, db *proof.Database, damage func(string, error)) (head proof.Head, err error) {
	latest := modpath.Request{Kind: modpath.SumLatest, DB: db.Name}.String()
	msg, err := b.ReadFile(ctx, latest, proof.MaxLookup)
	if errors.Is(err, fs.ErrNotExist) {
		err = &NotVerifiedError{latest, err}
	}
	if err != nil {
		return head, err
	}
	head, err = db.ParseHead(msg)
	if err == nil && head.Tree != b.Manifest.Head {
		err = fmt.Errorf("tree %d is not the manifest's, %d", head.N, b.Manifest.Head.N)
	}
	if err != nil {
		return head, &NotVerifiedError{latest, err}
	}
	p := &proof.Prover{Head: head, Source: tiles{ctx, b}}
	var batch []proof.Record
	flush := func() error {
		err := p.Records(batch)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil { // find out which
			for _, r := range batch {
				if err := p.Records([]proof.Record{r}); err != nil {
					damage(modpath.Request{Kind: modpath.SumLookup, DB: db.Name, Path: r.Mod.Path, Version: r.Mod.Version}.String(), err)
				}
			}
		}
		batch = batch[:0]
		return nil
	}
	for v, err := range b.Index.Versions(ctx, "") {
		if err != nil {
			return head, wrapBad(ctx, err)
		}
		if v.Record == nil {
			continue
		}
		batch = append(batch, proof.Record{Mod: module.Version{Path: v.Path, Version: v.Version}, ID: *v.Record, H1: v.H1, GoModH1: v.GoModH1})
		if len(batch) == 1000 {
			if err := flush(); err != nil {
				return head, err
			}
		}
	}
	return head, flush()
}

// explainFiles checks that every .mod, .zip and lookup file belongs to a version of the index, whose
// hashes are checked: a file that no version names would be served and was never proven. A lookup file
// must be the record under the head, and nothing else.
func (b *Bundle) explainFiles(ctx context.Context, head proof.Head, damage func(string, error)) error {
	for f, err := range b.Index.Files(ctx) {
		if err != nil {
			return wrapBad(ctx, err)
		}
		r, _ := modpath.Parse(f.Path) // README.txt is the one that is none
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
			data, err := b.ReadFile(ctx, f.Path, proof.MaxLookup)
			record := proof.Record{ID: *v.Record, Mod: module.Version{Path: v.Path, Version: v.Version}, H1: v.H1, GoModH1: v.GoModH1}
			if err == nil && !bytes.Equal(data, record.Lookup(head)) {
				err = errors.New("not the record that the index has, under the head")
			}
			if err != nil {
				damage(f.Path, err)
			}
		}
	}
	return nil
}

// tiles reads tiles out of a bundle.
type tiles struct {
	ctx context.Context
	b   *Bundle
}

func (t tiles) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	var data [][]byte
	for _, tile := range list {
		path := modpath.Request{Kind: modpath.SumTile, DB: t.b.Manifest.DB, Tile: tile}.String()
		d, err := t.b.ReadFile(t.ctx, path, int64(tile.W)*tlog.HashSize)
		if err != nil {
			return nil, err
		}
		data = append(data, d)
	}
	return data, nil
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) error { return nil }

// deepVersion checks the files of a version against its hashes. It returns the
// bytes read and the path of what is wrong.
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
	z, err := h1.Zip(ctx, cpu, m, b.Content(f), f.Size)
	if err == nil && z.H1 != v.H1 {
		err = fmt.Errorf("its h1 is %s, the index says %s", z.H1, v.H1)
	}
	return v.ModSize + f.Size, path, err
}
