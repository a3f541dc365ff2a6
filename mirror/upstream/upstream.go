// Package upstream asks module proxies as the go command does.
//
// A Client holds the list of a GOPROXY value and follows its rules
// (cmd/go/internal/modfetch/proxy.go, TryProxies): a comma moves on to the next proxy after a
// 404 or 410 only, a pipe after any error; "off" ends the list. What cmd/go does not do is added:
// requests that fail for a passing reason are repeated, downloads that were cut are resumed, and
// a body is limited in size and in the time that it may stand still.
package upstream

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// MaxSmall is the largest body in bytes that Get takes for a list, .info or tile
	// unless told otherwise: a list of a million versions.
	MaxSmall = 16 << 20

	// attempts is how often a request is tried in all: with the waits between
	// them, a minute of trouble is survived.
	attempts = 6

	// firstWait is the wait after the first failure; it doubles, up to maxWait.
	firstWait = 500 * time.Millisecond
	maxWait   = 20 * time.Second

	// maxRetryAfter is the longest Retry-After that is obeyed.
	maxRetryAfter = 2 * time.Minute

	// stall is how long a body may deliver nothing before the request is given up.
	stall = 60 * time.Second

	// minRate is how many bytes a second a body must deliver, once it has had patience to begin.
	minRate  = 256
	patience = 10 * time.Minute

	// streamBuffer is how many bytes of one HTTP/2 answer may wait to be read. net/http's own
	// 4 MiB, times the requests in flight, would be most of a sync's memory; this is still
	// 5 MB/s a request when an answer takes 100 ms.
	streamBuffer = 512 << 10

	// bigBody is how many bytes of an answer may be in memory besides those of others; what is longer
	// is read one after another.
	bigBody = 1 << 20

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
	var e *Error
	return errors.As(err, &e) && (e.NotFound() || e.Status == 403 || e.Status == 451)
}

// IsNotFound reports whether err is an answer of 404 or 410.
func IsNotFound(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.NotFound()
}

var errHTML = errors.New("answered with an HTML page instead of a file: a login or block page?")

// A proxy is an entry of a GOPROXY list.
type proxy struct {
	url         string // without a trailing slash; or "direct" or "off"
	fallOnError bool   // followed by a pipe
}

// Client asks the proxies of a list. It is safe for concurrent use.
type Client struct {
	proxies []proxy
	http    *http.Client
	auth    *auth
	wait    time.Duration // first wait between attempts
	big     chan struct{} // held by who has a body of more than bigBody bytes in memory
}

// New returns a client for the values of GOPROXY and GOAUTH, of which the latter may be empty for go's default. At
// most parallel connections are kept. What is asked of "direct" or "off" fails when it is.
func New(goproxy, goauth string, parallel int) (*Client, error) {
	c := &Client{wait: firstWait, big: make(chan struct{}, 1)}
	var err error
	if c.auth, err = newAuth(goauth); err != nil {
		return nil, err
	}
	for rest := goproxy; rest != ""; {
		entry := rest
		var p proxy
		if i := strings.IndexAny(rest, ",|"); i >= 0 {
			entry, p.fallOnError, rest = rest[:i], rest[i] == '|', rest[i+1:]
		} else {
			rest = ""
		}
		entry = strings.TrimSpace(entry)
		if entry == "" {
			continue
		}
		if entry != "direct" && entry != "off" {
			// A single word is more likely a mistake than a host (modfetch/proxy.go proxyList).
			if strings.ContainsAny(entry, ".:/") && !strings.Contains(entry, ":/") && !path.IsAbs(entry) {
				entry = "https://" + entry
			}
			u, err := url.Parse(entry)
			if err != nil || (u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "file") {
				return nil, fmt.Errorf("invalid GOPROXY %q: want https://, http:// or file:// URLs, direct or off", Redact(entry))
			}
			if _, err := os.Stat(u.Path); u.Scheme == "file" && err != nil {
				return nil, fmt.Errorf("GOPROXY %s: %w", entry, err)
			}
		}
		p.url = strings.TrimSuffix(entry, "/")
		c.proxies = append(c.proxies, p)
		if entry == "direct" || entry == "off" {
			break // nothing behind them is ever asked
		}
	}
	if len(c.proxies) == 0 {
		return nil, errors.New("GOPROXY is empty: name a proxy")
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = parallel
	t.MaxIdleConns = 2 * parallel
	t.MaxConnsPerHost = parallel
	t.DisableCompression = true // modules are sent as they are; sizes stay comparable
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
	c.http = &http.Client{Transport: t, CheckRedirect: checkRedirect}
	return c, nil
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

// checkRedirect refuses redirects that a hostile proxy could use to reach what
// only this machine can reach, or to take the encryption away.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= 10 {
		return errors.New("stopped after 10 redirects")
	}
	from := via[0].URL
	if from.Scheme == "https" && req.URL.Scheme != "https" {
		return fmt.Errorf("refused a redirect from https to %s", req.URL.Scheme)
	}
	if req.URL.Scheme != "https" && req.URL.Scheme != "http" {
		return fmt.Errorf("refused a redirect to the scheme %s", req.URL.Scheme)
	}
	if req.URL.Host != from.Host { // net/http takes only the best known ones out
		for name := range req.Header {
			if name != "User-Agent" && name != "Range" && name != "If-Range" {
				req.Header.Del(name)
			}
		}
	}
	if req.URL.Host == from.Host || isLocal(req.Context(), from.Hostname()) {
		return nil
	}
	if isLocal(req.Context(), req.URL.Hostname()) {
		return fmt.Errorf("refused a redirect to the local address %s", req.URL.Host)
	}
	if proxy, err := http.ProxyFromEnvironment(req); err == nil && proxy == nil { // its name may stand for something else by then
		*req = *req.WithContext(context.WithValue(req.Context(), afar{}, true))
	}
	return nil
}

// afar marks the context of a request that may reach no local address.
type afar struct{}

// dial connects to an address, which after a redirect is no local one, whatever the name stood for
// when that was checked.
func dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	if ctx.Value(afar{}) != nil {
		d.Control = func(_, to string, _ syscall.RawConn) error {
			if host, _, err := net.SplitHostPort(to); err != nil || isLocal(ctx, host) {
				return fmt.Errorf("refused a redirect to %s, which is the local address %s", addr, to)
			}
			return nil
		}
	}
	return d.DialContext(ctx, network, addr)
}

// isLocal reports whether host is this machine or one on the same link, by its address or by what
// its name stands for. A name that cannot be resolved here is for a proxy to resolve.
func isLocal(ctx context.Context, host string) bool {
	host, _, _ = strings.Cut(host, "%") // a zone
	if ip := net.ParseIP(host); ip != nil {
		return localIP(ip)
	}
	addrs, _ := net.DefaultResolver.LookupIPAddr(ctx, host)
	return slices.ContainsFunc(addrs, func(a net.IPAddr) bool { return localIP(a.IP) })
}

func localIP(ip net.IP) bool {
	return ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsUnspecified()
}

// tooSlow reports whether n bytes of a body in a time are fewer than can be waited for.
func tooSlow(n int64, d time.Duration) bool {
	return d > patience && float64(n) < minRate*d.Seconds()
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

// each calls f for the proxies in turn, as the list says.
func (c *Client) each(f func(base string) error) error {
	var first error
	for _, p := range c.proxies {
		var err error
		switch p.url {
		case "off":
			err = ErrOff
		case "direct":
			err = ErrDirect
		default:
			err = f(p.url)
		}
		if err == nil {
			return nil
		}
		// A later "off", "direct" or "not found" says less than an earlier answer.
		if first == nil || (IsNotFound(first) && !IsNotFound(err) && err != ErrDirect && err != ErrOff) {
			first = err
		}
		if !p.fallOnError && !IsNotFound(err) {
			break
		}
	}
	return first
}

// What is in the place of a proxy when a GOPROXY list ends.
var (
	ErrOff    = errors.New("module lookup disabled by GOPROXY=off")
	ErrDirect = errors.New("no proxy of GOPROXY has it, and only what GOPRIVATE or GONOPROXY names is fetched directly")
)

// SumDB returns the base URL at which the checksum database name is asked, by
// the rule of cmd/go (modfetch/sumdb.go initBase): through the first proxy that
// supports it, else directly, which is tried: its error is then a *SumDBError.
func (c *Client) SumDB(ctx context.Context, name string) (base string, err error) {
	for _, p := range c.proxies {
		if p.url == "direct" || p.url == "off" {
			break
		}
		base := p.url + "/sumdb/" + name
		err := c.fetch(ctx, base+"/supported", &memory{ctx: ctx, big: c.big}, maxText, nil)
		if err == nil {
			return base, nil
		}
		if IsNotFound(err) || p.fallOnError {
			continue
		}
		if e, ok := errors.AsType[*Error](err); ok && e.Status != 0 && e.Status != 401 && e.Status != 407 && e.Status/100 == 4 {
			return "", &SumDBError{name, base, err} // as go commands have it: nothing behind this proxy is asked
		}
		return "", fmt.Errorf("checksum database %s: %w", name, err)
	}
	base = "https://" + name
	if err := c.fetch(ctx, base+"/latest", &memory{ctx: ctx, big: c.big}, MaxSmall, nil); err != nil {
		return "", &SumDBError{name, "", err}
	}
	return base, nil
}

// SumDBHint is what helps where no proxy passes a checksum database on.
const SumDBHint = "GOSUMDB=\"sum.golang.org URL\" names another place to ask"

// A SumDBError says that a checksum database is out of reach.
type SumDBError struct {
	Name  string
	Proxy string // URL below a proxy that refuses it with something else than 404, so that it is not asked directly; "" for none
	Err   error  // of that, or of asking it directly
}

// Error says why.
func (e *SumDBError) Error() string {
	if e.Proxy != "" {
		return fmt.Sprintf("the proxy does not pass checksum database %s on: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("no proxy of GOPROXY passes checksum database %s on, and it cannot be asked directly: %v", e.Name, e.Err)
}

// Unwrap returns the reason.
func (e *SumDBError) Unwrap() error { return e.Err }

// GetURL returns the body at a URL, at most limit bytes of it (MaxSmall when limit is 0).
func (c *Client) GetURL(ctx context.Context, url string, limit int64) ([]byte, error) {
	buf := &memory{ctx: ctx, big: c.big}
	defer buf.release()
	err := c.fetch(ctx, url, buf, cmp.Or(limit, MaxSmall), nil)
	return buf.b, err
}

// A body is where a response is written; it can be begun again.
type body interface {
	io.Writer
	Len() int64
	Reset() error
}

// memory is a body in memory. Once it is big it is the only one that is.
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

func (m *memory) Len() int64   { return int64(len(m.b)) }
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

// fetch gets url into w, trying again where that can help.
func (c *Client) fetch(ctx context.Context, url string, w body, limit int64, progress func(int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	restart := func() error {
		progress(-w.Len())
		return w.Reset()
	}
	if err := restart(); err != nil {
		return err
	}
	wait := c.wait
	var etag string // of the file that w holds the beginning of
	for try := 1; ; try++ {
		pause, err := c.fetchOnce(ctx, url, &etag, w, limit, progress)
		if err == nil {
			return nil
		}
		if pause < 0 || try == attempts || ctx.Err() != nil {
			restart()
			return err
		}
		if etag == "" { // nothing says that the rest would be of the same file
			if err := restart(); err != nil {
				return err
			}
		}
		if pause == 0 {
			pause = wait/2 + rand.N(wait)
			wait = min(2*wait, maxWait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// fetchOnce gets url into w, going on after what w holds when the file is
// still the one that it was. On error it returns how long to wait before the next
// attempt: 0 for no opinion, negative for never.
func (c *Client) fetchOnce(ctx context.Context, url string, etag *string, w body, limit int64, progress func(int64)) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return -1, &Error{URL: Redact(url), Err: err}
	}
	req.Header.Set("User-Agent", "modmirror")
	have := w.Len()
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		req.Header.Set("If-Range", *etag)
	}
	resp, err := c.do(req)
	if err != nil {
		return retryable(err), &Error{URL: Redact(url), Err: unwrapURL(err)}
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == 200:
		if have > 0 {
			progress(-have)
			if err := w.Reset(); err != nil {
				return -1, err
			}
			have = 0
		}
	case resp.StatusCode == 416 && have > 0: // all was there but the end of the answer, or the file is another one
		*etag = ""
		return 0, &Error{URL: Redact(url), Status: 416}
	case resp.StatusCode == 206 && have > 0 && strings.HasPrefix(resp.Header.Get("Content-Range"), fmt.Sprintf("bytes %d-", have)):
	default:
		pause, err := statusError(url, resp)
		if resp.StatusCode == 401 {
			err.Err = c.auth.failure()
		}
		return pause, err
	}
	*etag = ""
	if e := resp.Header.Get("ETag"); strings.HasPrefix(e, `"`) && resp.Header.Get("Accept-Ranges") == "bytes" {
		*etag = e
	}
	start := time.Now()
	watchdog := time.AfterFunc(stall, func() { cancel(fmt.Errorf("no data for %v", stall)) })
	defer watchdog.Stop()
	content := bufio.NewReaderSize(resp.Body, sniffed)
	if have == 0 && isHTML(content) {
		return -1, &Error{URL: Redact(url), Err: errHTML}
	}
	if have+resp.ContentLength > limit {
		return -1, &Error{URL: Redact(url), Err: fmt.Errorf("%d bytes, more than the limit of %d", resp.ContentLength, limit)}
	}
	buf := make([]byte, min(64<<10, max(512, resp.ContentLength)))
	for {
		n, err := content.Read(buf)
		if n > 0 {
			watchdog.Reset(stall)
			if d := time.Since(start); tooSlow(int64(w.Len()-have), d) {
				return -1, &Error{URL: Redact(url), Err: fmt.Errorf("%d bytes in %v are too few", w.Len()-have, d.Round(time.Second))}
			}
			if w.Len()+int64(n) > limit {
				return -1, &Error{URL: Redact(url), Err: fmt.Errorf("longer than the limit of %d bytes", limit)}
			}
			if _, err := w.Write(buf[:n]); err != nil {
				return -1, err
			}
			progress(int64(n))
		}
		if err == io.EOF {
			return 0, nil
		}
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return 0, &Error{URL: Redact(url), Err: fmt.Errorf("after %d bytes: %w", w.Len(), err)}
		}
	}
}

// sniffed is how much of a body is looked at, in bytes, to tell what it is.
const sniffed = 512

// isHTML reports whether a body is an HTML page, whatever its Content-Type says: some proxies call
// every file text/html, and some login pages have another one. No file of the protocol begins like
// one.
func isHTML(r *bufio.Reader) bool {
	start, _ := r.Peek(sniffed) // what there is; an error comes again
	start = bytes.TrimPrefix(start, []byte("\xef\xbb\xbf"))
	return strings.HasPrefix(http.DetectContentType(start), "text/html")
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

// statusError makes the error for an answer that is not a file, and says when to ask again.
func statusError(url string, resp *http.Response) (time.Duration, *Error) {
	e := &Error{URL: Redact(url), Status: resp.StatusCode}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxText))
		line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		e.Text = printable(line)
	}
	switch resp.StatusCode {
	case 408, 429, 500, 502, 503, 504:
	default:
		return -1, e
	}
	var pause time.Duration
	if s := resp.Header.Get("Retry-After"); s != "" {
		if n, err := strconv.Atoi(s); err == nil {
			pause = time.Duration(n) * time.Second
		} else if at, err := http.ParseTime(s); err == nil {
			pause = time.Until(at)
		}
		pause = min(max(pause, 0), maxRetryAfter)
	}
	return pause, e
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

// retryable returns a negative duration for an error that will be the same next time.
func retryable(err error) time.Duration {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var dns *net.DNSError
	var proxy *ProxyError
	switch {
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid), // certificates
		errors.As(err, &dns) && dns.IsNotFound, errors.As(err, &proxy),
		errors.Is(err, fs.ErrPermission),
		strings.Contains(err.Error(), "refused a redirect"),
		strings.Contains(err.Error(), "connection refused"),
		strings.Contains(err.Error(), "stopped after"):
		return -1
	}
	return 0
}

// unwrapURL takes off the *url.Error that net/http puts around every error: the
// URL is in ours, without its password.
func unwrapURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
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
