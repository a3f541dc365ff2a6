package bucket

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/internal/retry"
	"golang.org/x/sync/errgroup"
)

const (
	// partSize is the size of the parts of an upload in bytes, unless that makes more than
	// maxParts, the limit of S3.
	partSize = 16 << 20
	maxParts = 10_000

	// uploads is how many parts are sent at a time. Each is held in memory.
	uploads = 4

	// partTries is how often a part is sent before an upload fails.
	partTries = 5
)

// Meta has the headers with which the storage serves an object.
type Meta struct{ ContentType, CacheControl string }

// options returns the headers as minio-go takes them.
func (m Meta) options() minio.PutObjectOptions {
	return minio.PutObjectOptions{ContentType: m.ContentType, CacheControl: m.CacheControl}
}

// ETag returns the ETag of an object of these bytes after Upload. Storage makes it of MD5, as
// Amazon's does without a key of one's own; other storage has others.
func ETag(src io.ReaderAt, size int64) (string, error) {
	if size <= partSize {
		h := md5.New()
		_, err := io.Copy(h, io.NewSectionReader(src, 0, size))
		return hex.EncodeToString(h.Sum(nil)), err
	}
	part := partSizeOf(size)
	var sums [][md5.Size]byte
	for at := int64(0); at < size; at += part {
		h := md5.New()
		if _, err := io.Copy(h, io.NewSectionReader(src, at, min(part, size-at))); err != nil {
			return "", err
		}
		sums = append(sums, [md5.Size]byte(h.Sum(nil)))
	}
	return etagOfParts(sums), nil
}

// etagOfParts returns the ETag of an object whose parts have these MD5.
func etagOfParts(sums [][md5.Size]byte) string {
	all := md5.New()
	for _, sum := range sums {
		all.Write(sum[:])
	}
	return fmt.Sprintf("%x-%d", all.Sum(nil), len(sums))
}

// partSizeOf returns the size of the parts of an object. It depends on the size alone, so that a
// later Upload can continue one that was broken off.
func partSizeOf(size int64) int64 {
	n := int64(partSize)
	for (size+n-1)/n > maxParts {
		n *= 2
	}
	return n
}

// Upload writes an object with the bytes of src, in parts. It continues an upload of the object
// that was broken off: it does not send a part that the storage has with the same MD5. It sends
// each part with its MD5 and SHA-256, which the storage compares. The object appears when all of it
// is sent. Upload calls progress, which may be nil, from several goroutines, with the number of
// bytes of each part that the storage has. It returns the ETag of the bytes that it read, as the
// function ETag.
func (b *Bucket) Upload(
	ctx context.Context, name string, src *io.SectionReader, meta Meta, progress func(n int64),
) (etag string, err error) {
	if progress == nil {
		progress = func(int64) {}
	}
	size := src.Size()
	key := b.prefix + name
	opts := meta.options()
	if size <= partSize {
		data := make([]byte, size)
		if _, err := io.ReadFull(io.NewSectionReader(src, 0, size), data); err != nil {
			return "", err
		}
		if etag, err = b.put(ctx, name, data, opts); err != nil {
			return "", err
		}
		progress(size)
		return etag, nil
	}
	id, there, err := b.unfinished(ctx, key)
	if err != nil {
		return "", err
	}
	if id == "" {
		id, err = b.core.NewMultipartUpload(ctx, b.name, key, opts)
		if err := b.done("beginning to upload "+name, err); err != nil {
			return "", err
		}
	}
	part := partSizeOf(size)
	parts := make([]minio.CompletePart, (size+part-1)/part)
	sums := make([][md5.Size]byte, len(parts))
	eg, egctx := errgroup.WithContext(ctx)
	eg.SetLimit(uploads)
	buffers := make(chan []byte, uploads)
	for range uploads {
		buffers <- nil
	}
	for i := range parts {
		if egctx.Err() != nil {
			break
		}
		eg.Go(func() error {
			buf := <-buffers
			if buf == nil {
				buf = make([]byte, part)
			}
			defer func() { buffers <- buf }()
			data := buf[:min(part, size-int64(i)*part)]
			if _, err := io.ReadFull(io.NewSectionReader(src, int64(i)*part, int64(len(data))), data); err != nil {
				return err
			}
			parts[i].PartNumber = i + 1
			sum := md5.Sum(data)
			sums[i] = sum
			parts[i].ETag = hex.EncodeToString(sum[:])
			if p, ok := there[i+1]; !ok || p.Size != int64(len(data)) || strings.Trim(p.ETag, `"`) != parts[i].ETag {
				etag, err := b.putPart(egctx, upload{name, id}, i+1, data)
				if err != nil {
					return err
				}
				parts[i].ETag = etag
			}
			progress(int64(len(data)))
			return nil
		})
	}
	if err := cmp.Or(eg.Wait(), ctx.Err()); err != nil {
		return "", err
	}
	_, err = b.core.CompleteMultipartUpload(ctx, b.name, key, id, parts, opts)
	return etagOfParts(sums), b.done("completing the upload of "+name, err)
}

// Remove removes an object.
func (b *Bucket) Remove(ctx context.Context, name string) error {
	return b.done("removing "+name, b.core.Client.RemoveObject(ctx, b.name, b.prefix+name, minio.RemoveObjectOptions{}))
}

// unfinished returns the newest upload of an object that was not completed, with its parts by
// number. id is "" when there is none.
func (b *Bucket) unfinished(ctx context.Context, key string) (id string, parts map[int]minio.ObjectPart, err error) {
	list, err := b.core.ListMultipartUploads(ctx, b.name, key, "", "", "", 1000)
	if err := b.done("looking for an upload that was broken off", err); err != nil {
		return "", nil, err
	}
	others := func(u minio.ObjectMultipartInfo) bool { return u.Key != key } // names that begin the same
	list.Uploads = slices.DeleteFunc(list.Uploads, others)
	if len(list.Uploads) == 0 {
		return "", nil, nil
	}
	newest := func(a, b minio.ObjectMultipartInfo) int { return a.Initiated.Compare(b.Initiated) }
	id = slices.MaxFunc(list.Uploads, newest).UploadID
	parts = make(map[int]minio.ObjectPart)
	for marker := 0; ; {
		r, err := b.core.ListObjectParts(ctx, b.name, key, id, marker, 1000)
		if err := b.done("looking for parts of an upload that was broken off", err); err != nil {
			return "", nil, err
		}
		for _, p := range r.ObjectParts {
			parts[p.PartNumber] = p
		}
		if !r.IsTruncated || r.NextPartNumberMarker <= marker {
			return id, parts, nil
		}
		marker = r.NextPartNumberMarker
	}
}

// An upload is an upload of an object in parts.
type upload struct{ name, id string }

// putPart sends a part with its MD5, some times if need be, and returns its ETag.
func (b *Bucket) putPart(ctx context.Context, u upload, n int, data []byte) (etag string, err error) {
	sum, hash := md5.Sum(data), sha256.Sum256(data)
	err = again(ctx, func() error {
		opts := minio.PutObjectPartOptions{
			Md5Base64: base64.StdEncoding.EncodeToString(sum[:]), Sha256Hex: hex.EncodeToString(hash[:]),
		}
		p, err := b.core.PutObjectPart(ctx, b.name, b.prefix+u.name, u.id, n, bytes.NewReader(data), int64(len(data)), opts)
		etag = strings.Trim(p.ETag, `"`)
		return b.done(fmt.Sprintf("uploading part %d of %s", n, u.name), err)
	})
	return etag, err
}

// put writes a small object with its MD5 and SHA-256, which the storage compares. It returns the
// MD5 as an ETag.
func (b *Bucket) put(
	ctx context.Context, name string, data []byte, opts minio.PutObjectOptions,
) (etag string, err error) {
	sum, hash := md5.Sum(data), sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), again(ctx, func() error {
		_, err := b.core.PutObject(ctx, b.name, b.prefix+name, bytes.NewReader(data), int64(len(data)),
			base64.StdEncoding.EncodeToString(sum[:]), hex.EncodeToString(hash[:]), opts)
		return b.done("uploading "+name, err)
	})
}

// partPolicy says how often a part is sent.
var partPolicy = retry.Policy{Tries: partTries, First: 500 * time.Millisecond, Max: 4 * time.Second}

// again calls try until it gets an answer, as partPolicy says.
func again(ctx context.Context, try func() error) error {
	return partPolicy.Do(ctx, func() (time.Duration, error) {
		err := try()
		if gone, ok := errors.AsType[*media.UnavailableError](err); !ok || gone.Denied {
			return retry.Never, err
		}
		return 0, err
	})
}
