// Package upstream asks module proxies as the go command does.
//
// A Client holds a GOPROXY list and follows its rules (cmd/go/internal/modfetch/proxy.go,
// TryProxies): after a comma the next proxy is asked only when the answer was 404 or 410, after a
// pipe it is asked after any error, and "off" ends the list. Beyond the go command, a Client
// repeats requests that fail for a passing reason, resumes downloads that were cut, and bounds the
// size of a body and the time that it may stand still.
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
	// MaxSmall is the default limit in bytes of Get and its like: a list of a million versions.
	MaxSmall = 16 << 20

	// streamBuffer is how many bytes of one HTTP/2 response may wait to be read. net/http's own 4
	// MiB, times the requests in flight, would be most of a sync's memory. This still allows 5 MB/s
	// a request at a round trip of 100 ms.
	streamBuffer = 512 << 10

	// maxText is how many bytes of an error's body are kept, as in cmd/go (web.HTTPError).
	maxText = 1 << 10
)

// An Error says that an upstream did not answer with a file.
type Error struct {
	URL    string // what was asked for, without user and password
	Status int    // HTTP status; 0 without an answer
	Text   string // first line of the answer, when that is plain text
	Err    error  // what went wrong without an answer, or why there are no credentials
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

// Unwrap returns e.Err.
func (e *Error) Unwrap() error { return e.Err }

// NotFound reports whether the upstream answered that the file does not exist: 404 or 410.
func (e *Error) NotFound() bool { return e.Status == 404 || e.Status == 410 }

// Refused reports whether err is an upstream's final refusal of a file: 403, 404, 410 or 451.
// Asking again does not help.
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
	big     chan struct{} // is held by the only body of more than bigBody bytes in memory
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

// A ProxyError says that the proxy of HTTPS_PROXY refuses to connect to a host.
type ProxyError struct {
	Proxy  string // its URL, without user and password
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

// GetFrom is like Get and also returns the URL that answered, without user and password.
func (c *Client) GetFrom(ctx context.Context, path string, limit int64) (data []byte, from string, err error) {
	buf := &memory{ctx: ctx, big: c.big}
	defer buf.release()
	err = c.each(func(base string) error {
		from = Redact(base + "/" + path)
		return c.fetch(ctx, base+"/"+path, buf, cmp.Or(limit, MaxSmall), nil)
	})
	return buf.b, from, err
}

// Size returns the length in bytes of the body at path, or -1 when the proxy does not say. It does
// not retry.
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

// Download writes the body at path, at most limit bytes of it, to f from its beginning. It calls
// progress, unless that is nil, with the number of bytes after each write, and with a negative
// number when bytes are dropped and fetched again.
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

// do sends a request with the credentials that are known for it. It sends it again when a refusal
// leads to other credentials.
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

// printable removes the characters that must not reach a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return -1
		}
		return r
	}, s)
}

// unwrapURL removes the *url.Error that net/http puts around every error. An Error has the URL
// already, without its password.
func unwrapURL(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// Redact returns a URL without user and password, since a token may be either. It returns a fixed
// text for a URL that cannot be parsed.
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

// Reason returns the error without what was asked for.
func (e *Error) Reason() string {
	plain := *e
	plain.URL = ""
	return strings.TrimPrefix(plain.Error(), "GET : ")
}
