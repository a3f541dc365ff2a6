package main

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/report"
)

func reportCommand() *command {
	var base, output string
	var policies []string
	var asJSON bool
	guard := new(outputGuard)
	var api bool
	in := report.Input{}
	return &command{
		name:    "report",
		summary: "make a page about what a bundle brings, for who signs or accepts it",
		usage: `
Usage: modmirror report [flags] BUNDLE

Says what a bundle brings: modules that are new, changed and gone; for each the license,
vulnerabilities that come and go, what its code can do that it could not, retractions,
its age, and what brings it in. What is against a policy comes first, and what there is
nothing to say about last. The same bundles make the same report.

Without --base the bundle is compared with what its line had before. What code can do is
what the index says, as the signer found it; --scan reads the zips. With --api it also
says how what changed modules export differs: see modmirror diff.

Example:
  modmirror report --base team-1.tar -o report.html team-2.tar
  modmirror report --base team-1.tar --policy policy.txt team-2.tar | less
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&base, "base", "", "compare with this `bundle`, or the newest of a store")
			fs.StringVarP(&output, "output", "o", "", "`file` to write: .html, .json or text (default text on stdout)")
			fs.StringArrayVar(&policies, "policy", nil, "compare with the policy in this `file` too")
			scanFlag(fs, &in.Scan)
			fs.BoolVar(&api, "api", false, "compare what changed modules export, which reads their zips")
			fs.BoolVar(&asJSON, "json", false, "print JSON")
			guard.flags(fs)
		},
		run: func(ctx context.Context, e *env, args []string) error {
			reviewMemory()
			if api {
				in.API = apiJob.run
			}
			var err error
			if in.Policy, err = readPolicy(policies, nil); err != nil {
				return err
			}
			if in.Now, err = creationTime(); err != nil {
				return err
			}
			b, err := oneBundle(ctx, e, args)
			if err != nil {
				return err
			}
			defer b.Close()
			in.Subject = review.Signed(b)
			if base != "" {
				if in.Base, err = openBundle(ctx, e, base); err != nil {
					return err
				}
				defer in.Base.Close()
			}
			guard.reads(slices.Concat([]string{args[0], base, e.keyFile(), e.trustFile()}, policies)...)
			r, err := report.Make(ctx, in)
			if err != nil {
				return err
			}
			if output == "" || output == "-" {
				return writeReport(e.stdout, r, output, asJSON)
			}
			if err := guard.check(output, isReport); err != nil {
				return err
			}
			f, err := safefile.Create(output, 0o666)
			if err != nil {
				return err
			}
			defer f.Discard()
			if err := writeReport(f, r, output, asJSON); err != nil {
				return err
			}
			if err := f.Commit(); err != nil {
				return err
			}
			e.say("wrote %s: %s", output, r.Verdict())
			return nil
		},
	}
}

// isReport returns an error when a file is not a report.
func isReport(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	begin := make([]byte, 512)
	n, _ := io.ReadFull(f, begin)
	text := string(begin[:n])
	page := strings.HasPrefix(text, "<!DOCTYPE html>") &&
		strings.Contains(text, `<meta name="generator" content="`+report.Mark+`">`)
	object := strings.HasPrefix(text, "{\n  \"generator\": \""+report.Mark+"\"")
	if page || object || strings.HasPrefix(text, report.Mark+": ") {
		return nil
	}
	return errors.New("it is not a report")
}

// writeReport writes a report in the form that a file's name asks for.
func writeReport(w io.Writer, r *report.Report, name string, asJSON bool) error {
	switch ext := strings.ToLower(filepath.Ext(name)); {
	case asJSON, ext == ".json":
		return r.JSON(w)
	case ext == ".html", ext == ".htm":
		return r.HTML(w)
	}
	return r.Text(w)
}
