package serve

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/modpath"
)

// smallFile is the largest file in bytes that is served from memory.
const smallFile = 64 << 10

// serveFile serves a file of the bundles: from memory when it is small, else through large.go. An
// error that it returns was not answered yet.
func (h *handler) serveFile(x *exchange, path string, req modpath.Request) error {
	ctx := x.req.Context()
	if data, ok, err := h.view.Merged(ctx, req); err != nil {
		return err
	} else if ok { // a list or @latest that several lines carry
		h.made(path, req, data).serve(x, x.req)
		return nil
	}
	f, e, ok, err := h.find(ctx, path, req)
	switch {
	case err != nil:
		return err
	case !ok && req.Kind == modpath.SumTile:
		return h.serveTile(x, path, req)
	case !ok:
		return h.notFound(x, req)
	case f.Size > smallFile:
		return h.large[f.In].serve(h, x, f.File, e)
	}
	if e.data, err = f.In.Read(ctx, f.File, smallFile); err != nil {
		if _, bad := errors.AsType[*bundle.NotVerifiedError](err); bad {
			h.damaged(path)
		}
		return err
	}
	h.repaired(path)
	h.cache.put(e)
	e.serve(x, x.req)
	return nil
}

// find returns the file at a path, and an entry for it without its data.
func (h *handler) find(
	ctx context.Context, path string, req modpath.Request,
) (f store.Ref, e *entry, ok bool, err error) {

	f, when, known, ok, err := h.view.FileOf(ctx, path, req.Path, req.Version)
	if err == nil && !ok && req.Kind == modpath.Info && reCommit.MatchString(req.Version) {
		f, ok, err = h.byCommit(ctx, req)
	}
	if err != nil || !ok {
		return f, nil, false, err
	}
	e = &entry{
		path: path, kind: kind(req.Kind), etag: etag(f.SHA256), contentType: contentType(req),
		control: cacheControl(req.Kind, known), modified: h.view.Made(f.In),
	}
	switch req.Kind {
	case modpath.Info, modpath.Mod, modpath.Zip:
		if t, err := time.Parse(time.RFC3339, when); err == nil {
			e.modified = t
		}
	}
	return f, e, true, nil
}

// made returns an entry for a body that is not a file of a bundle, and puts it into the cache.
func (h *handler) made(path string, req modpath.Request, data []byte) *entry {
	e := &entry{
		path: path, kind: kind(req.Kind), data: data, etag: etag(sha256.Sum256(data)), contentType: contentType(req),
		control: brief, modified: h.view.Made(h.view.Lines[0]),
	}
	h.cache.put(e)
	return e
}

// An entry describes a body that is served, and holds it when it is small.
type entry struct {
	path        string
	kind        kind
	data        []byte // nil for a large file
	etag        string
	contentType string
	control     string // Cache-Control
	modified    time.Time

	once   sync.Once
	values headerValues // set by once
}

// serve answers with the body in memory.
func (e *entry) serve(w http.ResponseWriter, r *http.Request) {
	e.headers(w)
	if !plain(r) {
		http.ServeContent(w, r, "", e.modified, bytes.NewReader(e.data))
		return
	}
	h := w.Header()
	h["Accept-Ranges"], h["Content-Length"] = acceptBytes, e.values.length
	if r.Method != http.MethodHead {
		w.Write(e.data)
	}
}

// plain reports whether a request asks for the whole body without conditions.
func plain(r *http.Request) bool {
	for _, name := range []string{"Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"} {
		if r.Header[name] != nil {
			return false
		}
	}
	return true
}
