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
	"iter"
	"sync/atomic"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/safetree"
)

// A Tree is where a plain tree is written: a folder, or a bucket of package object. Different files
// may be written concurrently.
type Tree interface {
	// ReadFile returns the content of a file of at most limit bytes. The error wraps fs.ErrNotExist
	// when the tree has no such file.
	ReadFile(ctx context.Context, name string, limit int64) ([]byte, error)

	// CheckFree returns a *bundle.OccupiedError when something is in the way of files.
	CheckFree(ctx context.Context, files iter.Seq2[safetree.File, error]) error

	// SetReplace lets Put replace files of other contents.
	SetReplace()

	// Put writes f unless the tree has it, and reports whether it wrote.
	Put(ctx context.Context, f safetree.File, src io.ReaderAt) (wrote bool, err error)

	// Sync makes the written files survive a crash.
	Sync() error

	// Close releases the tree.
	Close() error
}

// A Static publishes the files of a bundle as a plain tree, for a web server or a CDN.
type Static struct {
	Dir string // folder of the tree, made if needed
	To  Tree   // tree in a bucket, instead of Dir

	AllowRollback bool // write an older bundle over a newer one, or one of another line
	Overwrite     bool // replace files although no marker says that they are a tree of bundles

	Wrote func(path string, size int64) // called for each file in the tree, by several goroutines; may be nil

	tree           Tree // To, or that in Dir
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
	if s.tree = s.To; s.tree == nil {
		t, err := safetree.Open(s.Dir)
		if err != nil {
			return 0, 0, err
		}
		s.tree = t
	}
	defer s.tree.Close()
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
	s.tree.SetReplace()
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
	if err := s.tree.Sync(); err != nil {
		return s.files.Load(), s.written.Load(), err
	}
	err = s.mark(ctx, marker{b.Manifest.Name, b.Manifest.Sequence, b.ID()})
	return s.files.Load(), s.written.Load(), errors.Join(err, s.tree.Sync())
}

// mark writes the marker.
func (s *Static) mark(ctx context.Context, m marker) error {
	data, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	s.tree.SetReplace()
	req := modpath.Request{Kind: modpath.Latest} // for its Content-Type and Cache-Control
	_, err = s.tree.Put(ctx, fileOf(markerName, req, int64(len(data)), sha256.Sum256(data)), bytes.NewReader(data))
	return err
}

// checkFree returns a *bundle.OccupiedError when a file is in the way of a new tree.
func (s *Static) checkFree(ctx context.Context, b *bundle.Bundle) error {
	if s.Overwrite {
		return nil
	}
	return s.tree.CheckFree(ctx, func(yield func(safetree.File, error) bool) {
		err := b.EachFile(ctx, func(f index.File, _ *io.SectionReader) error {
			if !yield(safetree.File{Path: f.Path, SHA256: f.SHA256}, nil) {
				return errStop
			}
			// file writes those of the vulnerability database compressed too.
			if req, _ := modpath.Parse(f.Path); req.Kind == modpath.Vuln && !yield(safetree.File{Path: f.Path + ".gz"}, nil) {
				return errStop
			}
			return nil
		})
		if err != nil && err != errStop {
			yield(safetree.File{}, err)
		}
	})
}

// errStop ends EachFile.
var errStop = errors.New("stop")

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

// checkMarker returns a *bundle.RollbackError for a bundle that is older than the tree, or of
// another line. It reports whether there is a marker.
func (s *Static) checkMarker(ctx context.Context, b *bundle.Bundle) (bool, error) {
	data, err := s.tree.ReadFile(ctx, markerName, maxMarker)
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
	if s.AllowRollback {
		return true, nil
	}
	return true, b.Manifest.Accept(b.Path(), bundle.Known{Name: m.Name, Sequence: m.Sequence, What: "that of the tree"})
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
	if err := s.write(ctx, fileOf(f.Path, req, f.Size, f.SHA256), src); err != nil {
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
	return s.write(ctx, fileOf(f.Path+".gz", req, int64(len(data)), sha256.Sum256(data)), bytes.NewReader(data))
}

// write writes a file, unless the tree has it, and counts it.
func (s *Static) write(ctx context.Context, f safetree.File, src io.ReaderAt) error {
	wrote, err := s.tree.Put(ctx, f, src)
	if err != nil {
		return err
	}
	s.files.Add(1)
	if wrote {
		s.written.Add(1)
	}
	if s.Wrote != nil {
		s.Wrote(f.Path, f.Size)
	}
	return nil
}

// fileOf returns the file of a request, as web servers serve it.
func fileOf(path string, req modpath.Request, size int64, sum [32]byte) safetree.File {
	return safetree.File{
		Path: path, Size: size, SHA256: sum,
		ContentType:  contentType(req),
		CacheControl: cacheControl(req.Kind, module.CanonicalVersion(req.Version) == req.Version),
	}
}
