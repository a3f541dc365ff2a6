package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/media/object"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/serve"
	"github.com/modmirror/modmirror/serve/web/search"
)

const (
	// serveHeap is the memory limit of the Go runtime while serving, in bytes. Buffers and a cache
	// bound what serving needs, so collecting garbage more often near the limit costs little.
	serveHeap = 48 << 20

	// serveGC is GOGC while serving, in percent. The heap is small, so it may grow further between
	// two collections; serveHeap limits it.
	serveGC = 300
)

// newLog returns a log to w in a format: text or json.
func newLog(w io.Writer, format string) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	}
	return nil, usagef("--log-format %s: want text or json", format)
}

// serveFlags are the flags of serve.
type serveFlags struct {
	addr, pagesAddr                    string
	state, audit, logFormat, basePath  string
	maxAge, proxies                    string
	allowRollback, noScrub, noLandlock bool
	noPages, requests                  bool
	minSequence                        int64
	require                            string
	maxConns                           int
	tls                                serve.TLS
	access                             serve.Access
	inside                             serve.Inside
	storage                            storageFlags
}

func serveCommand() *command {
	f := new(serveFlags)
	return &command{
		name:    "serve",
		summary: "serve bundles as GOPROXY with checksum database (inside)",
		usage: `
Usage: modmirror serve [flags] BUNDLE...
       modmirror serve [flags] STORE
       modmirror serve [flags] s3://BUCKET/PREFIX

Serves straight from the tar, read-only: a bundle, a delta with the earlier bundles of
its line, a store that modmirror import fills, or a bucket that modmirror publish fills.
It serves what is imported or published without a restart. A trusted key must have
signed each bundle. It refuses bundles that are older than those it served before.

/healthz answers at once, /readyz when the bundles are verified, and /metrics is for
Prometheus. A browser gets pages: / has the settings that clients need and a search,
/golang.org/x/text/language and /net/http are documentation, as on pkg.go.dev.

SIGTERM lets transfers finish first; SIGHUP opens the audit file again. A socket from
systemd takes the place of --addr.

Example:
  modmirror serve --addr 0.0.0.0:8080 team.tar
  modmirror serve --audit /var/log/modmirror/audit.json /srv/modmirror
`,
		flags: f.flags,
		run:   func(ctx context.Context, e *env, args []string) error { return runServe(ctx, e, f, args) },
	}
}

func (f *serveFlags) flags(fs *pflag.FlagSet) {
	fs.StringVar(&f.addr, "addr", "127.0.0.1:8080", "`address` to listen on; 0.0.0.0:8080 for the whole network")
	fs.StringVar(&f.pagesAddr, "pages-addr", "",
		"`address` that alone has the pages, besides modules: --addr has none then")
	stateFlag(fs, &f.state)
	requireFlag(fs, &f.require)
	fs.BoolVar(&f.allowRollback, "allow-rollback", false, "serve a bundle although a newer one of its line was seen")
	fs.Int64Var(&f.minSequence, "min-sequence", 0,
		"refuse bundles below this sequence `number`: for a host that has seen none yet")
	fs.StringVar(&f.tls.CertFile, "tls-cert", "", "certificate `file` (PEM), read again when it changes")
	fs.StringVar(&f.tls.KeyFile, "tls-key", "", "`file` of its key")
	fs.StringVar(&f.tls.ClientCA, "client-ca", "", "only clients with a certificate of the CAs in this `file` may read")
	fs.StringVar(&f.access.Htpasswd, "htpasswd", "",
		"only users in this `file` may read, with their passwords (htpasswd -B); with TLS only, here or at a trusted proxy")
	fs.StringVar(&f.access.Tokens, "tokens", "",
		"clients with a bearer token in this `file` may read too; one token of at least 16 characters a line, or NAME:TOKEN; with TLS only, as above")
	fs.StringVar(&f.basePath, "base-path", "",
		"`path` that all requests begin with, such as /go, behind a reverse proxy")
	fs.StringVar(&f.proxies, "trusted-proxy", "",
		"`addresses` or prefixes of reverse proxies whose X-Forwarded-* headers count, such as 127.0.0.1,10.0.0.0/8")
	fs.StringVar(&f.inside.Patterns, "inside", "",
		"`patterns`, as in GOPRIVATE, of modules that clients get from your own network")
	fs.StringVar(&f.inside.File, "inside-file", "", "`file` with such patterns, one a line, read again when it changes")
	fs.StringSliceVar(&f.inside.Also, "also", nil,
		"`URL` of a second proxy that has those modules, such as your forge's: clients ask it for what is not carried")
	fs.StringVar(&f.audit, "audit", "", "append a line of JSON to a `file` for each request; - for stderr")
	fs.StringVar(&f.logFormat, "log-format", "text", "`format` of the log on stderr: text or json")
	fs.IntVar(&f.maxConns, "max-conns", serve.MaxConns,
		"largest number of `connections`; a new one closes the one that is idle longest")
	fs.BoolVar(&f.noScrub, "no-scrub", false, "do not verify all files again in the background")
	fs.BoolVar(&f.noPages, "no-pages", false, "serve no pages for people: no documentation, sources or settings to copy")
	fs.BoolVar(&f.requests, "requests", false,
		"the page of what is missing has a form to ask for a module, with a reason; modmirror wants prints both")
	fs.BoolVar(&f.noLandlock, "no-landlock", false,
		"keep access to all files; by default serve gives up those that it does not need, if the kernel can (Landlock)")
	f.storage.flags(fs)
	maxAgeFlag(fs, &f.maxAge)
}

// check returns an error for flags that do not go together.
func (f *serveFlags) check() error {
	withTLS, withAccess := f.tls.CertFile != "", f.access.Htpasswd != "" || f.access.Tokens != ""
	switch {
	case withTLS != (f.tls.KeyFile != ""), f.tls.ClientCA != "" && !withTLS:
		return usagef("want --tls-cert and --tls-key together, and --client-ca with both")
	case withAccess && !withTLS && f.proxies == "":
		return usagef("--htpasswd and --tokens: %v; add --tls-cert and --tls-key, or --trusted-proxy for the one that speaks https", serve.ErrNoTLS)
	case f.basePath != "" && (path.Clean(f.basePath) != f.basePath || f.basePath[0] != '/' || f.basePath == "/"):
		return usagef("--base-path %s: want a path such as /go", f.basePath)
	case f.requests && f.noPages:
		return usagef("--requests is about a page, and --no-pages leaves all out")
	case f.pagesAddr != "" && f.noPages:
		return usagef("--pages-addr is for pages, and --no-pages leaves all out")
	case f.maxConns < 1:
		return usagef("--max-conns %d: want one at least", f.maxConns)
	}
	return nil
}

// server returns a server with the settings of the flags. The caller sets what it serves.
func (f *serveFlags) server() (s *serve.Server, err error) {
	s = &serve.Server{BasePath: f.basePath, MaxConns: f.maxConns, Scrub: !f.noScrub, Requests: f.requests}
	if !f.noPages {
		s.Render, s.API = renderJob.run, pageAPIJob.run
	}
	if f.proxies != "" {
		if s.Proxies, err = serve.ParseProxies(f.proxies); err != nil {
			return nil, usagef("--trusted-proxy: %v", err)
		}
	}
	if f.tls.CertFile != "" {
		s.TLS = &f.tls
	}
	if f.access.Htpasswd != "" || f.access.Tokens != "" {
		s.Access = &f.access
	}
	if f.inside.Patterns != "" || f.inside.File != "" || len(f.inside.Also) > 0 {
		if err := f.inside.Open(); err != nil {
			return nil, usagef("--inside: %v", err)
		}
		s.Inside = &f.inside
	}
	return s, nil
}

// openAudit opens the audit, nil for none. SIGHUP opens its file again.
func (f *serveFlags) openAudit(e *env, log *slog.Logger) (audit *serve.Audit, err error) {
	reopen := func() {
		if audit == nil {
			return
		}
		if err := audit.Reopen(); err != nil {
			log.Error("cannot open the audit again; the old file goes on", "err", err)
		}
	}
	switch f.audit {
	case "":
	case "-":
		audit = serve.NewAudit(e.stderr)
	default:
		if audit, err = serve.OpenAudit(f.audit); err != nil {
			return nil, &hint.Error{Err: fmt.Errorf("opening the audit: %w", err), Hint: "--audit - writes it to stderr"}
		}
	}
	e.hangup.Store(&reopen)
	return audit, nil
}

// follower returns a Follower of the bundles, the store or the bucket that args name.
// done releases what it holds.
func (f *serveFlags) follower(e *env, args []string, log *slog.Logger) (follow *store.Follower, done func() error, err error) {
	keyring, err := e.keyring(f.require)
	if err != nil {
		return nil, nil, err
	}
	done = func() error { return nil }
	follow = &store.Follower{
		Paths: args, Trust: keyring, StateDir: f.state, Log: log,
		AllowRollback: f.allowRollback, MinSequence: f.minSequence,
	}
	if object.IsURL(args[0]) {
		if len(args) > 1 {
			return nil, nil, usagef("want one s3://BUCKET/PREFIX")
		}
		b, err := f.storage.open(args[0], f.state)
		if err != nil {
			return nil, nil, err
		}
		follow.Shelf, done = b, b.Close
	}
	return follow, done, nil
}

// restrict gives up the files that serving does not need, if the kernel can do that.
func (f *serveFlags) restrict(log *slog.Logger, args []string) {
	if f.noLandlock {
		return
	}
	os.MkdirAll(f.state, 0o700) // it cannot be made later; an error shows when something is to be written
	need := needs{
		read: append([]string{f.tls.CertFile, f.tls.KeyFile, f.tls.ClientCA, f.access.Htpasswd, f.access.Tokens,
			f.inside.File}, inStores(args)...),
		write: []string{f.state, f.audit, f.storage.dir},
	}
	if object.IsURL(args[0]) {
		need.read = append(need.read, object.CredentialFiles()...)
	}
	restrict(log, need)
}

// runServe serves until ctx is done.
func runServe(ctx context.Context, e *env, f *serveFlags, args []string) error {
	if len(args) == 0 {
		return usagef("want a bundle or a store")
	}
	age, err := parseAge(f.maxAge)
	if err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	s, err := f.server()
	if err != nil {
		return err
	}
	log, err := newLog(e.stderr, f.logFormat)
	if err != nil {
		return err
	}
	debug.SetMemoryLimit(serveHeap)
	debug.SetGCPercent(serveGC)
	l, err := listen(f.addr)
	if err != nil {
		return err
	}
	defer l.Close()
	if f.pagesAddr != "" {
		if s.Pages, err = listenOn(f.pagesAddr, "--pages-addr"); err != nil {
			return err
		}
		defer s.Pages.Close()
	}
	if s.Audit, err = f.openAudit(e, log); err != nil {
		return err
	}
	if s.Audit != nil {
		defer s.Audit.Close()
	}
	wants, err := openWants(log, wantsFile(f.state))
	if err != nil {
		return err
	}
	follow, done, err := f.follower(e, args, log)
	if err != nil {
		return err
	}
	defer done()
	s.Shelf = follow.Shelf
	if s.Inside != nil {
		follow.Accept = s.Inside.Check
	}
	if err := follow.MakeStore(); err != nil {
		return err
	}
	say := &announcer{e: e, log: log, json: f.logFormat == "json", server: s, addr: l.Addr(), maxAge: age,
		start: time.Now()}
	follow.Waiting = func(why error) { say.waiting(args[0], why) }
	s.Log, s.Open, s.Ready = log, follow.Open, say.serving
	if follow.IsStore() {
		s.Reload = func(ctx context.Context) (*store.View, error) {
			say.start = time.Now()
			return follow.Reload(ctx)
		}
	}
	s.Wants = wants
	if s.Render != nil {
		os.MkdirAll(f.state, 0o700) // an error shows when something is to be written
		if s.Search, err = search.Open(filepath.Join(f.state, "search.sqlite")); err != nil {
			log.Warn("there is no search on the pages", "err", err)
		} else {
			defer s.Search.Close()
		}
	}
	defer saveWants(log, wants)()
	f.restrict(log, args)
	defer watchdog(ctx, log)()
	return s.Serve(ctx, l)
}

// An announcer tells people, systemd and the log what a server serves, and where.
type announcer struct {
	e      *env
	log    *slog.Logger
	json   bool // the log is JSON and has everything; nothing is said besides
	server *serve.Server
	addr   net.Addr
	maxAge time.Duration // see warnAge
	start  time.Time     // when opening the bundles began
}

func (a *announcer) scheme() string {
	if a.server.TLS != nil {
		return "https"
	}
	return "http"
}

// waiting says why nothing is served yet.
func (a *announcer) waiting(place string, why error) {
	text := why.Error()
	if errors.Is(why, store.ErrEmpty) {
		text = place + " has no bundle yet: modmirror import or publish brings one"
	}
	a.server.Waiting(text)
	if _, gone := errors.AsType[*media.UnavailableError](why); gone {
		text = "waiting for the storage: " + text
	}
	if a.json {
		a.log.Warn("nothing is served yet", "why", text, "url", a.scheme()+"://"+a.addr.String())
	} else {
		a.e.say("waiting at %s://%s: %s", a.scheme(), reachableAt(a.addr), text)
	}
}

// serving says which view is served from now on, and warns of old bundles.
func (a *announcer) serving(v *store.View) {
	defer notifyReady(a.log, v)
	for _, b := range v.Lines {
		a.line(b, time.Since(a.start))
		warnAge(a.log, b.Manifest, a.maxAge)
	}
	if p := a.server.Pages; p != nil {
		url := a.scheme() + "://" + reachableAt(p.Addr()) + a.server.BasePath
		if a.json {
			a.log.Info("pages", "url", url)
		} else {
			a.e.say("pages at %s", url)
		}
	}
	if a.json {
		return
	}
	a.e.sayHint("on a client: eval \"$(modmirror env %s://%s%s)\"", a.scheme(), reachableAt(a.addr), a.server.BasePath)
	if tcp, ok := a.addr.(*net.TCPAddr); ok && tcp.IP.IsLoopback() && len(a.server.Proxies) == 0 {
		a.e.sayHint("only this machine reaches %s; --addr 0.0.0.0:%d opens it to the network", tcp, tcp.Port)
	}
}

// line says that the newest bundle of a line is served.
func (a *announcer) line(b *bundle.Bundle, took time.Duration) {
	m := b.Manifest
	if a.json {
		a.log.Info("serving", "name", m.Name, "sequence", m.Sequence, "id", b.ID(), "versions", m.Counts.Versions,
			"url", a.scheme()+"://"+a.addr.String(), "ms", took.Milliseconds())
		return
	}
	seen := "verified now"
	if b.Seen {
		seen = "seen before"
	}
	a.e.say("serving %s at %s://%s: %s of %s, sequence %d; ready after %d ms (index %s)",
		m.Name, a.scheme(), reachableAt(a.addr), number(m.Counts.Versions, "version"), number(m.Counts.Modules,
			"module"), m.Sequence, took.Milliseconds(), seen)
}

// reachableAt returns the host and port at which clients reach a listener's address. This machine's
// name replaces the unspecified address, such as 0.0.0.0.
func reachableAt(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "HOST"
	}
	return net.JoinHostPort(host, strconv.Itoa(tcp.Port))
}
