package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/mirror"
)

// dropUnused is the pattern of --drop that means everything that the sources do not need any more.
const dropUnused = "unused"

// bases are the bundles, or their catalogues, that a run of sync is told of: the one before it in its line, and those of other lines
// beside which it will be served.
type bases struct {
	own    *bundle.Bundle // nil for none
	beside []*bundle.Bundle
	files  []string
	line   map[string]bool         // ids of the bundles of the own line that were named with their files
	kept   map[module.Version]bool // versions that are needed and that only the line has
}

// openBases opens what --base names. The line that is continued is that of name or, when that is "", of the first one.
func openBases(ctx context.Context, e *env, files []string, name string) (_ *bases, err error) {
	bs := &bases{files: files, line: make(map[string]bool), kept: make(map[module.Version]bool)}
	defer func() {
		if err != nil {
			bs.close()
		}
	}()
	named := name != ""
	for _, file := range files {
		b, err := openBundle(ctx, e, file)
		if err != nil {
			return nil, err
		}
		switch {
		case name == "":
			name = b.Manifest.Name
		case !named && b.Manifest.Name != name:
			return nil, usagef("the bases are of the lines %s and %s: --name says which one is continued", name, b.Manifest.Name)
		}
		if b.Manifest.Name != name {
			bs.beside = append(bs.beside, b)
			continue
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
	if bs.own == nil && len(files) > 0 {
		return nil, &hintError{fmt.Errorf("none of the bases is of the line %s", name), "--name says which line is continued; a new line has no base of its own"}
	}
	return bs, nil
}

func (bs *bases) close() {
	for _, b := range bs.all() {
		b.Close()
	}
}

// all returns the bundle of the own line after those of other lines.
func (bs *bases) all() []*bundle.Bundle {
	if bs.own == nil {
		return bs.beside
	}
	return append(slices.Clone(bs.beside), bs.own)
}

// sequence returns the number for a bundle that follows the base and is made at a time in Unix seconds.
func (bs *bases) sequence(now int64) (int64, error) {
	if bs.own == nil || bs.own.Manifest.Sequence < now {
		return now, nil
	}
	if next := bs.own.Manifest.Sequence + 1; next > 0 {
		return next, nil
	}
	return 0, errors.New("the base has the largest sequence number that there is: begin a line of another --name")
}

// rehearsable reports which bundle of the line is not at hand: a rehearsal of a delta serves all of them.
func (bs *bases) rehearsable() error {
	if bs.own == nil {
		return nil
	}
	lacking := &incompleteError{}
	for _, x := range append(slices.Clone(bs.own.Line()), index.Bundle{Digest: bs.own.ID(), Sequence: bs.own.Manifest.Sequence}) {
		if !bs.line[x.Digest] {
			lacking.err = fmt.Errorf("the rehearsal of a delta needs all bundles of its line, and sequence %d, id %.16s, is not among the bases", x.Sequence, x.Digest)
			return &hintError{lacking, "name all of them with --base, or leave --rehearse out"}
		}
	}
	return nil
}

// wholeSources refuses a full bundle that would lack what of the line belongs to no version, and is not asked for again.
func (bs *bases) wholeSources(ctx context.Context, src *mirror.Job, f *syncFlags) error {
	n, err := bs.own.Index.Vulns(ctx)
	if err != nil {
		return err
	}
	if n > 0 && src.VulnDB == "" && f.vulndb == "" {
		return &hintError{errors.New("the line has a vulnerability database, and the full bundle would have none"), "--vulndb carries it, or a line \"vulndb\" in the list"}
	}
	selfs, err := bs.own.Index.Bootstraps(ctx)
	if err != nil {
		return err
	}
	for _, p := range selfs {
		if !slices.ContainsFunc(src.Bootstraps, func(s sources.Bootstrap) bool { return s.Platform == p }) {
			return &hintError{fmt.Errorf("the line has modmirror and Go for %s, and the full bundle would not", p), "a line \"self " + p + "\" in a list carries them"}
		}
	}
	return nil
}

// have returns what is missing without what the line has already, and says so: an upstream need not
// have it for ever.
func (bs *bases) have(ctx context.Context, e *env, missing []mirror.Missing) ([]mirror.Missing, error) {
	if bs.own == nil {
		return missing, nil
	}
	x := bs.own.Index
	var lost error
	missing = slices.DeleteFunc(slices.Clone(missing), func(m mirror.Missing) bool {
		v, ok, err := x.Lookup(ctx, m.Mod.Path, m.Mod.Version)
		if err != nil {
			lost = err
		}
		if !ok || m.What == "zip" && v.ZipSize == nil || m.What == "list" {
			return false
		}
		e.say("cannot have the %s of %s any more; the line has it: %s", m.What, m.Mod, oneLine(errors.New(m.Asked)))
		bs.kept[m.Mod] = true
		return true
	})
	return missing, lost
}

// sayDropped says what left the line, and what of the patterns did not.
func (f *syncFlags) sayDropped(e *env, c *bundle.Contents) {
	if f.drop == nil {
		return
	}
	const some = 10
	if n := len(c.Dropped); n > 0 {
		more := ""
		if n > some {
			more = fmt.Sprintf(" and %d more", n-some)
		}
		e.say("%s left the line: %s%s", number(n, "version"), strings.Join(c.Dropped[:min(n, some)], ", "), more)
	}
	for _, pattern := range f.drop {
		one := &syncFlags{drop: []string{pattern}}
		matches := func(name string) bool {
			path, version, _ := strings.Cut(name, "@")
			return one.dropped(path, version)
		}
		if pattern == dropUnused || slices.ContainsFunc(c.Dropped, matches) {
			continue
		}
		if slices.ContainsFunc(c.Versions, func(v bundle.Version) bool { return one.dropped(v.Path, v.Version.Version) }) {
			e.say("what --drop %s matches is carried, since the sources need it", pattern)
		} else {
			e.say("--drop %s matches nothing in the line", pattern)
		}
	}
}

// addLines tells the mirror what the lines have of the checksum database and, for a full bundle, to have all versions of the own line again.
func (bs *bases) addLines(ctx context.Context, src *mirror.Job, f *syncFlags) error {
	for _, b := range bs.all() {
		l := mirror.Line{Own: b == bs.own, Has: func(path string) (bool, error) {
			_, ok, err := b.Index.File(ctx, path)
			return ok, err
		}}
		var err error
		if l.Heads, err = b.Heads(ctx); err != nil {
			return err
		}
		if !l.Own || !f.full { // the versions of a full bundle are looked up anew
			if l.Records, err = b.Records(ctx); err != nil {
				return err
			}
		}
		if l.Own && f.drop != nil {
			l.Records = slices.DeleteFunc(l.Records, func(r proof.Record) bool { return f.dropped(r.Mod.Path, r.Mod.Version) })
		}
		src.Lines = append(src.Lines, l)
	}
	if bs.own == nil || !f.full {
		return nil
	}
	for v, err := range bs.own.Index.Versions(ctx, "") {
		if err != nil {
			return err
		}
		if !f.dropped(v.Path, v.Version) {
			src.AddVersion("line "+bs.own.Manifest.Name, module.Version{Path: v.Path, Version: v.Version}, v.ZipSize != nil)
		}
	}
	return nil
}

// dropped reports whether a version leaves the line when the sources do not need it.
func (f *syncFlags) dropped(modPath, version string) bool {
	for _, pattern := range f.drop {
		if pattern == dropUnused {
			return true
		}
		pattern, v, hasVersion := strings.Cut(pattern, "@")
		if (!hasVersion || v == version) && module.MatchPrefixPatterns(pattern, modPath) {
			return true
		}
	}
	return false
}

// checkDrop checks the patterns of --drop.
func (f *syncFlags) checkDrop() error {
	for _, p := range f.drop {
		p, _, _ := strings.Cut(p, "@")
		if _, err := path.Match(p, ""); err != nil || p == "" {
			return usagef("--drop %q: want a module path or a pattern as in GOPRIVATE, perhaps with @version", p)
		}
	}
	return nil
}

// readLock reads the lock in a file, nil when there is none yet or the name is "".
func readLock(file string) (*mirror.Lock, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if noSuchFile(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lock, err := mirror.ParseLock(data)
	if err != nil {
		return nil, &hintError{usagef("%s: %v", file, err), "name a file that is not there yet to make a lock of what there is now"}
	}
	return lock, nil
}

// otherLock returns the error of a run that differs from its lock.
func otherLock(err error) error {
	return &hintError{fmt.Errorf("lock: %w", err), "remove the lock to make a new one of what there is now"}
}

// useLock takes name, sequence and time of the bundle from a lock.
func (f *syncFlags) useLock(lock *mirror.Lock) error {
	if err := bundle.CheckName(lock.Name); err != nil {
		return fmt.Errorf("%s: %w", f.lock, err)
	}
	if f.name != "" && f.name != lock.Name || f.sequence != 0 && f.sequence != lock.Sequence {
		return usagef("%s is of bundle %s, sequence %d", f.lock, lock.Name, lock.Sequence)
	}
	f.name, f.sequence = lock.Name, lock.Sequence
	return nil
}

// checkLock checks that the base is the one of a lock.
func (bs *bases) checkLock(lock *mirror.Lock) error {
	id := ""
	if bs.own != nil {
		id = bs.own.ID()
	}
	if lock != nil && lock.Base != id {
		return fmt.Errorf("lock: the base is %.16q, and was %.16q when it was made", id, lock.Base)
	}
	return nil
}

// writeLock writes what a bundle was made of.
func (f *syncFlags) writeLock(e *env, c *mirror.Closure, bs *bases, created time.Time, tidied map[string]string, learned []string) error {
	lock := mirror.NewLock(c)
	lock.Name, lock.Sequence, lock.Created = f.name, f.sequence, created.UTC().Truncate(time.Second)
	lock.Tidied, lock.Learned, lock.Index, lock.Contents = tidied, learned, f.index, f.contents
	if bs.own != nil {
		lock.Base = bs.own.ID()
	}
	data, err := lock.Encode()
	if err == nil {
		err = safefile.Write(f.lock, data, 0o666)
	}
	if err == nil {
		e.say("wrote %s, of which the same bytes can be made again", f.lock)
	}
	return err
}
