package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path"
	"strings"
)

// A proxy is an entry of a GOPROXY list.
type proxy struct {
	url         string // without a trailing slash; or "direct" or "off"
	fallOnError bool   // a pipe follows
}

// parseGOPROXY parses a GOPROXY list. Entries after "direct" or "off" are dropped, since the go
// command never asks them.
func parseGOPROXY(list string) ([]proxy, error) {
	var proxies []proxy
	for rest := list; rest != ""; {
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
		p.url = entry
		if !p.ends() {
			var err error
			if p.url, err = parseProxyURL(entry); err != nil {
				return nil, err
			}
		}
		proxies = append(proxies, p)
		if p.ends() {
			break
		}
	}
	if len(proxies) == 0 {
		return nil, errors.New("GOPROXY is empty: name a proxy")
	}
	return proxies, nil
}

// Proxies returns the entries of the GOPROXY list, of a URL its scheme and host alone: users,
// paths and queries may be secrets.
func (c *Client) Proxies() (list []string) {
	for _, p := range c.proxies {
		if p.ends() {
			list = append(list, p.url)
		} else if u, err := url.Parse(p.url); err == nil {
			list = append(list, (&url.URL{Scheme: u.Scheme, Host: u.Host}).String())
		}
	}
	return list
}

// parseProxyURL returns the URL of a GOPROXY entry, without a trailing slash.
func parseProxyURL(entry string) (string, error) {
	// A single word is more likely a mistake than a host (modfetch/proxy.go proxyList).
	if strings.ContainsAny(entry, ".:/") && !strings.Contains(entry, ":/") && !path.IsAbs(entry) {
		entry = "https://" + entry
	}
	u, err := url.Parse(entry)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http" && u.Scheme != "file") {
		return "", fmt.Errorf("invalid GOPROXY %q: want https://, http:// or file:// URLs, direct or off",
			Redact(entry))
	}
	if _, err := os.Stat(u.Path); u.Scheme == "file" && err != nil {
		return "", fmt.Errorf("GOPROXY %s: %w", entry, err)
	}
	return strings.TrimSuffix(entry, "/"), nil
}

// ends reports whether the entry is "direct" or "off", which end a list.
func (p proxy) ends() bool { return p.url == "direct" || p.url == "off" }

// each calls f for the proxies in turn, by the rules of the list, until f returns nil. It returns
// the most telling error.
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
		// A later "off", "direct" or "not found" tells less than an earlier answer.
		if first == nil || (IsNotFound(first) && !IsNotFound(err) && err != ErrDirect && err != ErrOff) {
			first = err
		}
		if !p.fallOnError && !IsNotFound(err) {
			break
		}
	}
	return first
}

// The errors of requests that reach the end of a GOPROXY list.
var (
	ErrOff    = errors.New("module lookup disabled by GOPROXY=off")
	ErrDirect = errors.New("no proxy of GOPROXY has it, and only what GOPRIVATE or GONOPROXY names is fetched directly")
)

// bases returns the URLs of the proxies in the list.
func (c *Client) bases() (list []string) {
	for _, p := range c.proxies {
		if !p.ends() {
			list = append(list, p.url)
		}
	}
	return list
}

// SumDB returns the base URL at which checksum database name is asked, by the rule of cmd/go
// (modfetch/sumdb.go initBase): below the first proxy that supports it, or else the database
// itself. SumDB tries the latter, and returns a *SumDBError when that fails or a proxy forbids it.
func (c *Client) SumDB(ctx context.Context, name string) (base string, err error) {
	for _, p := range c.proxies {
		if p.ends() {
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
		if e, ok := errors.AsType[*Error](err); ok && e.Status/100 == 4 && e.Status != 401 && e.Status != 407 {
			return "", &SumDBError{name, base, err} // as for go commands: this proxy ends the search
		}
		return "", fmt.Errorf("checksum database %s: %w", name, err)
	}
	base = "https://" + name
	if err := c.fetch(ctx, base+"/latest", &memory{ctx: ctx, big: c.big}, MaxSmall, nil); err != nil {
		return "", &SumDBError{name, "", err}
	}
	return base, nil
}

// SumDBHint is advice for networks where no proxy passes a checksum database on.
const SumDBHint = "GOSUMDB=\"sum.golang.org URL\" names another place to ask"

// A SumDBError says that a checksum database is out of reach.
type SumDBError struct {
	Name  string
	Proxy string // URL at a proxy whose refusal ends the search, since it is not 404 or 410; "" for none
	Err   error  // error of that proxy, or of asking the database directly
}

// Error says where the database was asked, and what went wrong.
func (e *SumDBError) Error() string {
	if e.Proxy != "" {
		return fmt.Sprintf("the proxy does not pass checksum database %s on: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("no proxy of GOPROXY passes checksum database %s on, and it cannot be asked directly: %v",
		e.Name, e.Err)
}

// Unwrap returns e.Err.
func (e *SumDBError) Unwrap() error { return e.Err }
