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
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"

	"github.com/adrg/xdg"
	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
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

// output is stdout. It remembers the first error, so that a command that prints need not
// look: a result that was lost is a failure all the same.
type output struct {
	*os.File
	err error
}

// Write writes to stdout.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.File.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// say prints a line about what is going on.
func (e *env) say(format string, args ...any) {
	if !e.quiet {
		e.complain(format, args...)
	}
}

// complain prints a line about what went wrong.
func (e *env) complain(format string, args ...any) {
	e.line(fmt.Sprintf("modmirror: "+format, args...))
}

func (e *env) hint(format string, args ...any) { e.line(fmt.Sprintf("hint: "+format, args...)) }

// sayHint is the hint behind what say printed.
func (e *env) sayHint(format string, args ...any) {
	if !e.quiet {
		e.hint(format, args...)
	}
}

// waiting returns what says, when another process has a thing, that it is waited for.
func (e *env) waiting(thing string) func(holder string) {
	return func(holder string) { e.say("waiting for %s: %s has it", thing, holder) }
}

func (e *env) keyFile() string   { return filepath.Join(e.configDir, "key") }
func (e *env) trustFile() string { return filepath.Join(e.configDir, "trusted") }

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

func (e *env) help() error {
	fmt.Fprint(e.stdout, "modmirror carries Go modules across an air gap.\n\nUsage: modmirror COMMAND [flags] [args]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(e.stdout, "  %-11s %s\n", c.name, c.summary)
	}
	fmt.Fprint(e.stdout, `
Outside:  modmirror sync -o team.tar            (in a Go project)
Inside:   modmirror trust add KEY
          modmirror serve team.tar
          eval "$(modmirror env http://127.0.0.1:8080)" && go build ./...

modmirror COMMAND --help tells more.
`)
	return e.stdout.err
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

// stateDir is where serve keeps what it has verified.
func stateDir() string { return filepath.Join(xdg.StateHome, "modmirror") }

// version is what this binary says it is.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// versionInfo is what version prints with --json.
type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"` // of the sources, when they were built in a repository
	Dirty   bool   `json:"dirty,omitempty"`  // with changes
	Go      string `json:"go"`
	Format  string `json:"format"` // of bundles
	Schema  int    `json:"schema"` // of their index
	SQLite  string `json:"sqlite"`
}

func versionCommand() *command {
	var asJSON bool
	return &command{
		name:    "version",
		summary: "print the version, and what it was built with",
		usage:   "Usage: modmirror version [--json]\n\nExample:\n  modmirror version\n",
		flags:   func(fs *pflag.FlagSet) { fs.BoolVar(&asJSON, "json", false, "print JSON") },
		run: func(_ context.Context, e *env, args []string) error {
			if len(args) > 0 {
				return usagef("version takes no arguments")
			}
			v := versionInfo{Version: version(), Go: runtime.Version(), Format: bundle.Format, Schema: index.SchemaVersion, SQLite: index.SQLiteVersion()}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					switch s.Key {
					case "vcs.revision":
						v.Commit = s.Value
					case "vcs.modified":
						v.Dirty = s.Value == "true"
					}
				}
			}
			if asJSON {
				return writeJSON(e.stdout, v)
			}
			fmt.Fprintln(e.stdout, "modmirror", v.Version)
			if v.Commit != "" {
				dirty := ""
				if v.Dirty {
					dirty = ", with changes"
				}
				fmt.Fprintf(e.stdout, "commit    %s%s\n", v.Commit, dirty)
			}
			fmt.Fprintf(e.stdout, "go        %s %s/%s\nformat    %s, index schema %d\nsqlite    %s\n", v.Go, runtime.GOOS, runtime.GOARCH, v.Format, v.Schema, v.SQLite)
			return nil
		},
	}
}

// noSuchFile reports whether err is about a file that is not there.
func noSuchFile(err error) bool { return errors.Is(err, fs.ErrNotExist) }
