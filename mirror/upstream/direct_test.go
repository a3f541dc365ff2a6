package upstream

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modmirror/modmirror/internal/modpath"
)

// TestDirectFailures checks which messages of the go command mean that a version does not exist.
// All others are trouble.
func TestDirectFailures(t *testing.T) {
	d := NewDirect(t.TempDir())
	for text, found := range map[string]bool{ // the message means trouble
		"git.corp.example/x.git@v1.0.0: invalid version: unknown revision v1.0.0":                                                 false,
		"module git.corp.example/x.git: no matching versions for query \"latest\"":                                                false,
		"git ls-remote -q origin: exit status 128:\n\tERROR: Repository not found.":                                               false,
		"unrecognized import path \"corp.example/x\": reading https://corp.example/x?go-get=1: 404 Not Found":                     false,
		"unrecognized import path \"corp.example/x\": https fetch: Get \"https://corp.example/x\": dial tcp: no such host":        true,
		"git fetch: exit status 128:\n\tfatal: the remote end hung up unexpectedly":                                               true,
		"git fetch: exit status 128:\n\terror: RPC failed; HTTP 503":                                                              true,
		"no secure protocol found for repository":                                                                                 true,
		"git.corp.example/x.git@v1.0.0 requires go >= 1.99 (running go 1.26)":                                                     true,
		"fatal: Authentication failed for 'https://git.corp.example/x.git/'":                                                      true,
		"invalid version: git ls-remote -q https://127.0.0.1:1/x: exit status 128:\n\tfatal: unable to access: Failed to connect": true,
		"invalid version: should be v0 or v1, not v2":                                                                             false,
		"signal: killed": true,
		"git.corp.example/unknown revision.git: connection reset by peer": true,
	} {
		r := modpath.Request{Kind: modpath.Mod, Path: "git.corp.example/unknown revision.git", Version: "v1.0.0"}
		if err := d.failed(r, text); IsNotFound(err) == found {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestDirectSilence has a git server accept a connection and say nothing. When the context ends, so
// do all processes that wait for the server.
func TestDirectSilence(t *testing.T) {
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("git is not here")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	home := t.TempDir()
	config := "[url \"http://" + l.Addr().String() + "/\"]\n\tinsteadOf = https://git.corp.example/\n"
	if err := os.WriteFile(filepath.Join(home, ".gitconfig"), []byte(config), 0o666); err != nil {
		t.Fatal(err)
	}
	t.Setenv("HOME", home)
	t.Setenv("GOPRIVATE", "git.corp.example")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	start := time.Now()
	_, err = NewDirect(t.TempDir()).Get(ctx, "git.corp.example/x.git/@v/list", 0)
	if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > 30*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
	out, _ := exec.Command("ps", "-eo", "args").Output()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, l.Addr().String()) {
			t.Errorf("left behind: %s", line)
		}
	}
}
