package proof

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/modpath"
)

// batch is how many records one read of hashes proves, and batches how many such reads are in
// progress. Their tiles are in memory: at most 4 a record, 8 KiB each, so 16 MiB in all.
const (
	batch   = 128
	batches = 4
)

// A TileSource reads tiles. Its data need not be true, since the prover authenticates it.
type TileSource interface {
	// ReadTiles returns the data of each tile: 32 bytes times its width.
	ReadTiles(tiles []tlog.Tile) ([][]byte, error)
	// SaveTiles is called with tiles that are authenticated.
	SaveTiles(tiles []tlog.Tile, data [][]byte) error
}

// A Prover proves records and older heads under one head, and remembers the tiles that it used. It
// is safe for concurrent use when its Source is.
type Prover struct {
	Head   Head
	Source TileSource

	// Parallel is how many reads of hashes are in progress at once, 0 for as many as suit a
	// network. One is enough for tiles on a disk, and needs a quarter of the memory.
	Parallel int

	mu    sync.Mutex
	used  map[tlog.Tile]bool
	saved error
}

// Records proves that each record is in the tree. For a record that is not, it returns an error
// that wraps ErrMismatch and names the module.
func (p *Prover) Records(records []Record) error {
	records = slices.Clone(records) // sorted by number, so that a batch shares tiles
	slices.SortFunc(records, func(a, b Record) int { return cmp.Compare(a.ID, b.ID) })
	var eg errgroup.Group
	eg.SetLimit(cmp.Or(p.Parallel, batches))
	for chunk := range slices.Chunk(records, batch) {
		eg.Go(func() error { return p.records(chunk) })
	}
	return eg.Wait()
}

func (p *Prover) records(chunk []Record) error {
	indexes := make([]int64, len(chunk))
	for i, r := range chunk {
		if r.ID < 0 || r.ID >= p.Head.N {
			return mismatchf("%s: record %d is outside of the tree of %d", r.Mod, r.ID, p.Head.N)
		}
		indexes[i] = tlog.StoredHashIndex(0, r.ID)
	}
	hashes, err := p.reader().ReadHashes(indexes)
	if err := p.explain(err); err != nil {
		return fmt.Errorf("proving records %d to %d: %w", chunk[0].ID, chunk[len(chunk)-1].ID, err)
	}
	for i, r := range chunk {
		if hashes[i] != tlog.RecordHash(r.Text()) {
			return mismatchf("%s: its go.sum lines are not record %d of the checksum database", r.Mod, r.ID)
		}
	}
	return nil
}

// ProveConsistency proves that the prover's head continues older: that it is the same log, only
// longer.
func (p *Prover) ProveConsistency(older Head) error {
	h, err := p.TreeAt(older.N)
	if err != nil {
		return err
	}
	if h.Hash != older.Hash {
		return mismatchf("checksum database forked: its tree %d does not continue its own tree %d (%v, signed as %v)",
			p.Head.N, older.N, h.Hash, older.Hash)
	}
	return nil
}

// TreeAt returns the tree of the first size records, proven under the prover's head.
func (p *Prover) TreeAt(size int64) (tlog.Tree, error) {
	if size > p.Head.N {
		return tlog.Tree{}, mismatchf("tree of %d cannot continue a tree of %d", p.Head.N, size)
	}
	h, err := tlog.TreeHash(size, p.reader())
	if err := p.explain(err); err != nil {
		return tlog.Tree{}, fmt.Errorf("proving that tree %d continues tree %d: %w", p.Head.N, size, err)
	}
	return tlog.Tree{N: size, Hash: h}, nil
}

// ProveHead reads the tiles from which a client recomputes the head.
func (p *Prover) ProveHead() error { return p.ProveConsistency(p.Head) }

// Tiles returns the tiles that were read and authenticated so far, sorted.
func (p *Prover) Tiles() []tlog.Tile {
	p.mu.Lock()
	defer p.mu.Unlock()
	return sortedTiles(p.used)
}

func (p *Prover) reader() tlog.HashReader {
	return tlog.TileHashReader(p.Head.Tree, (*tileReader)(p))
}

// explain tells a tile that could not be read or saved from one that was wrong. x/mod reports all
// three as plain errors.
func (p *Prover) explain(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.saved != nil {
		return p.saved
	}
	if _, read := errors.AsType[*readError](err); err == nil || read {
		return err
	}
	return mismatchf("%v", err)
}

type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// A tileReader is a Prover as a tlog.TileReader.
type tileReader Prover

func (r *tileReader) Height() int { return modpath.TileHeight }

func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data, err := r.Source.ReadTiles(tiles)
	if err != nil {
		return nil, &readError{err}
	}
	return data, nil
}

func (r *tileReader) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	var newTiles []tlog.Tile
	var newData [][]byte
	r.mu.Lock()
	if r.used == nil {
		r.used = make(map[tlog.Tile]bool)
	}
	for i, t := range tiles {
		if !r.used[t] {
			r.used[t] = true
			newTiles = append(newTiles, t)
			newData = append(newData, data[i])
		}
	}
	r.mu.Unlock()
	if len(newTiles) == 0 {
		return
	}
	if err := r.Source.SaveTiles(newTiles, newData); err != nil {
		r.mu.Lock()
		r.saved = err
		r.mu.Unlock()
	}
}

func sortedTiles(set map[tlog.Tile]bool) []tlog.Tile {
	list := make([]tlog.Tile, 0, len(set))
	for t := range set {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b tlog.Tile) int {
		return cmp.Or(cmp.Compare(a.L, b.L), cmp.Compare(a.N, b.N), cmp.Compare(a.W, b.W))
	})
	return list
}

// FullTile returns the tile of full width at the place of t. Readers fall back to it when a partial
// tile does not exist.
func FullTile(t tlog.Tile) tlog.Tile {
	t.W = 1 << t.H
	return t
}
