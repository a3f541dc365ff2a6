package web

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/facts"
	"github.com/modmirror/modmirror/serve/web/render"
)

// tabDiff is the tab of a unit that has a change.
const tabDiff = "diff"

// A change is how the version of a unit differs from another one that is carried.
type change struct {
	From   string            `json:"from,omitempty"` // "" when no other one is carried
	Others []string          `json:"-"`              // what From can be
	API    *review.APIDiff   `json:"api,omitempty"`
	NoAPI  string            `json:"noAPI,omitempty"` // why API is not known
	Facts  *review.FactsDiff `json:"facts,omitempty"` // nil when those of a version are not known
	Files  []fileChange      `json:"files"`
	Rest   []string          `json:"rest,omitempty"` // names of files whose lines do not fit on a page
	More   string            `json:"more,omitempty"` // the command that prints all files, if there is a rest

	review.CodeDiff
	AtLeast bool `json:"atLeast,omitempty"` // there are more files than were counted

	late bool // another time there may be more
}

// A fileChange is how a file differs.
type fileChange struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// A diffLine is a line of a file that differs.
type diffLine struct{ Class, Text string }

const (
	// maxChanges bounds the lines of all files on a page in bytes.
	maxChanges = 128 << 10

	// changeTime is how long a page compares sources, and what they export.
	changeTime = 10 * time.Second

	// maxAPI bounds what a process says of what two versions export, in bytes of JSON.
	maxAPI = 4 << 20
)

// errEnough ends a comparison that has more than a page shows.
var errEnough = errors.New("more than a page shows")

// changes adds how the version differs from another one: from, or the one before it if that is "".
func (s *Site) changes(ctx context.Context, u *unit, p *place, from string) error {
	u.Change = new(change)
	if err := s.others(ctx, u); err != nil {
		return err
	}
	c := u.Change
	if u.Std || len(c.Others) == 0 {
		return nil
	}
	if c.From = from; from == "" {
		c.From = before(c.Others, u.Version)
	}
	old, err := s.at(ctx, s.catalog.module(p.Path), c.From, "")
	if err != nil {
		return err
	}
	c.From = old.shown
	was, err := s.factsOf(ctx, old.version)
	if err != nil {
		return err
	}
	if is := factsFrom(p.version, u.Facts); was != nil && is != nil {
		d := review.DiffFacts(was, *is)
		c.Facts = &d
	}
	return s.compare(ctx, c, old, p)
}

// others lists the other versions of the module that are carried with their zip, the newest first.
func (s *Site) others(ctx context.Context, u *unit) error {
	for x, err := range s.View.Versions(ctx, u.Module) {
		if err != nil {
			return err
		}
		if x.ZipSize != nil && x.Version != u.Version && !slices.Contains(u.Change.Others, x.Version) {
			u.Change.Others = append(u.Change.Others, x.Version)
		}
	}
	slices.SortFunc(u.Change.Others, func(a, b string) int { return semver.Compare(b, a) })
	u.Change.Others = u.Change.Others[:min(len(u.Change.Others), maxRows)]
	return nil
}

// before returns the newest of the versions that is older than another, or else the oldest of them.
// The versions are sorted, the newest first.
func before(versions []string, other string) string {
	for _, v := range versions {
		if semver.Compare(v, other) < 0 {
			return v
		}
	}
	return versions[len(versions)-1]
}

// factsOf returns the facts of a version, nil when they are not known.
func (s *Site) factsOf(ctx context.Context, x index.Version) (*facts.Facts, error) {
	rows, err := s.factRows(ctx, x)
	return factsFrom(x, rows), err
}

// factsFrom returns facts from rows of the index, nil when those of the version are not known.
func factsFrom(x index.Version, rows []index.Fact) *facts.Facts {
	if x.License == nil {
		return nil
	}
	f := facts.FromRows(*x.License, rows)
	return &f
}

// compare adds how the files of two places differ, and what they export.
func (s *Site) compare(ctx context.Context, c *change, old, now *place) error {
	var pair [2]*review.Sources
	var trees [2]*tree
	for i, p := range []*place{old, now} {
		t, err := s.open(ctx, p)
		if err != nil {
			return err
		}
		defer t.close()
		trees[i] = t
		pair[i] = review.SourcesOf(module.Version{Path: p.version.Path, Version: p.version.Version}, t.arch)
	}
	timed, cancel := context.WithTimeout(ctx, changeTime)
	defer cancel()
	err := s.compareFiles(timed, c, pair, command(now, old))
	if err == nil {
		err = s.compareAPI(timed, c, pair)
	}
	if ctx.Err() == nil && timed.Err() != nil { // what is known so far is shown
		c.late, err = true, nil
		if c.API == nil {
			c.NoAPI = fmt.Sprintf("it takes more than %v", changeTime)
		}
	}
	for _, t := range trees { // what was read is still what was verified
		if bad := t.zip.Check(ctx); bad != nil && err == nil {
			err = bad
		}
	}
	return err
}

// compareFiles adds how files differ. more is the command that prints all.
func (s *Site) compareFiles(ctx context.Context, c *change, pair [2]*review.Sources, more string) error {
	size := 0
	var err error
	c.CodeDiff, err = review.DiffCode(ctx, pair[0], pair[1], func(f review.FileDiff) error {
		if n := len(f.Name) + len(f.Text); size+n <= maxChanges {
			size += n
			c.Files = append(c.Files, fileChange(f))
			return nil
		}
		if c.More = more; len(c.Rest) == maxRows {
			return errEnough
		}
		c.Rest = append(c.Rest, f.Name)
		return nil
	})
	if err != nil {
		c.AtLeast, c.More = true, more
	}
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// compareAPI adds how what two versions export differs.
func (s *Site) compareAPI(ctx context.Context, c *change, pair [2]*review.Sources) error {
	if s.API == nil {
		return nil
	}
	w := &limitedWriter{left: maxAPI}
	d, err := review.DiffAPI(ctx, pair[0], pair[1], func(ctx context.Context, in io.Reader, out io.Writer) error {
		w.Writer = out
		return s.API(ctx, in, w)
	})
	_, ours := errors.AsType[*render.Error](err)
	switch {
	case err == nil:
		c.API = d
	case w.left < 0:
		c.NoAPI = fmt.Sprintf("more than %d MiB of differences", maxAPI>>20)
	case ours, errors.Is(err, review.ErrTooMuch):
		c.NoAPI = fmt.Sprintf("%.300s", index.VisibleLine(err.Error()))
	case ctx.Err() != nil:
		return err
	default:
		return s.unable(err)
	}
	return nil
}

// A limitedWriter fails when it would write more than left bytes, which is negative then: a process
// whose output is not read fails for another reason.
type limitedWriter struct {
	io.Writer
	left int
}

// Write implements io.Writer.
func (w *limitedWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, io.ErrShortWrite
	}
	return w.Writer.Write(p)
}

// command returns the command that prints how two versions differ, of bundles that have them.
func command(now, old *place) string {
	return fmt.Sprintf("modmirror diff --code OLD.tar NEW.tar %s@%s %s", now.Path, old.shown, now.shown)
}

// Lines returns the lines of a file with the classes of what they are.
func (f *fileChange) Lines() (list []diffLine) {
	lines := strings.Split(strings.TrimSuffix(f.Text, "\n"), "\n")
	if len(lines) > 3 && strings.HasPrefix(lines[1], "--- ") { // the names of both, which are above
		lines = lines[3:]
	}
	for _, line := range lines {
		class := ""
		switch {
		case strings.HasPrefix(line, "@@"):
			class = "at"
		case strings.HasPrefix(line, "+"):
			class = "add"
		case strings.HasPrefix(line, "-"):
			class = "del"
		}
		list = append(list, diffLine{class, line})
	}
	return list
}

// An apiGroup has changes of what a package exports, of one kind.
type apiGroup struct {
	Package    string
	Compatible bool
	Texts      []string
}

// Groups returns the changes of what the module exports by package, incompatible ones first.
func (c *change) Groups() (list []apiGroup) {
	for _, x := range c.API.Changes {
		n := len(list)
		if n == 0 || list[n-1].Package != x.Package || list[n-1].Compatible != x.Compatible {
			list = append(list, apiGroup{Package: x.Package, Compatible: x.Compatible})
			n++
		}
		list[n-1].Texts = append(list[n-1].Texts, x.Text)
	}
	return list
}

// Long reports whether the group has more than is read at a glance.
func (g *apiGroup) Long() bool { return len(g.Texts) > 12 }
