package bundle

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"
)

// checkIndex checks the index in full: SQLite's own checks, every value, that it is the index of
// this bundle, that its files are those of a GOPROXY tree, and that they tile the payload.
func (b *Bundle) checkIndex(ctx context.Context) error {
	m := &b.Manifest
	if err := b.Index.CheckPages(ctx); err != nil {
		return wrapBad(ctx, err)
	}
	rows := make(chan error, 1)
	go func() { rows <- b.Index.CheckRows(ctx, m.Head.N) }() // on another core than the files
	err := b.checkFiles(ctx)
	if err := <-rows; err != nil {
		return wrapBad(ctx, err)
	}
	return err
}

// checkFiles is checkIndex for the bundle's line and its files.
func (b *Bundle) checkFiles(ctx context.Context) (err error) {
	m := &b.Manifest
	c, err := b.Index.Counts(ctx)
	if err != nil {
		return wrapBad(ctx, err)
	}
	if c != m.Counts {
		return badIndex("it counts %+v, the manifest %+v", c, m.Counts)
	}
	if err := b.checkLine(); err != nil {
		return badIndex("%v", err)
	}
	if err := b.checkHeads(ctx); err != nil {
		return err
	}
	paths := newPathChecker(m.DB)
	defer func() {
		if bad := paths.wait(); bad != nil && err == nil {
			err = badIndex("%v", bad)
		}
	}()
	tiling := tiling{b: b, files: c.Files}
	for f, err := range b.Index.Files(ctx) {
		if err != nil {
			return wrapBad(ctx, err)
		}
		if err := tiling.add(f); err != nil {
			return err
		}
		if f.Path != readmeName {
			paths.add(f.Path)
		}
	}
	return tiling.end()
}

// badIndex returns the error of an index that does not verify.
func badIndex(format string, args ...any) error {
	return &NotVerifiedError{What: indexName, Err: fmt.Errorf(format, args...)}
}

// A tiling checks that the files of an index, in its order, lie one after another in their bundles,
// and that those of the bundle itself fill it without a hole.
type tiling struct {
	b     *Bundle
	files int64 // rows in the index

	line int        // position of the current bundle in the line
	prev index.File // zero before the first file
	at   int64      // where the next file of the current bundle begins, at the earliest
}

// add checks the next file.
func (t *tiling) add(f index.File) error {
	b := t.b
	if f.Bundle != t.prev.Bundle { // the next bundle of the line
		t.at, t.prev.Path = 0, ""
		for t.line < len(b.line) && b.line[t.line].ID != f.Bundle {
			t.line++
		}
	}
	own := f.Bundle == b.own()
	at := f.Offset - headerSize(f.Path)
	switch {
	case t.line == len(b.line), f.ID < 1, f.ID > t.files: // so the numbers are 1 to n
		return badIndex("file %.200q has an impossible number", f.Path)
	case own && t.at == 0 && f.Path != readmeName:
		return badIndex("first file is %.200q, not %s", f.Path, readmeName)
	case f.Path == readmeName && (!own || t.at > 0):
		return badIndex("%s is not the first file", readmeName)
	case f.Path <= t.prev.Path && t.prev.Path != readmeName:
		return badIndex("file %.200q is not in order", f.Path)
	case f.Size < 0 || f.Size > maxEntry || at < t.at || at > maxSize || own && at != t.at: // replaced files left holes in earlier bundles
		return badIndex("file %.200q is not where the one before it ends", f.Path)
	}
	t.at = f.Offset + f.Size + padding(f.Size)
	if own && t.at > b.Manifest.Size {
		return badIndex("file %.200q is past the end", f.Path)
	}
	t.prev = f
	return nil
}

// end checks that the last file ends where the bundle does.
func (t *tiling) end() error {
	b := t.b
	if t.prev.Bundle != b.own() {
		return badIndex("it has no file of this bundle")
	}
	if b.payload+t.at+endSize != b.Manifest.Size {
		return badIndex("its files end at byte %d of %d", b.payload+t.at, b.Manifest.Size)
	}
	return nil
}

// checkLine checks that the index names this bundle and those before it in its line.
func (b *Bundle) checkLine() error {
	m := &b.Manifest
	last := len(b.line) - 1
	for i, x := range b.line {
		var bad bool
		if i == last {
			bad = x.Digest != "" || x.Payload != 0 || x.Sequence != m.Sequence
		} else {
			bad = parseHex(make([]byte, sha256.Size), x.Digest) != nil || strings.ToLower(x.Digest) != x.Digest ||
				x.Payload < blockSize || x.Payload%blockSize != 0 || x.Payload > maxSize || x.Sequence >= b.line[i+1].Sequence
		}
		if bad {
			return errors.New("it is of another bundle")
		}
	}
	if last == 0 && m.Base != "" || last > 0 && b.line[last-1].Digest != m.Base {
		return errors.New("it is of a line that does not end with the manifest's base")
	}
	return nil
}

// checkHeads checks that the tree heads match their notes, and that the last one is the manifest's.
// The signatures on the notes are not verified here: VerifyDeep and clients know the database's
// key.
func (b *Bundle) checkHeads(ctx context.Context) error {
	last := tlog.Tree{}
	for h, err := range b.Index.Heads(ctx) {
		if err != nil {
			return wrapBad(ctx, err)
		}
		if last, err = headOf(h); err != nil {
			return &NotVerifiedError{What: indexName, Err: err}
		}
	}
	if last != b.Manifest.Head {
		return &NotVerifiedError{What: indexName, Err: errors.New("its tree head is not the one that the manifest names")}
	}
	return nil
}

// headOf returns the tree of a head, which must match the head's note. It does not verify the
// signature on the note.
func headOf(h index.Head) (tlog.Tree, error) {
	n, err := trust.OpenUnverified([]byte(h.Note))
	if err != nil {
		return tlog.Tree{}, fmt.Errorf("tree head %d: %w", h.Size, err)
	}
	tree, err := tlog.ParseTree([]byte(n.Text))
	if err != nil || tree.N != h.Size || tree.Hash.String() != h.Hash {
		return tree, fmt.Errorf("tree head %d is not the one in its note", h.Size)
	}
	return tree, nil
}

// A pathChecker checks the paths of files on other cores than the reader of the index uses.
type pathChecker struct {
	db    string
	eg    errgroup.Group
	batch []string
}

// pathBatch is the number of paths that one goroutine checks at a time.
const pathBatch = 1000

func newPathChecker(db string) *pathChecker {
	c := &pathChecker{db: db}
	c.eg.SetLimit(runtime.GOMAXPROCS(0))
	return c
}

// add passes a path to the checker.
func (c *pathChecker) add(path string) {
	if c.batch = append(c.batch, path); len(c.batch) == pathBatch {
		c.send()
	}
}

// send begins to check the paths of a batch.
func (c *pathChecker) send() {
	batch := c.batch
	c.batch = nil
	c.eg.Go(func() error {
		for _, p := range batch {
			if err := checkPath(p, c.db); err != nil {
				return err
			}
		}
		return nil
	})
}

// wait returns when all paths are checked, with the error of a bad one.
func (c *pathChecker) wait() error {
	c.send()
	return c.eg.Wait()
}

// checkPath checks that path belongs to a GOPROXY tree with the checksum database db. No such path
// is the folder of another, so that a tar can hold them all.
func checkPath(path, db string) error {
	if err := modpath.CheckFile(path); err != nil {
		return err
	}
	r, err := modpath.Parse(path)
	if err == nil && r.DB != "" && r.DB != db {
		err = fmt.Errorf("%.200q is of another checksum database", path)
	}
	if err == nil && r.Gzip {
		err = fmt.Errorf("%.200q is not carried packed", path)
	}
	return err
}
