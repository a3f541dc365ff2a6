package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/serve"
)

// wantsFile is where serve remembers what was asked for and not there.
func wantsFile(state string) string { return filepath.Join(state, "wants.json") }

func wantsCommand() *command {
	var state, inside string
	var asJSON bool
	return &command{
		name:    "wants",
		summary: "print what was asked for inside and not there, as a list for sync",
		usage: `
Usage: modmirror wants [flags]

Prints what serve has answered with "not found" since it first ran with this state
folder: modules, versions and queries, how often and when, never who asked. The
list is one that sync takes as it is: what does not exist never ends it. A line head
is of a client that remembers a tree of the checksum database which the bundles do
not know; the next bundle then has what connects the two.

Example:
  modmirror wants >wants.txt            inside
  modmirror sync -o more.tar wants.txt  outside
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&state, "state", stateDir(), "`folder` that serve has for what it remembers")
			fs.StringVar(&inside, "inside", "", "leave out modules of these `patterns`, as in GOPRIVATE; serve --inside does not remember them")
			fs.BoolVar(&asJSON, "json", false, "print JSON")
		},
		run: func(_ context.Context, e *env, args []string) error {
			if len(args) > 0 {
				return usagef("wants takes no arguments")
			}
			w, err := serve.OpenWants(wantsFile(state), func(err error) { e.complain("%s", oneLine(err)) })
			if _, ok := errors.AsType[*serve.WantsFileError](err); ok {
				return &hintError{err, "serve sets it aside when it starts, and begins anew"}
			}
			if err != nil {
				return err
			}
			list := w.List()
			if asJSON {
				return writeJSON(e.stdout, append([]serve.Want{}, list...))
			}
			if len(list) == 0 {
				e.say("nothing was asked for that is not carried")
			}
			_, err = fmt.Fprint(e.stdout, serve.ListFile(list, inside))
			return err
		},
	}
}
