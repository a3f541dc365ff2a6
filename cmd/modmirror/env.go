package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/mirror/upstream"
	"github.com/modmirror/modmirror/serve"
)

func envCommand() *command {
	shell := "sh"
	return &command{
		name:    "env",
		summary: "print the go settings that a client inside needs",
		usage: `
Usage: modmirror env [--shell sh|powershell|go] URL

Asks the server which modules are outside the checksum database and prints the
settings: for sh, for PowerShell, or as a "go env -w" command that lasts.

Example:
  eval "$(modmirror env http://127.0.0.1:8080)"
`,
		flags: func(fs *pflag.FlagSet) { fs.StringVar(&shell, "shell", "sh", "`form`: sh, powershell or go") },
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
			if shell == "go" { // which replaces what was set so
				clean = os.Getenv("GOPRIVATE") == "" && (os.Getenv("GONOPROXY") == "" || os.Getenv("GONOPROXY") == "none")
				if goErr == nil && c.before113() {
					return &hintError{usagef("the go command here is %s, which has no go env -w", c.GOVERSION), "--shell sh or powershell prints settings for a shell"}
				}
			}
			client, err := serverClient(ctx, base)
			if err != nil {
				return err
			}
			settings, err := askServer(ctx, client, base)
			if err != nil {
				return &hintError{fmt.Errorf("asking it for its settings: %w", err), "is modmirror serve running there? modmirror doctor --proxy URL finds out more"}
			}
			text, ok := serve.ShellText(shell, settings.Vars(base, clean))
			if !ok {
				return usagef("--shell %q: want sh, powershell or go", shell)
			}
			_, err = fmt.Fprint(e.stdout, text)
			return err
		},
	}
}

// serverURL checks the URL of a server and takes a slash off its end.
func serverURL(s string) (string, error) {
	if err := serve.CheckURL(s); err != nil {
		return "", usagef("%v", err)
	}
	return strings.TrimSuffix(s, "/"), nil
}

// serverClient returns a client for a server inside, with the credentials that go commands have.
func serverClient(ctx context.Context, base string) (*upstream.Client, error) {
	settings, err := readGoEnv(ctx)
	if err != nil {
		return nil, err
	}
	return upstream.New(base, settings.GOAUTH, 1)
}

// askServer gets the settings of a server.
func askServer(ctx context.Context, client *upstream.Client, base string) (serve.Settings, error) {
	var s serve.Settings
	data, err := client.GetOnce(ctx, base+"/settings.json")
	if err != nil {
		return s, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("not the settings of a modmirror server: %w", err)
	}
	for _, p := range s.Inside {
		if err := serve.CheckInside(p); err != nil {
			return s, fmt.Errorf("in its settings: %w", err)
		}
	}
	for _, u := range s.Also {
		if err := serve.CheckURL(u); err != nil {
			return s, fmt.Errorf("in its settings: %w", err)
		}
	}
	for _, p := range s.Private { // it goes into a shell, and GONOSUMDB has patterns in it
		if err := module.CheckPath(p); err != nil {
			return s, fmt.Errorf("in its settings: %w", err)
		}
	}
	return s, nil
}
