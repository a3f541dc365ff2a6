// Command modmirror carries Go modules across an air gap: sync makes a signed bundle on a network,
// and serve serves it on a network that has no way out.
//
// A command parses its flags, calls one thing, and prints. Each has a file named after it. What a
// person sees is in terminal.go, and what an error means is in hints.go.
package main

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
	summary string               // one line for the list of commands
	usage   string               // "Usage:" lines, description and example, see helpText
	flags   func(*pflag.FlagSet) // adds the flags; nil for none
	run     func(ctx context.Context, e *env, args []string) error
}

// env is the environment of a command.
type env struct {
	stdin  io.Reader
	stdout *output
	stderr io.Writer

	terminal  terminal
	configDir string // folder of the signing key and the trusted keys
	quiet     bool

	hangup atomic.Pointer[func()] // called on SIGHUP; nil lets SIGHUP end the command
}

// commands returns all commands in the order of the help.
func commands() []*command {
	return []*command{
		syncCommand(), verifyCommand(), importCommand(), serveCommand(), infoCommand(), listCommand(), diffCommand(),
		whyCommand(), vulnsCommand(), sbomCommand(), factsCommand(), policyCommand(), reportCommand(),
		outdatedCommand(), extractCommand(),
		keyCommand(), trustCommand(), signCommand(), splitCommand(), pruneCommand(),
		publishCommand(), wantsCommand(), searchCommand(), envCommand(), doctorCommand(), versionCommand(), completionCommand(), manCommand(),
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	signal.Ignore(syscall.SIGPIPE) // writing fails instead, and temporary files are removed
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

// main runs the command that args name and returns the exit code.
func (e *env) main(ctx context.Context, args []string) int {
	if len(args) > 0 && args[0] == rehearseInside {
		return runRehearseInside(ctx, e, args[1:])
	}
	if j := jobOf(args); j != nil {
		return j.inside(e.stdin, e.stdout)
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

// runCommand parses the flags of a command and runs it.
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

// flagSet returns the flags of a command, with those that all commands have.
func flagSet(e *env, c *command) *pflag.FlagSet {
	fs := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.SortFlags = false
	if c.flags != nil {
		c.flags(fs)
	}
	fs.BoolVarP(&e.quiet, "quiet", "q", false, "print results and errors only")
	fs.StringVar(&e.configDir, "config", filepath.Join(xdg.ConfigHome, "modmirror"),
		"`folder` of the signing key and the trusted keys")
	return fs
}
