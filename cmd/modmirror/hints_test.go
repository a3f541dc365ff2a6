package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/sources"
	"github.com/modmirror/modmirror/mirror/upstream"
	"github.com/modmirror/modmirror/serve"
)

// TestReport checks the exit code and the hint for each error that a person can meet.
func TestReport(t *testing.T) {
	const (
		again    = "copy or carry the file again, and compare its sha256sum on both sides"
		earlier  = "import the earlier bundles of this line first, oldest first; or make one that needs no others: modmirror sync --full"
		rollback = "carry the newest bundle; or accept this one with --allow-rollback, unless the store has another bundle of its sequence"
		unshown  = "make the bundle with --base and the catalog of the store (modmirror extract --catalog); or accept this one with --allow-rollback"
	)
	plain := errors.New("x")
	line := index.Bundle{Name: "team"}
	tests := []struct {
		name    string
		command string // "import" when it is ""
		err     error
		code    int
		hint    string // "" for none
	}{
		{name: "any other", err: plain, code: 1},
		{name: "not found", err: fs.ErrNotExist, code: 1},
		{name: "usage", err: usagef("x"), code: 2, hint: "modmirror import --help"},
		{name: "usage of sync", command: "sync", err: usagef("x"), code: 2, hint: "modmirror sync --help"},
		{name: "hint", err: &hint.Error{Err: plain, Hint: "do y"}, code: 1, hint: "do y"},
		{name: "usage with a hint", err: &hint.Error{Err: usagef("x"), Hint: "do y"}, code: 2, hint: "do y"},
		{name: "rollback with a hint", err: &hint.Error{Err: &bundle.RollbackError{}, Hint: "do y"}, code: 3, hint: "do y"},
		{name: "incomplete", err: &incompleteError{plain}, code: 4},
		{name: "misses", command: "sync", err: &missesError{}, code: 1,
			hint: "--learn takes what is missing into the bundle; or add it to a list file, or run go mod tidy"},

		{name: "not verified", err: &bundle.NotVerifiedError{What: "MANIFEST", Err: plain}, code: 3, hint: again},
		{name: "untrusted", err: &bundle.NotVerifiedError{What: "signature", Err: &trust.UntrustedError{}}, code: 3,
			hint: "if you know who signed it: modmirror trust add KEY, with the key that modmirror key show prints there"},
		{name: "too few signatures", err: &bundle.NotVerifiedError{What: "signature", Err: &trust.TooFewError{}},
			code: 3,
			hint: "add a signature with modmirror sign, or trust another key that signed it with modmirror trust add"},
		{name: "foreign", err: &bundle.NotVerifiedError{What: "x", Err: &bundle.ForeignError{File: "x"}}, code: 3},
		{name: "foreign, undone", err: &bundle.NotVerifiedError{What: "x", Err: gzipped(t)}, code: 3, hint: "gunzip"},
		{name: "rollback", err: &bundle.RollbackError{}, code: 3, hint: rollback},
		{name: "below --min-sequence", command: "serve", err: &store.MinSequenceError{}, code: 3,
			hint: "carry the newest bundle, or lower --min-sequence if this one is meant"},
		{name: "unshown", err: &store.UnshownError{}, code: 3, hint: unshown},
		{name: "mismatch of a proof", err: proof.ErrMismatch, code: 3},
		{name: "missing base", err: &bundle.MissingBaseError{Bundle: line}, code: 4, hint: earlier},
		{name: "not at hand", err: &bundle.NotAtHandError{Bundle: line}, code: 4,
			hint: "name a store that has the whole line; verify takes all bundles of a line together"},
		{name: "missing piece", err: &media.MissingPieceError{Names: []string{"x.002"}}, code: 4},
		{name: "state", err: &store.StateError{File: "lines.json", Err: plain}, code: 1,
			hint: "restore lines.json from a backup; without it modmirror cannot tell an older bundle from the newest"},
		{name: "occupied", err: &bundle.OccupiedError{}, code: 2,
			hint: "name another file or folder, or move the existing one away"},
		{name: "occupied, by extract", command: "extract", err: &bundle.OccupiedError{}, code: 2,
			hint: "name another folder; or --overwrite replaces plain files"},
		{name: "occupied, by publish", command: "publish", err: &bundle.OccupiedError{}, code: 2,
			hint: "name another folder; or --overwrite replaces plain files"},
		{name: "need", command: "sync", err: &bundle.NeedError{}, code: 1},
		{name: "changed", command: "sync", err: &bundle.ChangedError{File: "x"}, code: 1},
		{name: "already", err: &store.AlreadyError{File: "x"}, code: 1},
		{name: "damaged", err: store.ErrDamaged, code: 1},
		{name: "empty", err: store.ErrEmpty, code: 1},
		{name: "passphrase", err: trust.ErrPassphrase, code: 1},
		{name: "bad index", err: index.ErrBad, code: 1},
		{name: "owner", err: &safefile.OwnerError{}, code: 1},

		{name: "storage", command: "publish", err: &media.UnavailableError{What: "x", Err: plain}, code: 1,
			hint: "name the storage with --s3-endpoint or $AWS_ENDPOINT_URL, if it is not Amazon's"},
		{name: "storage, denied", command: "serve",
			err: &media.UnavailableError{What: "x", Err: plain, Denied: true}, code: 1,
			hint: "check that the bucket exists, and the credentials: modmirror reads $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, ~/.mc/config.json and the machine's role"},
		{name: "no space", err: syscall.ENOSPC, code: 1, hint: "make room and run it again"},
		{name: "no space, for sync", command: "sync", err: syscall.ENOSPC, code: 1,
			hint: "make room and run it again: what was fetched is kept"},
		{name: "broken pipe of something else", err: syscall.EPIPE, code: 1},

		{name: "denied by a policy", command: "sync", err: &mirror.DeniedError{}, code: 1},
		{name: "go.sum", command: "sync", err: &mirror.GoSumError{Err: plain}, code: 1},
		{name: "source", command: "sync", err: &sources.Error{Err: plain}, code: 1},
		{name: "unverified modules", command: "sync", err: &mirror.UnverifiedError{Err: plain}, code: 1},
		{name: "lock", command: "sync", err: &mirror.LockError{Reason: "x"}, code: 1},
		{name: "upstream", command: "sync", err: &upstream.Error{URL: "x", Err: plain}, code: 1},
		{name: "upstream proxy", command: "sync", err: &upstream.ProxyError{}, code: 1},
		{name: "no version control", command: "sync", err: &upstream.NoVCSError{Name: "git"}, code: 1},
		{name: "GOPROXY off", command: "sync", err: upstream.ErrOff, code: 1},
		{name: "GOPROXY direct", command: "sync", err: upstream.ErrDirect, code: 1},
		{name: "covered by --inside", command: "serve", err: &serve.CoveredError{}, code: 2,
			hint: "make the patterns of --inside narrower"},
		{name: "wants file", command: "wants", err: &serve.WantsFileError{Err: plain}, code: 1},
		{name: "passwords without TLS", command: "serve", err: serve.ErrNoTLS, code: 1},
	}
	for _, tt := range tests {
		for _, wrapped := range []bool{false, true} {
			command, err := tt.command, tt.err
			if command == "" {
				command = "import"
			}
			if wrapped {
				err = fmt.Errorf("doing it: %w", err)
			}
			var out bytes.Buffer
			e := &env{stdout: &output{File: os.Stdout}, stderr: &out}
			if code := e.report(context.Background(), command, err); code != tt.code {
				t.Errorf("%s: exit code %d, want %d", tt.name, code, tt.code)
			}
			message, rest, _ := strings.Cut(out.String(), "\n")
			if want := "modmirror: " + command + ": " + oneLine(err); message != want {
				t.Errorf("%s: %q, want %q", tt.name, message, want)
			}
			hint := strings.TrimSuffix(strings.TrimPrefix(rest, "hint: "), "\n")
			if tt.hint == "gunzip" { // as the table of file formats has it
				tt.hint = tt.err.(*bundle.NotVerifiedError).Err.(*bundle.ForeignError).Hint()
			}
			if hint != tt.hint {
				t.Errorf("%s: hint %q, want %q", tt.name, hint, tt.hint)
			}
		}
	}
}

// TestReportSilent checks the results of commands that have named everything already, and those of
// a command that was interrupted.
func TestReportSilent(t *testing.T) {
	interrupted, cancel := context.WithCancel(context.Background())
	cancel()
	lost := errors.New("lost")
	for _, tt := range []struct {
		ctx  context.Context
		err  error
		code int
		says string
	}{
		{context.Background(), nil, 0, ""},
		{context.Background(), errIncomplete, 4, ""},
		{context.Background(), errDamaged, 3, ""},
		{context.Background(), errDenied, 5, ""},
		{context.Background(), errFailed, 1, ""},
		{interrupted, errIncomplete, 4, ""},
		{interrupted, lost, 1, "modmirror: list: interrupted\n"},
		{interrupted, &bundle.RollbackError{}, 1, "modmirror: list: interrupted\n"},
		{context.Background(), syscall.EPIPE, 1, ""}, // of stdout: modmirror list x.tar | head
	} {
		var out bytes.Buffer
		e := &env{stdout: &output{File: os.Stdout, err: syscall.EPIPE}, stderr: &out}
		if code := e.report(tt.ctx, "list", tt.err); code != tt.code || out.String() != tt.says {
			t.Errorf("%v: exit code %d, want %d; says %q, want %q", tt.err, code, tt.code, out.String(), tt.says)
		}
	}
}

// gzipped returns the error of a bundle that was compressed on its way.
func gzipped(t *testing.T) error {
	file := t.TempDir() + "/x.tar"
	if err := os.WriteFile(file, append([]byte("\x1f\x8b\x08\x00"), make([]byte, 8<<10)...), 0o666); err != nil {
		t.Fatal(err)
	}
	_, err := bundle.Open(context.Background(), file, trust.NewKeyring(), "")
	foreign, ok := errors.AsType[*bundle.ForeignError](err)
	if !ok || foreign.Hint() == "" {
		t.Fatalf("a compressed file: %v", err)
	}
	return foreign
}
