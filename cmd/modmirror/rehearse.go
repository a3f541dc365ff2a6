package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/modmirror/modmirror/internal/rehearse"
)

// rehearseInside is the hidden command that a rehearsal runs of this executable, without a network.
const rehearseInside = rehearse.InsideCommand

// missesError is the error of a rehearsal that asked for files that the bundle does not have.
type missesError = rehearse.MissesError

// runRehearseInside runs the hidden command and returns the exit code.
func runRehearseInside(ctx context.Context, e *env, _ []string) int {
	if err := rehearse.Inside(ctx, e.stdin, e.stderr); err != nil {
		fmt.Fprintln(e.stderr, err)
		return exitFailed
	}
	return exitDone
}

// rehearsed runs a rehearsal, which reports on the terminal.
func (e *env) rehearsed(ctx context.Context, o rehearse.Options) error {
	o.Say, o.Complain, o.Spin = e.sayClean, e.complainClean, e.spin
	err := rehearse.Run(ctx, o)
	if misses, ok := errors.AsType[*missesError](err); ok && misses.Incomplete {
		return &incompleteError{err}
	}
	return err
}

// sayClean is say for texts that may come from an upstream, a bundle or a command.
func (e *env) sayClean(format string, args ...any) { e.say("%s", cleanLine(format, args...)) }

// complainClean is complain for texts that may come from an upstream, a bundle or a command.
func (e *env) complainClean(format string, args ...any) { e.complain("%s", cleanLine(format, args...)) }

// cleanLine formats a text and cleans it as oneLine does, but for blanks at its beginning.
func cleanLine(format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	indent := text[:len(text)-len(strings.TrimLeft(text, " "))]
	return indent + oneLine(errors.New(text))
}
