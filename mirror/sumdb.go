package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/modgraph"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// An UnverifiedError says that the checksum database is out of reach, so that modules cannot be
// verified.
type UnverifiedError struct {
	Mods []module.Version
	Err  error
}

// Error says why; callers name the modules.
func (e *UnverifiedError) Error() string { return e.Err.Error() }

// Unwrap returns e.Err.
func (e *UnverifiedError) Unwrap() error { return e.Err }

// A checksums looks versions up in the checksum database and proves the answers.
type checksums struct {
	db    *proof.Database
	fetch *fetcher
	seen  []proof.Sighting // by earlier syncs

	finding chan struct{} // is held by the goroutine that finds out base
	base    string        // URL of the database
	baseErr error

	asking    sync.Mutex
	newest    *proof.Head // what the database said at first; nil before; guarded by asking
	newestErr error       // guarded by asking

	mu       sync.Mutex
	lookups  map[module.Version]*lookup
	heads    map[tlog.Tree]proof.Head // from answers over the network
	unproven []proof.Record           // too few for proveAhead; guarded by mu
	tiles    singleflight.Group       // by path
}

// A lookup is a lookup in progress or done.
type lookup struct {
	once   sync.Once
	record proof.Record
	err    error
	stale  bool // err only says that the caller's context ended
}

func newChecksums(db *proof.Database, f *fetcher) *checksums {
	return &checksums{
		db: db, fetch: f, finding: make(chan struct{}, 1),
		lookups: make(map[module.Version]*lookup), heads: make(map[tlog.Tree]proof.Head),
	}
}

// prove looks up all versions of a plan, proves their records and stores them. It closes r.proven
// when all proofs hold. After an error the group's context ends those that wait for that.
func (r *run) prove(ctx context.Context, list []*modgraph.Wanted) error {
	p, err := r.proof(ctx, list)
	if err != nil {
		return err
	}
	close(r.proven)
	if p == nil {
		return nil
	}
	if err := r.sums.store(p.head, p.records); err != nil {
		return err
	}
	r.out.Seen = r.sums.seen
	return r.sums.noteSighting(p.newest, time.Now())
}

// proof does the work of prove but for storing. It returns nil when there is nothing to prove.
func (r *run) proof(ctx context.Context, list []*modgraph.Wanted) (*proven, error) {
	if r.sums == nil {
		return nil, nil
	}
	start := time.Now()
	eg, ctx2 := errgroup.WithContext(ctx)
	eg.SetLimit(waiting)
	var some atomic.Bool // some version has a record
	for _, w := range list {
		if r.public(w.Mod) {
			eg.Go(func() error {
				_, err := r.sums.lookup(ctx2, w.Mod)
				if err == nil {
					some.Store(true)
				}
				return notRefused(err) // r.version reports refusals
			})
		}
	}
	for _, l := range r.job.Lines {
		if len(l.Records) > 0 {
			some.Store(true)
		}
	}
	if err := eg.Wait(); err != nil || !some.Load() {
		if away, ok := errors.AsType[*upstream.SumDBError](err); ok {
			unverified := &UnverifiedError{Err: away}
			for _, w := range list {
				if r.public(w.Mod) {
					unverified.Mods = append(unverified.Mods, w.Mod)
				}
			}
			return nil, unverified
		}
		return nil, err
	}
	if err := r.early.Wait(); err != nil {
		return nil, err
	}
	select { // until then lookups go on, and the head may lack the records of newest versions
	case <-r.asked:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p, err := r.sums.prove(ctx, r.job, func(m module.Version) bool {
		_, in := slices.BinarySearchFunc(list, m, func(w *modgraph.Wanted, m module.Version) int {
			return modgraph.Compare(w.Mod, m)
		})
		return in
	})
	if err != nil {
		return nil, err
	}
	r.out.DB, r.out.Head, r.out.Heads, r.out.Tiles = r.cfg.DB.Name, p.head, p.heads, p.tiles
	r.out.Stats.Prove = time.Since(start)
	return p, nil
}

// noteTrees adds a note for each tree that clients remember and that this closure cannot serve.
func (r *run) noteTrees() {
	for _, t := range r.job.Trees {
		why := ""
		switch {
		case r.out.DB == "":
			why = "no module of a checksum database is carried"
		case t.DB != r.out.DB:
			why = fmt.Sprintf("the checksum database is %s", r.out.DB)
		case t.Size > r.out.Head.N:
			why = fmt.Sprintf("the checksum database says that it has %d records; sync again later, when it has more",
				r.out.Head.N)
		default:
			continue
		}
		r.out.Notes = append(r.out.Notes, fmt.Sprintf("left out: %s: head %s %d: %s", t.Name, t.DB, t.Size, why))
	}
}

func (c *checksums) path(elem string) string { return "sumdb/" + c.db.Name + "/" + elem }

// baseURL returns the URL at which the database is asked. The first caller finds it out for all,
// unless its context ends.
func (c *checksums) baseURL(ctx context.Context) (string, error) {
	select {
	case c.finding <- struct{}{}:
		defer func() { <-c.finding }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	if c.base == "" && c.baseErr == nil {
		if c.base = c.db.URL; c.base == "" {
			c.base, c.baseErr = c.fetch.up.SumDB(ctx, c.db.Name)
		}
		if ctx.Err() != nil && c.baseErr != nil {
			err := c.baseErr
			c.baseErr = nil
			return "", err
		}
	}
	return c.base, c.baseErr
}

// get asks the database over the network. elem follows the database's URL.
func (c *checksums) get(ctx context.Context, elem string, limit int64) ([]byte, error) {
	base, err := c.baseURL(ctx)
	if err != nil {
		return nil, err
	}
	return c.fetch.getURL(ctx, base+"/"+elem, limit)
}

// lookup returns the record of m. Callers must not trust it before prove.
func (c *checksums) lookup(ctx context.Context, m module.Version) (proof.Record, error) {
	for {
		l := entry(&c.mu, c.lookups, m)
		l.once.Do(func() {
			l.record, l.err = c.lookupOnce(ctx, m)
			l.stale = l.err != nil && ctx.Err() != nil
		})
		if !l.stale || ctx.Err() != nil {
			return l.record, l.err
		}
		c.mu.Lock() // the context of the first caller ended
		if c.lookups[m] == l {
			delete(c.lookups, m)
		}
		c.mu.Unlock()
	}
}

func (c *checksums) lookupOnce(ctx context.Context, m module.Version) (proof.Record, error) {
	path := modpath.Lookup(c.db.Name, m)
	elem := strings.TrimPrefix(path, c.path(""))
	if data, ok, err := c.fetch.dir.read(path); err != nil {
		return proof.Record{}, err
	} else if ok {
		// The head in the file was proven when it was written; the record is proven again.
		if r, _, err := c.db.ParseLookup(m, data); err == nil {
			return r, nil
		}
	}
	data, err := c.get(ctx, elem, proof.MaxLookup)
	if err != nil {
		return proof.Record{}, fmt.Errorf("%s: looking it up in checksum database %s: %w", m, c.db.Name, err)
	}
	r, head, err := c.db.ParseLookup(m, data)
	if err != nil {
		return proof.Record{}, answered(upstream.Redact(c.base+"/"+elem), err)
	}
	c.mu.Lock()
	c.heads[head.Tree] = head
	c.mu.Unlock()
	c.proveAhead(ctx, r) // one from the mirror directory has its tiles there
	return r, nil
}

// aheadBatch is how many records proveAhead proves at once.
const aheadBatch = 64

// proveAhead proves records, a batch at a time, while others are looked up. That brings the tiles
// into the mirror directory. What it finds out does not count: prove repeats it, perhaps under a
// newer head, and reports errors.
func (c *checksums) proveAhead(ctx context.Context, r proof.Record) {
	c.mu.Lock()
	c.unproven = append(c.unproven, r)
	var batch []proof.Record
	if len(c.unproven) >= aheadBatch {
		batch, c.unproven = c.unproven, nil
	}
	c.mu.Unlock()
	if batch == nil {
		return
	}
	head, err := c.firstHead(ctx)
	if err != nil {
		return
	}
	batch = slices.DeleteFunc(batch, func(r proof.Record) bool { return r.ID >= head.N })
	p := &proof.Prover{Head: head, Source: &tileSource{ctx: ctx, c: c, save: true}}
	p.Records(batch)
}

// firstHead returns the head that prove begins with: the one that a lock names, or the newest one.
func (c *checksums) firstHead(ctx context.Context) (proof.Head, error) {
	if lock := c.fetch.lock; lock != nil {
		head, _, err := lock.heads(c.db)
		return head, err
	}
	return c.latest(ctx)
}

// headFile returns the path at which the mirror directory remembers a head.
func (c *checksums) headFile(size int64) string {
	return c.path("heads/" + strconv.FormatInt(size, 10))
}

// remembered returns the heads of earlier runs, smallest first.
func (c *checksums) remembered() ([]proof.Head, error) {
	dir := c.fetch.dir.Path(c.path("heads"))
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var heads []proof.Head
	for _, f := range files {
		name := filepath.Join(dir, f.Name())
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		h, err := c.db.ParseHead(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		heads = append(heads, h)
	}
	slices.SortFunc(heads, func(a, b proof.Head) int { return cmp.Compare(a.N, b.N) })
	return heads, nil
}

// A proven is the result of prove.
type proven struct {
	head   proof.Head
	newest proof.Head   // the largest head that was seen; differs from head only with a lock
	heads  []proof.Head // earlier heads, smallest first
	tiles  []string     // GOPROXY paths of the tiles with which a go command repeats the proofs

	records []proof.Record // that were proven; store writes them

	trees []int64 // sizes of trees that clients remember and that have no known head
}

// prove chooses a head, and proves under it every record, also those of the lines. It proves that
// the head continues every other head that was seen. All lookups must be done. Afterwards the
// mirror directory has the tiles with which a go command repeats the proofs.
//
// The head is the largest one: answers carry different heads, and a cached /latest may be older
// than the answer to a lookup.
func (c *checksums) prove(ctx context.Context, job *Job, carried func(module.Version) bool) (*proven, error) {
	lines := job.Lines
	head, err := c.firstHead(ctx)
	if err != nil {
		return nil, err
	}
	c.heads[head.Tree] = head
	earlier, err := c.remembered()
	if err != nil {
		return nil, err
	}
	for _, l := range lines {
		for _, h := range l.Heads {
			if h, err = c.db.ParseHead(h.Note); err != nil { // the key of a bundle does not vouch for the database
				return nil, err
			}
			earlier = append(earlier, h)
		}
	}
	for _, h := range earlier {
		c.heads[h.Tree] = h
	}
	for _, h := range c.heads {
		if h.N > head.N {
			head = h
		}
	}
	p := &proven{head: head, newest: head, heads: proof.MergeHeads(head.N, earlier)}
	if job.Lock != nil {
		if p.head, earlier, err = job.Lock.heads(c.db); err != nil {
			return nil, err
		}
		c.heads[p.head.Tree] = p.head
		if p.newest.N < p.head.N {
			p.newest = p.head
		}
		p.heads = proof.MergeHeads(p.head.N, earlier)
	}
	for _, t := range job.Trees {
		if t.DB == c.db.Name && t.Size <= p.head.N {
			p.trees = append(p.trees, t.Size)
		}
	}
	var records, others []proof.Record
	for m, l := range c.lookups {
		switch {
		case l.err != nil:
		case carried(m):
			records = append(records, l.record)
		default:
			others = append(others, l.record)
		}
	}
	for _, h := range p.heads {
		delete(c.heads, h.Tree)
	}
	source := &tileSource{ctx: ctx, c: c, save: true}
	p.tiles, err = c.proveUnder(p, records, others, lines, source)
	if errors.Is(err, proof.ErrMismatch) {
		// The disk may have damaged a tile: read all of them over the network before blaming
		// anyone.
		source.fresh = true
		p.tiles, err = c.proveUnder(p, records, others, lines, source)
	}
	if err != nil {
		return nil, err
	}
	p.records = append(records, others...)
	return p, nil
}

// latest returns the newest head of the database, which it asks once.
func (c *checksums) latest(ctx context.Context) (proof.Head, error) {
	c.asking.Lock()
	defer c.asking.Unlock()
	if c.newest != nil {
		return *c.newest, nil
	}
	if c.newestErr != nil {
		return proof.Head{}, c.newestErr
	}
	if h, ok := c.fetch.recent.head(c.db); ok {
		c.newest = &h
		return h, nil
	}
	msg, err := c.get(ctx, "latest", proof.MaxLookup)
	if err != nil {
		err = fmt.Errorf("reading the head of checksum database %s: %w", c.db.Name, err)
	}
	var h proof.Head
	if err == nil {
		h, err = c.db.ParseHead(msg)
		err = answered(upstream.Redact(c.base+"/latest"), err)
	}
	switch {
	case err == nil:
		c.newest = &h
		c.fetch.recent.setHead(c.db.Name, h)
	case ctx.Err() == nil: // others need not ask again
		c.newestErr = err
	}
	return h, err
}

// needed returns the paths of the tiles that prove records of versions in the mirror directory, and
// the remembered heads, under the largest of these. It asks the network for nothing but the place
// of the database.
func (c *checksums) needed(ctx context.Context, records []proof.Record) (map[string]bool, error) {
	heads, err := c.remembered()
	if err != nil || len(heads) == 0 {
		return nil, err
	}
	found := &proven{head: heads[len(heads)-1], newest: heads[len(heads)-1], heads: heads[:len(heads)-1]}
	tiles, err := c.proveUnder(found, records, nil, nil, &tileSource{ctx: ctx, c: c})
	needed := make(map[string]bool, len(tiles))
	for _, t := range tiles {
		needed[t] = true
	}
	return needed, err
}

// proveUnder proves records, others and earlier heads. It returns the paths of the tiles that a go
// command asks for to repeat the proofs of records, of the lines' records and of the earlier heads,
// but not those for others.
func (c *checksums) proveUnder(
	found *proven, records, others []proof.Record, lines []Line, source *tileSource,
) (tiles []string, err error) {
	head := found.head
	p := &proof.Prover{Head: head, Source: source}
	if err := p.ProveHead(); err != nil {
		return nil, err
	}
	if err := p.Records(records); err != nil {
		return nil, err
	}
	for _, l := range lines {
		if l.Own {
			if err := p.Records(l.Records); err != nil {
				return nil, err
			}
		}
	}
	var used []tlog.Tile
	for _, h := range found.heads {
		// A client inside that remembers this head recomputes it from its own tiles first.
		old := &proof.Prover{Head: h, Source: source}
		if err := old.ProveHead(); err != nil {
			return nil, err
		}
		if err := p.ProveConsistency(h); err != nil {
			return nil, err
		}
		used = append(used, old.Tiles()...)
	}
	for _, size := range found.trees {
		tree, err := p.TreeAt(size)
		if err != nil {
			return nil, err
		}
		old := &proof.Prover{Head: proof.Head{Tree: tree}, Source: source}
		if err := old.ProveHead(); err != nil {
			return nil, err
		}
		used = append(used, old.Tiles()...)
	}
	used = append(used, p.Tiles()...)
	for _, l := range lines {
		if l.Own {
			continue
		}
		beside := &proof.Prover{Head: head, Source: source}
		if err := beside.Records(l.Records); err != nil {
			return nil, err
		}
		for _, t := range beside.Tiles() {
			if has, err := l.Has(c.path(t.Path())); err != nil {
				return nil, err
			} else if !has {
				used = append(used, t)
			}
		}
	}
	if err := (&proof.Prover{Head: head, Source: source}).Records(others); err != nil {
		return nil, err
	}
	// No client sees the heads of single answers, so their tiles are not kept.
	check := &proof.Prover{Head: found.newest, Source: &tileSource{ctx: source.ctx, c: c, fresh: source.fresh}}
	var eg errgroup.Group
	eg.SetLimit(readsInFlight)
	for _, h := range c.heads {
		eg.Go(func() error { return check.ProveConsistency(h) })
	}
	if err := eg.Wait(); err != nil {
		return nil, err
	}
	for _, t := range used {
		tiles = append(tiles, c.path(t.Path()))
	}
	slices.Sort(tiles)
	return slices.Compact(tiles), nil
}

// store writes proven records and their head into the mirror directory.
func (c *checksums) store(head proof.Head, records []proof.Record) error {
	for _, r := range records {
		if err := c.fetch.dir.update(modpath.Lookup(c.db.Name, r.Mod), r.Lookup(head)); err != nil {
			return err
		}
	}
	if err := c.fetch.dir.update(c.headFile(head.N), head.Note); err != nil {
		return err
	}
	if err := c.fetch.dir.update(c.path("supported"), nil); err != nil {
		return err
	}
	return c.fetch.dir.update(c.path("latest"), head.Note)
}

// A tileSource reads tiles from the mirror directory, or else from the network.
type tileSource struct {
	ctx   context.Context
	c     *checksums
	save  bool // keep authenticated tiles
	fresh bool // ignore the mirror directory
}

// ReadTiles reads tiles side by side.
func (s *tileSource) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(tiles))
	eg, ctx := errgroup.WithContext(s.ctx)
	eg.SetLimit(readsInFlight)
	for i, t := range tiles {
		eg.Go(func() (err error) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			data[i], err = s.readTile(t)
			return err
		})
	}
	return data, eg.Wait()
}

// readTile reads a tile from the disk, or else from the network. In both places it looks for the
// exact tile and then for the full one, as the go command does (x/mod/sumdb/client.go readTile).
//
// Goroutines that read the same tile share an answer, whose request ends with s.ctx alone.
func (s *tileSource) readTile(t tlog.Tile) ([]byte, error) {
	full := proof.FullTile(t)
	for _, t1 := range []tlog.Tile{t, full} {
		if s.fresh {
			break
		}
		if data, ok, err := s.c.fetch.dir.read(s.c.path(t1.Path())); err != nil {
			return nil, err
		} else if ok && len(data) == t1.W*tlog.HashSize {
			return data[:t.W*tlog.HashSize], nil
		}
	}
	get := func(t tlog.Tile) ([]byte, error) { return s.c.get(s.ctx, t.Path(), int64(full.W*tlog.HashSize)) }
	data, err, _ := s.c.tiles.Do(t.Path(), func() (any, error) { return proof.ReadTile(t, get, upstream.Refused) })
	if err != nil {
		return nil, fmt.Errorf("reading %s of checksum database %s: %w", t.Path(), s.c.db.Name, err)
	}
	return data.([]byte), nil
}

// SaveTiles writes authenticated tiles into the mirror directory.
func (s *tileSource) SaveTiles(tiles []tlog.Tile, data [][]byte) error {
	if !s.save {
		return nil
	}
	for i, t := range tiles {
		if err := s.c.fetch.dir.update(s.c.path(t.Path()), data[i]); err != nil {
			return err
		}
	}
	return nil
}
