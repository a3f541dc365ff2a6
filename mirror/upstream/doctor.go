package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
)

// patienceToDiagnose is how long one request of a diagnosis may take.
const patienceToDiagnose = 20 * time.Second

// A Layer is where a request failed.
type Layer string

// The layers, from the outside in.
const (
	LayerOK          Layer = "ok"
	LayerName        Layer = "name resolution"
	LayerConnection  Layer = "connection"
	LayerWayOut      Layer = "way out"
	LayerTLS         Layer = "TLS"
	LayerTimeout     Layer = "timeout"
	LayerLogin       Layer = "login page"
	LayerCredentials Layer = "credentials"
	LayerRefused     Layer = "refused"
	LayerNotFound    Layer = "not found"
	LayerServer      Layer = "server error"
	LayerAnswer      Layer = "answer" // that is none of the protocol
	LayerFile        Layer = "file"   // of a file:// proxy
)

// A Finding is what came of one request.
type Finding struct {
	URL     string        `json:"url"` // without a password
	Layer   Layer         `json:"layer"`
	Detail  string        `json:"detail,omitempty"` // the error
	Advice  string        `json:"advice,omitempty"` // what to do about it
	Elapsed time.Duration `json:"elapsedNanoseconds"`
}

// Diagnose returns the layer at which a request of a Client failed, and what to do about it.
func Diagnose(err error) (Layer, string) {
	var e *Error
	var dns *net.DNSError
	var proxy *ProxyError
	var certificate *tls.CertificateVerificationError
	var op *net.OpError
	var invalid x509.CertificateInvalidError
	var host x509.HostnameError
	var timeout net.Error
	var path *os.PathError
	if errors.As(err, &e) && e.Status != 0 {
		switch {
		case e.Status == 401, e.Status == 407:
			return LayerCredentials, "it wants a password: ~/.netrc or GOAUTH has it, see go help goauth"
		case e.NotFound():
			return LayerNotFound, "this proxy does not have it; one behind it in GOPROXY may"
		case e.Status == 403, e.Status == 451:
			return LayerRefused, "its rules forbid this one: ask who runs it, or name another proxy"
		case e.Status == 429:
			return LayerServer, "too many requests: wait, or sync with a smaller --parallel"
		case e.Status >= 500:
			return LayerServer, "the server is in trouble: try again later, or put another proxy before it with a pipe: GOPROXY=OTHER|THIS"
		}
		return LayerAnswer, "is this the URL of a module proxy?"
	}
	switch {
	case errors.Is(err, errHTML):
		return LayerLogin, "a login or block page of the network: open the URL in a browser on this machine, or set HTTPS_PROXY"
	case errors.As(err, &proxy) && proxy.Status == 407:
		return LayerWayOut, "the proxy of HTTPS_PROXY wants a password: HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT"
	case errors.As(err, &proxy):
		return LayerWayOut, "HTTPS_PROXY and NO_PROXY say which hosts go through it; who runs it can let this one through"
	case errors.As(err, &dns) && dns.IsTimeout:
		return LayerName, "the resolver does not answer: see /etc/resolv.conf; behind a corporate proxy, set HTTPS_PROXY"
	case errors.As(err, &dns):
		return LayerName, "is the name right? Behind a corporate proxy that resolves it, set HTTPS_PROXY"
	case errors.As(err, &host):
		return LayerTLS, "the certificate is another host's: is the URL right?"
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return LayerTLS, "the certificate has expired, or the clock here is wrong: see date"
	case errors.As(err, &certificate):
		return LayerTLS, "behind a proxy that looks into TLS, SSL_CERT_FILE names the file with its certificate"
	case errors.Is(err, http.ErrSchemeMismatch):
		return LayerTLS, "no TLS is spoken there: is it http://?"
	case errors.As(err, &op) && op.Op == "remote error": // an alert of TLS
		return LayerTLS, "the server does not accept this client: does it want a newer TLS, or a client certificate?"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return LayerTimeout, "something on the way drops packets: a firewall? Behind a corporate proxy, set HTTPS_PROXY"
	case errors.As(err, &path):
		return LayerFile, "can this user read it?"
	case errors.Is(err, syscall.ECONNREFUSED):
		return LayerConnection, "nothing listens there: is the port right, and is it running?"
	}
	return LayerConnection, "is it in reach from here? Behind a corporate proxy, set HTTPS_PROXY"
}

// find makes one request and says what came of it.
func (c *Client) find(ctx context.Context, url string) (Finding, []byte) {
	f, data, err := c.once(ctx, url)
	if err != nil {
		f.Layer, f.Advice = Diagnose(err)
		if f.Detail = err.Error(); f.Layer == LayerTimeout {
			f.Detail = fmt.Sprintf("GET %s: no answer in %v", f.URL, patienceToDiagnose)
		}
	}
	return f, data
}

// GetOnce returns the body at a URL, for someone who waits: without a second attempt.
func (c *Client) GetOnce(ctx context.Context, url string) ([]byte, error) {
	_, data, err := c.once(ctx, url)
	return data, err
}

// once makes one request, without a second attempt.
func (c *Client) once(ctx context.Context, url string) (Finding, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patienceToDiagnose)
	defer cancel()
	f := Finding{URL: Redact(url), Layer: LayerOK}
	start := time.Now()
	body := &memory{ctx: ctx, big: c.big}
	defer body.release()
	_, err := c.fetchOnce(ctx, url, new(string), body, MaxSmall, func(int64) {})
	f.Elapsed = time.Since(start)
	return f, body.b, err
}

// Doctor asks each proxy of the list for a module, of which the version may be "" for its list, and for the checksum
// database db, which is also asked directly. It reports whether sync has what it needs: one proxy with the module, and a way to the
// database.
func (c *Client) Doctor(ctx context.Context, m module.Version, db, dbURL string) (findings []Finding, ok bool) {
	file := probeRequest(m)
	var haveModule, haveDB, stopped, dbStopped bool
	for i, proxy := range c.proxies {
		base := proxy.url
		if base == "direct" || base == "off" {
			break
		}
		f, _ := c.find(ctx, base+"/"+file.String())
		if !stopped {
			haveModule = haveModule || f.Layer == LayerOK
			stopped = f.Layer != LayerNotFound && !proxy.fallOnError // go commands do not go on after a comma
			if next := i + 1; stopped && f.Layer != LayerOK && next < len(c.proxies) && c.proxies[next].url != "direct" && c.proxies[next].url != "off" {
				f.Advice += " (no proxy behind it is asked: a pipe instead of the comma changes that)"
			}
		}
		findings = append(findings, f)
		switch f.Layer {
		case LayerName, LayerConnection, LayerWayOut, LayerTLS, LayerTimeout: // the same would come of it
			dbStopped = dbStopped || !proxy.fallOnError
			continue
		}
		if db == "" || dbURL != "" {
			continue
		}
		f, _ = c.find(ctx, base+"/sumdb/"+db+"/supported")
		if f.Layer == LayerOK {
			f, _ = c.find(ctx, base+"/sumdb/"+db+"/latest")
			haveDB = haveDB || f.Layer == LayerOK && !dbStopped
		} else if f.Layer == LayerNotFound {
			f.Advice = "it does not pass the checksum database on, which is then asked directly"
		} else if f.Layer == LayerAnswer {
			f.Advice = "it does not pass the checksum database on, and should say so with 404, after which go commands ask it directly; " + SumDBHint
			dbStopped = dbStopped || !proxy.fallOnError
		} else {
			dbStopped = dbStopped || !proxy.fallOnError
		}
		findings = append(findings, f)
	}
	if db != "" && !haveDB && !dbStopped {
		f, _ := c.find(ctx, cmp.Or(dbURL, "https://"+db)+"/latest")
		findings = append(findings, f)
		haveDB = f.Layer == LayerOK
	}
	return findings, haveModule && (haveDB || db == "")
}

// probeRequest returns the file that is asked for: what a query such as latest or v1 means is found in the list.
func probeRequest(m module.Version) modpath.Request {
	if m.Version == "" || modpath.IsListQuery(m.Version) {
		return modpath.Request{Kind: modpath.List, Path: m.Path}
	}
	return modpath.Request{Kind: modpath.Info, Path: m.Path, Version: m.Version}
}

// Doctor asks for a module as a sync asks for one that is private.
func (d *Direct) Doctor(ctx context.Context, m module.Version) (Finding, bool) {
	file := probeRequest(m)
	f := Finding{URL: "direct:" + file.String(), Layer: LayerOK}
	start := time.Now()
	_, err := d.Get(ctx, file.String(), 0)
	f.Elapsed = time.Since(start)
	if err != nil {
		f.Detail, f.Layer = err.Error(), LayerAnswer
		f.Advice = fmt.Sprintf("GOPRIVATE or GONOPROXY has it fetched directly: what does \"GOPROXY=direct go mod download -x %s@%s\" say?", m.Path, cmp.Or(m.Version, "latest"))
		if e := (*Error)(nil); errors.As(err, &e) && e.NotFound() {
			f.Layer = LayerNotFound
		}
		if none, ok := errors.AsType[*NoVCSError](err); ok {
			f.Advice = "install " + none.Name
		}
	}
	return f, err == nil
}
