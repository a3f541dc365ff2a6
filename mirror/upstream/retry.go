package upstream

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/modmirror/modmirror/internal/retry"
)

// policy bounds the attempts of one request. With the waits between them, a client survives a
// minute of trouble.
var policy = retry.Policy{Tries: 6, First: 500 * time.Millisecond, Max: 20 * time.Second}

// maxRetryAfter is the longest Retry-After that a client obeys.
const maxRetryAfter = 2 * time.Minute

// A transfer is a GET of url, whose body goes to w.
type transfer struct {
	c        *Client
	url      string
	w        body
	limit    int64       // longest body in bytes
	progress func(int64) // is told of bytes that arrive, and of bytes that are dropped as a negative number
	etag     string      // of the file whose beginning w holds; "" when nothing identifies it
}

// fetch gets url into w, and tries again where that can help. It resumes a body that was cut when
// the server still has the same file. w is empty after an error. progress may be nil.
func (c *Client) fetch(ctx context.Context, url string, w body, limit int64, progress func(int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	t := &transfer{c: c, url: url, w: w, limit: limit, progress: progress}
	if err := t.restart(); err != nil {
		return err
	}
	err := c.retry.Do(ctx, func() (time.Duration, error) {
		wait, err := t.try(ctx)
		if err != nil && wait >= 0 && t.etag == "" { // the rest may be of another file
			if err := t.restart(); err != nil {
				return retry.Never, err
			}
		}
		return wait, err
	})
	if err != nil {
		t.restart()
	}
	return err
}

// restart empties w.
func (t *transfer) restart() error {
	t.progress(-t.w.Len())
	return t.w.Reset()
}

// fail returns err as an *Error.
func (t *transfer) fail(err error) *Error { return &Error{URL: Redact(t.url), Err: err} }

// try makes one attempt. It continues after what w holds when the server still has the file that
// t.etag names. On error it returns the wait before the next attempt, as retry.Policy.Do wants it.
func (t *transfer) try(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := http.NewRequestWithContext(ctx, "GET", t.url, nil)
	if err != nil {
		return retry.Never, t.fail(err)
	}
	req.Header.Set("User-Agent", "modmirror")
	have := t.w.Len()
	rest := fmt.Sprintf("bytes %d-", have)
	if have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", have))
		req.Header.Set("If-Range", t.etag)
	}
	resp, err := t.c.do(req)
	if err != nil {
		return waitAfter(err), t.fail(unwrapURL(err))
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == 200:
		if have > 0 {
			if err := t.restart(); err != nil {
				return retry.Never, err
			}
		}
	case resp.StatusCode == 416 && have > 0: // w lacks only the end of the body, or the file changed
		t.etag = ""
		return 0, &Error{URL: Redact(t.url), Status: 416}
	case resp.StatusCode == 206 && have > 0 && strings.HasPrefix(resp.Header.Get("Content-Range"), rest):
	default:
		wait, err := statusError(t.url, resp)
		if resp.StatusCode == 401 {
			err.Err = t.c.auth.failure()
		}
		return wait, err
	}
	t.etag = ""
	if e := resp.Header.Get("ETag"); strings.HasPrefix(e, `"`) && resp.Header.Get("Accept-Ranges") == "bytes" {
		t.etag = e
	}
	return t.receive(ctx, cancel, resp)
}

// receive appends the body of resp to w. It calls cancel when the body stalls. On error it returns
// a wait as try does.
func (t *transfer) receive(
	ctx context.Context, cancel context.CancelCauseFunc, resp *http.Response,
) (time.Duration, error) {
	start, have := time.Now(), t.w.Len()
	watchdog := time.AfterFunc(stall, func() { cancel(fmt.Errorf("no data for %v", stall)) })
	defer watchdog.Stop()
	content := bufio.NewReaderSize(resp.Body, sniffed)
	if have == 0 && isHTML(content) {
		return retry.Never, t.fail(errHTML)
	}
	if have+resp.ContentLength > t.limit {
		return retry.Never, t.fail(fmt.Errorf("%d bytes, more than the limit of %d", resp.ContentLength, t.limit))
	}
	buf := make([]byte, min(64<<10, max(512, resp.ContentLength)))
	for {
		n, err := content.Read(buf)
		if n > 0 {
			watchdog.Reset(stall)
			if d := time.Since(start); tooSlow(t.w.Len()-have, d) {
				return retry.Never, t.fail(fmt.Errorf("%d bytes in %v are too few",
					t.w.Len()-have, d.Round(time.Second)))
			}
			if t.w.Len()+int64(n) > t.limit {
				return retry.Never, t.fail(fmt.Errorf("longer than the limit of %d bytes", t.limit))
			}
			if _, err := t.w.Write(buf[:n]); err != nil {
				return retry.Never, err
			}
			t.progress(int64(n))
		}
		if err == io.EOF {
			return 0, nil
		}
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = cause
			}
			return 0, t.fail(fmt.Errorf("after %d bytes: %w", t.w.Len(), err))
		}
	}
}

// statusError returns the error for an answer that is not a file, and the wait before the next
// attempt.
func statusError(url string, resp *http.Response) (time.Duration, *Error) {
	e := &Error{URL: Redact(url), Status: resp.StatusCode}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, maxText))
		line, _, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		e.Text = printable(line)
	}
	switch resp.StatusCode {
	case 408, 429, 500, 502, 503, 504:
		return retry.After(resp.Header.Get("Retry-After"), maxRetryAfter), e
	}
	return retry.Never, e
}

// waitAfter returns retry.Never for an error that the next attempt would meet again, and else 0.
func waitAfter(err error) time.Duration {
	_, unknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	dns, isDNS := errors.AsType[*net.DNSError](err)
	_, refused := errors.AsType[*ProxyError](err)
	switch {
	case unknown, host, invalid, isDNS && dns.IsNotFound, refused,
		errors.Is(err, fs.ErrPermission),
		strings.Contains(err.Error(), "refused a redirect"),
		strings.Contains(err.Error(), "connection refused"),
		strings.Contains(err.Error(), "stopped after"):
		return retry.Never
	}
	return 0
}
