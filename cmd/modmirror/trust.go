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
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/hint"
)

func trustCommand() *command {
	var asJSON bool
	var roles []string
	return &command{
		name:    "trust",
		summary: "choose the keys whose bundles are accepted here",
		usage: `
Usage: modmirror trust add [--role ROLE] KEY|FILE
       modmirror trust list [BUNDLE|STORE...]
       modmirror trust remove NAME|KEY

modmirror opens a bundle only if a trusted key signed it. Get the key from the person
who makes the bundles, by a way that you trust. With bundles or stores, list prints
which of them each key signed, and which no other trusted key signed.

A key may have a role, maker or approver, or both: --require maker:1,approver:1 wants
signatures of two people. A key that has both roles counts in one of them.

Example:
  modmirror trust add team.pub
  modmirror trust add --role approver security.pub
`,
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&asJSON, "json", false, "list: print a JSON object for each key")
			fs.StringSliceVar(&roles, "role", nil, "add: the `role` of the key, maker or approver, in place of those that it has")
		},
		run: func(_ context.Context, e *env, args []string) error {
			keyring, err := trust.Read(e.trustFile())
			if err != nil {
				return err
			}
			switch {
			case len(args) == 2 && args[0] == "add":
				return addTrust(e, keyring, args[1], roles)
			case len(args) >= 1 && args[0] == "list":
				return listTrust(e, keyring, args[1:], asJSON)
			case len(args) == 2 && args[0] == "remove":
				removed, err := keyring.Remove(args[1])
				for _, k := range removed {
					e.say("no longer trusting %s", k)
				}
				return err
			}
			return usagef("want trust add KEY|FILE, trust list or trust remove NAME")
		},
	}
}

// addTrust adds a key, or the keys in a file, to the trusted ones.
func addTrust(e *env, keyring *trust.Keyring, key string, roles []string) error {
	if err := trust.CheckRoles(roles); err != nil {
		return usagef("--role: %v", err)
	}
	keys := []string{key}
	if _, err := os.Stat(key); err == nil {
		list, err := trust.Read(key)
		if err != nil {
			return &hint.Error{Err: usagef("%v", err), Hint: "want a key as modmirror key show prints it, or a file of such keys, one a line"}
		}
		if keys = list.Keys; len(keys) == 0 {
			return fmt.Errorf("%s: there is no key in it", key)
		}
		if len(roles) == 0 && slices.ContainsFunc(keys, func(k string) bool { return len(list.Roles(k)) > 0 }) {
			e.say("the roles in %s do not count here: --role gives one", key)
		}
	}
	for _, key := range keys {
		added, err := keyring.Add(key, roles...)
		if err != nil {
			return err
		}
		if added {
			key = strings.TrimSpace(key)
			e.say("trusting %s", strings.Join(append([]string{key}, keyring.Roles(key)...), " "))
		} else {
			e.say("already trusted: %s", strings.TrimSpace(key))
		}
	}
	return nil
}

// trustedKey is what trust list prints of a key with --json.
type trustedKey struct {
	Key     string         `json:"key"`
	Roles   []string       `json:"roles"`
	Bundles []signedBundle `json:"bundles"` // that the key signed
}

// signedBundle is a bundle that a trusted key signed.
type signedBundle struct {
	File     string `json:"file"`
	Name     string `json:"name"`
	Sequence int64  `json:"sequence"`
	Alone    bool   `json:"alone"` // no other trusted key signed it
}

// listTrust prints the trusted keys, and which of the bundles each signed.
func listTrust(e *env, keyring *trust.Keyring, args []string, asJSON bool) error {
	var bundles []*bundle.Bundle
	defer func() {
		for _, b := range bundles {
			b.Close()
		}
	}()
	for _, name := range args {
		list, err := store.OpenManifests(name, keyring,
			func(file string, err error) { e.complain("%s: %s", file, oneLine(err)) })
		if err != nil {
			return err
		}
		bundles = append(bundles, list...)
	}
	for _, k := range keyring.Keys {
		key := trustedKey{Key: k, Roles: append([]string{}, keyring.Roles(k)...), Bundles: []signedBundle{}}
		v, err := note.NewVerifier(k)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("%s+%08x", v.Name(), v.KeyHash())
		for _, b := range bundles {
			if slices.Contains(b.Signers, name) {
				key.Bundles = append(key.Bundles,
					signedBundle{b.Path(), b.Manifest.Name, b.Manifest.Sequence, len(b.Signers) == 1})
			}
		}
		if asJSON {
			if err := writeJSON(e.stdout, key); err != nil {
				return err
			}
			continue
		}
		fmt.Fprintln(e.stdout, strings.Join(append([]string{k}, key.Roles...), " "))
		for _, b := range key.Bundles {
			alone := ""
			if b.Alone {
				alone = ", this key alone"
			}
			fmt.Fprintf(e.stdout, "  %s: %s, sequence %d%s\n", b.File, b.Name, b.Sequence, alone)
		}
	}
	return nil
}
