package main

import (
	"context"
	"errors"
	"io/fs"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
)

func signCommand() *command {
	var keys []string
	var to, passphraseFile string
	var asJSON bool
	return &command{
		name:    "sign",
		summary: "add a signature to a bundle",
		usage: `
Usage: modmirror sign [flags] BUNDLE...

Adds a signature to those that a bundle has, in its file, or with --to beside it,
for media that cannot be written to: every command finds BUNDLE.sig. The bundle
must be signed by a trusted key already; verify it before you vouch for it. Its id
does not change. An interruption is repaired by the next run.

Example:
  modmirror verify --deep team.tar && modmirror sign --key approver.key team.tar
  modmirror sign --key ssh-agent:alice@example.com --to team.tar.sig team.tar
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringSliceVar(&keys, "key", nil, "signing key `file`, or ssh-agent:COMMENT (default key in the config folder)")
			fs.StringVar(&passphraseFile, "passphrase-file", "", "`file` with the passphrase of the key, - for stdin (default it is asked for)")
			fs.BoolVar(&asJSON, "json", false, "print a JSON object for each bundle")
			fs.StringVar(&to, "to", "", "`file` for the signature, or to add it to")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) == 0 || to != "" && len(args) != 1 {
				return usagef("want a bundle")
			}
			trust, err := e.trust(1)
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				keys = []string{e.keyFile()}
			}
			var signers []*bundle.Key
			for _, k := range keys {
				key, err := e.readKey(k, passphraseFile)
				if err != nil {
					return err
				}
				signers = append(signers, key)
			}
			for _, file := range args {
				var m bundle.Manifest
				var err error
				if to != "" {
					m, err = bundle.SignDetached(file, to, trust, signers...)
				} else {
					m, err = bundle.Sign(file, trust, signers...)
				}
				if errors.Is(err, fs.ErrPermission) && to == "" {
					return &hintError{err, "--to " + file + ".sig writes the signature beside it"}
				}
				if err != nil {
					return err
				}
				if asJSON {
					result := signResult{File: file, To: to, Name: m.Name, Sequence: m.Sequence, ID: m.ID()}
					for _, key := range signers {
						result.SignedBy = append(result.SignedBy, key.Verifier)
					}
					if err := writeJSON(e.stdout, result); err != nil {
						return err
					}
				}
				for _, key := range signers {
					e.say("%s: signed by %s+%08x: %s, sequence %d, id %.16s", file, key.Signer.Name(), key.Signer.KeyHash(), m.Name, m.Sequence, m.ID())
				}
			}
			return nil
		},
	}
}

// signResult is what sign prints of a bundle with --json.
type signResult struct {
	File     string   `json:"file"`
	To       string   `json:"to,omitempty"` // file of detached signatures
	Name     string   `json:"name"`
	Sequence int64    `json:"sequence"`
	ID       string   `json:"id"`
	SignedBy []string `json:"signedBy"` // public keys that signed now
}
