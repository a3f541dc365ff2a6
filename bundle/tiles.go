package bundle

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"
)

// Sighting returns the tree that proves the bundle's records, and the signed time of the bundle.
func (b *Bundle) Sighting() proof.Sighting {
	return proof.Sighting{Seen: b.Manifest.Created, Head: proof.Head{Tree: b.Manifest.Head}}
}

// Heads returns the signed tree heads under which records of the line were proven, smallest first.
// The last one is that of the manifest.
func (b *Bundle) Heads(ctx context.Context) (heads []proof.Head, err error) {
	for h, err := range b.Index.Heads(ctx) {
		if err != nil {
			return nil, err
		}
		tree, err := headOf(h)
		if err != nil {
			return nil, &NotVerifiedError{What: indexName, Err: err}
		}
		heads = append(heads, proof.Head{Tree: tree, Note: []byte(h.Note)})
	}
	return heads, nil
}

// EachRecords calls f with the records of the checksum database, up to 1,000 at a time. f must not
// keep the slice.
func (b *Bundle) EachRecords(ctx context.Context, f func([]proof.Record) error) error {
	const together = 1000
	var batch []proof.Record
	for v, err := range b.Index.Versions(ctx, "") {
		if err != nil {
			return wrapBad(ctx, err)
		}
		if v.Record == nil {
			continue
		}
		if batch = append(batch, recordOf(v)); len(batch) == together {
			if err := f(batch); err != nil {
				return err
			}
			batch = batch[:0]
		}
	}
	if len(batch) == 0 {
		return nil
	}
	return f(batch)
}

// Records returns the records of the checksum database that the line has.
func (b *Bundle) Records(ctx context.Context) (list []proof.Record, err error) {
	err = b.EachRecords(ctx, func(batch []proof.Record) error {
		list = append(list, batch...)
		return nil
	})
	return list, err
}

// recordOf returns the record of a version, which must have one.
func recordOf(v index.Version) proof.Record {
	return proof.Record{Mod: module.Version{Path: v.Path, Version: v.Version}, ID: *v.Record, H1: v.H1, GoModH1: v.GoModH1}
}

// tiles reads tiles from bundles.
type tiles struct {
	ctx     context.Context
	bundles []*Bundle
}

// Tiles returns the checksum database's tiles in bundles, each as it is or cut from a wider one.
func Tiles(ctx context.Context, bundles ...*Bundle) proof.TileSource { return tiles{ctx, bundles} }

// ReadTiles returns tiles. It does not verify their hashes: callers must.
func (t tiles) ReadTiles(list []tlog.Tile) ([][]byte, error) {
	var data [][]byte
	for _, tile := range list {
		d, err := t.read(tile)
		if err != nil {
			return nil, err
		}
		data = append(data, d)
	}
	return data, nil
}

func (t tiles) read(tile tlog.Tile) (data []byte, err error) {
	for _, b := range t.bundles {
		f, width, ok, err := b.tile(t.ctx, tile)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		data, err := b.Read(t.ctx, f, int64(width)*tlog.HashSize)
		if err != nil {
			return nil, err
		}
		return data[:tile.W*tlog.HashSize], nil
	}
	return nil, fmt.Errorf("%s: %w", tile.Path(), fs.ErrNotExist)
}

func (t tiles) SaveTiles([]tlog.Tile, [][]byte) error { return nil }

// tile returns the file of a tile or of a wider one in its place, which begins with the same
// hashes.
func (b *Bundle) tile(ctx context.Context, tile tlog.Tile) (f index.File, width int, ok bool, err error) {
	path := func(t tlog.Tile) string {
		return modpath.Request{Kind: modpath.SumTile, DB: b.Manifest.DB, Tile: t}.String()
	}
	full := proof.FullTile(tile)
	for _, t := range []tlog.Tile{tile, full} {
		if f, ok, err := b.Index.File(ctx, path(t)); ok || err != nil {
			return f, t.W, ok && f.Size == int64(t.W)*tlog.HashSize, err
		}
	}
	for f, err := range b.Index.FilesBelow(ctx, path(full)+".p/") {
		if err != nil {
			return f, 0, false, err
		}
		r, err := modpath.Parse(f.Path)
		if err == nil && r.Tile.W >= tile.W && f.Size == int64(r.Tile.W)*tlog.HashSize {
			return f, r.Tile.W, true, nil
		}
	}
	return f, 0, false, nil
}
