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

// An exchange is a request and the state of its answer. Logs, the audit and metrics are made from
// it. One goroutine uses it.
type exchange struct {
	http.ResponseWriter
	req    *http.Request
	path   string // of the request, with the base path
	kind   kind
	start  time.Time
	status int    // 0 until something is sent
	bytes  int64  // of the body
	name   string // of the user, token or client certificate
	id     string // "" until requestID is called
	done   bool   // the handler returned; else the connection was cut

	proxies []netip.Prefix // trusted ones
	from    *origin        // nil until origin is called
}

// A kind says what a request is for: a modpath.Kind, or one of those below.
type kind int

const (
	kindPage    = kind(modpath.Review) + 1 + iota // the landing page and settings
	kindHealth                                    // health and metrics
	kindRefused                                   // without a password, or with too many requests at once
	kinds                                         // how many there are
)

// String returns the name of a kind in logs and metrics.
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

// newExchange begins an exchange, until free.
func newExchange(w http.ResponseWriter, r *http.Request) *exchange {
	x := exchanges.Get().(*exchange)
	*x = exchange{ResponseWriter: w, req: r, path: r.URL.Path, start: time.Now()}
	return x
}

// free ends an exchange. Nothing may use x after that.
func (x *exchange) free() {
	*x = exchange{}
	exchanges.Put(x)
}

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) {
	if x.status == 0 {
		x.status = status
	}
	x.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.status = http.StatusOK
	}
	n, err := x.ResponseWriter.Write(p)
	x.bytes += int64(n)
	return n, err
}

// Unwrap serves http.ResponseController.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

var (
	// process distinguishes the requests of this process from those of another; requests counts
	// them.
	process  = fmt.Sprintf("%08x", rand.Uint32())
	requests atomic.Uint64
)

// requestID returns the name of the request in logs: that of a trusted reverse proxy, else a new
// one.
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

// origin returns the origin of the request.
func (x *exchange) origin() *origin {
	if x.from == nil {
		o := originOf(x.req, x.proxies)
		x.from = &o
	}
	return x.from
}

// maxRequestID is the longest X-Request-Id, in bytes, that is taken from a reverse proxy.
const maxRequestID = 100

// The go command prints at most this much of the text of an answer that is not 200
// (cmd/go/internal/web/api.go, maxErrorDetailLines and maxErrorDetailBytes).
const (
	maxDetailLines = 8
	maxDetailBytes = 648
)

// text answers with a status and a text, which it cuts at maxDetailBytes.
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
