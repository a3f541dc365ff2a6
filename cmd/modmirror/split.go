package main

import (
	"context"
	"strings"

	"filippo.io/age"
	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/internal/assemble"
)

// packagingFlags are the flags that say how a bundle is written: in pieces, encrypted, or both.
type packagingFlags struct {
	split     string
	encryptTo []string
}

// flags adds the flags.
func (p *packagingFlags) flags(fs *pflag.FlagSet) {
	fs.StringVar(&p.split, "split", "", "write pieces of this `size` that cat joins: fat32, dvd, or such as 700M")
	fs.StringSliceVar(&p.encryptTo, "encrypt-to", nil, "encrypt the whole file to these `recipients`, age1…; only import reads it")
}

// parse returns what the flags say.
func (p *packagingFlags) parse() (out assemble.Packaging, err error) {
	if p.split != "" {
		if out.Piece, err = media.ParsePieceSize(p.split); err != nil {
			return out, usagef("--split: %v", err)
		}
	}
	for _, r := range p.encryptTo {
		list, err := age.ParseRecipients(strings.NewReader(r))
		if err != nil {
			return out, usagef("--encrypt-to %q: want an age recipient, age1…, as age-keygen prints it", r)
		}
		out.Recipients = append(out.Recipients, list...)
	}
	return out, nil
}

func splitCommand() *command {
	flags, s := new(packagingFlags), new(splitRun)
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
			fs.StringVarP(&s.output, "output", "o", "", "`name` of the pieces without .001 (default that of the bundle)")
			flags.flags(fs)
			s.guard.flags(fs)
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) != 1 {
				return usagef("want one bundle")
			}
			var err error
			if s.packaging, err = flags.parse(); err != nil {
				return err
			}
			if s.packaging.Plain() {
				return usagef("want --split SIZE, --encrypt-to RECIPIENT, or both")
			}
			return s.run(ctx, e, args[0])
		},
	}
}

// A splitRun is a run of split.
type splitRun struct {
	output    string // "" for a name made of that of the bundle
	guard     outputGuard
	packaging assemble.Packaging
}

// run writes the bundle in a file to the output.
func (s *splitRun) run(ctx context.Context, e *env, file string) error {
	b, err := openBundle(ctx, e, file) // the person carries nothing that import would refuse
	if err != nil {
		return err
	}
	b.Close()
	output := s.output
	if output == "" {
		output = strings.TrimSuffix(file, ".001")
		if len(s.packaging.Recipients) > 0 {
			output += assemble.AgeExt
		}
	}
	s.guard.reads(append(media.Pieces(file), file)...)
	if s.packaging.Piece > 0 {
		err = checkPieces(output)
	} else {
		err = s.guard.check(output, nil)
	}
	if err != nil {
		return err
	}
	in, size, err := media.OpenInput(file)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := s.packaging.Open(output, e.stdout)
	if err != nil {
		return err
	}
	defer out.Discard()
	bar := e.bar(size, "writing")
	err = assemble.Copy(ctx, out, in, bar.add)
	bar.done()
	if err != nil {
		return err
	}
	name, err := out.Commit()
	if err != nil {
		return err
	}
	e.say("wrote %s", name)
	return nil
}
