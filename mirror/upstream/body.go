package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const (
	// stall is how long a body may deliver nothing before its request is given up.
	stall = 60 * time.Second

	// minRate is how many bytes a second a body must deliver on average. It counts once patience
	// has passed.
	minRate  = 256
	patience = 10 * time.Minute

	// bigBody is how many bytes of a body each request may hold in memory. A longer body waits
	// until no other long one is in memory.
	bigBody = 1 << 20
)

// A body is written by a response, and can be emptied to begin again.
type body interface {
	io.Writer
	Len() int64
	Reset() error
}

// A memory is a body in memory. Beyond bigBody bytes it waits until it is the only such body.
type memory struct {
	ctx  context.Context
	big  chan struct{}
	held bool
	b    []byte
}

func (m *memory) Write(p []byte) (int, error) {
	if !m.held && len(m.b)+len(p) > bigBody {
		select {
		case m.big <- struct{}{}:
			m.held = true
		case <-m.ctx.Done():
			return 0, m.ctx.Err()
		}
	}
	m.b = append(m.b, p...)
	return len(p), nil
}

func (m *memory) Len() int64 { return int64(len(m.b)) }

func (m *memory) Reset() error { m.b = nil; return nil }

func (m *memory) release() {
	if m.held {
		<-m.big
	}
}

type file os.File

func (f *file) Write(p []byte) (int, error) { return (*os.File)(f).Write(p) }

func (f *file) Len() int64 {
	n, err := (*os.File)(f).Seek(0, io.SeekCurrent)
	if err != nil {
		return 0
	}
	return n
}

func (f *file) Reset() error {
	if _, err := (*os.File)(f).Seek(0, io.SeekStart); err != nil {
		return err
	}
	return (*os.File)(f).Truncate(0)
}

// tooSlow reports whether a body that delivered n bytes in time d is below minRate.
func tooSlow(n int64, d time.Duration) bool {
	return d > patience && float64(n) < minRate*d.Seconds()
}

// sniffed is how many bytes of a body isHTML looks at.
const sniffed = 512

// isHTML reports whether a body is an HTML page by its first bytes. Its Content-Type tells nothing:
// some proxies call every file text/html, and some login pages have another type. No file of the
// protocol begins like HTML.
func isHTML(r *bufio.Reader) bool {
	start, _ := r.Peek(sniffed) // an error comes again with Read
	start = bytes.TrimPrefix(start, []byte("\xef\xbb\xbf"))
	return strings.HasPrefix(http.DetectContentType(start), "text/html")
}

var errHTML = errors.New("answered with an HTML page instead of a file: a login or block page?")
