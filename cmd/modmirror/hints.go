package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/serve"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotVerified = 3 // signature, hash, proof or rollback
	exitIncomplete  = 4 // something is not available
	exitPolicy      = 5 // a deny line or --fail-on forbids it
)

// exitCodes describes the exit codes for the manual page.
var exitCodes = []struct {
	code  int
	means string
}{
	{exitDone, "done"},
	{exitFailed, "failed"},
	{exitUsage, "the command line is wrong, or something is in the way"},
	{exitNotVerified, "does not verify: signature, hash, proof, rollback"},
	{exitIncomplete, "incomplete: something could not be had, and was named"},
	{exitPolicy, "against a deny line, or --fail-on"},
}

// Results of a command that has already printed what went wrong. report prints nothing for them.
var (
	errFailed     = errors.New("failed")
	errDamaged    = errors.New("does not verify")
	errIncomplete = errors.New("incomplete")
	errDenied     = errors.New("denied")
)

// silent lists the exit codes of the errors that report does not print.
var silent = []struct {
	err  error
	code int
}{
	{errIncomplete, exitIncomplete},
	{errDamaged, exitNotVerified},
	{errDenied, exitPolicy},
	{errFailed, exitFailed},
}

// usagef returns a *hint.UsageError: a mistake in the command line.
func usagef(format string, args ...any) error { return hint.Usagef(format, args...) }

// An incompleteError is an error because something is not available.
type incompleteError struct{ err error }

func (e *incompleteError) Error() string { return e.err.Error() }
func (e *incompleteError) Unwrap() error { return e.err }

// An outcome is what a kind of error means for a script, the exit code, and for a person, the hint.
type outcome struct {
	code  int
	match func(err error) bool
	hint  func(command string, err error) string // the next step, "" for none; nil leaves it to later outcomes
}

// of returns the outcome of errors that are, or wrap, an E. hint may be nil.
func of[E error](code int, hint func(command string, err E) string) outcome {
	o := outcome{code: code, match: func(err error) bool {
		_, ok := errors.AsType[E](err)
		return ok
	}}
	if hint != nil {
		o.hint = func(command string, err error) string {
			e, _ := errors.AsType[E](err)
			return hint(command, e)
		}
	}
	return o
}

// is returns the outcome of errors that are, or wrap, target. hint may be nil.
func is(code int, target error, hint func(command string, err error) string) outcome {
	return outcome{code, func(err error) bool { return errors.Is(err, target) }, hint}
}

// always returns a hint that depends on nothing.
func always[E error](hint string) func(string, E) string {
	return func(string, E) string { return hint }
}

// outcomes is the table of errors, their exit codes and their hints. An error may match several
// outcomes: its hint is the first one, so specific errors come before general ones, and its exit
// code is the lowest except exitFailed.
var outcomes = []outcome{
	of(exitFailed, func(_ string, err *hint.Error) string { return err.Hint }),
	of(exitFailed, func(_ string, err *media.UnavailableError) string {
		if err.Denied {
			return "check that the bucket exists, and the credentials: modmirror reads $AWS_ACCESS_KEY_ID and " +
				"$AWS_SECRET_ACCESS_KEY, ~/.aws/credentials, ~/.mc/config.json and the machine's role"
		}
		return "name the storage with --s3-endpoint or $AWS_ENDPOINT_URL, if it is not Amazon's"
	}),
	of(exitFailed, always[*store.MinSequenceError](
		"carry the newest bundle, or lower --min-sequence if this one is meant")),
	of(exitNotVerified, always[*bundle.RollbackError](
		"carry the newest bundle; or accept this one with --allow-rollback, unless the store has another bundle of its sequence")),
	of(exitNotVerified, always[*store.UnshownError](
		"make the bundle with --base and the catalog of the store (modmirror extract --catalog); or accept this one with --allow-rollback")),
	of(exitIncomplete, always[*bundle.MissingBaseError](
		"import the earlier bundles of this line first, oldest first; or make one that needs no others: modmirror sync --full")),
	of(exitIncomplete, always[*bundle.NotAtHandError](
		"name a store that has the whole line; verify takes all bundles of a line together")),
	of(exitFailed, func(_ string, err *store.StateError) string {
		return fmt.Sprintf("restore %s from a backup; without it modmirror cannot tell an older bundle from the newest",
			err.File)
	}),
	of(exitFailed, always[*trust.TooFewError](
		"add a signature with modmirror sign, or trust another key that signed it with modmirror trust add")),
	of(exitUsage, always[*serve.CoveredError]("make the patterns of --inside narrower")),
	of(exitFailed, always[*missesError](
		"--learn takes what is missing into the bundle; or add it to a list file, or run go mod tidy")),
	of(exitUsage, func(command string, _ *bundle.OccupiedError) string {
		if command == "extract" || command == "publish" {
			return "name another folder; or --overwrite replaces plain files"
		}
		return "name another file or folder, or move the existing one away"
	}),
	of(exitUsage, func(command string, _ *hint.UsageError) string { return "modmirror " + command + " --help" }),
	of(exitFailed, always[*trust.UntrustedError](
		"if you know who signed it: modmirror trust add KEY, with the key that modmirror key show prints there")),
	of(exitFailed, func(_ string, err *bundle.ForeignError) string { return cleanText(err.Hint()) }),
	of(exitNotVerified, always[*bundle.NotVerifiedError](carryAgain)),
	is(exitNotVerified, proof.ErrMismatch, nil),
	of[*incompleteError](exitIncomplete, nil),
	of[*media.MissingPieceError](exitIncomplete, nil),
	is(exitFailed, syscall.ENOSPC, func(command string, _ error) string {
		if command == "sync" {
			return "make room and run it again: what was fetched is kept"
		}
		return "make room and run it again"
	}),
}

// carryAgain is the next step after a bundle that does not verify.
const carryAgain = "copy or carry the file again, and compare its sha256sum on both sides"

// exitCode returns the exit code of an error.
func exitCode(err error) int {
	code := exitFailed
	for _, o := range outcomes {
		if o.code != exitFailed && (code == exitFailed || o.code < code) && o.match(err) {
			code = o.code
		}
	}
	return code
}

// hintFor returns the next step after an error of a command, "" for none.
func hintFor(command string, err error) string {
	for _, o := range outcomes {
		if o.hint != nil && o.match(err) {
			return o.hint(command, err)
		}
	}
	return ""
}

// report prints an error of a command once, with its hint, and returns the exit code.
func (e *env) report(ctx context.Context, command string, err error) int {
	if err == nil {
		return exitDone
	}
	for _, s := range silent {
		if errors.Is(err, s.err) {
			return s.code
		}
	}
	switch {
	case ctx.Err() != nil:
		e.complain("%s: interrupted", command)
		return exitFailed
	case errors.Is(err, syscall.EPIPE) && err == e.stdout.err: // as in: modmirror list x.tar | head
		return exitFailed
	}
	e.complain("%s: %s", command, oneLine(err))
	if hint := hintFor(command, err); hint != "" {
		e.hint("%s", hint)
	}
	return exitCode(err)
}
