package serve

import (
	"context"
	"crypto/tls"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/modpath"
)

const (
	readTimeout = 10 * time.Second // for a request, which has no body
	idleTimeout = 2 * time.Minute
	maxHeader   = 32 << 10

	// writeTimeout is how long a client may take no byte; the transfer of a large file may go on
	// for hours.
	writeTimeout = time.Minute

	// shutdownTimeout is how long transfers may go on after a signal to stop.
	shutdownTimeout = 30 * time.Second

	// ReloadInterval is how long it may take until what was imported is served.
	ReloadInterval = time.Second

	// maxPrivate is how many private module paths the client settings name.
	maxPrivate = 1000
)

// A Server serves bundles over HTTP, with health checks and a landing page beside them. Open must be set.
type Server struct {
	// Open opens the bundles. It is called when the server listens already:
	// /healthz answers from the start, everything else once Open is done.
	Open func(context.Context) (*bundle.View, error)

	// Reload is called every ReloadInterval. It returns a new view when there is one, which is then served, and nil else; may be nil. What is
	// being sent of the old view is sent to its end.
	Reload func(context.Context) (*bundle.View, error)

	Log  *slog.Logger          // nil for slog.Default()
	Miss func(modpath.Request) // told of requests for what is not carried; may be nil

	Ready func(v *bundle.View) // called when a view is served; may be nil

	TLS    *TLS    // nil for plain HTTP
	Access *Access // who may read; nil for everyone. Only with TLS.

	handler atomic.Pointer[Handler]
}

// Settings is what a client needs to know besides the URL, as /settings.json has it.
type Settings struct {
	Bundle  string   `json:"bundle"`
	Created string   `json:"created"` // RFC 3339
	SumDB   string   `json:"sumdb"`   // name of the checksum database, "" for none
	Private []string `json:"private"` // modules outside of it
	VulnDB  bool     `json:"vulndb"`  // the vulnerability database is served, below /vulndb
}

// Serve answers on l until ctx is done, and then lets transfers finish. It returns nil after that, and
// the error of Open when the bundle cannot be opened.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.Log == nil {
		s.Log = slog.Default()
	}
	if s.Access != nil && s.TLS == nil {
		return ErrNoTLS
	}
	if s.Access != nil {
		if err := s.Access.open(s.Log); err != nil {
			return err
		}
	}
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
		s.show(v)
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
		h.release()
	}
	return err
}

// show serves a view from now on.
func (s *Server) show(v *bundle.View) {
	if old := s.handler.Swap(NewHandler(v, s.Log, s.Miss)); old != nil {
		old.release()
	}
	if s.Ready != nil {
		s.Ready(v)
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
		switch {
		case ctx.Err() != nil:
			if v != nil {
				v.Close()
			}
			return
		case err != nil:
			s.Log.Error("what is in the store now is not served", "err", err)
		case v != nil:
			s.show(v)
		}
	}
}

// current returns the handler of the view that is served, to be released, or nil while there is none.
func (s *Server) current() *Handler {
	for {
		h := s.handler.Load()
		if h == nil || h.acquire() {
			return h
		}
	}
}

// ServeHTTP answers every request to the server.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		text(w, http.StatusMethodNotAllowed, "this server is read-only: GET and HEAD")
		return
	}
	h := s.current()
	if h != nil {
		defer h.release()
	}
	switch r.URL.Path {
	case "/healthz":
		text(w, http.StatusOK, "ok")
		return
	case "/readyz":
		switch {
		case h == nil:
			text(w, http.StatusServiceUnavailable, "not ready: the bundle is being verified")
		case h.Damage() != "":
			text(w, http.StatusServiceUnavailable, "not ready: %s does not verify; carry the bundle again", h.Damage())
		case len(h.view.Passed) > 0:
			text(w, http.StatusOK, "ready, but not all of it is served: %v", h.view.Passed[0])
		default:
			text(w, http.StatusOK, "ready")
		}
		return
	}
	if s.Access != nil {
		if _, ok := s.Access.who(r); !ok {
			deny(w)
			return
		}
	}
	if h == nil {
		w.Header().Set("Retry-After", "1")
		text(w, http.StatusServiceUnavailable, "not ready: the bundle is being verified")
		return
	}
	var err error
	switch r.URL.Path {
	case "/":
		err = h.landing(w, r)
	case "/settings.json":
		err = h.settings(w, r)
	default:
		h.ServeHTTP(w, r)
	}
	if err != nil {
		h.log.Error("cannot answer", "path", r.URL.Path, "err", err)
		text(w, http.StatusInternalServerError, "the server cannot read its bundle; its log says why")
	}
}

//go:embed landing.html
var files embed.FS

var landingPage = template.Must(template.ParseFS(files, "landing.html"))

// notInHost is what a Host header may have in it although no host has: the page is there to be copied from.
var notInHost = regexp.MustCompile(`[^A-Za-z0-9:._\[\]-]`)

// landing shows what is served and how to use it.
func (h *Handler) landing(w http.ResponseWriter, r *http.Request) error {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	settings, err := h.clientSettings(r.Context())
	if err != nil {
		return err
	}
	var page strings.Builder
	err = landingPage.Execute(&page, map[string]any{
		"URL":     scheme + "://" + notInHost.ReplaceAllString(r.Host, ""),
		"Names":   settings.Bundle,
		"Lines":   h.view.Lines,
		"SumDB":   settings.SumDB,
		"Private": strings.Join(settings.Private, ","),
		"VulnDB":  settings.VulnDB,
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprint(w, page.String())
	return nil
}

// sumDB returns the checksum database that clients are to use, "" for none: Go's own when it is served.
func (h *Handler) sumDB() string {
	served := slices.Sorted(maps.Keys(h.view.Served()))
	if len(served) == 0 {
		return ""
	}
	if h.view.Head("sum.golang.org") != nil {
		return "sum.golang.org"
	}
	return served[0]
}

func (h *Handler) clientSettings(ctx context.Context) (Settings, error) {
	s := Settings{Created: h.view.Lines[0].Manifest.Created.UTC().Format(time.RFC3339), SumDB: h.sumDB(), Private: []string{}}
	var names []string
	for _, b := range h.view.Lines {
		names = append(names, b.Manifest.Name)
	}
	s.Bundle = strings.Join(names, ", ")
	seen := make(map[string]bool)
	for path, err := range h.view.Private(ctx) {
		if err != nil {
			return s, err
		}
		if seen[path] {
			continue
		}
		seen[path] = true
		if s.Private = append(s.Private, path); len(s.Private) == maxPrivate {
			break
		}
	}
	n, err := h.view.Vulns(ctx)
	s.VulnDB = n > 0
	return s, err
}

// settings answers with what "modmirror env" needs to know.
func (h *Handler) settings(w http.ResponseWriter, r *http.Request) error {
	s, err := h.clientSettings(r.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	return json.NewEncoder(w).Encode(s)
}
