package main

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/serve"
)

// TestServeFlags checks flags that do not go together.
func TestServeFlags(t *testing.T) {
	tls := serve.TLS{CertFile: "c", KeyFile: "k"}
	for _, tt := range []struct {
		name  string
		flags *serveFlags
		ok    bool
	}{
		{"none", &serveFlags{}, true},
		{"TLS", &serveFlags{tls: tls}, true},
		{"a certificate without its key", &serveFlags{tls: serve.TLS{CertFile: "c"}}, false},
		{"a key without its certificate", &serveFlags{tls: serve.TLS{KeyFile: "k"}}, false},
		{"client certificates without TLS", &serveFlags{tls: serve.TLS{ClientCA: "ca"}}, false},
		{"passwords with TLS", &serveFlags{tls: tls, access: serve.Access{Htpasswd: "h"}}, true},
		{"passwords behind a proxy", &serveFlags{proxies: "127.0.0.1", access: serve.Access{Htpasswd: "h"}}, true},
		{"passwords without TLS", &serveFlags{access: serve.Access{Htpasswd: "h"}}, false},
		{"tokens without TLS", &serveFlags{access: serve.Access{Tokens: "t"}}, false},
		{"a path", &serveFlags{basePath: "/go"}, true},
		{"a path of two", &serveFlags{basePath: "/a/b"}, true},
		{"a path that is the root", &serveFlags{basePath: "/"}, false},
		{"a relative path", &serveFlags{basePath: "go"}, false},
		{"a path with a slash at its end", &serveFlags{basePath: "/go/"}, false},
		{"no connections", &serveFlags{maxConns: -1}, false},
	} {
		tt.flags.maxConns++ // 1 by default
		err := tt.flags.check()
		if _, usage := errors.AsType[*hint.UsageError](err); (err == nil) != tt.ok || usage == tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestAnnounceWaiting checks what a person, the log and /readyz learn while nothing is served.
func TestAnnounceWaiting(t *testing.T) {
	down := &media.UnavailableError{What: "listing", Err: errors.New("no answer")}
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080}
	for _, tt := range []struct {
		why  error
		json bool
		want string
	}{
		{store.ErrEmpty, false, "modmirror: waiting at http://127.0.0.1:8080: /srv/x has no bundle yet: modmirror import or publish brings one\n"},
		{down, false, "modmirror: waiting at http://127.0.0.1:8080: waiting for the storage: listing: no answer\n"},
		{down, true, `level=WARN msg="nothing is served yet" why="waiting for the storage: listing: no answer" url=http://127.0.0.1:8080` + "\n"},
	} {
		var out, log strings.Builder
		a := &announcer{e: &env{stdout: &output{File: os.Stdout}, stderr: &out}, json: tt.json,
			server: new(serve.Server), addr: addr}
		a.log = slog.New(slog.NewTextHandler(&log,
			&slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}}))
		a.waiting("/srv/x", tt.why)
		if got := out.String() + log.String(); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.why, got, tt.want)
		}
	}
}

func TestReachableAt(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Skip("this machine has no name: ", err)
	}
	for addr, want := range map[string]string{
		"127.0.0.1:80": "127.0.0.1:80", "[::1]:80": "[::1]:80", "0.0.0.0:80": host + ":80", "[::]:80": host + ":80",
	} {
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := reachableAt(tcp); got != want {
			t.Errorf("%s: %s, want %s", addr, got, want)
		}
	}
}
