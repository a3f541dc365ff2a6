package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/coreos/go-systemd/v22/daemon"

	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/hint"
)

// listen listens on addr, or takes the socket that systemd passes (sd_listen_fds(3)).
func listen(addr string) (net.Listener, error) {
	switch given, err := activation.Listeners(); {
	case err != nil:
		return nil, fmt.Errorf("taking the socket of systemd: %w", err)
	case len(given) == 1 && given[0] != nil:
		return given[0], nil
	case len(given) > 0:
		return nil, &hint.Error{Err: fmt.Errorf("systemd hands over %d sockets", len(given)), Hint: "want one stream socket: a single ListenStream= in the .socket unit"}
	}
	return listenOn(addr, "--addr")
}

// listenOn returns a listener on the address that a flag has.
func listenOn(addr, flag string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, &hint.Error{Err: fmt.Errorf("%s is in use by another program", addr), Hint: flag + " 127.0.0.1:0 takes any free port"}
	}
	if bad, ok := errors.AsType[*net.AddrError](err); ok {
		return nil, usagef("%s %s: %s, want HOST:PORT", flag, addr, bad.Err)
	}
	if err != nil {
		return nil, &hint.Error{Err: fmt.Errorf("listening on %s: %w", addr, unwrapOp(err)), Hint: flag + " HOST:PORT says where to listen"}
	}
	return l, nil
}

// notify tells systemd a state of this process, if systemd started it (sd_notify(3)).
func notify(log *slog.Logger, state ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(state, "\n")); err != nil {
		log.Warn("cannot tell systemd", "err", err)
	}
}

// notifyReady tells systemd that the server is ready, and which bundles it serves.
func notifyReady(log *slog.Logger, v *store.View) {
	notify(log, daemon.SdNotifyReady, "STATUS=serving "+v.Title())
}

// watchdog keeps telling systemd that the process lives, if systemd asks for it. Once ctx is done
// or stop is called, it tells systemd that the process is stopping.
func watchdog(ctx context.Context, log *slog.Logger) (stop func()) {
	timeout, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		log.Warn("cannot read what the watchdog of systemd wants", "err", err)
	}
	stopTelling := func() {}
	if timeout > 0 {
		stopTelling = every(timeout/2, func() { notify(log, daemon.SdNotifyWatchdog) })
	}
	stop = sync.OnceFunc(func() {
		stopTelling()
		notify(log, daemon.SdNotifyStopping)
	})
	context.AfterFunc(ctx, stop)
	return stop
}

// unwrapOp returns the cause of a *net.OpError, which would name the address again, and other
// errors as they are.
func unwrapOp(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
