package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/bundle"
)

func trustCommand() *command {
	var asJSON bool
	return &command{
		name:    "trust",
		summary: "say whose bundles are believed here",
		usage: `
Usage: modmirror trust add KEY|FILE
       modmirror trust list [BUNDLE|STORE...]
       modmirror trust remove NAME|KEY

A bundle is opened only when a trusted key signed it. Get the key from the one
who makes the bundles, by a way that you trust. With bundles or stores, list says
for which of them each key vouches, and which nobody else would vouch for if it were removed.

Example:
  modmirror trust add team.pub
`,
		flags: func(fs *pflag.FlagSet) { fs.BoolVar(&asJSON, "json", false, "list: print a JSON object for each key") },
		run: func(_ context.Context, e *env, args []string) error {
			trust, err := bundle.ReadTrust(e.trustFile())
			if err != nil {
				return err
			}
			switch {
			case len(args) == 2 && args[0] == "add":
				keys := []string{args[1]}
				if _, err := os.Stat(args[1]); err == nil {
					list, err := bundle.ReadTrust(args[1])
					if err != nil {
						return &hintError{usagef("%v", err), "want a key as modmirror key show prints it, or a file of such keys, one a line"}
					}
					if keys = list.Keys; len(keys) == 0 {
						return fmt.Errorf("%s: there is no key in it", args[1])
					}
				}
				for _, key := range keys {
					added, err := trust.Add(key)
					if err != nil {
						return err
					}
					if added {
						e.say("trusting %s", strings.TrimSpace(key))
					} else {
						e.say("already trusted: %s", strings.TrimSpace(key))
					}
				}
				return nil
			case len(args) >= 1 && args[0] == "list":
				return listTrust(e, trust, args[1:], asJSON)
			case len(args) == 2 && args[0] == "remove":
				removed, err := trust.Remove(args[1])
				for _, k := range removed {
					e.say("no longer trusting %s", k)
				}
				return err
			}
			return usagef("want trust add KEY|FILE, trust list or trust remove NAME")
		},
	}
}

// listTrust prints the trusted keys, and for which bundles each vouches.
func listTrust(e *env, trust *bundle.Trust, args []string, asJSON bool) error {
	var bundles []*bundle.Bundle
	defer func() {
		for _, b := range bundles {
			b.Close()
		}
	}()
	for _, name := range args {
		list, err := bundle.Fronts(name, trust, func(file string, err error) { e.complain("%s: %s", file, oneLine(err)) })
		if err != nil {
			return err
		}
		bundles = append(bundles, list...)
	}
	type signed struct {
		File     string `json:"file"`
		Name     string `json:"name"`
		Sequence int64  `json:"sequence"`
		Alone    bool   `json:"alone"` // no other trusted key vouches for it
	}
	for _, k := range trust.Keys {
		vouches := []signed{}
		if !asJSON {
			fmt.Fprintln(e.stdout, k)
		}
		v, err := note.NewVerifier(k)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash())
		for _, b := range bundles {
			if !slices.Contains(b.Signers, name) {
				continue
			}
			if asJSON {
				vouches = append(vouches, signed{b.Path(), b.Manifest.Name, b.Manifest.Sequence, len(b.Signers) == 1})
				continue
			}
			alone := ""
			if len(b.Signers) == 1 {
				alone = ", this key alone"
			}
			fmt.Fprintf(e.stdout, "  %s: %s, sequence %d%s\n", b.Path(), b.Manifest.Name, b.Manifest.Sequence, alone)
		}
		if !asJSON {
			continue
		}
		if err := writeJSON(e.stdout, struct {
			Key     string   `json:"key"`
			Bundles []signed `json:"bundles"`
		}{k, vouches}); err != nil {
			return err
		}
	}
	return nil
}
