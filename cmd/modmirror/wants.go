package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/serve"
)

// wantsFile returns the file in which serve remembers what clients asked for and did not get.
func wantsFile(state string) string { return filepath.Join(state, "wants.json") }

func wantsCommand() *command {
	var state, inside string
	var asJSON bool
	return &command{
		name:    "wants",
		summary: "print what clients inside asked for and did not get, as a list for sync",
		usage: `
Usage: modmirror wants [flags]

Prints what serve answered with "not found" since it first ran with this state folder:
modules, versions and queries, how often and when, never who asked. sync takes the list
as it is; lines for modules that do not exist do not fail it.

A line "head" comes from a client that remembers a tree of the checksum database that
no bundle knows. The next bundle then carries the proof that connects the two.

Example:
  modmirror wants >wants.txt            inside
  modmirror sync -o more.tar wants.txt  outside
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&state, "state", stateDir(), "the state `folder` of serve")
			fs.StringVar(&inside, "inside", "",
				"leave out modules of these `patterns`, as in GOPRIVATE; serve --inside does not remember them")
			fs.BoolVar(&asJSON, "json", false, "print JSON")
		},
		run: func(_ context.Context, e *env, args []string) error {
			if len(args) > 0 {
				return usagef("wants takes no arguments")
			}
			w, err := serve.OpenWants(wantsFile(state), func(err error) { e.complain("%s", oneLine(err)) })
			if _, ok := errors.AsType[*serve.WantsFileError](err); ok {
				return &hint.Error{Err: err, Hint: "start serve: it renames the file and begins a new one"}
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

// openWants opens the file of wants. It renames a damaged file and begins a new one, because
// serving matters more.
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
	log.Error("the file of wants is damaged: it was renamed, and a new one begins", "file", name, "err", bad)
	return wants, nil
}

// wantsInterval is how often wants are saved. A kill of serve loses at most those since.
const wantsInterval = 10 * time.Second

// saveWants saves wants at wantsInterval, and when stop is called. It warns when wants were
// forgotten for want of room.
func saveWants(log *slog.Logger, wants *serve.Wants) (stop func()) {
	evicted := int64(0)
	save := func() {
		if n := wants.Evicted(); n > evicted {
			log.Warn("too many wants: those that were asked for least, and longest ago, are forgotten", "forgotten", n)
			evicted = n
		}
		if err := wants.Save(); err != nil { // a read-only state folder is no reason not to serve
			log.Warn("cannot remember wants", "err", err)
		}
	}
	end := every(wantsInterval, save)
	return func() { end(); save() }
}
