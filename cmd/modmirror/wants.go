package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

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

// openWants opens the wants. A file that is none is set aside: what was asked for is no reason not
// to serve.
func openWants(log *slog.Logger, file string) (*serve.Wants, error) {
	wants, err := serve.OpenWants(file, func(err error) { log.Warn("a want was left out", "err", err) })
	bad, ok := errors.AsType[*serve.WantsFileError](err)
	if !ok {
		return wants, err
	}
	wants, name, asideErr := bad.SetAside(time.Now())
	if asideErr != nil {
		return nil, errors.Join(err, asideErr)
	}
	log.Error("what was asked for before is set aside, and serve begins anew to remember", "file", name, "err", bad)
	return wants, nil
}

// wantsInterval is how much of what was asked for may be forgotten when serve is killed.
const wantsInterval = 10 * time.Second

// saveWants writes down what was asked for, every now and then and when stop is called.
func saveWants(log *slog.Logger, wants *serve.Wants) (stop func()) {
	evicted := int64(0)
	save := func() {
		if n := wants.Evicted(); n > evicted {
			log.Warn("more was asked for than is remembered: what was asked for least, and the longest ago, is forgotten", "forgotten", n)
			evicted = n
		}
		if err := wants.Save(); err != nil { // a read-only state folder is no reason not to serve
			log.Warn("cannot remember wants", "err", err)
		}
	}
	end := every(wantsInterval, save)
	return func() { end(); save() }
}
