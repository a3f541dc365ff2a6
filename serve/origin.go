package serve

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// An origin says where a request came from.
type origin struct {
	addr    netip.Addr // of the client; zero when unknown
	scheme  string     // http or https, as the client sees it
	host    string     // as the client sees it
	proxied bool       // it came through a trusted reverse proxy
}

// originOf returns the origin of a request. It believes X-Forwarded-* of trusted proxies only: the
// client is the last address in X-Forwarded-For that is not a trusted proxy.
func originOf(r *http.Request, proxies []netip.Prefix) origin {
	o := origin{scheme: "http", host: r.Host}
	if r.TLS != nil {
		o.scheme = "https"
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return o
	}
	o.addr = peer.Addr().Unmap()
	if !trusted(o.addr, proxies) {
		return o
	}
	o.proxied = true
	hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0; i-- {
		addr, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
		if err != nil {
			break
		}
		o.addr = addr.Unmap().WithZone("")
		if !trusted(o.addr, proxies) {
			break
		}
	}
	if proto := r.Header.Get("X-Forwarded-Proto"); proto == "https" || proto == "http" {
		o.scheme = proto
	}
	if host := r.Header.Get("X-Forwarded-Host"); host != "" {
		o.host = host
	}
	return o
}

// trusted reports whether addr is one of a proxy.
func trusted(addr netip.Addr, proxies []netip.Prefix) bool {
	for _, p := range proxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// ParseProxies parses the addresses and prefixes of trusted reverse proxies, separated by commas.
func ParseProxies(list string) ([]netip.Prefix, error) {
	var proxies []netip.Prefix
	for _, text := range strings.Split(list, ",") {
		text = strings.TrimSpace(text)
		if addr, err := netip.ParseAddr(text); err == nil {
			addr = addr.Unmap()
			proxies = append(proxies, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is neither an address nor a prefix such as 10.0.0.0/8", text)
		}
		proxies = append(proxies, p.Masked())
	}
	return proxies, nil
}
