package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"

	"github.com/modmirror/modmirror/internal/bucket"
	"github.com/modmirror/modmirror/internal/safetree"
)

// A Tree is a plain tree of files below the prefix of a bucket, for serve.Static.
type Tree struct{ bucket *bucket.Bucket }

// OpenTree returns the tree in s3://BUCKET/PREFIX. It makes no request. endpoint is as for Open.
func OpenTree(url, endpoint string) (*Tree, error) {
	b, err := bucket.Open(url, endpoint)
	if err != nil {
		return nil, err
	}
	return &Tree{b}, nil
}

// ReadFile returns the first limit bytes of an object. The error wraps fs.ErrNotExist when there is
// none.
func (t *Tree) ReadFile(ctx context.Context, name string, limit int64) ([]byte, error) {
	o, err := t.bucket.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	data := make([]byte, min(o.Size, limit))
	_, err = o.ReadAt(ctx, data, 0)
	return data, err
}

// CheckFree returns a *safetree.OccupiedError when there is any object.
func (t *Tree) CheckFree(ctx context.Context, _ iter.Seq2[safetree.File, error]) error {
	objects, err := t.bucket.List(ctx)
	if err == nil && len(objects) > 0 {
		err = &safetree.OccupiedError{
			File:   objects[0].String(),
			Reason: "no marker beside it says that it is of a tree of modmirror",
		}
	}
	return err
}

// SetReplace does nothing: objects of other contents are replaced.
func (t *Tree) SetReplace() {}

// Put writes an object with its Content-Type and Cache-Control, unless the bucket has it. It
// removes an object that was not sent whole.
func (t *Tree) Put(ctx context.Context, f safetree.File, src io.ReaderAt) (wrote bool, err error) {
	etag, err := bucket.ETag(src, f.Size)
	if err != nil {
		return false, err
	}
	if o, err := t.bucket.Stat(ctx, f.Path); err == nil && o.Size == f.Size && o.ETag == etag {
		return false, nil
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	meta := bucket.Meta{ContentType: f.ContentType, CacheControl: f.CacheControl}
	sent, err := t.bucket.Upload(ctx, f.Path, io.NewSectionReader(src, 0, f.Size), meta, nil)
	if err == nil && sent != etag {
		err = errors.Join(fmt.Errorf("%s: the bundle changed while it was read", f.Path), t.bucket.Remove(ctx, f.Path))
	}
	return true, err
}

// Sync does nothing.
func (t *Tree) Sync() error { return nil }

// Close does nothing.
func (t *Tree) Close() error { return nil }
