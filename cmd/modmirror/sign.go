package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/policy"
)

func signCommand() *command {
	var keys []string
	var to, passphraseFile string
	var asJSON bool
	var judged policyFlags
	return &command{
		name:    "sign",
		summary: "add a signature to a bundle",
		usage: `
Usage: modmirror sign [flags] BUNDLE...

Adds a signature to a bundle that a trusted key has signed. Verify it before you sign
it. The bundle's id does not change. The next run repairs an interrupted one. It first
says what in the bundle has known vulnerabilities; with --policy it signs nothing that is
against a policy. modmirror report tells more.

With --to the signature goes to another file, for media that cannot be written to.
Every command finds it in BUNDLE.sig.

Example:
  modmirror verify --deep team.tar && modmirror sign --key approver.key team.tar
  modmirror sign --policy policy.txt --key approver.key team.tar
  modmirror sign --key ssh-agent:alice@example.com --to team.tar.sig team.tar
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringSliceVar(&keys, "key", nil,
				"signing key `file`, or ssh-agent:COMMENT (default key in the config folder)")
			fs.StringVar(&passphraseFile, "passphrase-file", "",
				"`file` with the passphrase of the key, - for stdin (default it is asked for)")
			fs.BoolVar(&asJSON, "json", false, "print a JSON object for each bundle")
			fs.StringVar(&to, "to", "", "`file` to write the signature to, or to add it to")
			judged.flags(fs, "see modmirror policy --help")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) == 0 || to != "" && len(args) != 1 {
				return usagef("want a bundle")
			}
			keyring, err := e.keyring(oneKey)
			if err != nil {
				return err
			}
			if len(keys) == 0 {
				keys = []string{e.keyFile()}
			}
			rules, err := readPolicy(judged.files, nil)
			if err != nil {
				return err
			}
			for _, file := range args {
				if err := judged.beforeSigning(ctx, e, rules, file); err != nil {
					return err
				}
			}
			var signers []*trust.Key
			for _, k := range keys {
				key, err := e.readKey(k, passphraseFile)
				if err != nil {
					return err
				}
				signers = append(signers, key)
			}
			for _, file := range args {
				m, err := sign(file, to, keyring, signers)
				if err != nil {
					return err
				}
				if asJSON {
					if err := writeJSON(e.stdout, newSignResult(file, to, m, signers)); err != nil {
						return err
					}
				}
				for _, key := range signers {
					e.say("%s: signed by %s+%08x: %s, sequence %d, id %.16s", file, key.Signer.Name(),
						key.Signer.KeyHash(), m.Name, m.Sequence, m.ID())
				}
			}
			return nil
		},
	}
}

// beforeSigning says what there is to know about a bundle, and compares it with a policy, which may be
// empty. Without a policy a bundle that cannot be opened is no reason to stop: sign repairs one whose
// signing was interrupted.
func (f *policyFlags) beforeSigning(ctx context.Context, e *env, p *policy.Policy, file string) error {
	reviewMemory()
	b, err := openBundle(ctx, e, file)
	if err != nil {
		if p.Empty() && ctx.Err() == nil {
			return nil
		}
		return err
	}
	defer b.Close()
	made, err := readProvenance(ctx, e, b)
	if err != nil {
		return err
	}
	for _, text := range madeLines(made) {
		e.say("%s", text)
	}
	found, err := review.CarriedVulns(ctx, b)
	e.sayVulns(found, err)
	if p.Empty() || ctx.Err() != nil {
		return ctx.Err()
	}
	r, err := judge(ctx, p, b)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	e.sayPolicy(r)
	return f.refuse(e, r, "sign", file+" was not signed")
}

// sign adds signatures to a bundle, in its file or, if to is not empty, in that file.
func sign(file, to string, keyring *trust.Keyring, signers []*trust.Key) (bundle.Manifest, error) {
	if to != "" {
		return bundle.SignDetached(file, to, keyring, signers...)
	}
	m, err := bundle.Sign(file, keyring, signers...)
	if errors.Is(err, fs.ErrPermission) {
		err = &hint.Error{Err: err, Hint: "--to " + file + ".sig writes the signature beside it"}
	}
	return m, err
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

func newSignResult(file, to string, m bundle.Manifest, signers []*trust.Key) signResult {
	r := signResult{File: file, To: to, Name: m.Name, Sequence: m.Sequence, ID: m.ID()}
	for _, key := range signers {
		r.SignedBy = append(r.SignedBy, key.Verifier)
	}
	return r
}
