package serve

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modmirror/modmirror/internal/modpath"
)

// An exchange is a request and what was answered so far: what logs, the audit and metrics are made from.
type exchange struct {
	http.ResponseWriter
	req    *http.Request
	path   string // as it was asked for, the base path included
	kind   kind
	start  time.Time
	status int   // 0 while nothing was answered
	bytes  int64 // of the body
	name   string
	id     string // "" until someone asks
	done   bool   // the handler returned; else the connection is cut

	proxies []netip.Prefix // that are trusted
	from    *origin        // nil until someone asks
}

// A kind says what was asked for: that of a GOPROXY path, or one of those behind them.
type kind int

const (
	kindPage    = kind(modpath.Self) + 1 + iota // the landing page and settings
	kindHealth                                  // health and metrics
	kindRefused                                 // without a password, or with too many requests at once
	kinds
)

// String returns the name that logs and metrics have for it.
func (k kind) String() string {
	switch k {
	case kindPage:
		return "page"
	case kindHealth:
		return "health"
	case kindRefused:
		return "refused"
	}
	return modpath.Kind(k).String()
}

var exchanges = sync.Pool{New: func() any { return new(exchange) }}

// newExchange begins an exchange.
func newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	x := exchanges.Get().(*exchange)
	*x = exchange{ResponseWriter: w, req: r, path: r.URL.Path, start: time.Now()}
	return x
}

// free ends the use of x.
func (x *exchange) free() {
	*x = exchange{}
	exchanges.Put(x)
}

// WriteHeader is that of http.ResponseWriter.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write is that of http.ResponseWriter.
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(p)
	x.bytes += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

var (
	// process tells the requests of one process from those of another, and requests count in it.
	process  = fmt.Sprintf("%08x", rand.Uint32())
	requests atomic.Uint64
)

// requestID returns what the request is called in logs: what the reverse proxy called it, else a name of its own.
func (x *exchange) requestID() string {
	if x.id != "" {
		return x.id
	}
	if given := x.req.Header.Get("X-Request-Id"); x.origin().proxied && given != "" && len(given) <= maxRequestID {
		x.id = given
	} else {
		x.id = fmt.Sprintf("%s-%d", process, requests.Add(1))
	}
	return x.id
}

// origin returns where the request came from.
func (x *exchange) origin() *origin {
	if x.from == nil {
		o := originOf(x.req, x.proxies)
		x.from = &o
	}
	return x.from
}

// maxRequestID is the longest X-Request-Id of a reverse proxy in bytes that is taken.
const maxRequestID = 100

// The go command prints this much of the text of an answer that is not 200
// (cmd/go/internal/web/api.go, maxErrorDetailLines and maxErrorDetailBytes).
const (
	maxDetailLines = 8
	maxDetailBytes = 648
)

// text answers with a status and words.
func text(w http.ResponseWriter, status int, format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if len(msg) > maxDetailBytes {
		msg = msg[:maxDetailBytes-3] + "..."
	}
	h := w.Header()
	for _, name := range []string{"ETag", "Last-Modified", "Accept-Ranges", "Content-Length"} {
		h.Del(name)
	}
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	fmt.Fprintln(w, msg)
}
