package upstream

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

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
