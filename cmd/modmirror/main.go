// Command modmirror carries Go modules across an air gap: sync makes a signed bundle where
// there is a network, serve serves it where there is none.
package main

// The rules of the terminal: results go to stdout, everything else to stderr. A message
// begins with "modmirror: ", in lower case and without a full stop; a next step follows as
// "hint: ". Progress bars appear on a terminal only. Exit codes are those of the constants below.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/adrg/xdg"
	"github.com/spf13/pflag"
)

// A command is a subcommand.
type command struct {
	name    string
	summary string
	usage   string // "modmirror NAME …" lines, description, example
	flags   func(*pflag.FlagSet)
	run     func(context.Context, *env, []string) error
}

// env is what a command has of the outside.
type env struct {
	stdin  io.Reader
	stdout *output
	stderr io.Writer

	terminal  terminal
	configDir string // key and trusted keys
	quiet     bool

	hangup atomic.Pointer[func()] // called on SIGHUP, which ends a command that has none
}

func commands() []*command {
	return []*command{
		syncCommand(), verifyCommand(), importCommand(), serveCommand(), infoCommand(), listCommand(), diffCommand(), whyCommand(), extractCommand(),
		keyCommand(), trustCommand(), signCommand(), splitCommand(), pruneCommand(), publishCommand(), wantsCommand(), envCommand(), doctorCommand(), versionCommand(), completionCommand(), manCommand(),
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	signal.Ignore(syscall.SIGPIPE) // a reader that goes away is an error like others: temporary files are removed
	e := &env{stdin: os.Stdin, stdout: &output{File: os.Stdout}, stderr: os.Stderr}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		for range hangups {
			if f := e.hangup.Load(); f != nil {
				(*f)()
			} else { // the terminal is gone
				stop()
			}
		}
	}()
	code := e.main(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func (e *env) main(ctx context.Context, args []string) int {
	if len(args) > 0 && args[0] == rehearseInside {
		return runRehearseInside(ctx, e, args[1:])
	}
	if len(args) == 2 && args[0] == "help" {
		args = []string{args[1], "--help"}
	}
	switch {
	case len(args) == 0:
		e.help()
		return exitUsage
	case args[0] == "help", args[0] == "-h", args[0] == "--help":
		return e.report(ctx, "help", e.help())
	case args[0] == "--version":
		args[0] = "version"
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return e.report(ctx, c.name, e.runCommand(ctx, c, args[1:]))
		}
	}
	e.complain("unknown command %q", args[0])
	e.hint("modmirror help lists them")
	return exitUsage
}

func (e *env) runCommand(ctx context.Context, c *command, args []string) error {
	fs := flagSet(e, c)
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			fmt.Fprint(e.stdout, helpText(c, fs))
			return e.stdout.err
		}
		return usagef("%v", err)
	}
	if err := applyVariables(c.name, fs); err != nil {
		return usagef("%v", err)
	}
	return cmp.Or(c.run(ctx, e, fs.Args()), e.stdout.err)
}

func flagSet(e *env, c *command) *pflag.FlagSet {
	fs := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SortFlags = false
	if c.flags != nil {
		c.flags(fs)
	}
	fs.BoolVarP(&e.quiet, "quiet", "q", false, "print results and errors only")
	fs.StringVar(&e.configDir, "config", filepath.Join(xdg.ConfigHome, "modmirror"), "`folder` of the signing key and the trusted keys")
	return fs
}
