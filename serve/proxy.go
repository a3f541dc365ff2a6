// Package serve is the isolated side of modmirror: read-only HTTP handlers over a bundle.
//
// No path from a request reaches the file system. The server parses it, looks it up in the index,
// and reads the content at an offset. No client ever gets a complete wrong body: bytes are hashed
// on the way out, the end of a body is held back until its hash is known, and a mismatch cuts the
// connection.
//
//   - Up to 64 KiB: read, hashed and sent from memory. A bounded cache keeps verified bodies.
//   - Larger and not yet verified: hashed while it is sent.
//   - Larger and verified before: copied out as long as the bundle is still the same file (device,
//     inode, size, mtime, ctime). That is checked again before the last piece goes out.
//
// Ranges are served from verified files only. There is no sendfile: it lends pages of the page
// cache to the network, so that a later write to the file reaches a slow client. There is no mmap:
// pulled media would raise a signal instead of an error.
package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/time/rate"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/serve/web"
)

// A handler serves the GOPROXY protocol, the checksum database included, from one view of bundles.
// It is safe for concurrent use.
type handler struct {
	view   *store.View
	log    *slog.Logger
	wants  Recorder
	inside *Inside                // nil for none
	visits atomic.Int64           // requests for pages that are being answered
	site   *web.Site              // pages for people; nil for none
	url    func(*exchange) string // of the server, as the client of an exchange sees it

	modulesURL func(*exchange) string // for go commands

	refs   atomic.Int64 // requests that are being answered, and one more until release retires the handler
	retire func()       // stops background work

	ctx context.Context // of background work; nil for a handler without a server

	cache       cache
	large       map[*bundle.Bundle]*largeFiles // by the bundle whose index names the files
	buffers     *buffers
	compressing chan struct{} // held while a file is compressed

	damage   sync.Map     // paths of files that did not verify, and not since
	damages  atomic.Int64 // their number
	scrubbed atomic.Int64 // files that the scrub's current pass verified
	files    int64        // in all catalogs

	vulns atomic.Pointer[review.Vulns] // nil until review has compared a vulnerability database

	ids     string // of the bundles, for the audit
	metrics *metrics
	missLog *rate.Limiter
}

// newHandler returns a handler for a view. wants records requests for what is not carried; nil for
// nobody.
func newHandler(v *store.View, log *slog.Logger, wants Recorder, m *metrics) *handler {
	h := &handler{
		view: v, log: log, wants: wants, metrics: m,
		compressing: make(chan struct{}, 1),
		large:       make(map[*bundle.Bundle]*largeFiles),
		buffers:     newBuffers(),
		missLog:     rate.NewLimiter(missesLogged, missBurst),
	}
	if h.wants == nil {
		h.wants = MissFunc(nil)
	}
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

// acquire keeps the view open until the caller calls release. It returns false when the handler is
// retired and its view closed.
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

// release undoes acquire. One more call retires the handler. The last release closes the view.
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
	if err != nil && h.hasPages(x.req) && !forProxy(path) {
		h.failed(x, h.page(x))
		return
	}
	if err != nil {
		if h.missLog.Allow() {
			h.log.Info("no path of the GOPROXY protocol", "path", fmt.Sprintf("%.200s", x.path),
				"client", x.origin().addr, "name", x.name, "request", x.requestID())
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
		err = h.serveGzip(x, path, req)
	default:
		err = h.serveFile(x, path, req)
	}
	h.failed(x, err)
}

// failed answers a request that ended in an error and was not answered yet. It does nothing when
// err is nil or the client has gone.
func (h *handler) failed(x *exchange, err error) {
	if err == nil || x.req.Context().Err() != nil {
		return
	}
	said := []any{"path", x.path, "client", x.origin().addr, "request", x.requestID(), "err", err}
	if _, ok := errors.AsType[*media.UnavailableError](err); ok {
		h.log.Error("cannot answer: the storage does not", said...)
		x.Header().Set("Retry-After", "10")
		text(x, http.StatusServiceUnavailable, "the storage behind this server does not answer, "+
			"and this is not cached here; try again later (request %s)", x.requestID())
		return
	}
	h.log.Error("cannot answer", said...)
	text(x, http.StatusInternalServerError, "the server cannot read its bundle; "+
		"its log says why, at request %s", x.requestID())
}

// forProxy reports whether a path is one of those that go commands ask for, though perhaps not well
// formed: it is answered at once, and no page.
func forProxy(path string) bool {
	for _, folder := range []string{"sumdb/", "vulndb/", "self/", modpath.ReviewFolder} {
		if strings.HasPrefix(path, folder) {
			return true
		}
	}
	return strings.Contains(path, "/@v/") || strings.HasSuffix(path, "/@latest")
}
