package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/serve"
)

func envCommand() *command {
	shell := "sh"
	return &command{
		name:    "env",
		summary: "print the go settings that a client inside needs",
		usage: `
Usage: modmirror env [--shell sh|powershell|go|file] URL

Asks the server which modules are outside the checksum database, and prints the
settings for sh, for PowerShell, as a "go env -w" command that lasts, or as a file of
variables for CI and containers.

Example:
  eval "$(modmirror env http://127.0.0.1:8080)"
  modmirror env --shell file http://goproxy:8080 >go.env
`,
		flags: func(fs *pflag.FlagSet) { fs.StringVar(&shell, "shell", "sh", "`form`: sh, powershell, go or file") },
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) != 1 {
				return usagef("want the URL of a server")
			}
			base, err := serverURL(args[0])
			if err != nil {
				return err
			}
			c, goErr := clientGoEnv(ctx)
			clean := goErr == nil && c.GOPRIVATE == "" && (c.GONOPROXY == "" || c.GONOPROXY == "none")
			if shell == "go" { // go env -w replaces what an earlier one set
				direct := os.Getenv("GONOPROXY")
				clean = os.Getenv("GOPRIVATE") == "" && (direct == "" || direct == "none")
				if goErr == nil && c.before113() {
					return &hint.Error{Err: usagef("the go command here is %s, which has no go env -w", c.GOVERSION), Hint: "--shell sh or powershell prints settings for a shell"}
				}
			}
			client, err := serverClient(ctx, base)
			if err != nil {
				return err
			}
			settings, err := askServer(ctx, client, base)
			if err != nil {
				return &hint.Error{Err: fmt.Errorf("asking the server for its settings: %w", err), Hint: "is modmirror serve running there? modmirror doctor --proxy URL finds out more"}
			}
			text, ok := serve.ShellText(shell, settings.Vars(base, clean))
			if !ok {
				return usagef("--shell %q: want sh, powershell, go or file", shell)
			}
			_, err = fmt.Fprint(e.stdout, text)
			return err
		},
	}
}
