// Command delay is a proxy that makes an upstream slow, as package late says.
//
//	delay -addr 127.0.0.1:8082 -to http://127.0.0.1:8080
package main

import (
	"flag"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"

	"github.com/modmirror/modmirror/bench/late"
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
	log.Fatal(http.ListenAndServe(*addr, late.New(newProxy(target))))
}

// newProxy returns a proxy of an upstream that opens no more connections than it has to: they would
// be measured too.
func newProxy(target *url.URL) http.Handler {
	forward := httputil.NewSingleHostReverseProxy(target)
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, 1024
	t.DisableCompression = true
	forward.Transport = t
	forward.BufferPool = new(buffers)
	return forward
}

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
