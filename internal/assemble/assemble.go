// Package assemble makes a bundle of what sources need: it has a mirror fetch and verify the
// closure of the sources, chooses what of it goes into the bundle, and writes the bundle. A run is
// a Run: New checks what was asked for, then Plan says what would be done, or Make does it.
//
// A Run never leaves a bundle that was not rehearsed, when a rehearsal was asked for, or a part of
// one: the draft is written to a temporary file, rehearsed, signed, and renamed, in this order.
package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/mirror"
)

// maxRounds bounds how often a rehearsal that learns is repeated.
const maxRounds = 50

// Options say what a Run makes, and of what. Run does not change them, but for Sources.
type Options struct {
	Sources *mirror.Job // what the bundle is for; the run adds to it
	Created time.Time   // time of the bundle; a lock's time wins

	Name     string // of the bundle's line; "" for the base's, the output's or the sources'
	Sequence int64  // 0 for Created in Unix seconds, or the number after the base's when that is larger
	Output   string // file, - for Stdout; "" for a name made of Name
	Stdout   io.Writer
	Package  Packaging
	Guard    *Guard // decides what may be replaced; the run adds the files that it reads

	Bases []string // files of bundles or catalogs: see bases
	Full  bool     // a bundle of the whole line, instead of a delta
	Drop  []string // patterns of modules that leave the line: see patterns

	Toolchains []string // Go versions to carry, or auto
	Platforms  []string // of the toolchains, such as linux/amd64

	Lock      string // file that pins what comes out, or is made to pin it; "" for none
	KeepGoing bool   // write the bundle although something could not be had
	Learn     bool   // add what the rehearsal asked for and did not find, and repeat

	Mirror mirror.Config

	// OpenBase opens a base and verifies it. The run closes it.
	OpenBase OpenFunc
	// Keys returns the public keys whose bundles are trusted here, as in trust.Key.Verifier.
	Keys func() ([]string, error)
	// Review looks at a bundle before it is written; nil for no review.
	Review ReviewFunc
	// Rehearse proves a bundle before it is signed; nil for no rehearsal.
	Rehearse RehearseFunc

	Report Reporter
}

// An OpenFunc opens a bundle or catalog in a file.
type OpenFunc func(ctx context.Context, file string) (*bundle.Bundle, error)

// A ReviewFunc looks at a bundle before it is written, and may add documents to it, whose files may
// be in its folder Tmp. The contents are those of the whole line for a delta. Nothing is written
// when it returns an error.
type ReviewFunc func(ctx context.Context, d *Draft) error

// A RehearseFunc rehearses a bundle. When that fails because the bundle lacks something, misses are
// the GOPROXY paths that were asked for in vain.
type RehearseFunc func(ctx context.Context, r Rehearsal) (misses []string, err error)

// A Reporter is told how a run gets on, by one call at a time. Texts may contain control characters
// that an upstream or a bundle has put there.
type Reporter interface {
	// Say reports what goes on.
	Say(format string, args ...any)
	// Complain reports what is wrong and ends the run.
	Complain(format string, args ...any)
	// Syncing begins to show the progress of Options.Mirror.Progress, until stop is called.
	Syncing() (stop func())
	// Synced reports the closure that the mirror has now.
	Synced(c *mirror.Closure)
	// Missing reports what the bundle will lack, before it is written. The list may be empty.
	Missing(list []mirror.Missing)
	// Writing begins to show how many of size bytes are written: add counts them, until stop is
	// called.
	Writing(size int64) (add func(n int64), stop func())
	// Wrote reports the bundle.
	Wrote(w *Written)
}

// An IncompleteError reports what could not be had and is not accepted.
type IncompleteError struct {
	Missing    []mirror.Missing // with what is accepted
	Toolchains []string         // list lines that would carry the toolchains that the sources need
	Written    bool             // the bundle was written all the same
}

// Error returns how many files are missing. The Reporter was told which.
func (e *IncompleteError) Error() string {
	return fmt.Sprintf("%s could not be had", count(refused(e.Missing), "file"))
}

// refused returns how many of the files in the list are not accepted to be missing.
func refused(list []mirror.Missing) (n int) {
	for _, m := range list {
		if !m.Allowed {
			n++
		}
	}
	return n
}

// A Run makes one bundle. Its methods must not be called concurrently. The caller closes it.
type Run struct {
	o Options

	name, output string
	named        bool // by Options.Name or the lock
	sequence     int64
	created      time.Time

	lock  *mirror.Lock // that must be kept; nil for none
	bases *bases
	dir   directory

	asked   mirror.Job // as they were named: what is rehearsed
	tidying *tidying
	tidied  map[string]string // go.mod files that were added, by source: for the lock; nil before
}

// New checks the options and opens the bases. It writes nothing. It returns a *hint.UsageError for
// a mistake in the options.
func New(ctx context.Context, o Options) (_ *Run, err error) {
	if len(o.Bases) == 0 && (o.Full || o.Drop != nil) {
		return nil, hint.Usagef("--full and --drop need a --base")
	}
	if err := patterns(o.Drop).check(); err != nil {
		return nil, err
	}
	r := &Run{o: o, created: o.Created, dir: directory{config: o.Mirror}}
	if r.lock, err = ReadLock(o.Lock); err != nil {
		return nil, err
	}
	if r.lock != nil {
		if err := r.useLock(); err != nil {
			return nil, err
		}
	}
	if r.bases, err = openBases(ctx, r.o.OpenBase, o.Bases, r.o.Name); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			r.Close()
		}
	}()
	if err := r.checkBases(ctx); err != nil {
		return nil, err
	}
	if err := r.checkOutput(); err != nil {
		return nil, err
	}
	if err := addToolchains(o.Sources, o.Toolchains, o.Platforms); err != nil {
		return nil, err
	}
	r.asked = *o.Sources
	return r, nil
}

// Close closes the bases and gives back the mirror directory.
func (r *Run) Close() error {
	return errors.Join(r.bases.close(), r.dir.release())
}

// Name returns the name of the bundle's line.
func (r *Run) Name() string { return r.name }

// Output returns the name of the file that is written, - for stdout.
func (r *Run) Output() string { return r.output }

// NewLine reports whether the bundle begins a line whose name nobody gave.
func (r *Run) NewLine() bool { return r.bases.own == nil && !r.named }

// Plan says what Make would fetch and write, and fetches no more than it needs for that. Missing in
// the plan contains what the line of the bases has: see Lacking.
func (r *Run) Plan(ctx context.Context) (*mirror.Plan, error) {
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	carried := func(module.Version) (bool, error) { return false, nil }
	if own := r.bases.own; own != nil && !r.o.Full {
		carried = func(m module.Version) (bool, error) {
			v, ok, err := own.Index.Lookup(ctx, m.Path, m.Version)
			return ok && v.ZipSize != nil, err
		}
	}
	defer r.tidying.stop()
	if _, err := r.addTidied(ctx); err != nil {
		return nil, err
	}
	p, err := r.dir.Plan(ctx, r.o.Sources, carried)
	return p, otherLock(err)
}

// Make fetches what the sources need, writes the bundle, signed by key, and writes the lock if
// there is none yet. It returns an *IncompleteError when something could not be had. It returns the
// rehearsal's error when that failed; with Learn it first adds what the rehearsal missed, and
// repeats.
func (r *Run) Make(ctx context.Context, key *trust.Key) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	defer r.tidying.stop()
	var learned []string
	for round := 1; ; round++ {
		err := r.round(ctx, key, learned)
		missed, ok := errors.AsType[*missedError](err)
		if !ok {
			return err
		}
		if !r.o.Learn {
			return missed.err
		}
		added := r.o.Sources.Learn(missed.misses)
		learned = append(learned, missed.misses...)
		if len(added) == 0 || round == maxRounds {
			for _, m := range missed.misses {
				r.o.Report.Complain("asked for and not in the bundle: %s", m)
			}
			return hint.Add(missed.err, "without --learn, the rehearsal's output says what asked for it")
		}
		for _, name := range added {
			r.o.Report.Say("learned %s", name)
		}
	}
}

// prepare opens the mirror directory, and adds to the sources what only the bases, the lock and the
// go command know.
func (r *Run) prepare(ctx context.Context) (err error) {
	if err := r.dir.ensure(ctx); err != nil {
		return err
	}
	if err := r.bases.addLines(ctx, r.o.Sources, r.o.Full, r.o.Drop); err != nil {
		return err
	}
	r.tidying = r.beginTidying(ctx)
	if r.lock == nil {
		return nil
	}
	if _, err := r.addTidied(ctx); err != nil { // in the order of the run that made the lock
		return err
	}
	r.o.Sources.Learn(r.lock.Learned)
	return r.bases.checkLock(r.lock)
}

// sync syncs the sources. Few projects are not tidy, so the first sync does not wait until that is
// known.
func (r *Run) sync(ctx context.Context) (*mirror.Closure, error) {
	for {
		stop := r.o.Report.Syncing()
		c, err := r.dir.Sync(ctx, r.o.Sources)
		stop()
		if err != nil {
			return nil, err
		}
		if more, err := r.addTidied(ctx); err != nil || !more {
			return c, err
		}
	}
}

// round syncs the sources and writes the bundle. learned is for the lock: the GOPROXY paths of all
// earlier rounds.
func (r *Run) round(ctx context.Context, key *trust.Key, learned []string) error {
	if err := r.dir.ensure(ctx); err != nil { // the rehearsal of the round before gave it back
		return err
	}
	c, err := r.sync(ctx)
	if err != nil {
		return otherLock(err)
	}
	r.o.Report.Synced(c)
	missing := c.Missing
	if !r.o.Full {
		if missing, err = r.Lacking(ctx, missing); err != nil {
			return err
		}
	}
	r.o.Report.Missing(missing)
	incomplete := &IncompleteError{Missing: missing, Toolchains: c.Toolchains}
	if refused(missing) > 0 && !r.o.KeepGoing {
		return incomplete
	}
	w, err := r.Write(ctx, c, missing, key)
	if err != nil {
		return err
	}
	if r.o.Lock != "" && r.lock == nil {
		if err := r.writeLock(c, w, learned); err != nil {
			return err
		}
	}
	if refused(missing) > 0 {
		incomplete.Written = true
		return incomplete
	}
	return nil
}

// addToolchains adds toolchains to the sources: versions of Go, or auto, for platforms.
func addToolchains(src *mirror.Job, toolchains, platforms []string) error {
	for _, p := range platforms {
		if err := modpath.CheckPlatform(p); err != nil {
			return hint.Usagef("--platform: %v", err)
		}
	}
	if len(platforms) > 0 && len(toolchains) == 0 && !src.AutoToolchain {
		return hint.Usagef("--platform says for which platforms to carry a --toolchain: " +
			"give both, or neither: modules serve all platforms")
	}
	src.Platforms = slices.Concat(src.Platforms, platforms)
	for _, t := range toolchains {
		if t == "auto" {
			src.AutoToolchain = true
		} else if err := src.AddToolchain("--toolchain "+t, t, platforms); err != nil {
			return hint.Usagef("%v", err)
		}
	}
	return nil
}

// A directory is a mirror directory that may be given back to other processes for a while.
type directory struct {
	*mirror.Mirror // nil after release
	config         mirror.Config
}

// ensure opens the directory if it is not open.
func (d *directory) ensure(ctx context.Context) (err error) {
	if d.Mirror == nil {
		d.Mirror, err = mirror.Open(ctx, d.config)
	}
	return err
}

// release gives the directory back to other processes.
func (d *directory) release() error {
	if d.Mirror == nil {
		return nil
	}
	err := d.Mirror.Close()
	d.Mirror = nil
	return err
}
