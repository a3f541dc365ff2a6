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
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/bucket"
	"github.com/modmirror/modmirror/internal/modpath"
)

// Static is a place for the files of a bundle as a plain tree, for a web server or a CDN.
type Static struct {
	Dir    string         // a folder, or
	Bucket *bucket.Bucket // a bucket, in which each file has its Content-Type and Cache-Control

	AllowRollback bool // write an older bundle over a newer one, or one of another line
	Overwrite     bool // replace what is there although no marker says that it is a tree of bundles

	Wrote func(path string, size int64) // told of each file that is there, by several goroutines; may be nil

	tree           *bundle.PlainTree // in Dir
	files, written atomic.Int64
}

// staticWriters is how many files are written at once; each of at most staticMemory bytes is in memory.
const (
	staticWriters = 4
	staticMemory  = 16 << 20
)

// Publish writes the files of a bundle, verified; those that are there are left alone. In a place
// without a marker it replaces nothing: what is in the way there is a *bundle.OccupiedError. First
// goes what nothing points to before it is there, then lists and answers of the checksum database,
// and its head last, so that clients may read on meanwhile. It returns how many files there are,
// and how many were written.
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
		if err := s.mark(ctx, marker{Name: b.Manifest.Name}); err != nil { // a run that is broken off leaves a tree that the next one may replace
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

// sync makes a tree in a folder survive a crash.
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
	_, err = s.put(ctx, markerName, modpath.Request{Kind: modpath.Latest}, bytes.NewReader(data), int64(len(data)), sha256.Sum256(data))
	return err
}

// checkFree returns a *bundle.OccupiedError when something is in the way of a new tree.
func (s *Static) checkFree(ctx context.Context, b *bundle.Bundle) error {
	if s.Overwrite {
		return nil
	}
	if s.Bucket != nil {
		objects, err := s.Bucket.List(ctx)
		if err == nil && len(objects) > 0 {
			err = &bundle.OccupiedError{File: objects[0].String(), Reason: "no " + markerName + " beside it says that it is of a tree of modmirror"}
		}
		return err
	}
	return b.EachFile(ctx, func(f index.File, _ *io.SectionReader) error {
		_, err := s.tree.Has(f.Path, f.SHA256)
		if req, _ := modpath.Parse(f.Path); err == nil && req.Kind == modpath.Vuln { // it is written packed too
			_, err = s.tree.Has(f.Path+".gz", [32]byte{})
		}
		return err
	})
}

// markerName is the file that says what a tree is of, so that an older bundle is not written over it unawares. It is no path of the GOPROXY protocol.
const markerName = "modmirror.json"

const maxMarker = 4096 // bytes

type marker struct {
	Name     string `json:"name"`
	Sequence int64  `json:"sequence"` // 0 while the first bundle is written
	ID       string `json:"id"`
}

// checkMarker refuses a bundle that is older than the tree, or of another line. It reports whether
// there is a marker.
func (s *Static) checkMarker(ctx context.Context, b *bundle.Bundle) (bool, error) {
	var data []byte
	var err error
	if s.Bucket == nil {
		data, err = s.tree.Read(markerName, maxMarker)
	} else if o, statErr := s.Bucket.Stat(ctx, markerName); statErr != nil {
		err = statErr
	} else {
		data = make([]byte, min(o.Size, maxMarker))
		_, err = o.ReadAt(ctx, data, 0)
	}
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
	switch {
	case s.AllowRollback:
	case m.Name != b.Manifest.Name:
		return true, &bundle.RollbackError{Bundle: b.Path(), Reason: fmt.Sprintf("it is of the line %s, and the tree of %s", b.Manifest.Name, m.Name)}
	case m.Sequence > b.Manifest.Sequence:
		return true, &bundle.RollbackError{Bundle: b.Path(), Reason: fmt.Sprintf("its sequence is %d, and the tree is of %d", b.Manifest.Sequence, m.Sequence)}
	}
	return true, nil
}

// passOf says when files of a kind are written.
func passOf(k modpath.Kind) int {
	switch k {
	case modpath.List, modpath.Latest, modpath.SumLookup, modpath.Vuln:
		return 1
	case modpath.SumLatest:
		return 2
	}
	return 0
}

// file writes a file.
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
		return &bundle.NotVerifiedError{What: f.Path, Err: errHash}
	}
	if err := s.write(ctx, f.Path, req, src, f.Size, f.SHA256); err != nil {
		return err
	}
	if req.Kind != modpath.Vuln { // govulncheck asks for them packed, over HTTP
		return nil
	}
	packed, err := gzipped(io.NewSectionReader(src, 0, f.Size))
	if err != nil {
		return err
	}
	req.Gzip = true
	return s.write(ctx, f.Path+".gz", req, bytes.NewReader(packed), int64(len(packed)), sha256.Sum256(packed))
}

// write writes size bytes to a path, unless they are there.
func (s *Static) write(ctx context.Context, path string, req modpath.Request, src io.ReaderAt, size int64, sum [32]byte) error {
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

// put writes a file, unless it is there, and reports whether it was not.
func (s *Static) put(ctx context.Context, path string, req modpath.Request, src io.ReaderAt, size int64, sum [32]byte) (wrote bool, err error) {
	if s.Bucket != nil {
		return s.upload(ctx, path, req, src, size)
	}
	return s.tree.Write(path, io.NewSectionReader(src, 0, size), sum, nil)
}

func (s *Static) upload(ctx context.Context, path string, req modpath.Request, src io.ReaderAt, size int64) (wrote bool, err error) {
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
