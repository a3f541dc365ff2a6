package serve

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync/atomic"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/bucket"
	"github.com/modmirror/modmirror/internal/modpath"
)

// A Static publishes the files of a bundle as a plain tree, for a web server or a CDN. Set Dir or
// Bucket.
type Static struct {
	Dir    string         // a folder
	Bucket *bucket.Bucket // each object gets its Content-Type and Cache-Control

	AllowRollback bool // write an older bundle over a newer one, or one of another line
	Overwrite     bool // replace files although no marker says that they are a tree of bundles

	Wrote func(path string, size int64) // called for each file in the tree, by several goroutines; may be nil

	tree           *bundle.PlainTree // in Dir; nil for a bucket
	files, written atomic.Int64
}

// staticWriters is how many files are written at once. A file of at most staticMemory bytes is held
// in memory.
const (
	staticWriters = 4
	staticMemory  = 16 << 20
)

// Publish verifies and writes the files of a bundle, but those that the tree has already. Without a
// marker in the tree it replaces nothing, and returns a *bundle.OccupiedError for a file in the
// way. Clients may read meanwhile: the files that others refer to are written first, then lists and
// answers of the checksum database, and its head last. Publish returns how many files the tree has
// of the bundle, and how many of them it wrote.
func (s *Static) Publish(ctx context.Context, b *bundle.Bundle) (files, written int64, err error) {
	if s.Bucket == nil {
		if s.tree, err = bundle.OpenPlainTree(s.Dir); err != nil {
			return 0, 0, err
		}
		defer s.tree.Close()
	}
	marked, err := s.checkMarker(ctx, b)
	if err != nil {
		return 0, 0, err
	}
	if !marked {
		if err := s.checkFree(ctx, b); err != nil {
			return 0, 0, err
		}
		// The next run may replace the tree of one that is broken off.
		if err := s.mark(ctx, marker{Name: b.Manifest.Name}); err != nil {
			return 0, 0, err
		}
	}
	if s.tree != nil {
		s.tree.Replace = true
	}
	const passes = 3
	for pass := range passes {
		eg, ctx := errgroup.WithContext(ctx)
		eg.SetLimit(staticWriters)
		err := b.EachFile(ctx, func(f index.File, content *io.SectionReader) error {
			req, err := modpath.Parse(f.Path)
			if err != nil {
				req = modpath.Request{} // README.txt
			}
			if passOf(req.Kind) != pass {
				return nil
			}
			eg.Go(func() error { return s.file(ctx, f, req, content) })
			return ctx.Err()
		})
		if err := cmp.Or(eg.Wait(), err); err != nil {
			return s.files.Load(), s.written.Load(), err
		}
	}
	if err := s.sync(); err != nil {
		return s.files.Load(), s.written.Load(), err
	}
	err = s.mark(ctx, marker{b.Manifest.Name, b.Manifest.Sequence, b.ID()})
	return s.files.Load(), s.written.Load(), errors.Join(err, s.sync())
}

// sync flushes a tree in a folder to the disk.
func (s *Static) sync() error {
	if s.tree == nil {
		return nil
	}
	return s.tree.Sync()
}

// mark writes the marker.
func (s *Static) mark(ctx context.Context, m marker) error {
	data, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if s.tree != nil {
		s.tree.Replace = true
	}
	req := modpath.Request{Kind: modpath.Latest} // for its Content-Type and Cache-Control
	_, err = s.put(ctx, markerName, req, bytes.NewReader(data), int64(len(data)), sha256.Sum256(data))
	return err
}

// checkFree returns a *bundle.OccupiedError when a file is in the way of a new tree.
func (s *Static) checkFree(ctx context.Context, b *bundle.Bundle) error {
	if s.Overwrite {
		return nil
	}
	if s.Bucket != nil {
		objects, err := s.Bucket.List(ctx)
		if err == nil && len(objects) > 0 {
			err = &bundle.OccupiedError{
				File:   objects[0].String(),
				Reason: "no " + markerName + " beside it says that it is of a tree of modmirror",
			}
		}
		return err
	}
	return b.EachFile(ctx, func(f index.File, _ *io.SectionReader) error {
		_, err := s.tree.Has(f.Path, f.SHA256)
		if req, _ := modpath.Parse(f.Path); err == nil && req.Kind == modpath.Vuln { // file writes it compressed too
			_, err = s.tree.Has(f.Path+".gz", [32]byte{})
		}
		return err
	})
}

// markerName is a file that says which bundle a tree is of, so that Publish does not write an older
// one over it. It is not a path of the GOPROXY protocol.
const markerName = "modmirror.json"

const maxMarker = 4096 // bytes

// A marker is the content of the file markerName.
type marker struct {
	Name     string `json:"name"`
	Sequence int64  `json:"sequence"` // 0 while the first bundle is written
	ID       string `json:"id"`
}

// readMarker returns the content of the marker. The error wraps fs.ErrNotExist when there is none.
func (s *Static) readMarker(ctx context.Context) ([]byte, error) {
	if s.Bucket == nil {
		return s.tree.Read(markerName, maxMarker)
	}
	o, err := s.Bucket.Stat(ctx, markerName)
	if err != nil {
		return nil, err
	}
	data := make([]byte, min(o.Size, maxMarker))
	_, err = o.ReadAt(ctx, data, 0)
	return data, err
}

// checkMarker returns a *bundle.RollbackError for a bundle that is older than the tree, or of
// another line. It reports whether there is a marker.
func (s *Static) checkMarker(ctx context.Context, b *bundle.Bundle) (bool, error) {
	data, err := s.readMarker(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var m marker
	if err := json.Unmarshal(data, &m); err != nil {
		return false, fmt.Errorf("%s says what the tree is of, and cannot be read: %w", markerName, err)
	}
	reason := ""
	switch {
	case s.AllowRollback:
		return true, nil
	case m.Name != b.Manifest.Name:
		reason = fmt.Sprintf("it is of the line %s, and the tree of %s", b.Manifest.Name, m.Name)
	case m.Sequence > b.Manifest.Sequence:
		reason = fmt.Sprintf("its sequence is %d, and the tree is of %d", b.Manifest.Sequence, m.Sequence)
	default:
		return true, nil
	}
	return true, &bundle.RollbackError{Bundle: b.Path(), Reason: reason}
}

// passOf returns the pass, from 0, in which Publish writes files of a kind.
func passOf(k modpath.Kind) int {
	switch k {
	case modpath.List, modpath.Latest, modpath.SumLookup, modpath.Vuln:
		return 1
	case modpath.SumLatest:
		return 2
	}
	return 0
}

// file verifies and writes a file, and a compressed copy of one of the vulnerability database: web
// servers have these for govulncheck, which asks for them over HTTP.
func (s *Static) file(ctx context.Context, f index.File, req modpath.Request, content *io.SectionReader) error {
	h := sha256.New()
	var src io.ReaderAt = content
	if f.Size <= staticMemory {
		data := make([]byte, f.Size)
		if _, err := io.ReadFull(content, data); err != nil {
			return err
		}
		h.Write(data)
		src = bytes.NewReader(data)
	} else if _, err := io.Copy(h, content); err != nil {
		return err
	}
	if [32]byte(h.Sum(nil)) != f.SHA256 {
		return &bundle.NotVerifiedError{What: f.Path, Err: media.ErrHash}
	}
	if err := s.write(ctx, f.Path, req, src, f.Size, f.SHA256); err != nil {
		return err
	}
	if req.Kind != modpath.Vuln {
		return nil
	}
	data, err := gzipped(io.NewSectionReader(src, 0, f.Size))
	if err != nil {
		return err
	}
	req.Gzip = true
	return s.write(ctx, f.Path+".gz", req, bytes.NewReader(data), int64(len(data)), sha256.Sum256(data))
}

// write writes size bytes to a path, unless the tree has them, and counts the file.
func (s *Static) write(
	ctx context.Context, path string, req modpath.Request, src io.ReaderAt, size int64, sum [32]byte,
) error {
	wrote, err := s.put(ctx, path, req, src, size, sum)
	if err != nil {
		return err
	}
	s.files.Add(1)
	if wrote {
		s.written.Add(1)
	}
	if s.Wrote != nil {
		s.Wrote(path, size)
	}
	return nil
}

// put writes a file, unless the tree has it, and reports whether it wrote.
func (s *Static) put(
	ctx context.Context, path string, req modpath.Request, src io.ReaderAt, size int64, sum [32]byte,
) (wrote bool, err error) {
	if s.Bucket != nil {
		return s.upload(ctx, path, req, src, size)
	}
	return s.tree.Write(path, io.NewSectionReader(src, 0, size), sum, nil)
}

// upload writes an object, unless the bucket has it, and reports whether it wrote. It removes an
// object that was not sent whole.
func (s *Static) upload(
	ctx context.Context, path string, req modpath.Request, src io.ReaderAt, size int64,
) (wrote bool, err error) {
	etag, err := bucket.ETag(src, size)
	if err != nil {
		return false, err
	}
	if o, err := s.Bucket.Stat(ctx, path); err == nil && o.Size == size && o.ETag == etag {
		return false, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	meta := bucket.Meta{
		ContentType:  contentType(req),
		CacheControl: cacheControl(req.Kind, module.CanonicalVersion(req.Version) == req.Version),
	}
	sent, err := s.Bucket.Upload(ctx, path, src, size, meta, nil)
	if err == nil && sent != etag {
		err = errors.Join(fmt.Errorf("%s: the bundle changed while it was read", path), s.Bucket.Remove(ctx, path))
	}
	return true, err
}
