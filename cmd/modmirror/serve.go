package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/serve"
)

// serveHeap is the heap that the garbage collector aims at while serving, in bytes: the work is
// bounded by buffers and a cache, so collecting more often costs little.
const serveHeap = 48 << 20

// wantsInterval is how much of what was asked for may be forgotten when serve is killed.
const wantsInterval = 10 * time.Second

func serveCommand() *command {
	var addr, state string
	return &command{
		name:    "serve",
		summary: "serve a bundle as GOPROXY with checksum database (inside)",
		usage: `
Usage: modmirror serve [flags] BUNDLE

Serves straight from the tar, read-only. The bundle must be signed by a trusted
key. /healthz answers at once, /readyz when the bundle is verified, and / shows
the settings that clients need.

Example:
  modmirror serve --addr 0.0.0.0:8080 team.tar
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&addr, "addr", "127.0.0.1:8080", "`address` to listen on; 0.0.0.0:8080 for the whole network")
			fs.StringVar(&state, "state", stateDir(), "`folder` for what was verified before")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) != 1 {
				return usagef("want one bundle")
			}
			start := time.Now()
			debug.SetMemoryLimit(serveHeap)
			trust, err := bundle.ReadTrust(e.trustFile())
			if err != nil {
				return err
			}
			l, err := net.Listen("tcp", addr)
			if errors.Is(err, syscall.EADDRINUSE) {
				return &hintError{fmt.Errorf("%s is in use by another program", addr), "--addr 127.0.0.1:0 takes any free port"}
			}
			if bad, ok := errors.AsType[*net.AddrError](err); ok {
				return usagef("--addr %s: %s, want HOST:PORT", addr, bad.Err)
			}
			if err != nil {
				return &hintError{fmt.Errorf("listening on %s: %w", addr, unwrapOp(err)), "--addr HOST:PORT says where to listen"}
			}
			wants, err := serve.OpenWants(wantsFile(state))
			if err != nil {
				l.Close()
				return &hintError{err, "remove it: serve then begins anew to remember what is asked for"}
			}
			s := &serve.Server{
				Miss: wants.Add,
				Log:  slog.New(slog.NewTextHandler(e.stderr, nil)),
				Open: func(ctx context.Context) (*bundle.Bundle, error) {
					return bundle.Open(ctx, args[0], trust.Verifiers(), state)
				},
				Ready: func(b *bundle.Bundle) {
					m := b.Manifest
					seen := "verified now"
					if b.Seen {
						seen = "seen before"
					}
					e.say("serving %s at http://%s: %s of %s; ready after %d ms (index %s)",
						m.Name, l.Addr(), number(m.Counts.Versions, "version"), number(m.Counts.Modules, "module"), time.Since(start).Milliseconds(), seen)
					e.hint("on a client: eval \"$(modmirror env http://%s)\"", l.Addr())
				},
			}
			stop := saveWants(s.Log, wants)
			defer stop()
			return s.Serve(ctx, l)
		},
	}
}

// saveWants writes down what was asked for, every now and then and when stop is called.
func saveWants(log *slog.Logger, wants *serve.Wants) (stop func()) {
	save := func() {
		if err := wants.Save(); err != nil { // a read-only state folder is no reason not to serve
			log.Warn("cannot remember wants", "err", err)
		}
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(wantsInterval)
		defer tick.Stop()
		for {
			select {
			case <-done:
				save()
				return
			case <-tick.C:
				save()
			}
		}
	}()
	return func() { close(done); <-stopped }
}

// unwrapOp takes off the *net.OpError around an error, which names the address again.
func unwrapOp(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
