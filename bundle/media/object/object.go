// Package object has bundles in S3-compatible object storage as a shelf of media. It is the only
// package between those of bundles and the S3 client, which programs without a bucket need not
// link.
package object

import (
	"context"
	"io"
	"path"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/internal/bucket"
)

// A Bucket is a shelf of bundles below a prefix of a bucket. It is safe for concurrent use.
type Bucket struct {
	*bucket.Bucket
	cache *media.Cache
}

// IsURL reports whether a name is the URL of a bucket and not the path of a file.
func IsURL(name string) bool { return bucket.IsURL(name) }

// CredentialFiles returns the files and folders that may hold credentials. They are read with the
// first request, and again later.
func CredentialFiles() []string { return bucket.CredentialFiles() }

// Open returns the bucket and prefix of s3://BUCKET/PREFIX. It makes no request. endpoint is the
// URL of the storage; "" stands for $AWS_ENDPOINT_URL_S3, $AWS_ENDPOINT_URL, or Amazon's. Contents
// are read through cache, which Close closes, and which may be nil when only manifests are read.
func Open(url, endpoint string, cache *media.Cache) (*Bucket, error) {
	b, err := bucket.Open(url, endpoint)
	if err != nil {
		return nil, err
	}
	return &Bucket{b, cache}, nil
}

// List returns the bundles in the bucket. Detached signatures and packs are not read from there.
func (b *Bucket) List(ctx context.Context) ([]media.Item, error) {
	objects, err := b.Bucket.List(ctx)
	if err != nil {
		return nil, err
	}
	var items []media.Item
	for _, o := range objects {
		if path.Ext(o.Name) != ".tar" {
			continue
		}
		items = append(items, media.Item{
			Name:    o.Name,
			Path:    o.String(),
			Version: o.ETag,
			Open:    func(context.Context) (media.Media, error) { return b.media(o), nil },
		})
	}
	return items, nil
}

func (b *Bucket) media(o *bucket.Object) media.Media { return media.NewObject(o, o.Size, b.cache) }

// Open returns the media of an object. The error wraps fs.ErrNotExist when there is none.
func (b *Bucket) Open(ctx context.Context, name string) (media.Media, error) {
	o, err := b.Stat(ctx, name)
	if err != nil {
		return nil, err
	}
	return b.media(o), nil
}

// bundleMeta is the metadata of a bundle's object.
var bundleMeta = bucket.Meta{ContentType: "application/x-tar", CacheControl: "public, max-age=31536000, immutable"}

// Upload uploads a bundle of size bytes, or the rest of it when an earlier upload was interrupted.
// progress, which may be nil, is told of uploaded bytes.
func (b *Bucket) Upload(ctx context.Context, name string, src io.ReaderAt, size int64, progress func(n int64)) error {
	_, err := b.Bucket.Upload(ctx, name, io.NewSectionReader(src, 0, size), bundleMeta, progress)
	return err
}

// Close closes the cache.
func (b *Bucket) Close() error {
	if b.cache == nil {
		return nil
	}
	return b.cache.Close()
}

// Heals returns true: an object may have been damaged on its way.
func (b *Bucket) Heals() bool { return true }

// Stats returns the counters of the cache, and false without one.
func (b *Bucket) Stats() (media.CacheStats, bool) {
	if b.cache == nil {
		return media.CacheStats{}, false
	}
	return b.cache.Stats(), true
}
