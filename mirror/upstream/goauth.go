package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// authTimeout bounds the time of all GOAUTH commands of one request.
const authTimeout = time.Minute

// An auth adds the credentials that GOAUTH gives to requests over https (go help goauth;
// cmd/go/internal/auth): those of netrc, of git, or of a command that prints headers. It runs the
// commands before the first request, and again when a host refuses one. A nil auth adds nothing.
type auth struct {
	commands []string // of GOAUTH, the first has precedence
	start    sync.Once

	asking sync.Mutex     // is held by the goroutine that tells the commands about a refusal
	asked  map[string]int // number of refusals told, by host; guarded by asking

	mu      sync.Mutex
	headers map[string]http.Header // by URL without https://; guarded by mu
	err     error                  // of the last run; nil when all commands worked; guarded by mu
}

// newAuth returns the auth for a GOAUTH value. "" means the default, netrc.
func newAuth(goauth string) (*auth, error) {
	a := &auth{headers: make(map[string]http.Header), asked: make(map[string]int)}
	if goauth == "" {
		goauth = "netrc"
	}
	for c := range strings.SplitSeq(goauth, ";") {
		words, err := splitQuoted(c)
		switch {
		case err != nil:
			return nil, fmt.Errorf("GOAUTH: %w", err)
		case len(words) == 0:
			return nil, errors.New("GOAUTH: an empty command")
		case words[0] == "off" && goauth != "off":
			return nil, errors.New("GOAUTH: off cannot be combined with others")
		case words[0] == "off":
			return a, nil
		case words[0] == "git" && (len(words) != 2 || !filepath.IsAbs(words[1])):
			return nil, errors.New("GOAUTH: git wants the absolute path of a folder")
		}
		a.commands = append(a.commands, strings.TrimSpace(c))
	}
	return a, nil
}

// add adds the credentials that are known for a request's URL to its headers.
func (a *auth) add(req *http.Request) {
	if a == nil || req.URL.Scheme != "https" {
		return
	}
	a.start.Do(func() { a.run(req.Context(), "", nil) })
	for key, values := range a.find(req.URL) {
		for _, v := range values {
			req.Header.Add(key, v)
		}
	}
}

// maxAsked bounds how often the commands are told about refusals by one host. A token may expire a
// few times in a long run, and a host may want different tokens for its paths.
const maxAsked = 20

// refresh tells the commands about a refusal. It reports whether there are credentials now that the
// request did not have.
func (a *auth) refresh(req *http.Request, resp *http.Response) bool {
	if a == nil || req.URL.Scheme != "https" || len(a.commands) == 0 {
		return false
	}
	// One goroutine at a time: the others find what the first one was told.
	a.asking.Lock()
	defer a.asking.Unlock()
	if a.others(req) {
		return true
	}
	host := req.URL.Host
	switch n := a.asked[host]; {
	case n >= maxAsked:
		return false
	case resp.StatusCode != 401 && resp.StatusCode != 403 && n > 0: // there may be many 404s
		return false
	}
	a.asked[host]++
	a.run(req.Context(), req.URL.String(), resp)
	return a.others(req)
}

// others reports whether there are credentials for a request that it does not have.
func (a *auth) others(req *http.Request) bool {
	for key, values := range a.find(req.URL) {
		if !slices.Equal(req.Header.Values(key), values) {
			return true
		}
	}
	return false
}

// find returns the headers for the longest known prefix of a URL.
func (a *auth) find(u *url.URL) http.Header {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p := strings.TrimSuffix(u.Host+u.EscapedPath(), "/"); ; {
		if h, ok := a.headers[p]; ok {
			return h
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			return nil
		}
		p = p[:i]
	}
}

func (a *auth) store(prefix string, h http.Header) {
	a.mu.Lock()
	defer a.mu.Unlock()
	prefix = strings.TrimSuffix(strings.TrimPrefix(prefix, "https://"), "/")
	if len(h) == 0 {
		delete(a.headers, prefix)
	} else {
		a.headers[prefix] = h
	}
}

// run runs the commands, the last one first, so that the first one overrides the others. u is a URL
// that was refused with resp, or "".
func (a *auth) run(ctx context.Context, u string, resp *http.Response) {
	ctx, cancel := context.WithTimeout(ctx, authTimeout)
	defer cancel()
	var failed error
	for _, c := range slices.Backward(a.commands) {
		var err error
		words, _ := splitQuoted(c) // newAuth has checked it
		switch words[0] {
		case "netrc":
			err = a.netrc()
		case "git":
			if u != "" { // git has credentials only for a URL
				err = a.git(ctx, words[1], u)
			}
		default:
			err = a.command(ctx, words, u, resp)
		}
		if err != nil {
			failed = fmt.Errorf("GOAUTH %s: %w", words[0], err)
		}
	}
	a.mu.Lock()
	a.err = failed
	a.mu.Unlock()
}

// splitQuoted splits a command at spaces. A word may be in single or double quotes, without escapes
// (cmd/internal/quoted).
func splitQuoted(s string) (words []string, err error) {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		end := strings.IndexAny(s, " \t")
		if q := s[0]; q == '\'' || q == '"' {
			if end = strings.IndexByte(s[1:], q); end < 0 {
				return nil, fmt.Errorf("no second %c", q)
			}
			words, s = append(words, s[1:1+end]), s[end+2:]
			continue
		}
		if end < 0 {
			end = len(s)
		}
		words, s = append(words, s[:end]), s[end:]
	}
	return words, nil
}

// failure returns the error of the last run.
func (a *auth) failure() error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// git asks git's credential helpers. It runs git in a folder that the user named, and so trusts the
// configuration there.
func (a *auth) git(ctx context.Context, dir, u string) error {
	cmd := exec.CommandContext(ctx, "git", "credential", "fill")
	endGroup(cmd)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0")
	cmd.Stdin = strings.NewReader("url=" + u + "\n")
	out, err := cmd.Output()
	if err != nil {
		return commandError(err)
	}
	prefix, login, password := new(url.URL), "", ""
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "protocol":
			prefix.Scheme = value
		case "host":
			prefix.Host = value
		case "path":
			prefix.Path = value
		case "username":
			login = value
		case "password":
			password = value
		}
	}
	if p := prefix.String(); prefix.Scheme != "https" || prefix.Host == "" || !strings.HasPrefix(u, p) {
		return fmt.Errorf("git credential fill answered for %q", p)
	}
	r := http.Request{Header: make(http.Header)}
	r.SetBasicAuth(login, password)
	a.store(prefix.String(), r.Header)
	return nil
}

// command runs a command that prints URLs, an empty line, headers, an empty line, and so on. It
// stores those credentials.
func (a *auth) command(ctx context.Context, words []string, u string, resp *http.Response) error {
	if u != "" {
		words = append(slices.Clone(words), u)
	}
	cmd := exec.CommandContext(ctx, words[0], words[1:]...)
	endGroup(cmd)
	if resp != nil {
		var in bytes.Buffer
		fmt.Fprintf(&in, "%s %s\n", resp.Proto, resp.Status)
		for k, v := range resp.Header {
			fmt.Fprintf(&in, "%s: %s\n", k, strings.Join(v, ", "))
		}
		in.WriteString("\n")
		cmd.Stdin = &in
	}
	out, err := cmd.Output()
	if err != nil {
		return commandError(err)
	}
	found, err := parseCredentials(out)
	for prefix, h := range found {
		a.store(prefix, h)
	}
	return err
}

// parseCredentials parses the output of a GOAUTH command (go help goauth).
func parseCredentials(out []byte) (map[string]http.Header, error) {
	found := make(map[string]http.Header)
	r := textproto.NewReader(bufio.NewReader(bytes.NewReader(out)))
	for {
		var urls []string
		for {
			line, err := r.ReadLine()
			if err != nil && len(urls) == 0 {
				return found, nil
			}
			if err != nil {
				return nil, fmt.Errorf("no empty line after the URLs")
			}
			if line == "" {
				break
			}
			u, err := url.ParseRequestURI(line)
			if err != nil || u.Host == "" {
				return nil, fmt.Errorf("not a URL: %.100q", line)
			}
			urls = append(urls, u.String())
		}
		h, err := r.ReadMIMEHeader()
		if err != nil {
			return nil, fmt.Errorf("headers: %w", err)
		}
		for _, u := range urls {
			found[u] = http.Header(h)
		}
	}
}

// commandError adds to err what the command wrote to stderr.
func commandError(err error) error {
	if exit, ok := err.(*exec.ExitError); ok && len(exit.Stderr) > 0 {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr[:min(len(exit.Stderr), maxText)]))
	}
	return err
}
