// Package late makes a handler slow for measurements: each answer begins a fixed time later than it
// would, and a log of the requests is kept. Requests that come at once are delayed at once.
//
// Two paths, which no module and no checksum database has, control it:
//
//	/-/reset?delay=50ms   sets the delay, and begins a new log
//	/-/log                returns the log, for bench/waits
//
// The log has one request a line: begin and end in microseconds since the reset, status, bytes of
// the body and path, with tabs between them. A request begins when its header is read and ends when
// its body is written. The first line has 0, the time when the log was asked for, and the delay.
package late

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// A Handler answers requests late and keeps a log of them.
type Handler struct {
	next http.Handler

	mu      sync.Mutex // guards what follows
	delay   time.Duration
	start   time.Time // of the log
	entries []entry
}

// New returns a handler that delays nothing yet.
func New(next http.Handler) *Handler { return &Handler{next: next, start: time.Now()} }

// An entry is a request of the log.
type entry struct {
	begin, end time.Duration // since the log's start
	status     int
	bytes      int64
	path       string
}

// ServeHTTP answers a request of the log, or any other late.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/-/reset":
		if err := h.reset(r.FormValue("delay")); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
		return
	case "/-/log":
		h.writeLog(w)
		return
	}
	begin := time.Now()
	h.mu.Lock()
	start, delay := h.start, h.delay
	h.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	count := &counter{ResponseWriter: w, status: http.StatusOK}
	defer func() { // even when a proxy panics, because the client is gone
		end := time.Now()
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.start.Equal(start) { // else it belongs to a log that is gone
			e := entry{begin.Sub(start), end.Sub(start), count.status, count.n, r.URL.EscapedPath()}
			h.entries = append(h.entries, e)
		}
	}()
	h.next.ServeHTTP(count, r)
}

// reset begins a new log with a delay.
func (h *Handler) reset(delay string) error {
	d, err := time.ParseDuration(delay)
	if err != nil {
		return fmt.Errorf("no delay to set: /-/reset?delay=50ms: %w", err)
	}
	if d < 0 {
		return errors.New("the delay must not be negative")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.delay, h.start, h.entries = d, time.Now(), nil
	return nil
}

// writeLog writes the log in the order in which requests ended.
func (h *Handler) writeLog(w io.Writer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := bufio.NewWriter(w)
	defer out.Flush()
	fmt.Fprintf(out, "0\t%d\tdelay\t%d\n", time.Since(h.start).Microseconds(), h.delay.Microseconds())
	for _, e := range h.entries {
		fmt.Fprintf(out, "%d\t%d\t%d\t%d\t%s\n", e.begin.Microseconds(), e.end.Microseconds(), e.status, e.bytes, e.path)
	}
}

// A counter counts the bytes of a body.
type counter struct {
	http.ResponseWriter
	status int
	n      int64
}

// WriteHeader notes the status.
func (c *counter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

// Write counts p.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController flush.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }
