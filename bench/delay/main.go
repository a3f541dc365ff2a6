// Command delay is a proxy that makes an upstream slow: each answer begins a fixed time later than
// it would. It delays requests that come at once at once.
//
//	delay -addr 127.0.0.1:8082 -to http://127.0.0.1:8080
//
// Two paths, which no module and no checksum database has, control it:
//
//	/-/reset?delay=50ms   sets the delay, and begins a new log
//	/-/log                returns the log, for bench/waits
//
// The log has one request a line: begin and end in microseconds since the reset, status, bytes of
// the body and path, with tabs between them. A request begins when its header is read and ends when
// its body is written. The first line has 0, the time when the log was asked for, and the delay.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("delay: ")
	addr := flag.String("addr", "127.0.0.1:8082", "address")
	to := flag.String("to", "http://127.0.0.1:8080", "URL of the upstream")
	flag.Parse()
	target, err := url.Parse(*to)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(*addr, newProxy(target)))
}

// A proxy forwards requests late and keeps a log of them.
type proxy struct {
	forward *httputil.ReverseProxy

	mu      sync.Mutex // guards what follows
	delay   time.Duration
	start   time.Time // of the log
	entries []entry
}

// An entry is a request of the log.
type entry struct {
	begin, end time.Duration // since the log's start
	status     int
	bytes      int64
	path       string
}

// newProxy returns a proxy of an upstream that delays nothing yet.
func newProxy(target *url.URL) *proxy {
	forward := httputil.NewSingleHostReverseProxy(target)
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 1024 // a new connection for a request would be measured too
	t.DisableCompression = true
	forward.Transport = t
	forward.BufferPool = new(buffers)
	return &proxy{forward: forward, start: time.Now()}
}

// ServeHTTP answers a request of the log, or forwards any other.
func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/-/reset":
		if err := p.reset(r.FormValue("delay")); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
		return
	case "/-/log":
		p.writeLog(w)
		return
	}
	begin := time.Now()
	p.mu.Lock()
	start, delay := p.start, p.delay
	p.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	count := &counter{ResponseWriter: w, status: http.StatusOK}
	p.forward.ServeHTTP(count, r)
	end := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.start.Equal(start) { // else it belongs to a log that is gone
		p.entries = append(p.entries, entry{begin.Sub(start), end.Sub(start), count.status, count.n, r.URL.EscapedPath()})
	}
}

// reset begins a new log with a delay.
func (p *proxy) reset(delay string) error {
	d, err := time.ParseDuration(delay)
	if err != nil {
		return fmt.Errorf("no delay to set: /-/reset?delay=50ms: %w", err)
	}
	if d < 0 {
		return errors.New("the delay must not be negative")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay, p.start, p.entries = d, time.Now(), nil
	return nil
}

// writeLog writes the log in the order in which requests ended.
func (p *proxy) writeLog(w io.Writer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := bufio.NewWriter(w)
	defer out.Flush()
	fmt.Fprintf(out, "0\t%d\tdelay\t%d\n", time.Since(p.start).Microseconds(), p.delay.Microseconds())
	for _, e := range p.entries {
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

// A buffers is a pool of the buffers that bodies are copied through.
type buffers struct{ pool sync.Pool }

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if buf, ok := b.pool.Get().(*[]byte); ok {
		return *buf
	}
	return make([]byte, 64<<10)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(buf []byte) { b.pool.Put(&buf) }
