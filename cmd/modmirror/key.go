package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/term"

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
which those who use your bundles trust with: modmirror trust add.

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
				key, err := bundle.NewKey(file, name, phrase)
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
			public, err := bundle.PublicKey(file)
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

// agentPrefix begins a --key that is in ssh-agent.
const agentPrefix = "ssh-agent"

// readKey reads a key from a file, or finds it in ssh-agent.
func (e *env) readKey(name, passphraseFile string) (*bundle.Key, error) {
	if name == agentPrefix || strings.HasPrefix(name, agentPrefix+":") {
		key, err := bundle.AgentKey(strings.TrimPrefix(strings.TrimPrefix(name, agentPrefix), ":"))
		if err != nil {
			return nil, &hintError{err, "ssh-add -l lists the agent's keys; --key ssh-agent:COMMENT names one, or ssh-agent:SHA256:FINGERPRINT"}
		}
		return key, nil
	}
	key, err := bundle.ReadKey(name, func() ([]byte, error) { return e.passphrase(passphraseFile, "passphrase of "+name+": ") })
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &hintError{fmt.Errorf("there is no key %s", name), "modmirror key new --file " + name}
	}
	return key, err
}

// passphrase reads a passphrase from a file or, without one, from the terminal.
func (e *env) passphrase(file, prompt string) ([]byte, error) {
	if file != "" {
		var data []byte
		var err error
		if file == "-" {
			data = make([]byte, 4096)
			var n int
			n, err = e.stdin.Read(data)
			data = data[:n]
		} else {
			data, err = os.ReadFile(file)
		}
		if err != nil {
			return nil, fmt.Errorf("reading the passphrase: %w", err)
		}
		line, _, _ := bytes.Cut(data, []byte("\n"))
		return bytes.TrimSuffix(line, []byte("\r")), nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, &hintError{errors.New("the key has a passphrase, and there is no terminal to ask for it"), "--passphrase-file FILE reads it"}
	}
	defer tty.Close()
	fmt.Fprint(tty, prompt)
	defer fmt.Fprintln(tty)
	return term.ReadPassword(int(tty.Fd()))
}
