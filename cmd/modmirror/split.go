package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"filippo.io/age"
	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/safefile"
)

// A packaging is how a bundle is written: as it is, in pieces, encrypted, or both.
type packaging struct {
	split     string
	encryptTo []string

	piece      int64
	recipients []age.Recipient
}

func (p *packaging) flags(fs *pflag.FlagSet) {
	fs.StringVar(&p.split, "split", "", "write pieces of this `size` that cat joins: fat32, dvd, or such as 700M")
	fs.StringSliceVar(&p.encryptTo, "encrypt-to", nil, "encrypt the whole file to these `recipients`, age1…; only import reads it")
}

// parse checks the flags.
func (p *packaging) parse() (err error) {
	if p.split != "" {
		if p.piece, err = media.ParsePieceSize(p.split); err != nil {
			return usagef("--split: %v", err)
		}
	}
	for _, r := range p.encryptTo {
		list, err := age.ParseRecipients(strings.NewReader(r))
		if err != nil {
			return usagef("--encrypt-to %q: want an age recipient, age1…, as age-keygen prints it", r)
		}
		p.recipients = append(p.recipients, list...)
	}
	return nil
}

// plain reports whether a bundle is written as it is.
func (p *packaging) plain() bool { return p.piece == 0 && len(p.recipients) == 0 }

// A sink takes the bytes of a bundle.
type sink struct {
	io.Writer
	name    string                 // for messages
	commit  func() (string, error) // makes what was written visible, and says what it is called
	discard func()                 // does nothing after commit
}

// open begins to write name, - for stdout.
func (p *packaging) open(name string, stdout io.Writer) (*sink, error) {
	s := &sink{name: name}
	switch {
	case name == "-" && p.piece > 0:
		return nil, usagef("--split writes files: name them with -o")
	case name == "-":
		s.Writer, s.name = stdout, "stdout"
		s.commit, s.discard = func() (string, error) { return "stdout", nil }, func() {}
	case p.piece > 0:
		v, err := media.NewVolumes(name, p.piece)
		if err != nil {
			return nil, err
		}
		s.Writer, s.discard = v, v.Discard
		s.commit = func() (string, error) {
			return fmt.Sprintf("%s.001 and so on, %s, and their list %[1]s.sha256", name, number(v.Pieces(), "piece")), v.Commit()
		}
	default:
		f, err := safefile.Create(name, 0o666)
		if err != nil {
			return nil, err
		}
		s.Writer, s.discard = f, f.Discard
		s.commit = func() (string, error) { return name, f.Commit() }
	}
	if len(p.recipients) == 0 {
		return s, nil
	}
	w, err := age.Encrypt(s.Writer, p.recipients...)
	if err != nil {
		s.discard()
		return nil, err
	}
	s.Writer = w
	commit := s.commit
	s.commit = func() (string, error) {
		if err := w.Close(); err != nil {
			return "", err
		}
		return commit()
	}
	return s, nil
}

func splitCommand() *command {
	var output string
	p, guard := new(packaging), new(outputGuard)
	return &command{
		name:    "split",
		summary: "write a bundle in pieces, or encrypted, for the media at hand",
		usage: `
Usage: modmirror split [flags] BUNDLE

Writes NAME.001, NAME.002 and so on, which cat joins, with a list NAME.sha256
that sha256sum -c checks. Every command reads the pieces where they are: name the
first one. import takes them one disk at a time. Sign a bundle before it is split.

Example:
  modmirror split --split fat32 -o /media/usb/team.tar team.tar
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVarP(&output, "output", "o", "", "`name` of the pieces without .001 (default that of the bundle)")
			p.flags(fs)
			guard.flags(fs)
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) != 1 {
				return usagef("want one bundle")
			}
			if err := p.parse(); err != nil {
				return err
			}
			if p.plain() {
				return usagef("want --split SIZE, --encrypt-to RECIPIENT, or both")
			}
			b, err := openBundle(ctx, e, args[0]) // nobody carries what is refused there
			if err != nil {
				return err
			}
			b.Close()
			if output == "" {
				output = strings.TrimSuffix(args[0], ".001")
				if len(p.recipients) > 0 {
					output += ageExt
				}
			}
			guard.reads(append(media.Pieces(args[0]), args[0])...)
			if p.piece > 0 {
				err = checkPieces(output)
			} else {
				err = guard.check(output, nil)
			}
			if err != nil {
				return err
			}
			in, size, err := media.OpenInput(args[0])
			if err != nil {
				return err
			}
			defer in.Close()
			out, err := p.open(output, e.stdout)
			if err != nil {
				return err
			}
			defer out.discard()
			if err := e.copy(ctx, out, in, size, "writing"); err != nil {
				return err
			}
			name, err := out.commit()
			if err != nil {
				return err
			}
			e.say("wrote %s", name)
			return nil
		},
	}
}

// ageExt ends the name of an encrypted bundle.
const ageExt = ".age"

// copy copies under a progress bar, until it is interrupted.
func (e *env) copy(ctx context.Context, w io.Writer, r io.Reader, size int64, what string) error {
	bar := e.bar(size, what)
	defer bar.done()
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		bar.add(int64(n))
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// readIdentities reads the files of age identities with which an encrypted bundle is opened.
func readIdentities(files []string) (ids []age.Identity, err error) {
	for _, name := range files {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		list, err := age.ParseIdentities(f)
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("%s: not a file of age identities: %w", name, err)
		}
		ids = append(ids, list...)
	}
	return ids, nil
}

// decrypt returns what is in an encrypted bundle.
func decrypt(name string, r io.Reader, ids []age.Identity) (io.Reader, error) {
	if len(ids) == 0 {
		return nil, &hintError{fmt.Errorf("%s is encrypted", name), "--identity FILE names the age identity that opens it"}
	}
	plain, err := age.Decrypt(bundle.AgeReader(r), ids...)
	if _, wrong := errors.AsType[*age.NoIdentityMatchError](err); wrong {
		return nil, &hintError{fmt.Errorf("%s is encrypted to other identities than the given ones", name), "--identity FILE names the age identity that opens it"}
	}
	if err != nil {
		return nil, &bundle.NotVerifiedError{What: name, Err: err}
	}
	return &decrypted{plain, name}, nil
}

// decrypted has what age does not accept be a failure of verification.
type decrypted struct {
	r    io.Reader
	name string
}

func (d *decrypted) Read(p []byte) (int, error) {
	n, err := d.r.Read(p)
	var path *fs.PathError
	if err != nil && err != io.EOF && !errors.As(err, &path) { // but for what the disk says
		err = &bundle.NotVerifiedError{What: d.name, Err: err}
	}
	return n, err
}
