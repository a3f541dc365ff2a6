package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path"
	"regexp"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/bucket"
	"github.com/modmirror/modmirror/serve"
)

// serveHeap is the heap that the garbage collector aims at while serving, in bytes: the work is
// bounded by buffers and a cache, so collecting more often costs little.
const serveHeap = 48 << 20

// serveGC has the garbage collector run less often than it would with so small a heap; the limit is serveHeap all the same.
const serveGC = 300

// newLog returns the log that goes to w.
func newLog(w io.Writer, format string) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, nil)), nil
	}
	return nil, usagef("--log-format %s: want text or json", format)
}

func serveCommand() *command {
	var addr, state, maxAge, audit, logFormat, proxies string
	var allowRollback, noScrub, noLandlock bool
	var minSequence int64
	var security serve.TLS
	var access serve.Access
	var inside serve.Inside
	var require int
	s := new(serve.Server)
	var remote remoteFlags
	return &command{
		name:    "serve",
		summary: "serve bundles as GOPROXY with checksum database (inside)",
		usage: `
Usage: modmirror serve [flags] BUNDLE...
       modmirror serve [flags] STORE
       modmirror serve [flags] s3://BUCKET/PREFIX

Serves straight from the tar, read-only: a bundle, a bundle with those before it
in its line, a store that modmirror import fills, or a bucket that modmirror
publish fills; what is imported or published is served without a restart. Bundles
must be signed by a trusted key. An older bundle than was served before is refused.
/healthz answers at once, /readyz when the bundles are verified, / shows the settings
that clients need, and /metrics is for Prometheus.

On a signal to stop, transfers are finished; on SIGHUP the audit's file is opened
again. A socket of systemd is taken instead of --addr.

Example:
  modmirror serve --addr 0.0.0.0:8080 team.tar
  modmirror serve --audit /var/log/modmirror/audit.json /srv/modmirror
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&addr, "addr", "127.0.0.1:8080", "`address` to listen on; 0.0.0.0:8080 for the whole network")
			fs.StringVar(&state, "state", stateDir(), "`folder` for what was verified and seen before")
			requireFlag(fs, &require)
			fs.BoolVar(&allowRollback, "allow-rollback", false, "serve a bundle although a newer one of its line was seen")
			fs.Int64Var(&minSequence, "min-sequence", 0, "serve no bundle below this sequence `number`: for a host that has seen none yet")
			fs.StringVar(&security.CertFile, "tls-cert", "", "certificate `file` (PEM), read again when it changes")
			fs.StringVar(&security.KeyFile, "tls-key", "", "`file` of its key")
			fs.StringVar(&security.ClientCA, "client-ca", "", "only clients with a certificate of the CAs in this `file` may read")
			fs.StringVar(&access.Htpasswd, "htpasswd", "", "only users in this `file` may read, with their passwords (htpasswd -B); with TLS only, here or at a trusted proxy")
			fs.StringVar(&access.Tokens, "tokens", "", "and clients with a bearer token in this `file`, one a line, perhaps NAME:TOKEN, of 16 characters or more; with TLS only, as above")
			fs.StringVar(&s.BasePath, "base-path", "", "`path` that all requests begin with, such as /go, behind a reverse proxy")
			fs.StringVar(&proxies, "trusted-proxy", "", "`addresses` or prefixes of reverse proxies whose X-Forwarded-* are believed, such as 127.0.0.1,10.0.0.0/8")
			fs.StringVar(&inside.Patterns, "inside", "", "`patterns`, as in GOPRIVATE, of the modules of your own network, which are had from its own servers")
			fs.StringVar(&inside.File, "inside-file", "", "`file` with such patterns, one a line, read again when it changes")
			fs.StringSliceVar(&inside.Also, "also", nil, "`URL` of a second proxy that has those modules, such as your forge's: clients ask it for what is not carried")
			fs.StringVar(&audit, "audit", "", "`file` to which a line of JSON is appended for each request; - for stderr")
			fs.StringVar(&logFormat, "log-format", "text", "`format` of the log on stderr: text or json")
			fs.IntVar(&s.MaxConns, "max-conns", serve.MaxConns, "at most so many `connections`; for a new one the one idle longest is closed")
			fs.BoolVar(&noScrub, "no-scrub", false, "do not verify all files in the background, again and again")
			fs.BoolVar(&noLandlock, "no-landlock", false, "do not give up, where the kernel can do that, all files that are not needed")
			fs.StringVar(&remote.endpoint, "s3-endpoint", "", "`URL` of the storage of s3://; default $AWS_ENDPOINT_URL, else Amazon's")
			fs.StringVar(&remote.dir, "cache-dir", "", "`folder` in which contents from s3:// are cached; default below --state")
			fs.StringVar(&remote.size, "cache-size", "10G", "`size` that this folder may have, 1G at least")
			fs.StringVar(&maxAge, "max-age", "", "warn of bundles older than this `time`, such as 30d or 36h")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) == 0 {
				return usagef("want a bundle or a store")
			}
			age, err := parseAge(maxAge)
			if err != nil {
				return err
			}
			withTLS := security.CertFile != ""
			switch {
			case withTLS != (security.KeyFile != ""), security.ClientCA != "" && !withTLS:
				return usagef("want --tls-cert and --tls-key together, and --client-ca with both")
			case (access.Htpasswd != "" || access.Tokens != "") && !withTLS && proxies == "":
				return usagef("--htpasswd and --tokens: %v; add --tls-cert and --tls-key, or --trusted-proxy for the one that speaks https", serve.ErrNoTLS)
			case s.BasePath != "" && (path.Clean(s.BasePath) != s.BasePath || s.BasePath[0] != '/' || s.BasePath == "/"):
				return usagef("--base-path %s: want a path such as /go", s.BasePath)
			case s.MaxConns < 1:
				return usagef("--max-conns %d: want one at least", s.MaxConns)
			}
			if proxies != "" {
				if s.Proxies, err = serve.ParseProxies(proxies); err != nil {
					return usagef("--trusted-proxy: %v", err)
				}
			}
			log, err := newLog(e.stderr, logFormat)
			if err != nil {
				return err
			}
			debug.SetMemoryLimit(serveHeap)
			debug.SetGCPercent(serveGC)
			trust, err := e.trust(require)
			if err != nil {
				return err
			}
			l, err := listen(addr)
			if err != nil {
				return err
			}
			defer l.Close()
			reopen := func() {
				if s.Audit == nil {
					return
				}
				if err := s.Audit.Reopen(); err != nil {
					log.Error("cannot open the audit again; the old file goes on", "err", err)
				}
			}
			e.hangup.Store(&reopen)
			switch audit {
			case "":
			case "-":
				s.Audit = serve.NewAudit(e.stderr)
			default:
				if s.Audit, err = serve.OpenAudit(audit); err != nil {
					return &hintError{fmt.Errorf("opening the audit: %w", err), "--audit - writes it to stderr"}
				}
				defer s.Audit.Close()
			}
			wants, err := openWants(log, wantsFile(state))
			if err != nil {
				return err
			}
			if inside.Patterns != "" || inside.File != "" || len(inside.Also) > 0 {
				if err := inside.Open(); err != nil {
					return usagef("--inside: %v", err)
				}
				s.Inside = &inside
			}
			if bucket.IsURL(args[0]) {
				if len(args) > 1 {
					return usagef("want one s3://BUCKET/PREFIX")
				}
				if s.Remote, err = remote.open(args[0], state); err != nil {
					return err
				}
				defer s.Remote.Cache.Close()
			}
			src := &served{server: s, args: args, trust: trust, state: state, allowRollback: allowRollback, minSequence: minSequence, log: log}
			start := time.Now()
			scheme := "http"
			if withTLS {
				scheme = "https"
			}
			s.Miss, s.Tree, s.Forgotten = wants.Add, wants.AddTree, wants.Evicted
			s.Log, s.Open, s.Scrub = log, src.wait, !noScrub
			s.Ready = func(v *bundle.View) {
				defer notifyReady(log, v)
				for _, b := range v.Lines {
					if logFormat == "json" {
						log.Info("serving", "name", b.Manifest.Name, "sequence", b.Manifest.Sequence, "id", b.ID(), "versions", b.Manifest.Counts.Versions, "url", scheme+"://"+l.Addr().String(), "ms", time.Since(start).Milliseconds())
					} else {
						e.sayServing(b, scheme, l.Addr(), time.Since(start))
					}
					warnAge(log, b.Manifest, age)
				}
				if logFormat == "json" {
					return
				}
				e.sayHint("on a client: eval \"$(modmirror env %s://%s%s)\"", scheme, reachableAt(l.Addr()), s.BasePath)
				if tcp, ok := l.Addr().(*net.TCPAddr); ok && tcp.IP.IsLoopback() && len(s.Proxies) == 0 {
					e.sayHint("only this machine reaches %s; --addr 0.0.0.0:%d opens it to the network", tcp, tcp.Port)
				}
			}
			if withTLS {
				s.TLS = &security
			}
			if access.Htpasswd != "" || access.Tokens != "" {
				s.Access = &access
			}
			if src.notYet() { // so that it is there when other files are given up
				if err := os.MkdirAll(args[0], 0o777); err != nil {
					return fmt.Errorf("%s is not there, and cannot be made as an empty store: %w", args[0], err)
				}
			}
			src.waiting = func(why string) {
				if logFormat == "json" {
					log.Warn("nothing is served yet", "why", why, "url", scheme+"://"+l.Addr().String())
				} else {
					e.say("waiting at %s://%s: %s", scheme, reachableAt(l.Addr()), why)
				}
			}
			if src.isStore() {
				s.Reload = func(ctx context.Context) (*bundle.View, error) {
					start = time.Now()
					return src.reload(ctx)
				}
			}
			stop := saveWants(s.Log, wants)
			defer stop()
			if !noLandlock {
				os.MkdirAll(state, 0o700) // it cannot be made later; that it cannot be is said when something is to be written
				need := needs{
					read:  append([]string{security.CertFile, security.KeyFile, security.ClientCA, access.Htpasswd, access.Tokens, inside.File}, inStores(args)...),
					write: []string{state, audit, remote.dir},
				}
				if s.Remote != nil {
					need.read = append(need.read, bucket.CredentialFiles()...)
				}
				restrict(log, need)
			}
			defer watchdog(ctx, log)()
			return s.Serve(ctx, l)
		},
	}
}

// reachableAt returns the host and port at which clients reach an address that is listened on: the
// name of this machine in the place of all its addresses.
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

// sayServing says what is served from now on.
func (e *env) sayServing(b *bundle.Bundle, scheme string, addr net.Addr, took time.Duration) {
	m := b.Manifest
	seen := "verified now"
	if b.Seen {
		seen = "seen before"
	}
	e.say("serving %s at %s://%s: %s of %s, sequence %d; ready after %d ms (index %s)",
		m.Name, scheme, reachableAt(addr), number(m.Counts.Versions, "version"), number(m.Counts.Modules, "module"), m.Sequence, took.Milliseconds(), seen)
}

// served is what serve was told to serve.
type served struct {
	server        *serve.Server
	args          []string
	trust         *bundle.Trust
	state         string
	allowRollback bool
	minSequence   int64
	log           *slog.Logger
	waiting       func(why string) // told once why nothing is served yet

	fingerprint string           // of the store, when it was looked at last
	lines       map[string]int64 // that are served, with their sequences

	failed error     // of the last reload
	tried  string    // fingerprint of what could not be served
	last   time.Time // when that was tried
	asked  time.Time // when a bucket was listed last
}

// bucketInterval is how often a bucket is listed.
const bucketInterval = 5 * time.Second

// retryInterval is how long it takes until a store that could not be served is tried again, when nothing in it changes: the trouble may have been elsewhere.
const retryInterval = 30 * time.Second

// isStore reports whether a folder is served.
func (s *served) isStore() bool {
	if s.server.Remote != nil {
		return true
	}
	if len(s.args) != 1 {
		return false
	}
	st, err := os.Stat(s.args[0])
	return err == nil && st.IsDir() || s.notYet()
}

// notYet reports whether what is to be served is a store that is not there yet: a name that no
// bundle has.
func (s *served) notYet() bool {
	if len(s.args) != 1 || s.server.Remote != nil || len(bundle.Pieces(s.args[0])) > 0 {
		return false
	}
	_, err := os.Lstat(s.args[0])
	return errors.Is(err, fs.ErrNotExist) && !reBundleName.MatchString(s.args[0])
}

// reBundleName is what bundles and their pieces are called, and folders are not.
var reBundleName = regexp.MustCompile(`\.(tar|age|manifest|[0-9]{3})$`)

// store opens the store.
func (s *served) store() (*bundle.Store, error) {
	if r := s.server.Remote; r != nil {
		return bundle.OpenRemote(r, s.trust, s.state)
	}
	return bundle.OpenStore(s.args[0], s.trust, s.state)
}

// wait opens the bundles; as long as a bucket does not answer, or a store has nothing yet, it tries
// again.
func (s *served) wait(ctx context.Context) (*bundle.View, error) {
	interval := serve.ReloadInterval
	if s.server.Remote != nil {
		interval = bucketInterval
	}
	for said := ""; ; {
		v, err := s.open(ctx)
		gone, isGone := errors.AsType[*bucket.UnavailableError](err)
		empty := s.isStore() && (errors.Is(err, bundle.ErrEmpty) || s.notYet())
		if !(isGone && !gone.Denied) && !empty {
			return v, err
		}
		why := err.Error()
		if empty && !isGone {
			why = fmt.Sprintf("%s has no bundle yet: modmirror import or publish brings one", s.args[0])
		}
		if s.server.Waiting(why); why != said {
			if isGone {
				s.waiting("waiting for the storage: " + why)
			} else {
				s.waiting(why)
			}
			said = why
		}
		select {
		case <-time.After(interval):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// open opens the bundles, and refuses what is older than what was seen.
func (s *served) open(ctx context.Context) (opened *bundle.View, err error) {
	var v *bundle.View
	var state *bundle.State
	var remember func(*bundle.View, bool) error
	if s.isStore() {
		store, err := s.store()
		if err != nil {
			return nil, err
		}
		fingerprint, err := store.Fingerprint(ctx)
		if err != nil {
			return nil, err
		}
		defer func() {
			if opened != nil {
				s.fingerprint = fingerprint
			}
		}()
		state, remember = store.State, store.Remember
		v, err = store.View(ctx, func(file string, err error) { s.log.Warn("not served", "file", file, "err", err) })
		if err != nil {
			return nil, err
		}
	} else {
		if state, err = bundle.ReadState(s.state); err != nil {
			return nil, err
		}
		if v, err = bundle.OpenFiles(ctx, s.args, s.trust, state); err != nil {
			return nil, err
		}
		remember = func(v *bundle.View, rollback bool) error { return state.Remember(v, v.Place(), rollback) }
	}
	defer func() {
		if err != nil {
			v.Close()
		}
	}()
	for _, b := range v.Lines {
		if b.Manifest.Sequence < s.minSequence {
			err := &bundle.RollbackError{Bundle: b.Path(), Reason: fmt.Sprintf("its sequence is %d, and %d is the least", b.Manifest.Sequence, s.minSequence)}
			return nil, &hintError{err, "carry the newest bundle, or lower --min-sequence if this one is meant"}
		}
		err := state.Check(ctx, b)
		if _, ok := errors.AsType[*bundle.UnshownError](err); ok { // no attack: each client checks it for itself
			s.log.Warn("clients may have to begin anew", "err", err)
		} else if _, ok := errors.AsType[*bundle.RollbackError](err); ok && s.allowRollback {
			s.log.Warn("rollback allowed", "err", err)
		} else if err != nil {
			return nil, err
		}
	}
	if s.server.Inside != nil {
		if err := s.server.Inside.Check(ctx, v); err != nil {
			if _, covered := errors.AsType[*serve.CoveredError](err); covered {
				return nil, &hintError{usagef("%v", err), "make the patterns of --inside narrower"}
			}
			return nil, err
		}
	}
	for _, err := range v.Passed {
		s.log.Error("not served", "err", err)
	}
	if err := remember(v, s.allowRollback); err != nil { // on a read-only state folder
		s.log.Warn("cannot remember what is served, so an older bundle would be served later", "err", err)
	}
	s.lines = make(map[string]int64)
	for _, b := range v.Lines {
		s.lines[b.Manifest.Name] = b.Manifest.Sequence
	}
	return v, nil
}

// reload opens the store again when its files changed.
func (s *served) reload(ctx context.Context) (v *bundle.View, err error) {
	defer func() { s.failed = err }()
	if s.server.Remote != nil && time.Since(s.asked) < bucketInterval {
		return nil, s.failed
	}
	s.asked = time.Now()
	store, err := s.store()
	if err != nil {
		return nil, err
	}
	now, err := store.Fingerprint(ctx)
	switch {
	case err != nil || now == s.fingerprint:
		return nil, err
	case now == s.tried && time.Since(s.last) < retryInterval:
		return nil, s.failed
	}
	s.tried, s.last = now, time.Now()
	lines := s.lines
	if v, err = s.open(ctx); err != nil {
		return nil, err
	}
	for name, sequence := range lines {
		now, there := s.lines[name]
		switch {
		case !there: // better the old one than none
			err = cmp.Or(errors.Join(v.Passed...), fmt.Errorf("the line %s is not in the store any more", name))
		case now < sequence && !s.allowRollback: // the state may be one that cannot be written
			err = &bundle.RollbackError{Bundle: name, Reason: fmt.Sprintf("its sequence is %d, and %d is served", now, sequence)}
		default:
			continue
		}
		v.Close()
		s.lines, s.fingerprint = lines, ""
		return nil, fmt.Errorf("what was served before goes on: %w", err)
	}
	return v, nil
}
