package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media/object"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/serve"
)

func publishCommand() *command {
	var to, endpoint string
	var static, allowRollback, asJSON bool
	var require string
	guard := new(outputGuard)
	return &command{
		name:    "publish",
		summary: "put bundles where many servers read them: S3-compatible storage, or a plain tree (inside)",
		usage: `
Usage: modmirror publish --to s3://BUCKET/PREFIX [flags] BUNDLE...|STORE
       modmirror publish --to DIR|s3://... --static [flags] BUNDLE|STORE

Verifies every byte of the bundles and uploads them, for modmirror serve
s3://BUCKET/PREFIX on any number of machines. Run it again to continue an interrupted
upload. The earlier bundles of a delta must be published first.

With --static it writes the files of a bundle, or of a store with one line, as a plain
GOPROXY tree for a web server or a CDN; in a bucket with Content-Type and
Cache-Control. It leaves the files that are there alone, so it brings a tree up to date.

Example:
  modmirror publish --to s3://modules/team team.tar
  modmirror publish --to /srv/www/go --static /srv/modmirror
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&to, "to", "", "`place` to publish to: s3://BUCKET/PREFIX or, with --static, a folder")
			endpointFlag(fs, &endpoint)
			fs.BoolVar(&static, "static", false, "write the files as a plain tree instead of uploading the bundle")
			fs.BoolVar(&allowRollback, "allow-rollback", false,
				"with --static: write an older bundle over a newer one, or one of another line")
			guard.flags(fs)
			fs.BoolVar(&asJSON, "json", false, "print JSON")
			requireFlag(fs, &require)
		},
		run: func(ctx context.Context, e *env, args []string) error {
			switch {
			case to == "":
				return usagef("want --to s3://BUCKET/PREFIX or, with --static, a folder")
			case len(args) == 0:
				return usagef("want a bundle or a store")
			case !static && !object.IsURL(to):
				return usagef("--to %s: bundles are published to s3://BUCKET/PREFIX; for a plain tree add --static", to)
			case static && len(args) > 1:
				return usagef("--static takes one bundle or store")
			}
			keyring, err := e.keyring(require)
			if err != nil {
				return err
			}
			p := &publisher{e: e, to: to, keyring: keyring, asJSON: asJSON}
			if static {
				tree := &serve.Static{Dir: to, AllowRollback: allowRollback, Overwrite: guard.Overwrite}
				if object.IsURL(to) {
					if tree.To, err = object.OpenTree(to, endpoint); err != nil {
						return usagef("%v", err)
					}
				}
				return p.tree(ctx, args[0], tree)
			}
			if p.bucket, err = object.Open(to, endpoint, nil); err != nil {
				return usagef("%v", err)
			}
			return p.bundles(ctx, args)
		},
	}
}

// A publisher puts bundles into a bucket, or their files into a plain tree.
type publisher struct {
	e       *env
	to      string         // as --to names it
	bucket  *object.Bucket // nil for a tree
	keyring *trust.Keyring
	asJSON  bool
}

// bundles uploads bundles, and all bundles of stores, by line and sequence.
func (p *publisher) bundles(ctx context.Context, args []string) error {
	var fronts []*bundle.Bundle
	for _, name := range args {
		found, err := store.OpenManifests(name, p.keyring,
			func(file string, err error) { p.e.complain("skipped %s: %v", file, err) })
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
		return errors.New("no bundle in it is signed by a trusted key")
	}
	slices.SortStableFunc(fronts, store.CompareLines)
	for _, front := range fronts {
		if err := p.bundle(ctx, front.Path()); err != nil {
			return err
		}
	}
	return nil
}

// bundle uploads a bundle, unless it is there already.
func (p *publisher) bundle(ctx context.Context, file string) error {
	b, err := bundle.Open(ctx, file, p.keyring, "")
	if err != nil {
		return err
	}
	defer b.Close()
	m := &b.Manifest
	bar := p.e.bar(2*m.Size, "verifying and uploading "+m.Name)
	err = store.Publish(ctx, b, p.bucket, p.keyring, bar.add)
	bar.done()
	if already, ok := errors.AsType[*store.AlreadyError](err); ok {
		p.e.say("%s is there already: %s", file, already.File)
		return p.result(publishResult{Name: m.Name, Sequence: m.Sequence, ID: m.ID(), To: already.File,
			Status: "already"})
	}
	if _, ok := errors.AsType[*bundle.MissingBaseError](err); ok {
		return &hint.Error{Err: fmt.Errorf("publishing %s: %w", file, err), Hint: "publish the earlier bundles of this line first, oldest first, or the store that has them"}
	}
	if err != nil {
		return fmt.Errorf("publishing %s: %w", file, err)
	}
	p.e.say("published %s, sequence %d, at %s: %s", m.Name, m.Sequence, p.bucket, bytesText(m.Size))
	return p.result(publishResult{Name: m.Name, Sequence: m.Sequence, ID: m.ID(), To: p.bucket.String(),
		Status: "published"})
}

// publishResult is what publish prints of a bundle, or of a tree, with --json.
type publishResult struct {
	Name     string `json:"name"`
	Sequence int64  `json:"sequence"`
	ID       string `json:"id"`
	To       string `json:"to"`
	Status   string `json:"status"`            // "published", or "already" if it was there
	Files    int64  `json:"files,omitempty"`   // of a tree
	Written  int64  `json:"written,omitempty"` // of those, by this run
}

// result prints a result with --json.
func (p *publisher) result(r publishResult) error {
	if !p.asJSON {
		return nil
	}
	return writeJSON(p.e.stdout, r)
}

// tree writes the plain tree of a bundle, or of a store with one line.
func (p *publisher) tree(ctx context.Context, name string, to *serve.Static) error {
	open := func() (*bundle.Bundle, error) { return bundle.Open(ctx, name, p.keyring, "") }
	if isFolder(name) {
		open = func() (*bundle.Bundle, error) { return store.OpenNewest(ctx, name, p.keyring) }
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
	bar := p.e.bar(bytes, "writing the tree of "+b.Manifest.Name)
	to.Wrote = func(_ string, size int64) { bar.add(size) }
	files, written, err := to.Publish(ctx, b)
	bar.done()
	if err != nil {
		return fmt.Errorf("publishing the tree of %s: %w", name, err)
	}
	p.e.say("the tree of %s, sequence %d, is at %s: %s, %d of them written now", b.Manifest.Name, b.Manifest.Sequence,
		p.to, number(files, "file"), written)
	return p.result(publishResult{b.Manifest.Name, b.Manifest.Sequence, b.ID(), p.to, "published", files, written})
}
