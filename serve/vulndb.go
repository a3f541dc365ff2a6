package serve

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/modpath"
)

// maxCompressed is the largest file in bytes that is compressed for a client.
const maxCompressed = 16 << 20

// serveGzip serves a compressed file of the vulnerability database: govulncheck asks for these over
// HTTP.
func (h *handler) serveGzip(x *exchange, path string, req modpath.Request) error {
	e, err := h.compress(x.req.Context(), path, req)
	if errors.Is(err, fs.ErrNotExist) {
		return h.notFound(x, req)
	}
	if err != nil {
		return err
	}
	e.serve(x, x.req)
	return nil
}

// compress returns a compressed file, and puts it into the cache. The index of all entries has a
// megabyte, so only one file is compressed at a time.
func (h *handler) compress(ctx context.Context, path string, req modpath.Request) (*entry, error) {
	select {
	case h.compressing <- struct{}{}:
		defer func() { <-h.compressing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if e := h.cache.get(path); e != nil { // another request was faster
		return e, nil
	}
	plain := req
	plain.Gzip = false
	data, err := h.view.ReadFile(ctx, plain.String(), maxCompressed)
	if bad, ok := errors.AsType[*bundle.NotVerifiedError](err); ok {
		h.damaged(bad.What)
	}
	if err != nil {
		return nil, err
	}
	if data, err = gzipped(bytes.NewReader(data)); err != nil {
		return nil, err
	}
	return h.made(path, req, data), nil
}

// gzipped returns the bytes of r in gzip.
func gzipped(r io.Reader) ([]byte, error) {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := io.Copy(z, r); err != nil {
		return nil, err
	}
	err := z.Close()
	return buf.Bytes(), err
}
