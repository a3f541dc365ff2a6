package serve

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/serve/web"
	"github.com/modmirror/modmirror/serve/web/render"
	"github.com/modmirror/modmirror/serve/web/search"
)

const (
	readTimeout = 10 * time.Second // for a request, which has no body
	idleTimeout = 2 * time.Minute
	maxHeader   = 16 << 10 // bytes

	// MaxConns is the default of Server.MaxConns. A connection takes some 20 KiB, and more over
	// TLS.
	MaxConns = 1000

	// maxPageConns is how many connections a listener for pages has at a time.
	maxPageConns = 100

	// maxStreams is how many requests one HTTP/2 connection may have under way, and maxRequests all
	// of them. maxWaiting more wait, for maxWait at most. Each takes some 50 KiB.
	maxStreams  = 64
	maxRequests = 1000
	maxWaiting  = 500
	maxWait     = 30 * time.Second

	// writeTimeout is how long a client may take no byte. The transfer of a large file may go on
	// for hours.
	writeTimeout = time.Minute

	// shutdownTimeout is how long transfers may go on after a signal to stop.
	shutdownTimeout = 30 * time.Second

	// recently is how long after a download pages still make way.
	recently = 100 * time.Millisecond

	// ReloadInterval is the time between two calls of Server.Reload.
	ReloadInterval = time.Second
)

// A Server serves bundles over HTTP, with health checks, metrics and a landing page beside them.
// Only Open must be set. Set the fields before Serve.
type Server struct {
	// Open opens the bundles. Serve calls it after it began to listen: /healthz answers from the
	// start, everything else once Open has returned. The server closes the view.
	Open func(context.Context) (*store.View, error)

	// Reload is called every ReloadInterval; nil for never. It returns a new view to serve, or nil
	// as long as nothing changed. It returns an error as long as what is in the store cannot be
	// served. Transfers from the old view go on to their end. The server closes the views.
	Reload func(context.Context) (*store.View, error)

	Ready func(v *store.View) // called when a view begins to be served; may be nil
	Log   *slog.Logger        // nil for slog.Default()

	// Wants records what clients ask for and do not get: *Wants in a file, MissFunc otherwise. nil
	// records nothing.
	Wants Recorder

	Inside *Inside // modules that clients fetch elsewhere in the network inside; nil for none
	TLS    *TLS    // nil for plain HTTP
	Access *Access // who may read; nil for everyone. It needs TLS, here or at a trusted proxy.
	Audit  *Audit  // nil for none

	// BasePath is a prefix of all paths, such as /go; "" for none. Health and metrics are served
	// without it too.
	BasePath string

	// Proxies are the reverse proxies whose X-Forwarded-For, -Proto, -Host and X-Request-Id the
	// server believes.
	Proxies []netip.Prefix

	Render render.Worker    // makes pages for people; nil for no pages
	API    review.APIWorker // compares for the pages what versions export; nil for not at all

	// Pages is the only listener that has pages, besides what the other one has; nil for that of
	// Serve. It takes maxPageConns connections.
	Pages net.Listener

	Search *search.DB // for the pages; nil for no search

	// Requests has the page of what is missing take wishes with a reason, by POST: nothing else
	// changes anything. Wants must be a *Wants.
	Requests bool

	Shelf    media.Shelf // where the bundles lie; nil for a disk
	MaxConns int         // connections at a time; 0 for the constant MaxConns
	Scrub    bool        // verify all files in the background, but those in a bucket, which costs money

	handler  atomic.Pointer[handler]
	opening  atomic.Pointer[string] // why nothing is served yet; nil while the bundle is being verified
	stale    atomic.Pointer[string] // why the content of the store is not served; nil when it is
	conns    []*listener
	metrics  *metrics
	slots    chan struct{} // held by requests over HTTP/2
	waiting  atomic.Int64  // requests that wait for a slot
	active   atomic.Int64  // requests that are being answered
	fetched  atomic.Int64  // when the last one that was not for a page ended, Unix time in nanoseconds
	scrubEnd atomic.Int64  // when a pass of the scrub completed, Unix time in seconds
}

// NewHandler returns a handler that serves the GOPROXY protocol, the checksum database included,
// from a view, for an HTTP server of one's own. It has no landing page, limits or metrics: those
// are a Server's. wants records requests for what is not carried, and may be nil. The caller closes
// v after the last request.
func NewHandler(v *store.View, log *slog.Logger, wants Recorder) http.Handler {
	return newHandler(v, log, wants, newMetrics())
}

// Serve answers on l until ctx is done, and then lets transfers finish for half a minute. It
// returns nil after that, and the error of Open when the bundle cannot be opened.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.Log == nil {
		s.Log = slog.Default()
	}
	if s.Access != nil && s.TLS == nil && len(s.Proxies) == 0 {
		return ErrNoTLS
	}
	if s.Access != nil {
		if err := s.Access.open(s.Log, func(reason string) { s.metrics.refused.WithLabelValues(reason).Inc() }); err != nil {
			return err
		}
	}
	s.slots = make(chan struct{}, maxRequests)
	s.metrics = newMetrics()
	s.metrics.registry.MustRegister((*state)(s))
	listeners, err := s.listeners(l)
	if err != nil {
		return err
	}
	for _, c := range s.conns {
		defer c.stop()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	srv := &http.Server{
		Handler:        s,
		ReadTimeout:    readTimeout,
		WriteTimeout:   writeTimeout,
		IdleTimeout:    idleTimeout,
		MaxHeaderBytes: maxHeader,
		ConnState:      connState,
		BaseContext: func(l net.Listener) context.Context {
			return context.WithValue(context.Background(), pagesHere{}, len(listeners) == 1 || l == listeners[1])
		},
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams,
			WriteByteTimeout:     writeTimeout, // a stream has no other deadline
		},
		ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	opened := make(chan struct{})
	go func() {
		defer close(opened)
		v, err := s.Open(ctx)
		if err != nil {
			cancel(err)
			return
		}
		s.show(ctx, v)
		s.reload(ctx)
	}()
	served := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { served <- srv.Serve(l) }()
	}
	select {
	case err = <-served:
		cancel(err)
	case <-ctx.Done():
		if err = context.Cause(ctx); errors.Is(err, context.Canceled) {
			err = nil
		}
		stop, done := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		defer done()
		if srv.Shutdown(stop) != nil {
			srv.Close()
		}
	}
	<-opened
	if h := s.handler.Swap(nil); h != nil {
		h.retire()
		h.release()
	}
	return err
}

// listeners returns l and Pages, if there is one, with TLS and bounded.
func (s *Server) listeners(l net.Listener) (list []net.Listener, err error) {
	var config *tls.Config
	if s.TLS != nil {
		if config, err = s.TLS.config(s.Log); err != nil {
			return nil, err
		}
	}
	s.conns = []*listener{newListener(l, cmp.Or(s.MaxConns, MaxConns))}
	if s.Pages != nil {
		s.conns = append(s.conns, newListener(s.Pages, maxPageConns))
	}
	for _, c := range s.conns {
		if config == nil {
			list = append(list, c)
		} else {
			list = append(list, tls.NewListener(c, config))
		}
	}
	return list, nil
}

// pagesHere is the key of a bool in the context of requests: their listener has pages.
type pagesHere struct{}

// hasPages reports whether a request may be answered with a page.
func (h *handler) hasPages(r *http.Request) bool {
	here, _ := r.Context().Value(pagesHere{}).(bool)
	return h.site != nil && here
}

// show serves a view from now on, and retires the one before.
func (s *Server) show(ctx context.Context, v *store.View) {
	h := newHandler(v, s.Log, s.Wants, s.metrics)
	h.inside, h.url, h.modulesURL = s.Inside, s.url, s.modulesURL
	if s.Render != nil {
		h.site = &web.Site{
			View: v, Zip: h.openZip, Vulns: h.vulns.Load, Work: s.Render, API: s.API, Log: s.Log, Search: s.Search,
			Base: s.BasePath, Wants: s.wanted(),
		}
		if w, ok := s.Wants.(*Wants); ok && s.Requests {
			h.site.Ask = func(path, query, reason string, r *http.Request) error {
				return w.Ask(path, query, reason, originOf(r, s.Proxies).addr)
			}
		}
		h.site.Busy = func() bool {
			return s.active.Load() > h.visits.Load() || time.Since(time.Unix(0, s.fetched.Load())) < recently
		}
	}
	ctx, h.retire = context.WithCancel(ctx)
	h.ctx = ctx
	if old := s.handler.Swap(h); old != nil {
		old.retire()
		old.release()
	}
	if s.Ready != nil {
		s.Ready(v)
	}
	if h.acquire() {
		go func() {
			defer h.release()
			h.review(ctx)
		}()
	}
	if h.site != nil && s.Search != nil && h.acquire() {
		go func() {
			defer h.release()
			h.index(ctx)
		}()
	}
	if s.Scrub && !s.shelf().Heals() && h.acquire() {
		go func() {
			defer h.release()
			s.scrub(ctx, h)
		}()
	}
}

// reload serves new views as they come, until ctx is done.
func (s *Server) reload(ctx context.Context) {
	if s.Reload == nil {
		return
	}
	tick := time.NewTicker(ReloadInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		v, err := s.Reload(ctx)
		if ctx.Err() != nil {
			if v != nil {
				v.Close()
			}
			return
		}
		s.reloaded(err)
		if v != nil {
			s.show(ctx, v)
		}
	}
}

// reloaded takes note of the error of Reload. It logs a new error once, and its end once.
func (s *Server) reloaded(err error) {
	_, gone := errors.AsType[*media.UnavailableError](err)
	before := s.stale.Load()
	switch {
	case err == nil && before != nil:
		s.stale.Store(nil)
		s.Log.Info("the store is served again as it is", "after", *before)
	case err != nil && (before == nil || *before != err.Error()):
		text := err.Error()
		s.stale.Store(&text)
		if gone {
			s.Log.Error("the storage does not answer; what was served goes on, as far as it is cached", "err", err)
		} else {
			s.Log.Error("what is in the store now is not served", "err", err)
		}
	}
}

// current returns the handler of the view that is served, nil while there is none. The caller
// releases it.
func (s *Server) current() *handler {
	for {
		h := s.handler.Load()
		if h == nil || h.acquire() {
			return h
		}
	}
}

// ServeHTTP answers a request to the server. Serve calls it; to serve from a handler of one's own
// there is NewHandler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.active.Add(1)
	x := newExchange(w, r)
	x.proxies = s.Proxies
	h := s.current()
	defer s.end(x, h)
	s.answer(x, h)
	x.done = true
}

// end ends an exchange, also after a panic that cuts its connection: it counts the exchange, writes
// the audit, and releases h.
func (s *Server) end(x *exchange, h *handler) {
	s.active.Add(-1)
	if x.done && x.status == 0 {
		x.status = http.StatusOK
	}
	now := time.Now()
	s.metrics.count(x, now)
	if x.kind < kindPage {
		s.fetched.Store(now.UnixNano())
	}
	if s.Audit != nil {
		ids := ""
		if h != nil {
			ids = h.ids
		}
		if err := s.Audit.write(x, ids, now); err != nil {
			s.Log.Error("cannot write the audit; requests are answered without it", "err", err)
		}
		if s.Audit.failing() != nil {
			s.metrics.audit.Inc()
		}
	}
	if h != nil {
		h.release()
	}
	x.free()
}

// answer answers a request. h is nil while nothing is served.
func (s *Server) answer(x *exchange, h *handler) {
	r := x.req
	below := s.stripBase(r)
	asks := s.Requests && r.Method == http.MethodPost && r.URL.Path == "/wants"
	if r.Method != http.MethodGet && r.Method != http.MethodHead && !asks {
		x.Header().Set("Allow", "GET, HEAD")
		text(x, http.StatusMethodNotAllowed, "this server is read-only: GET and HEAD")
		return
	}
	if s.answerHealth(x, h) || !s.admit(x) {
		return
	}
	if r.ProtoMajor > 1 {
		if !s.slot(x) {
			return
		}
		defer func() { <-s.slots }()
	}
	switch {
	case r.URL.Path == "/metrics":
		x.kind = kindHealth
		s.metrics.http.ServeHTTP(x, r)
	case !below:
		text(x, http.StatusNotFound, "this server is below %s", s.BasePath)
	case h == nil:
		x.Header().Set("Retry-After", "1")
		_, words := s.readiness(h)
		text(x, http.StatusServiceUnavailable, "%s", words)
	case r.URL.Path == "/" && !h.hasPages(r):
		x.kind = kindPage
		text(x, http.StatusOK, "a Go module proxy with the checksum database; its settings for a client: modmirror env %s", s.url(x))
	case r.URL.Path == "/settings.json":
		x.kind = kindPage
		h.failed(x, h.settings(x))
	default:
		h.answer(x)
	}
}

// stripBase removes the base path from the path of a request. It reports whether the path is below
// it.
func (s *Server) stripBase(r *http.Request) (below bool) {
	if s.BasePath == "" {
		return true
	}
	path, ok := strings.CutPrefix(r.URL.Path, s.BasePath)
	if !ok || path != "" && path[0] != '/' {
		return false
	}
	r.URL.Path = cmp.Or(path, "/")
	return true
}

// answerHealth answers a request for /healthz or /readyz, and reports whether it is one.
func (s *Server) answerHealth(x *exchange, h *handler) bool {
	switch x.req.URL.Path {
	case "/healthz":
		x.kind = kindHealth
		text(x, http.StatusOK, "ok")
	case "/readyz":
		x.kind = kindHealth
		status, words := s.readiness(h)
		text(x, status, "%s", words)
	default:
		return false
	}
	return true
}

// Waiting has /readyz say why nothing is served yet. Open may call it.
func (s *Server) Waiting(why string) { s.opening.Store(&why) }

// shelf returns where the bundles lie.
func (s *Server) shelf() media.Shelf {
	if s.Shelf == nil {
		return media.Folder("")
	}
	return s.Shelf
}

// readiness returns the answer to /readyz. h is nil while nothing is served.
func (s *Server) readiness(h *handler) (status int, words string) {
	if h == nil {
		if why := s.opening.Load(); why != nil {
			return http.StatusServiceUnavailable, "not ready: " + *why
		}
		return http.StatusServiceUnavailable, "not ready: the bundle is being verified"
	}
	words = "ready"
	if damage := h.Damage(); damage == indexCopy {
		return http.StatusServiceUnavailable, "not ready: " + indexCopy + " is damaged; start serve again, which makes a new one"
	} else if damage != "" {
		if !s.shelf().Heals() {
			return http.StatusServiceUnavailable, fmt.Sprintf("not ready: %s does not verify; carry the bundle again", damage)
		}
		// All replicas read it from one bucket: if all were unready, none would serve.
		words += fmt.Sprintf(", but %s does not verify; publish the bundle again if that stays", damage)
	}
	if len(h.view.Skipped) > 0 {
		words += fmt.Sprintf(", but not all of it is served: %v", h.view.Skipped[0])
	}
	if since, err := s.shelf().Failing(); err != nil {
		return http.StatusOK, words + fmt.Sprintf(", but the storage has not answered since %s, "+
			"so only what is cached here is served: %v", since.UTC().Format(time.RFC3339), err)
	}
	if why := s.stale.Load(); why != nil {
		words += ", but what is in the store now is not served: " + *why
	}
	if s.Wants != nil && s.Wants.Evicted() > 0 {
		words += fmt.Sprintf(", but so much is asked for that modmirror wants has forgotten %d of it", s.Wants.Evicted())
	}
	if s.Audit != nil {
		if err := s.Audit.failing(); err != nil {
			words += fmt.Sprintf(", but the audit cannot be written: %v", err)
		}
	}
	return http.StatusOK, words
}

// slot waits for a slot of a request over HTTP/2. When there is none in time it answers the request
// and returns false. It returns false, too, when the client has gone.
func (s *Server) slot(x *exchange) bool {
	select {
	case s.slots <- struct{}{}:
		return true
	default:
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) <= maxWaiting {
		wait := time.NewTimer(maxWait)
		defer wait.Stop()
		select {
		case s.slots <- struct{}{}:
			return true
		case <-x.req.Context().Done():
			return false
		case <-wait.C:
		}
	}
	x.kind = kindRefused
	x.Header().Set("Retry-After", "10")
	text(x, http.StatusServiceUnavailable, "the server is busy with %d requests: try again", maxRequests)
	return false
}
