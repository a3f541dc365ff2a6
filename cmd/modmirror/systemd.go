package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/modmirror/modmirror/bundle"
)

// listen listens on addr, or takes the socket that systemd listens on.
func listen(addr string) (net.Listener, error) {
	switch given, err := activation.Listeners(); {
	case err != nil:
		return nil, fmt.Errorf("taking the socket of systemd: %w", err)
	case len(given) == 1 && given[0] != nil:
		return given[0], nil
	case len(given) > 0:
		return nil, &hintError{fmt.Errorf("systemd hands over %d sockets", len(given)), "want one stream socket: a single ListenStream= in the .socket unit"}
	}
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &hintError{fmt.Errorf("%s is in use by another program", addr), "--addr 127.0.0.1:0 takes any free port"}
	}
	if bad, ok := errors.AsType[*net.AddrError](err); ok {
		return nil, usagef("--addr %s: %s, want HOST:PORT", addr, bad.Err)
	}
	if err != nil {
		return nil, &hintError{fmt.Errorf("listening on %s: %w", addr, unwrapOp(err)), "--addr HOST:PORT says where to listen"}
	}
	return l, nil
}

// notify tells systemd, if it started us, of a state (sd_notify(3)).
func notify(log *slog.Logger, state ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(state, "\n")); err != nil {
		log.Warn("cannot tell systemd", "err", err)
	}
}

// notifyReady tells systemd that a view is served.
func notifyReady(log *slog.Logger, v *bundle.View) {
	notify(log, daemon.SdNotifyReady, "STATUS=serving "+v.Title())
}

// watchdog keeps telling systemd that we live, if it wants to know, until ctx is done, and then that we are stopping.
func watchdog(ctx context.Context, log *slog.Logger) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	every, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("the watchdog of systemd", "err", err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var tick <-chan time.Time
		if every > 0 {
			t := time.NewTicker(every / 2)
			defer t.Stop()
			tick = t.C
		}
		for {
			select {
			case <-tick:
				notify(log, daemon.SdNotifyWatchdog)
			case <-ctx.Done():
				notify(log, daemon.SdNotifyStopping)
				return
			}
		}
	}()
	return func() { cancel(); <-ended }
}

// unwrapOp takes off the *net.OpError around an error, which names the address again.
func unwrapOp(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
