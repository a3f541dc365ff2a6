package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"
)

// checkRedirect refuses redirects with which a hostile proxy could reach what only this machine can
// reach, or take the encryption away.
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
	if req.URL.Host != from.Host { // net/http removes only the best known ones
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
	// The name may resolve to another address later, so dial checks it again.
	if proxy, err := http.ProxyFromEnvironment(req); err == nil && proxy == nil {
		*req = *req.WithContext(context.WithValue(req.Context(), afar{}, true))
	}
	return nil
}

// An afar key marks the context of a request that must not reach a local address.
type afar struct{}

// dial connects to an address. For a request that is marked as afar it refuses local addresses,
// whatever the name resolved to before.
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

// isLocal reports whether host is this machine or one on the same link, by its address or by the
// addresses of its name. A name that does not resolve here is left to an HTTP proxy.
func isLocal(ctx context.Context, host string) bool {
	host, _, _ = strings.Cut(host, "%") // without its zone
	if ip := net.ParseIP(host); ip != nil {
		return localIP(ip)
	}
	addrs, _ := net.DefaultResolver.LookupIPAddr(ctx, host)
	return slices.ContainsFunc(addrs, func(a net.IPAddr) bool { return localIP(a.IP) })
}

func localIP(ip net.IP) bool {
	return ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsLinkLocalMulticast() || ip.IsUnspecified()
}
