package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/bucket"
	"github.com/modmirror/modmirror/serve"
)

func publishCommand() *command {
	var to, endpoint string
	var static, allowRollback, asJSON bool
	var require int
	guard := new(outputGuard)
	return &command{
		name:    "publish",
		summary: "put bundles where many servers read them: S3-compatible storage, or a plain tree (inside)",
		usage: `
Usage: modmirror publish --to s3://BUCKET/PREFIX [flags] BUNDLE...|STORE
       modmirror publish --to DIR|s3://... --static [flags] BUNDLE|STORE

Uploads bundles, every byte verified first, for modmirror serve s3://BUCKET/PREFIX
on any number of machines. An upload that was broken off goes on when it is run
again. A delta needs the bundles before it there.

With --static it writes the files of a bundle, or of a store's one line, as a plain
GOPROXY tree for a web server or a CDN; in a bucket with Content-Type and
Cache-Control. What is there is left alone, so it brings a tree up to date.

Example:
  modmirror publish --to s3://modules/team team.tar
  modmirror publish --to /srv/www/go --static /srv/modmirror
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&to, "to", "", "s3://BUCKET/PREFIX or, for --static, a folder: the `place`")
			endpointFlag(fs, &endpoint)
			fs.BoolVar(&static, "static", false, "write the files as a plain tree instead of the bundle")
			fs.BoolVar(&allowRollback, "allow-rollback", false, "with --static: write an older bundle over a newer one, or one of another line")
			guard.flags(fs)
			fs.BoolVar(&asJSON, "json", false, "print JSON")
			requireFlag(fs, &require)
		},
		run: func(ctx context.Context, e *env, args []string) error {
			switch {
			case to == "":
				return usagef("--to says where to publish")
			case len(args) == 0:
				return usagef("want a bundle or a store")
			case !static && !bucket.IsURL(to):
				return usagef("--to %s: bundles are published to s3://BUCKET/PREFIX; for a plain tree add --static", to)
			case static && len(args) > 1:
				return usagef("--static takes one bundle or store")
			}
			trust, err := e.trust(require)
			if err != nil {
				return err
			}
			var b *bucket.Bucket
			if bucket.IsURL(to) {
				if b, err = bucket.Open(to, endpoint); err != nil {
					return usagef("%v", err)
				}
			}
			if static {
				return e.publishStatic(ctx, asJSON, &serve.Static{Dir: to, Bucket: b, AllowRollback: allowRollback, Overwrite: guard.overwrite}, args[0], to, trust)
			}
			return e.publish(ctx, asJSON, b, args, trust)
		},
	}
}

// publish uploads bundles, and those of stores, in the order of their lines.
func (e *env) publish(ctx context.Context, asJSON bool, to *bucket.Bucket, args []string, trust *bundle.Trust) error {
	var fronts []*bundle.Bundle
	for _, name := range args {
		found, err := bundle.Fronts(name, trust, func(file string, err error) { e.complain("passed over %s: %v", file, err) })
		if err != nil {
			return err
		}
		fronts = append(fronts, found...)
	}
	defer func() {
		for _, f := range fronts {
			f.Close()
		}
	}()
	if len(fronts) == 0 {
		return errors.New("no bundle there that can be believed")
	}
	slices.SortStableFunc(fronts, bundle.CompareLines)
	for _, front := range fronts {
		if err := e.publishOne(ctx, asJSON, front.Path(), to, trust); err != nil {
			return err
		}
	}
	return nil
}

// publishOne uploads a bundle.
func (e *env) publishOne(ctx context.Context, asJSON bool, file string, to *bucket.Bucket, trust *bundle.Trust) error {
	b, err := bundle.Open(ctx, file, trust, "")
	if err != nil {
		return err
	}
	defer b.Close()
	m := &b.Manifest
	bar := e.bar(2*m.Size, "verifying and uploading "+m.Name)
	err = bundle.Publish(ctx, b, to, trust, bar.add)
	bar.done()
	if already, ok := errors.AsType[*bundle.AlreadyError](err); ok {
		e.say("%s is there already: %s", file, already.File)
		return e.published(asJSON, publishResult{Name: m.Name, Sequence: m.Sequence, ID: m.ID(), To: already.File, Status: "already"})
	}
	if _, ok := errors.AsType[*bundle.MissingBaseError](err); ok {
		return &hintError{fmt.Errorf("publishing %s: %w", file, err), "publish the bundles before it first, or the store that has them"}
	}
	if err != nil {
		return fmt.Errorf("publishing %s: %w", file, err)
	}
	e.say("published %s, sequence %d, at %s: %s", m.Name, m.Sequence, to, bytesText(m.Size))
	return e.published(asJSON, publishResult{Name: m.Name, Sequence: m.Sequence, ID: m.ID(), To: to.String(), Status: "published"})
}

// publishResult is what publish prints of a bundle, or of a tree, with --json.
type publishResult struct {
	Name     string `json:"name"`
	Sequence int64  `json:"sequence"`
	ID       string `json:"id"`
	To       string `json:"to"`
	Status   string `json:"status"`            // "published", or "already" when it was there
	Files    int64  `json:"files,omitempty"`   // of a tree
	Written  int64  `json:"written,omitempty"` // of these, now
}

func (e *env) published(asJSON bool, r publishResult) error {
	if !asJSON {
		return nil
	}
	return writeJSON(e.stdout, r)
}

// publishStatic writes the plain tree of a bundle or of a store's line.
func (e *env) publishStatic(ctx context.Context, asJSON bool, to *serve.Static, name, place string, trust *bundle.Trust) error {
	open := func() (*bundle.Bundle, error) { return bundle.Open(ctx, name, trust, "") }
	if st, err := os.Stat(name); err == nil && st.IsDir() {
		open = func() (*bundle.Bundle, error) { return bundle.OpenNewest(ctx, name, trust) }
	}
	b, err := open()
	if err != nil {
		return err
	}
	defer b.Close()
	bytes := int64(0)
	if err := b.EachFile(ctx, func(f index.File, _ *io.SectionReader) error {
		bytes += f.Size
		return nil
	}); err != nil {
		return err
	}
	bar := e.bar(bytes, "writing the tree of "+b.Manifest.Name)
	to.Wrote = func(_ string, size int64) { bar.add(size) }
	files, written, err := to.Publish(ctx, b)
	bar.done()
	if err != nil {
		return fmt.Errorf("publishing the tree of %s: %w", name, err)
	}
	e.say("the tree of %s, sequence %d, is at %s: %s, %d of them written now", b.Manifest.Name, b.Manifest.Sequence, place, number(files, "file"), written)
	return e.published(asJSON, publishResult{b.Manifest.Name, b.Manifest.Sequence, b.ID(), place, "published", files, written})
}
