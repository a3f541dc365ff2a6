// Package upstream asks module proxies as the go command does.
//
// A Client holds the list of a GOPROXY value and follows its rules
// (cmd/go/internal/modfetch/proxy.go, TryProxies): a comma moves on to the next proxy after a
// 404 or 410 only, a pipe after any error; "off" ends the list. What cmd/go does not do is added:
// requests that fail for a passing reason are repeated, downloads that were cut are resumed, and
// a body is limited in size and in the time that it may stand still.
package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	"github.com/modmirror/modmirror/internal/retry"
)

const (
	// MaxSmall is the largest body in bytes that Get takes for a list, .info or tile
	// unless told otherwise: a list of a million versions.
	MaxSmall = 16 << 20

	// streamBuffer is how many bytes of one HTTP/2 answer may wait to be read. net/http's own
	// 4 MiB, times the requests in flight, would be most of a sync's memory; this is still
	// 5 MB/s a request when an answer takes 100 ms.
	streamBuffer = 512 << 10

	// maxText is how much of an error's body is kept, as cmd/go does (web.HTTPError).
	maxText = 1 << 10
)

// An Error is what an upstream answered when it did not answer with a file.
type Error struct {
	URL    string // what was asked for, without a user
	Status int    // HTTP status, 0 when there was no answer
	Text   string // the answer's first line, when it was text
	Err    error  // what went wrong, when there was no answer, or when credentials could not be had
}

// Error says what was asked for and what came back.
func (e *Error) Error() string {
	if e.Status == 0 {
		return fmt.Sprintf("GET %s: %v", e.URL, e.Err)
	}
	s := fmt.Sprintf("GET %s: %d %s", e.URL, e.Status, http.StatusText(e.Status))
	if e.Text != "" {
		s += ": " + e.Text
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns what went wrong besides the answer.
func (e *Error) Unwrap() error { return e.Err }

// NotFound reports whether the answer was that the file does not exist: 404 or 410.
func (e *Error) NotFound() bool { return e.Status == 404 || e.Status == 410 }

// Refused reports whether err is an upstream's final word that it will not hand
// a file out: 403, 404, 410 or 451. Asking again does not help.
func Refused(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (e.NotFound() || e.Status == 403 || e.Status == 451)
}

// IsNotFound reports whether err is an answer of 404 or 410.
func IsNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.NotFound()
}

// A Client asks the proxies of a GOPROXY list. It is safe for concurrent use.
type Client struct {
	proxies []proxy
	http    *http.Client
	auth    *auth
	retry   retry.Policy
	big     chan struct{} // held by the one body of more than bigBody bytes that is in memory
}

// New returns a client for the values of GOPROXY and GOAUTH. An empty goauth means the go command's
// default. The client keeps at most parallel connections to a host.
//
// "direct" and "off" are accepted in goproxy, but a request that reaches one of them fails with
// ErrDirect or ErrOff.
func New(goproxy, goauth string, parallel int) (*Client, error) {
	auth, err := newAuth(goauth)
	if err != nil {
		return nil, err
	}
	proxies, err := parseGOPROXY(goproxy)
	if err != nil {
		return nil, err
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = parallel
	t.MaxIdleConns = 2 * parallel
	t.MaxConnsPerHost = parallel
	t.DisableCompression = true // module files arrive as they are stored, and sizes stay comparable
	t.ResponseHeaderTimeout = stall
	t.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: streamBuffer}
	t.OnProxyConnectResponse = func(_ context.Context, proxy *url.URL, _ *http.Request, resp *http.Response) error {
		if resp.StatusCode/100 == 4 {
			return &ProxyError{withoutUser(proxy), resp.StatusCode}
		}
		return nil
	}
	t.RegisterProtocol("file", http.NewFileTransportFS(os.DirFS("/")))
	t.DialContext = dial
	return &Client{
		proxies: proxies,
		http:    &http.Client{Transport: t, CheckRedirect: checkRedirect},
		auth:    auth,
		retry:   policy,
		big:     make(chan struct{}, 1),
	}, nil
}

// A ProxyError is the refusal of the proxy of HTTPS_PROXY to connect to a host.
type ProxyError struct {
	Proxy  string // its URL, without a user
	Status int
}

// Error names the proxy and its answer.
func (e *ProxyError) Error() string {
	return fmt.Sprintf("the proxy %s does not let it through: %d %s", e.Proxy, e.Status, http.StatusText(e.Status))
}

// Get returns the body at path, at most limit bytes of it (MaxSmall when limit is 0).
func (c *Client) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	data, _, err := c.GetFrom(ctx, path, limit)
	return data, err
}

// GetFrom is Get that also returns the URL that answered, without a user.
func (c *Client) GetFrom(ctx context.Context, path string, limit int64) (data []byte, from string, err error) {
	buf := &memory{ctx: ctx, big: c.big}
	defer buf.release()
	err = c.each(func(base string) error {
		from = Redact(base + "/" + path)
		return c.fetch(ctx, base+"/"+path, buf, cmp.Or(limit, MaxSmall), nil)
	})
	return buf.b, from, err
}

// Size returns how many bytes the body at path has, -1 when the proxy does not say. It asks once.
func (c *Client) Size(ctx context.Context, path string) (n int64, err error) {
	err = c.each(func(base string) error {
		req, err := http.NewRequestWithContext(ctx, "HEAD", base+"/"+path, nil)
		if err != nil {
			return &Error{URL: Redact(base + "/" + path), Err: err}
		}
		req.Header.Set("User-Agent", "modmirror")
		resp, err := c.do(req)
		if err != nil {
			return &Error{URL: Redact(base + "/" + path), Err: unwrapURL(err)}
		}
		defer resp.Body.Close()
		if resp.StatusCode != 200 {
			_, err := statusError(base+"/"+path, resp)
			return err
		}
		n = resp.ContentLength
		return nil
	})
	return n, err
}

// Download writes the body at path, at most limit bytes of it, to f from its
// beginning. It calls progress, when not nil, with the number of bytes after each
// write; a negative number takes bytes back that are fetched again.
func (c *Client) Download(ctx context.Context, path string, f *os.File, limit int64, progress func(n int64)) error {
	return c.each(func(base string) error {
		return c.fetch(ctx, base+"/"+path, (*file)(f), limit, progress)
	})
}

// GetURL returns the body at a URL, at most limit bytes of it (MaxSmall when limit is 0).
func (c *Client) GetURL(ctx context.Context, url string, limit int64) ([]byte, error) {
	buf := &memory{ctx: ctx, big: c.big}
	defer buf.release()
	err := c.fetch(ctx, url, buf, cmp.Or(limit, MaxSmall), nil)
	return buf.b, err
}

// do sends a request with the credentials that there are for it, and again when a refusal brings others to light.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	plain := req.Clone(req.Context())
	c.auth.add(req)
	resp, err := c.http.Do(req)
	if err == nil && resp.StatusCode/100 == 4 && c.auth.refresh(req, resp) {
		resp.Body.Close()
		c.auth.add(plain)
		return c.http.Do(plain)
	}
	return resp, err
}

// printable drops what may not go to a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}

// unwrapURL takes off the *url.Error that net/http puts around every error: the
// URL is in ours, without its password.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// Redact returns a URL without a user's name and password: a token may be either.
func Redact(s string) string {
	u, err := url.Parse(s)
	if err != nil {
		return "(unreadable URL)"
	}
	return withoutUser(u)
}

func withoutUser(u *url.URL) string {
	plain := *u
	plain.User = nil
	return plain.String()
}

// Reason says what came back, without where it was asked for: that is the business of who asked.
func (e *Error) Reason() string {
	plain := *e
	plain.URL = ""
	return strings.TrimPrefix(plain.Error(), "GET : ")
}
