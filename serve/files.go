package serve

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/modpath"
)

// smallFile is the largest file in bytes that is served from memory.
const smallFile = 64 << 10

// serveFile serves a file of the bundle. A returned error was not answered yet.
func (h *handler) serveFile(x *exchange, path string, req modpath.Request) error {
	if data, ok, err := h.view.Merged(x.req.Context(), req); err != nil {
		return err
	} else if ok {
		h.made(path, req, data).serve(x, x.req)
		return nil
	}
	f, when, known, ok, err := h.view.FileOf(x.req.Context(), path, req.Path, req.Version)
	if err != nil {
		return err
	}
	if !ok && req.Kind == modpath.Info && reCommit.MatchString(req.Version) {
		f, ok, err = h.byCommit(x.req.Context(), req)
		if err != nil {
			return err
		}
	}
	if !ok && req.Kind == modpath.SumTile {
		return h.serveTile(x, path, req)
	}
	if !ok {
		return h.notFound(x, req)
	}
	e := &entry{path: path, kind: kind(req.Kind), etag: etag(f.SHA256), contentType: contentType(req), control: brief, modified: h.view.Made(f.In)}
	switch req.Kind {
	case modpath.Info, modpath.Mod, modpath.Zip:
		if known { // else it is a query such as a branch: another bundle may answer another version
			e.control = immutable
		}
		if t, err := time.Parse(time.RFC3339, when); err == nil {
			e.modified = t
		}
	case modpath.SumTile:
		e.control = immutable
	}
	if f.Size > smallFile {
		return h.large[f.In].serve(h, x, f.File, e)
	}
	if e.data, err = f.In.Read(x.req.Context(), f.File, smallFile); err != nil {
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

// made returns the entry of a body that was made here and is no file of the bundle, and leaves it in the cache.
func (h *handler) made(path string, req modpath.Request, data []byte) *entry {
	e := &entry{path: path, kind: kind(req.Kind), data: data, etag: etag(sha256.Sum256(data)), contentType: contentType(req), control: brief, modified: h.view.Made(h.view.Lines[0])}
	h.cache.put(e)
	return e
}

// An entry is what is known of a body that is served, and the body when it is small.
type entry struct {
	path        string
	kind        kind
	data        []byte
	etag        string
	contentType string
	control     string
	modified    time.Time

	once   sync.Once
	values headerValues
}

// headerValues are the values of an entry's response headers, as net/http has them. They are made once: a small file is sent in some
// microseconds, of which making them would be one.
type headerValues struct{ contentType, etag, control, modified, length []string }

var (
	acceptBytes = []string{"bytes"}
	noSniff     = []string{"nosniff"}
)

// headers sets the response headers, under their canonical names.
func (e *entry) headers(w http.ResponseWriter) {
	e.once.Do(func() {
		e.values = headerValues{[]string{e.contentType}, []string{e.etag}, []string{e.control}, nil, []string{strconv.Itoa(len(e.data))}}
		if !e.modified.IsZero() {
			e.values.modified = []string{e.modified.UTC().Format(http.TimeFormat)}
		}
	})
	h := w.Header()
	h["Content-Type"], h["Etag"], h["Cache-Control"], h["X-Content-Type-Options"] = e.values.contentType, e.values.etag, e.values.control, noSniff
	if e.values.modified != nil {
		h["Last-Modified"] = e.values.modified
	}
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

// plain reports whether a request wants the whole body, whatever it has seen before.
func plain(r *http.Request) bool {
	for _, name := range []string{"Range", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since"} {
		if r.Header[name] != nil {
			return false
		}
	}
	return true
}

// etag returns the strong ETag of a body.
func etag(sum [32]byte) string { return `"` + hex.EncodeToString(sum[:]) + `"` }

func contentType(r modpath.Request) string {
	if r.Gzip {
		return "application/gzip"
	}
	switch r.Kind {
	case modpath.Info, modpath.Latest, modpath.Vuln:
		return "application/json"
	case modpath.Zip:
		return "application/zip"
	case modpath.Self:
		return "application/x-tar"
	case modpath.SumTile:
		return "application/octet-stream"
	}
	return "text/plain; charset=utf-8"
}
