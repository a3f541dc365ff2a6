package serve

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io/fs"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/modpath"
)

// maxPacked is the largest file in bytes that is packed for a client.
const maxPacked = 16 << 20

// servePacked serves a file of the vulnerability database in gzip, which is how govulncheck asks for it over HTTP.
func (h *handler) servePacked(x *exchange, path string, req modpath.Request) error {
	e, err := h.pack(x.req.Context(), path, req)
	if errors.Is(err, fs.ErrNotExist) {
		return h.notFound(x, req)
	}
	if err != nil {
		return err
	}
	e.serve(x, x.req)
	return nil
}

// pack returns a packed file, and leaves it in the cache.
func (h *handler) pack(ctx context.Context, path string, req modpath.Request) (*entry, error) {
	select { // the index of all entries is a megabyte: one at a time
	case h.packing <- struct{}{}:
		defer func() { <-h.packing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if e := h.cache.get(path); e != nil { // another request was faster
		return e, nil
	}
	plain := req
	plain.Gzip = false
	data, err := h.view.ReadFile(ctx, plain.String(), maxPacked)
	if bad, ok := errors.AsType[*bundle.NotVerifiedError](err); ok {
		h.damaged(bad.What)
	}
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return h.made(path, req, buf.Bytes()), nil
}
