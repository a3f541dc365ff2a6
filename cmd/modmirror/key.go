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

	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/hint"
)

// agentPrefix begins the name of a key in ssh-agent: ssh-agent:COMMENT.
const agentPrefix = "ssh-agent"

// keyFlags are the flags of key.
type keyFlags struct {
	file, name, passphraseFile string
	protect, asJSON, asPEM     bool
}

func keyCommand() *command {
	f := new(keyFlags)
	return &command{
		name:    "key",
		summary: "make or show the signing key",
		usage: `
Usage: modmirror key new [--file FILE] [--name NAME] [--passphrase] [--pem]
       modmirror key show [--file FILE|ssh-agent:COMMENT] [--pem]

new makes an Ed25519 key that only you can read. show prints its public part, for those
who use your bundles: they trust it with modmirror trust add.

Example:
  modmirror key show
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&f.file, "file", "", "key `file` (default key in the config folder)")
			fs.StringVar(&f.name, "name", "", "`name` of a new key (default user@host)")
			fs.BoolVar(&f.protect, "passphrase", false, "ask for a passphrase, and protect a new key with it")
			fs.BoolVar(&f.asJSON, "json", false, "print JSON")
			fs.BoolVar(&f.asPEM, "pem", false, "print the public part as PEM, as openssl reads it")
			fs.StringVar(&f.passphraseFile, "passphrase-file", "",
				"protect a new key with the passphrase in a `file`, - for stdin")
		},
		run: func(_ context.Context, e *env, args []string) error {
			if len(args) != 1 || args[0] != "new" && args[0] != "show" {
				return usagef("want key new or key show")
			}
			if f.asJSON && f.asPEM {
				return usagef("want one of --json and --pem")
			}
			if f.file == "" {
				f.file = e.keyFile()
			}
			if strings.ContainsAny(f.name, " +\t\r\n") {
				return usagef("--name %q: no spaces and no plus", f.name)
			}
			show := showKey
			if args[0] == "new" {
				show = newKey
			}
			public, err := show(e, f)
			if err != nil {
				return err
			}
			switch {
			case f.asJSON:
				return writeJSON(e.stdout, keyResult{f.file, public})
			case f.asPEM:
				if public, err = trust.PEM(public); err != nil {
					return err
				}
				_, err = fmt.Fprint(e.stdout, public)
				return err
			}
			_, err = fmt.Fprintln(e.stdout, public)
			return err
		},
	}
}

// keyResult is what key prints with --json.
type keyResult struct {
	File string `json:"file"`
	Key  string `json:"key"` // public part
}

// newKey makes a key and returns its public part.
func newKey(e *env, f *keyFlags) (public string, err error) {
	var phrase []byte
	if f.protect || f.passphraseFile != "" {
		if phrase, err = e.newPassphrase(f.passphraseFile); err != nil {
			return "", err
		}
	}
	key, err := trust.NewKey(f.file, f.name, phrase)
	if errors.Is(err, fs.ErrExist) {
		return "", &hint.Error{Err: usagef("%v", err), Hint: "modmirror key show prints the public part of a key; to make another, name it with --file"}
	}
	if err != nil {
		return "", err
	}
	e.say("made %s", f.file)
	return key.Verifier, nil
}

// showKey returns the public part of a key in a file or in ssh-agent.
func showKey(e *env, f *keyFlags) (public string, err error) {
	if strings.HasPrefix(f.file, agentPrefix) {
		key, err := e.readKey(f.file, "")
		if err != nil {
			return "", err
		}
		return key.Verifier, nil
	}
	public, err = trust.PublicKey(f.file)
	if noSuchFile(err) {
		return "", &hint.Error{Err: fmt.Errorf("there is no key %s", f.file), Hint: "modmirror key new"}
	}
	return public, err
}

// newPassphrase asks for a passphrase twice or, if file is not empty, reads it from there.
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

// readKey reads a signing key from a file or finds it in ssh-agent. It asks for the passphrase of a
// protected key or, if passphraseFile is not empty, reads it from there.
func (e *env) readKey(name, passphraseFile string) (*trust.Key, error) {
	if name == agentPrefix || strings.HasPrefix(name, agentPrefix+":") {
		key, err := trust.AgentKey(strings.TrimPrefix(strings.TrimPrefix(name, agentPrefix), ":"))
		if err != nil {
			return nil, &hint.Error{Err: err, Hint: "ssh-add -l lists the agent's keys; --key ssh-agent:COMMENT names one, or ssh-agent:SHA256:FINGERPRINT"}
		}
		return key, nil
	}
	key, err := trust.ReadKey(name, func() ([]byte, error) {
		return e.passphrase(passphraseFile, "passphrase of "+name+": ")
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &hint.Error{Err: fmt.Errorf("there is no key %s", name), Hint: "modmirror key new --file " + name}
	}
	return key, err
}

// passphrase reads the first line of a file, "-" for stdin or, if file is empty, of the terminal.
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
		return nil, &hint.Error{Err: errors.New("the key has a passphrase, and there is no terminal to ask for it"), Hint: "--passphrase-file FILE reads it"}
	}
	defer tty.Close()
	fmt.Fprint(tty, prompt)
	defer fmt.Fprintln(tty)
	return term.ReadPassword(int(tty.Fd()))
}
