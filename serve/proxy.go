// Package serve is the isolated side of modmirror: read-only HTTP handlers over a bundle.
//
// No path from a request reaches the file system: it is parsed, looked up in the
// index, and read at an offset. No client ever gets a complete wrong body: bytes are hashed
// on the way out, the end of a body is held back until its hash is known, and a mismatch
// cuts the connection.
//
//   - Up to 64 KiB: read, hashed and sent from memory; a bounded cache keeps what was verified.
//   - Larger and not yet verified: streamed while hashing.
//   - Larger and verified before: copied out as long as the bundle is still the same file (device,
//     inode, size, mtime, ctime), which is asked again before the last piece goes out.
//
// A range is served from verified files only. There is no sendfile: it lends pages of the page cache to
// the network, so that what is written into the file later reaches a slow client; and no mmap: media
// that is pulled would be a signal instead of an error.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/bucket"
	"github.com/modmirror/modmirror/internal/modpath"
)

// A handler serves the GOPROXY protocol, the checksum database included, from bundles.
type handler struct {
	view *bundle.View
	log  *slog.Logger
	miss func(r modpath.Request, from netip.Addr)
	tree func(db string, size int64, exact bool, from netip.Addr)

	inside *Inside // nil for none

	refs   atomic.Int64 // requests being answered, and one more while it is not retired
	retire func()       // ends what goes on beside requests

	ctx context.Context // of what goes on beside requests; nil for a handler without a server

	cache   cache
	large   map[*bundle.Bundle]*largeFiles // by the bundle whose index names the files
	buffers *buffers
	packing chan struct{} // held by who packs

	damage   sync.Map     // paths of files that did not verify, and not since
	damages  atomic.Int64 // how many there are
	scrubbed atomic.Int64 // files of the scrub's pass
	files    int64        // in all catalogues

	ids     string // of the bundles, for the audit
	metrics *metrics
	missLog *rate.Limiter
}

// newHandler returns a handler for a view. It calls miss, when not nil, with each request for something that is not carried.
func newHandler(v *bundle.View, log *slog.Logger, miss func(modpath.Request, netip.Addr), m *metrics) *handler {
	h := &handler{view: v, log: log, miss: miss, metrics: m, packing: make(chan struct{}, 1), large: make(map[*bundle.Bundle]*largeFiles), buffers: newBuffers()}
	h.missLog = rate.NewLimiter(missesLogged, missBurst)
	if h.miss == nil {
		h.miss = func(modpath.Request, netip.Addr) {}
	}
	h.tree = func(string, int64, bool, netip.Addr) {}
	h.refs.Store(1)
	var ids []string
	for _, b := range v.Lines {
		h.large[b] = newLargeFiles(b, h.buffers, h.damaged, h.repaired)
		h.files += b.Manifest.Counts.Files
		ids = append(ids, b.ID())
	}
	h.ids = strings.Join(ids, ",")
	return h
}

// acquire takes part in the handler, until release; ok is false when it is retired and its view closed.
func (h *handler) acquire() (ok bool) {
	for {
		n := h.refs.Load()
		if n == 0 {
			return false
		}
		if h.refs.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// release ends what acquire began. The view is closed with the last part, after the handler was retired by a release of its own.
func (h *handler) release() {
	if h.refs.Add(-1) == 0 {
		h.view.Close()
	}
}

// ServeHTTP answers a request for a path of the GOPROXY protocol.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := newExchange(w, r)
	defer x.free()
	h.answer(x)
}

// answer answers a request for a path of the GOPROXY protocol.
func (h *handler) answer(x *exchange) {
	path := strings.TrimPrefix(x.req.URL.Path, "/")
	if c := h.cache.get(path); c != nil {
		x.kind = c.kind
		c.serve(x, x.req)
		return
	}
	req, err := modpath.Parse(path)
	if err != nil {
		if h.missLog.Allow() {
			h.log.Info("no path of the GOPROXY protocol", "path", fmt.Sprintf("%.200s", x.path), "client", x.origin().addr, "name", x.name, "request", x.requestID())
		}
		text(x, http.StatusNotFound, "not a path of the GOPROXY protocol")
		return
	}
	x.kind = kind(req.Kind)
	switch {
	case req.Kind == modpath.SumLookup:
		err = h.serveLookup(x, path, req)
	case req.Kind == modpath.SumLatest:
		err = h.serveHead(x, path, req)
	case req.Gzip:
		err = h.servePacked(x, path, req)
	default:
		err = h.serveFile(x, path, req)
	}
	h.failed(x, err)
}

// failed answers a request with an error that was not answered yet, if there is one.
func (h *handler) failed(x *exchange, err error) {
	if err == nil || x.req.Context().Err() != nil {
		return
	}
	if _, ok := errors.AsType[*bucket.UnavailableError](err); ok {
		h.log.Error("cannot answer: the storage does not", "path", x.path, "client", x.origin().addr, "request", x.requestID(), "err", err)
		x.Header().Set("Retry-After", "10")
		text(x, http.StatusServiceUnavailable, "the storage behind this server does not answer, and this is not cached here; try again later (request %s)", x.requestID())
		return
	}
	h.log.Error("cannot answer", "path", x.path, "client", x.origin().addr, "request", x.requestID(), "err", err)
	text(x, http.StatusInternalServerError, "the server cannot read its bundle; its log says why, at request %s", x.requestID())
}
