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

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/bucket"
)

const (
	readTimeout = 10 * time.Second // for a request, which has no body
	idleTimeout = 2 * time.Minute
	maxHeader   = 16 << 10

	// MaxConns is how many clients may be connected at a time, if nothing else is said; each costs some 20 KiB, and more over TLS.
	MaxConns = 1000

	// maxStreams is how many requests one HTTP/2 connection may have under way, and maxRequests all of them; maxWaiting more wait, for maxWait at
	// most. Each costs some 50 KiB.
	maxStreams  = 64
	maxRequests = 1000
	maxWaiting  = 500
	maxWait     = 30 * time.Second

	// writeTimeout is how long a client may take no byte; the transfer of a large file may go on
	// for hours.
	writeTimeout = time.Minute

	// shutdownTimeout is how long transfers may go on after a signal to stop.
	shutdownTimeout = 30 * time.Second

	// ReloadInterval is how long it may take until what was imported is served.
	ReloadInterval = time.Second
)

// A Server serves bundles over HTTP, with health checks and a landing page beside them. Open must be set.
type Server struct {
	// Open opens the bundles. It is called when the server listens already:
	// /healthz answers from the start, everything else once Open is done.
	Open func(context.Context) (*bundle.View, error)

	// Reload is called every ReloadInterval. It returns a new view when there is one, which is then served, and nil else; and an error as long as what is
	// there cannot be served. May be nil. What is being sent of the old view is sent to its end.
	Reload func(context.Context) (*bundle.View, error)

	Log *slog.Logger // nil for slog.Default()

	// Wants records what clients ask for and do not get: *Wants in a file, MissFunc otherwise. nil
	// records nothing.
	Wants Recorder

	Inside *Inside // which modules are had elsewhere in the network inside; nil for none

	Ready func(v *bundle.View) // called when a view is served; may be nil

	TLS    *TLS    // nil for plain HTTP
	Access *Access // who may read; nil for everyone. Only with TLS, here or at a trusted proxy.
	Audit  *Audit  // nil for none

	// BasePath is what all paths begin with, such as /go; "" for nothing. Health and metrics are there without it too.
	BasePath string

	// Proxies are the reverse proxies whose X-Forwarded-For, -Proto, -Host and X-Request-Id are believed.
	Proxies []netip.Prefix

	Remote *bundle.Remote // where the bundles are, when they are in a bucket

	MaxConns int  // at most so many connections; 0 for MaxConns
	Scrub    bool // verify all files slowly, again and again, but for those in a bucket: that costs money

	handler  atomic.Pointer[handler]
	opening  atomic.Pointer[string] // why nothing is served yet, nil for the usual reason
	stale    atomic.Pointer[string] // why what is in the store now is not served, nil when it is
	conns    *listener
	metrics  *metrics
	slots    chan struct{} // held by requests over HTTP/2
	waiting  atomic.Int64  // for one
	active   atomic.Int64  // requests that are being answered
	scrubEnd atomic.Int64  // when a pass of the scrub was complete, Unix time in seconds
}

// Serve answers on l until ctx is done, and then lets transfers finish. It returns nil after that, and
// the error of Open when the bundle cannot be opened.
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
	s.conns = newListener(l, cmp.Or(s.MaxConns, MaxConns))
	defer s.conns.stop()
	l = s.conns
	s.slots = make(chan struct{}, maxRequests)
	s.metrics = newMetrics()
	s.metrics.registry.MustRegister((*state)(s))
	if s.TLS != nil {
		config, err := s.TLS.config(s.Log)
		if err != nil {
			return err
		}
		l = tls.NewListener(l, config)
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
		HTTP2:          &http.HTTP2Config{MaxConcurrentStreams: maxStreams, WriteByteTimeout: writeTimeout}, // a stream has no other deadline
		ErrorLog:       slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
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
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	var err error
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

// show serves a view from now on.
func (s *Server) show(ctx context.Context, v *bundle.View) {
	h := newHandler(v, s.Log, s.Wants, s.metrics)
	h.inside = s.Inside
	ctx, h.retire = context.WithCancel(ctx)
	h.ctx = ctx
	if old := s.handler.Swap(h); old != nil {
		old.retire()
		old.release()
	}
	if s.Ready != nil {
		s.Ready(v)
	}
	if s.Scrub && s.Remote == nil && h.acquire() {
		go func() {
			defer h.release()
			s.scrub(ctx, h)
		}()
	}
}

// reload serves new views as they come.
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

// reloaded says once what is wrong, and once that it is right again.
func (s *Server) reloaded(err error) {
	_, gone := errors.AsType[*bucket.UnavailableError](err)
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

// current returns the handler of the view that is served, to be released, or nil while there is none.
func (s *Server) current() *handler {
	for {
		h := s.handler.Load()
		if h == nil || h.acquire() {
			return h
		}
	}
}

// ServeHTTP answers every request to the server.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.active.Add(1)
	x := newExchange(w, r)
	x.proxies = s.Proxies
	h := s.current()
	defer s.end(x, h)
	s.answer(x, h)
	x.done = true
}

// end ends an exchange, also one whose connection is cut.
func (s *Server) end(x *exchange, h *handler) {
	s.active.Add(-1)
	if x.done && x.status == 0 {
		x.status = http.StatusOK
	}
	now := time.Now()
	s.metrics.count(x, now)
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

// answer answers a request; h is nil as long as nothing is served.
func (s *Server) answer(x *exchange, h *handler) {
	r := x.req
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		x.Header().Set("Allow", "GET, HEAD")
		text(x, http.StatusMethodNotAllowed, "this server is read-only: GET and HEAD")
		return
	}
	below := true
	if s.BasePath != "" {
		path, ok := strings.CutPrefix(r.URL.Path, s.BasePath)
		if below = ok && (path == "" || path[0] == '/'); below {
			r.URL.Path = cmp.Or(path, "/")
		}
	}
	switch r.URL.Path {
	case "/healthz":
		x.kind = kindHealth
		text(x, http.StatusOK, "ok")
		return
	case "/readyz":
		x.kind = kindHealth
		status, words := s.readiness(h)
		text(x, status, "%s", words)
		return
	}
	if !s.admit(x) {
		return
	}
	if r.ProtoMajor > 1 {
		if !s.slot(x) {
			return
		}
		defer func() { <-s.slots }()
	}
	if r.URL.Path == "/metrics" {
		x.kind = kindHealth
		s.metrics.http.ServeHTTP(x, r)
		return
	}
	if !below {
		text(x, http.StatusNotFound, "this server is below %s", s.BasePath)
		return
	}
	if h == nil {
		x.Header().Set("Retry-After", "1")
		_, words := s.readiness(h)
		text(x, http.StatusServiceUnavailable, "%s", words)
		return
	}
	switch r.URL.Path {
	case "/":
		x.kind = kindPage
		h.failed(x, h.landing(x, s.BasePath))
	case "/settings.json":
		x.kind = kindPage
		h.failed(x, h.settings(x))
	default:
		h.answer(x)
	}
}

// Waiting has /readyz say why nothing is served yet. Open may call it.
func (s *Server) Waiting(why string) { s.opening.Store(&why) }

// readiness says whether the server is ready, in words.
func (s *Server) readiness(h *handler) (status int, words string) {
	switch {
	case h == nil:
		if why := s.opening.Load(); why != nil {
			return http.StatusServiceUnavailable, "not ready: " + *why
		}
		return http.StatusServiceUnavailable, "not ready: the bundle is being verified"
	case h.Damage() != "" && s.Remote == nil:
		return http.StatusServiceUnavailable, fmt.Sprintf("not ready: %s does not verify; carry the bundle again", h.Damage())
	}
	words = "ready"
	if h.Damage() != "" { // all replicas have it from one bucket: to be unready would leave no one
		words += fmt.Sprintf(", but %s does not verify; publish the bundle again if that stays", h.Damage())
	}
	if len(h.view.Passed) > 0 {
		words += fmt.Sprintf(", but not all of it is served: %v", h.view.Passed[0])
	}
	if s.Remote != nil {
		if since, err := s.Remote.Bucket.Failing(); err != nil {
			return http.StatusOK, words + fmt.Sprintf(", but the storage has not answered since %s, so only what is cached here is served: %v", since.UTC().Format(time.RFC3339), err)
		}
	}
	if why := s.stale.Load(); why != nil {
		words += ", but what is in the store now is not served: " + *why
	}
	if s.Wants != nil && s.Wants.Evicted() > 0 {
		words += fmt.Sprintf(", but so much is asked for that modmirror wants has forgotten %d of it", s.Wants.Evicted())
	}
	if s.Audit != nil && s.Audit.failing() != nil {
		words += fmt.Sprintf(", but the audit cannot be written: %v", s.Audit.failing())
	}
	return http.StatusOK, words
}

// slot waits until one of the requests over HTTP/2 may be answered.
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
