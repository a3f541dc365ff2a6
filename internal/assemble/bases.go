package assemble

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/sources"
)

// bases are the bundles, or catalogs, that a run is given. One line is continued, its own: the
// newest of its bundles is the base of the delta. The others are of lines beside which the bundle
// will be served: its tree head has to agree with theirs.
type bases struct {
	own    *bundle.Bundle          // newest of the own line; nil for none
	beside []*bundle.Bundle        // of other lines
	line   map[string]bool         // IDs of the bundles of the own line whose contents are at hand
	kept   map[module.Version]bool // versions that the sources need and only the line has
}

// openBases opens the files. It continues the line of that name or, when name is "", the only line
// of the files.
func openBases(ctx context.Context, open OpenFunc, files []string, name string) (_ *bases, err error) {
	bs := &bases{line: make(map[string]bool), kept: make(map[module.Version]bool)}
	defer func() {
		if err != nil {
			bs.close()
		}
	}()
	named := name != ""
	for _, file := range files {
		b, err := open(ctx, file)
		if err != nil {
			return nil, err
		}
		if name == "" {
			name = b.Manifest.Name
		}
		bs.add(b, name)
		if !named && b.Manifest.Name != name {
			return nil, hint.Usagef("the bases belong to the lines %s and %s: --name says which one to continue",
				name, b.Manifest.Name)
		}
	}
	if bs.own == nil && len(files) > 0 {
		return nil, hint.Add(fmt.Errorf("none of the bases belongs to the line %s", name),
			"--name says which line to continue; a new line has no base of its own")
	}
	return bs, nil
}

// add takes over a bundle. It closes bundles of the own line that are not the newest.
func (bs *bases) add(b *bundle.Bundle, own string) {
	if b.Manifest.Name != own {
		bs.beside = append(bs.beside, b)
		return
	}
	if b.HasFiles() {
		bs.line[b.ID()] = true
	}
	if bs.own == nil || bs.own.Manifest.Sequence < b.Manifest.Sequence {
		bs.own, b = b, bs.own
	}
	if b != nil {
		b.Close()
	}
}

// close closes all bundles.
func (bs *bases) close() (err error) {
	for _, b := range bs.all() {
		err = errors.Join(err, b.Close())
	}
	return err
}

// all returns the open bundles, the one of the own line last.
func (bs *bases) all() []*bundle.Bundle {
	if bs.own == nil {
		return bs.beside
	}
	return append(slices.Clone(bs.beside), bs.own)
}

// sequence returns the number for a bundle that follows the base and is made at a time in Unix
// seconds.
func (bs *bases) sequence(now int64) (int64, error) {
	if bs.own == nil || bs.own.Manifest.Sequence < now {
		return now, nil
	}
	if bs.own.Manifest.Sequence == math.MaxInt64 {
		return 0, errors.New("the base has the largest possible sequence number: begin a new line with another --name")
	}
	return bs.own.Manifest.Sequence + 1, nil
}

// checkBases chooses sequence, name and output, and checks that the bases have what the run needs
// of them.
func (r *Run) checkBases(ctx context.Context) error {
	if err := r.chooseSequence(); err != nil {
		return err
	}
	if err := r.chooseNames(); err != nil {
		return err
	}
	if r.o.Full {
		return r.bases.checkFull(ctx, r.o.Sources)
	}
	if r.o.Rehearse != nil {
		return r.bases.checkRehearsal()
	}
	return nil
}

// checkRehearsal returns an error unless all bundles of the own line are at hand: the rehearsal of
// a delta serves them.
func (bs *bases) checkRehearsal() error {
	if bs.own == nil {
		return nil
	}
	newest := index.Bundle{Digest: bs.own.ID(), Sequence: bs.own.Manifest.Sequence}
	for _, x := range append(slices.Clone(bs.own.Line()), newest) {
		if !bs.line[x.Digest] {
			return hint.Add(&NoContentsError{x}, "name all of them with --base, or leave --rehearse out")
		}
	}
	return nil
}

// A NoContentsError reports a bundle of the line whose contents are needed for a rehearsal, and are
// not among the bases.
type NoContentsError struct{ Bundle index.Bundle }

// Error returns the sequence number and ID of the bundle.
func (e *NoContentsError) Error() string {
	return fmt.Sprintf("the rehearsal of a delta needs all bundles of its line, "+
		"but sequence %d, id %.16s, is not among the bases", e.Bundle.Sequence, e.Bundle.Digest)
}

// checkFull returns an error when a full bundle would lose what of the line belongs to no module
// version, since the sources do not ask for it again.
func (bs *bases) checkFull(ctx context.Context, src *mirror.Job) error {
	n, err := bs.own.Index.Vulns(ctx)
	if err != nil {
		return err
	}
	if n > 0 && src.VulnDB == "" {
		return hint.Add(errors.New("the line has a vulnerability database, but the full bundle would have none"),
			"--vulndb carries it, or a line \"vulndb\" in the list")
	}
	platforms, err := bs.own.Index.Bootstraps(ctx)
	if err != nil {
		return err
	}
	for _, p := range platforms {
		if !slices.ContainsFunc(src.Bootstraps, func(s sources.Bootstrap) bool { return s.Platform == p }) {
			return hint.Add(fmt.Errorf("the line has modmirror and Go for %s, but the full bundle would not", p),
				"a line \"self %s\" in a list carries them", p)
		}
	}
	return nil
}

// Lacking returns what of a list of missing files the own line does not have either. It reports the
// rest: an upstream need not have a file for ever.
func (r *Run) Lacking(ctx context.Context, missing []mirror.Missing) ([]mirror.Missing, error) {
	bs := r.bases
	if bs.own == nil {
		return missing, nil
	}
	var lost error
	missing = slices.DeleteFunc(slices.Clone(missing), func(m mirror.Missing) bool {
		v, ok, err := bs.own.Index.Lookup(ctx, m.Mod.Path, m.Mod.Version)
		if err != nil {
			lost = err
		}
		if !ok || m.What == "zip" && v.ZipSize == nil || m.What == "list" {
			return false
		}
		r.o.Report.Say("cannot have the %s of %s any more; the line has it: %s", m.What, m.Mod, m.Asked)
		bs.kept[m.Mod] = true
		return true
	})
	return missing, lost
}

// addLines adds to the sources what the lines have of the checksum database. For a full bundle it
// adds all versions of the own line, but for those that are dropped.
func (bs *bases) addLines(ctx context.Context, src *mirror.Job, full bool, drop patterns) error {
	for _, b := range bs.all() {
		l := mirror.Line{Own: b == bs.own, Has: func(path string) (bool, error) {
			_, ok, err := b.Index.File(ctx, path)
			return ok, err
		}}
		var err error
		if l.Heads, err = b.Heads(ctx); err != nil {
			return err
		}
		if !l.Own || !full { // a full bundle has the mirror look up its versions anew
			if l.Records, err = b.Records(ctx); err != nil {
				return err
			}
		}
		if l.Own {
			l.Records = slices.DeleteFunc(l.Records, func(r proof.Record) bool {
				return drop.match(r.Mod.Path, r.Mod.Version)
			})
		}
		src.Lines = append(src.Lines, l)
	}
	if bs.own == nil || !full {
		return nil
	}
	for v, err := range bs.own.Index.Versions(ctx, "") {
		if err != nil {
			return err
		}
		if !drop.match(v.Path, v.Version) {
			src.AddVersion("line "+bs.own.Manifest.Name, module.Version{Path: v.Path, Version: v.Version}, v.ZipSize != nil)
		}
	}
	return nil
}
