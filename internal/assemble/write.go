package assemble

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/mirror"
)

// Written describes a bundle that a run has written.
type Written struct {
	Where    string // name of the file for people, such as "stdout" or that of the pieces
	Manifest bundle.Manifest
	Key      *trust.Key // that signed it

	contents string // digest of what is in it, for the lock
	index    string // SHA-256 of its index without review documents, for the lock
}

// A Rehearsal says which bundle is rehearsed, and for what.
type Rehearsal struct {
	Bundle   string   // file
	Bases    []string // files of the other bundles of its line
	Keys     []string // that signed the bundles, as in trust.Key.Verifier
	Sources  *mirror.Job
	Contents *bundle.Contents
	Dir      string // for temporary files; the run removes it
	Output   string // absolute path at which the bundle will be
}

// A missedError is the error of a rehearsal that asked for what the bundle does not have.
type missedError struct {
	misses []string // GOPROXY paths
	err    error
}

func (e *missedError) Error() string { return e.err.Error() }
func (e *missedError) Unwrap() error { return e.err }

// Write writes the bundle of a closure that the mirror has, which lacks the files in missing: first
// into a temporary file, which is rehearsed, then signed by key, then renamed. It writes nothing
// when the bundle is not that of the lock.
func (r *Run) Write(
	ctx context.Context, c *mirror.Closure, missing []mirror.Missing, key *trust.Key,
) (*Written, error) {
	w, err := r.write(ctx, c, missing, key)
	if changed, ok := errors.AsType[*bundle.ChangedError](err); ok {
		os.Remove(changed.File) // the next run fetches it again
		return nil, hint.Add(fmt.Errorf("%w: %w", err, proof.ErrMismatch),
			"the file was removed from the mirror directory: run sync again")
	}
	return w, err
}

// write is Write but for the hint about a file that changed.
func (r *Run) write(
	ctx context.Context, c *mirror.Closure, missing []mirror.Missing, key *trust.Key,
) (*Written, error) {
	contents, err := r.contents(c, missing)
	if err != nil {
		return nil, err
	}
	w := &Written{Key: key}
	if w.contents, err = contents.Digest(); err != nil {
		return nil, err
	}
	sameIndex, err := r.checkContents(c, w.contents)
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "modmirror-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	d := &Draft{Contents: contents, Sources: &r.asked, Key: key, Tmp: tmp}
	d.Draft, err = bundle.NewDraft(ctx, contents, tmp)
	if need, ok := errors.AsType[*bundle.NeedError](err); ok {
		return nil, hint.Add(err, "add a line to the list: only %s@%s", need.Module, need.Query)
	}
	if err != nil {
		return nil, err
	}
	w.index = hex.EncodeToString(d.Manifest.Index[:])
	if sameIndex && r.lock.Index != w.index {
		return nil, otherLock(errNotOfLock)
	}
	r.sayDropped(contents)
	if r.o.Review != nil {
		if err := r.o.Review(ctx, d); err != nil {
			return nil, err
		}
	}
	w.Manifest = d.Manifest
	if r.o.Rehearse == nil {
		w.Where, err = r.pack(func(s *Sink) error { return d.Write(ctx, s.Writer, key) })
	} else {
		w.Where, err = r.writeRehearsed(ctx, d, key)
	}
	if err != nil {
		return nil, err
	}
	r.o.Report.Wrote(w)
	return w, nil
}

// A Draft is a bundle that is not signed yet.
type Draft struct {
	*bundle.Draft
	Contents *bundle.Contents
	Sources  *mirror.Job // as they were named
	Key      *trust.Key  // that will sign it
	Tmp      string      // folder for temporary files
}

// contents returns what goes into the bundle.
func (r *Run) contents(c *mirror.Closure, missing []mirror.Missing) (*bundle.Contents, error) {
	out, err := newContents(c, missing, r.dir.Path)
	if err != nil {
		return nil, err
	}
	out.Name, out.Sequence, out.Created = r.name, r.sequence, r.created
	if r.o.Full {
		out.Whole = r.bases.own
	} else {
		out.Base = r.bases.own
	}
	if drop := patterns(r.o.Drop); drop != nil {
		out.DropUnused = slices.Contains(drop, dropUnused)
		out.Drop = func(path, version string) bool {
			return !r.bases.kept[module.Version{Path: path, Version: version}] && drop.match(path, version)
		}
	}
	out.Retracted = func(path, version string) (*string, bool) {
		reason, is, known := c.Retraction(path, version)
		if !is {
			return nil, known
		}
		return &reason, known
	}
	return out, nil
}

// pack writes the output, in pieces or encrypted if that is asked for. write writes the bytes. pack
// returns the name of the output for people.
func (r *Run) pack(write func(*Sink) error) (where string, err error) {
	s, err := r.o.Package.Open(r.output, r.o.Stdout)
	if err != nil {
		return "", err
	}
	defer s.Discard()
	if err := write(s); err != nil {
		return "", fmt.Errorf("writing %s: %w", s.Name, err)
	}
	return s.Commit()
}

// writeRehearsed writes a draft, rehearses it, signs it, and makes it visible under its name. The
// signature of a key that nobody trusts stands in it until the rehearsal has passed.
func (r *Run) writeRehearsed(ctx context.Context, d *Draft, key *trust.Key) (where string, err error) {
	name := r.output
	if name == "-" {
		name = filepath.Join(d.Tmp, "bundle.tar")
	}
	out, err := safefile.Create(name, 0o666)
	if err != nil {
		return "", err
	}
	defer out.Discard()
	first, err := trust.EphemeralKey("rehearsal")
	if err != nil {
		return "", err
	}
	if err := d.Write(ctx, out, first); err != nil {
		return "", fmt.Errorf("writing %s: %w", r.output, err)
	}
	if err := r.rehearse(ctx, d, out.Name(), first); err != nil {
		return "", err
	}
	if err := bundle.Resign(out, d.Manifest, key); err != nil {
		return "", err
	}
	if r.output != "-" && r.o.Package.Plain() {
		return r.output, out.Commit()
	}
	return r.pack(func(s *Sink) error {
		if _, err := out.Seek(0, io.SeekStart); err != nil {
			return err
		}
		add, stop := r.o.Report.Writing(d.Manifest.Size)
		defer stop()
		return Copy(ctx, s, out, add)
	})
}

// rehearse rehearses a draft in a file, signed by key. Others may use the mirror directory
// meanwhile: all that is needed is in the bundle.
func (r *Run) rehearse(ctx context.Context, d *Draft, file string, key *trust.Key) (err error) {
	if err := r.dir.release(); err != nil {
		return err
	}
	x := Rehearsal{Bundle: file, Keys: []string{key.Verifier}, Sources: &r.asked, Contents: d.Contents, Dir: d.Tmp}
	if x.Output, err = filepath.Abs(r.output); err != nil {
		return err
	}
	if d.Contents.Base != nil {
		trusted, err := r.o.Keys()
		if err != nil {
			return err
		}
		x.Bases, x.Keys = r.o.Bases, append(slices.Clone(trusted), key.Verifier)
	}
	misses, err := r.o.Rehearse(ctx, x)
	if len(misses) > 0 {
		return &missedError{misses, err}
	}
	return err
}
