package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/bundle"
)

func keyCommand() *command {
	var file, name, passphraseFile string
	var protect, asJSON bool
	return &command{
		name:    "key",
		summary: "make or show the signing key",
		usage: `
Usage: modmirror key new [--file FILE] [--name NAME] [--passphrase]
       modmirror key show [--file FILE|ssh-agent:COMMENT]

new makes an Ed25519 key, readable by you alone. show prints its public part,
which those who use your bundles keyring with: modmirror keyring add.

Example:
  modmirror key show
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&file, "file", "", "key `file` (default key in the config folder)")
			fs.StringVar(&name, "name", "", "`name` of a new key (default user@host)")
			fs.BoolVar(&protect, "passphrase", false, "protect a new key with a passphrase, which is asked for")
			fs.BoolVar(&asJSON, "json", false, "print JSON")
			fs.StringVar(&passphraseFile, "passphrase-file", "", "protect it with the passphrase in a `file`, - for stdin")
		},
		run: func(_ context.Context, e *env, args []string) error {
			if len(args) != 1 || args[0] != "new" && args[0] != "show" {
				return usagef("want key new or key show")
			}
			if file == "" {
				file = e.keyFile()
			}
			if strings.ContainsAny(name, " +\t\r\n") {
				return usagef("--name %q: no spaces and no plus", name)
			}
			if args[0] == "new" {
				var phrase []byte
				if protect || passphraseFile != "" {
					var err error
					if phrase, err = e.newPassphrase(passphraseFile); err != nil {
						return err
					}
				}
				key, err := trust.NewKey(file, name, phrase)
				if errors.Is(err, fs.ErrExist) {
					return &hintError{usagef("%v", err), "modmirror key show prints the public part of a key; to make another, name it with --file"}
				}
				if err != nil {
					return err
				}
				e.say("made %s", file)
				return e.showKey(file, key.Verifier, asJSON)
			}
			if strings.HasPrefix(file, agentPrefix) {
				key, err := e.readKey(file, "")
				if err != nil {
					return err
				}
				return e.showKey(file, key.Verifier, asJSON)
			}
			public, err := trust.PublicKey(file)
			if noSuchFile(err) {
				return &hintError{fmt.Errorf("there is no key %s", file), "modmirror key new"}
			}
			if err != nil {
				return err
			}
			return e.showKey(file, public, asJSON)
		},
	}
}

// showKey prints the public part of a key.
func (e *env) showKey(file, public string, asJSON bool) error {
	if asJSON {
		return writeJSON(e.stdout, struct {
			File string `json:"file"`
			Key  string `json:"key"`
		}{file, public})
	}
	_, err := fmt.Fprintln(e.stdout, public)
	return err
}

// newPassphrase asks for a passphrase twice, or reads it from a file.
func (e *env) newPassphrase(file string) ([]byte, error) {
	phrase, err := e.passphrase(file, "new passphrase: ")
	if err == nil && len(phrase) == 0 {
		err = errors.New("the passphrase is empty")
	}
	if err != nil || file != "" {
		return phrase, err
	}
	again, err := e.passphrase("", "once more: ")
	if err == nil && !bytes.Equal(phrase, again) {
		err = errors.New("the two passphrases differ")
	}
	return phrase, err
}

// trust returns the trusted keys, of which so many must have signed a bundle.
func (e *env) keyring(require int) (*trust.Keyring, error) {
	if require < 1 {
		return nil, usagef("--require %d: want 1 or more", require)
	}
	keyring, err := trust.Read(e.trustFile())
	if err == nil {
		keyring.Require = require
	}
	return keyring, err
}

// requireFlag adds the flag that says how many keys must have signed.
func requireFlag(fs *pflag.FlagSet, require *int) {
	fs.IntVar(require, "require", 1, "how `many` of the trusted keys must have signed, each public key counted once")
}

func trustCommand() *command {
	var asJSON bool
	return &command{
		name:    "trust",
		summary: "say whose bundles are believed here",
		usage: `
Usage: modmirror keyring add KEY|FILE
       modmirror keyring list [BUNDLE|STORE...]
       modmirror keyring remove NAME|KEY

A bundle is opened only when a trusted key signed it. Get the key from the one
who makes the bundles, by a way that you keyring. With bundles or stores, list says
for which of them each key vouches, and which nobody else would vouch for if it were removed.

Example:
  modmirror keyring add team.pub
`,
		flags: func(fs *pflag.FlagSet) { fs.BoolVar(&asJSON, "json", false, "list: print a JSON object for each key") },
		run: func(_ context.Context, e *env, args []string) error {
			keyring, err := trust.Read(e.trustFile())
			if err != nil {
				return err
			}
			switch {
			case len(args) == 2 && args[0] == "add":
				keys := []string{args[1]}
				if _, err := os.Stat(args[1]); err == nil {
					list, err := trust.Read(args[1])
					if err != nil {
						return &hintError{usagef("%v", err), "want a key as modmirror key show prints it, or a file of such keys, one a line"}
					}
					if keys = list.Keys; len(keys) == 0 {
						return fmt.Errorf("%s: there is no key in it", args[1])
					}
				}
				for _, key := range keys {
					added, err := keyring.Add(key)
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

// listTrust prints the trusted keys, and for which bundles each vouches.
func listTrust(e *env, keyring *trust.Keyring, args []string, asJSON bool) error {
	var bundles []*bundle.Bundle
	defer func() {
		for _, b := range bundles {
			b.Close()
		}
	}()
	for _, name := range args {
		list, err := bundle.Fronts(name, keyring, func(file string, err error) { e.complain("%s: %s", file, oneLine(err)) })
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
	for _, k := range keyring.Keys {
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
