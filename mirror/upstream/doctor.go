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

// patienceToDiagnose bounds one request of a diagnosis.
const patienceToDiagnose = 20 * time.Second

// A Layer names the place at which a request failed.
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
	LayerAnswer      Layer = "answer" // not one of the protocol
	LayerFile        Layer = "file"   // at a file:// proxy
)

// A Finding is the result of one request.
type Finding struct {
	URL     string        `json:"url"` // without user and password
	Layer   Layer         `json:"layer"`
	Detail  string        `json:"detail,omitempty"` // error
	Advice  string        `json:"advice,omitempty"` // what the user can do about it
	Elapsed time.Duration `json:"elapsedNanoseconds"`
}

// Diagnose returns the layer at which a request of a Client failed, and advice for the user.
func Diagnose(err error) (Layer, string) {
	if e, ok := errors.AsType[*Error](err); ok && e.Status != 0 {
		return diagnoseStatus(e)
	}
	if layer, advice := diagnoseTLS(err); layer != "" {
		return layer, advice
	}
	dns, isDNS := errors.AsType[*net.DNSError](err)
	proxy, isProxy := errors.AsType[*ProxyError](err)
	timeout, isNet := errors.AsType[net.Error](err)
	_, isPath := errors.AsType[*os.PathError](err)
	switch {
	case errors.Is(err, errHTML):
		return LayerLogin, "a login or block page of the network: open the URL in a browser on this machine, or set HTTPS_PROXY"
	case isProxy && proxy.Status == 407:
		return LayerWayOut, "the proxy of HTTPS_PROXY wants a password: HTTPS_PROXY=http://NAME:PASSWORD@HOST:PORT"
	case isProxy:
		return LayerWayOut, "HTTPS_PROXY and NO_PROXY say which hosts go through it; who runs it can let this one through"
	case isDNS && dns.IsTimeout:
		return LayerName, "the resolver does not answer: see /etc/resolv.conf; behind a corporate proxy, set HTTPS_PROXY"
	case isDNS:
		return LayerName, "is the name right? Behind a corporate proxy that resolves it, set HTTPS_PROXY"
	case errors.Is(err, context.DeadlineExceeded), isNet && timeout.Timeout():
		return LayerTimeout, "something on the way drops packets: a firewall? Behind a corporate proxy, set HTTPS_PROXY"
	case isPath:
		return LayerFile, "can this user read it?"
	case errors.Is(err, syscall.ECONNREFUSED):
		return LayerConnection, "nothing listens there: is the port right, and is it running?"
	}
	return LayerConnection, "is it in reach from here? Behind a corporate proxy, set HTTPS_PROXY"
}

// diagnoseStatus is Diagnose for an answer that is not a file.
func diagnoseStatus(e *Error) (Layer, string) {
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

// diagnoseTLS is Diagnose for errors of TLS. It returns "" for others.
func diagnoseTLS(err error) (Layer, string) {
	_, isHost := errors.AsType[x509.HostnameError](err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	_, isCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	op, isOp := errors.AsType[*net.OpError](err)
	switch {
	case isHost:
		return LayerTLS, "the certificate is another host's: is the URL right?"
	case isInvalid && invalid.Reason == x509.Expired:
		return LayerTLS, "the certificate has expired, or the clock here is wrong: see date"
	case isCertificate:
		return LayerTLS, "behind a proxy that looks into TLS, SSL_CERT_FILE names the file with its certificate"
	case errors.Is(err, http.ErrSchemeMismatch):
		return LayerTLS, "no TLS is spoken there: is it http://?"
	case isOp && op.Op == "remote error": // a TLS alert
		return LayerTLS, "the server does not accept this client: does it want a newer TLS, or a client certificate?"
	}
	return "", ""
}

// find makes one request and diagnoses the result. It returns the body too.
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

// GetOnce returns the body at a URL. It does not retry, and waits for 20 seconds at most.
func (c *Client) GetOnce(ctx context.Context, url string) ([]byte, error) {
	_, data, err := c.once(ctx, url)
	return data, err
}

// once makes one request without a retry. The finding has no diagnosis yet.
func (c *Client) once(ctx context.Context, url string) (Finding, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patienceToDiagnose)
	defer cancel()
	f := Finding{URL: Redact(url), Layer: LayerOK}
	start := time.Now()
	body := &memory{ctx: ctx, big: c.big}
	defer body.release()
	t := &transfer{c: c, url: url, w: body, limit: MaxSmall, progress: func(int64) {}}
	_, err := t.try(ctx)
	f.Elapsed = time.Since(start)
	return f, body.b, err
}

// A search says how far the go command gets when it asks the proxies of a list in turn.
type search struct {
	found bool // a proxy answered before the list ended
	ended bool // no further proxy is asked
}

// Doctor asks each proxy of the list for a module and for the checksum database db, and returns one
// finding for each request. With an empty m.Version it asks for the module's list. It asks for the
// database directly too, at dbURL when that is set.
//
// ok reports whether sync has what it needs: one proxy with the module, and a way to the database.
func (c *Client) Doctor(ctx context.Context, m module.Version, db, dbURL string) (findings []Finding, ok bool) {
	file := probeRequest(m)
	var mod, sum search
	for i, proxy := range c.proxies {
		if proxy.ends() {
			break
		}
		f, _ := c.find(ctx, proxy.url+"/"+file.String())
		if !mod.ended {
			mod.found = mod.found || f.Layer == LayerOK
			mod.ended = f.Layer != LayerNotFound && !proxy.fallOnError // the go command stops after a comma
			if next := i + 1; mod.ended && f.Layer != LayerOK && next < len(c.proxies) && !c.proxies[next].ends() {
				f.Advice += " (no proxy behind it is asked: a pipe instead of the comma changes that)"
			}
		}
		findings = append(findings, f)
		switch f.Layer {
		case LayerName, LayerConnection, LayerWayOut, LayerTLS, LayerTimeout: // a second request would fail too
			sum.ended = sum.ended || !proxy.fallOnError
			continue
		}
		if db != "" && dbURL == "" {
			findings = append(findings, c.findSumDB(ctx, proxy, db, &sum))
		}
	}
	if db != "" && !sum.found && !sum.ended {
		f, _ := c.find(ctx, cmp.Or(dbURL, "https://"+db)+"/latest")
		findings = append(findings, f)
		sum.found = f.Layer == LayerOK
	}
	return findings, mod.found && (sum.found || db == "")
}

// findSumDB asks a proxy for the checksum database db.
func (c *Client) findSumDB(ctx context.Context, p proxy, db string, sum *search) Finding {
	base := p.url + "/sumdb/" + db
	f, _ := c.find(ctx, base+"/supported")
	switch f.Layer {
	case LayerOK:
		f, _ = c.find(ctx, base+"/latest")
		sum.found = sum.found || f.Layer == LayerOK && !sum.ended
	case LayerNotFound:
		f.Advice = "it does not pass the checksum database on, which is then asked directly"
	case LayerAnswer:
		f.Advice = "it does not pass the checksum database on, and should say so with 404, " +
			"after which go commands ask it directly; " + SumDBHint
		sum.ended = sum.ended || !p.fallOnError
	default:
		sum.ended = sum.ended || !p.fallOnError
	}
	return f
}

// probeRequest returns the request that tells whether a proxy has m: for the list when m.Version is
// "" or a query that lists answer, such as latest or v1.
func probeRequest(m module.Version) modpath.Request {
	if m.Version == "" || modpath.IsListQuery(m.Version) {
		return modpath.Request{Kind: modpath.List, Path: m.Path}
	}
	return modpath.Request{Kind: modpath.Info, Path: m.Path, Version: m.Version}
}

// Doctor asks for a private module as a sync does.
func (d *Direct) Doctor(ctx context.Context, m module.Version) (Finding, bool) {
	file := probeRequest(m)
	f := Finding{URL: "direct:" + file.String(), Layer: LayerOK}
	start := time.Now()
	_, err := d.Get(ctx, file.String(), 0)
	f.Elapsed = time.Since(start)
	if err != nil {
		f.Detail, f.Layer = err.Error(), LayerAnswer
		f.Advice = fmt.Sprintf("GOPRIVATE or GONOPROXY has it fetched directly: "+
			"what does \"GOPROXY=direct go mod download -x %s@%s\" say?", m.Path, cmp.Or(m.Version, "latest"))
		if IsNotFound(err) {
			f.Layer = LayerNotFound
		}
		if none, ok := errors.AsType[*NoVCSError](err); ok {
			f.Advice = "install " + none.Name
		}
	}
	return f, err == nil
}
