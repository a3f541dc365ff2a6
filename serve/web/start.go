package web

import (
	"cmp"
	"context"
	"slices"
	"time"

	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/modpath"
)

// startPage is the data of the first page.
type startPage struct {
	Start
	URL      string `json:"url"`
	Lines    []line `json:"lines"`
	Modules  int    `json:"modules"`
	Versions int    `json:"versions"`
	Bytes    int64  `json:"bytes"` // of all zips
	Std      string `json:"std,omitempty"`
	Compared bool   `json:"compared"` // with a vulnerability database
	Affected int    `json:"affected"` // versions with known vulnerabilities
	Fixable  int    `json:"fixable"`  // those of them whose fixes are carried
}

// A line is the newest bundle of a line.
type line struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"`
	Sequence int64     `json:"sequence"`
	Created  time.Time `json:"created"`
	Signers  []string  `json:"signers"`
	DB       string    `json:"db,omitempty"`
	Records  int64     `json:"records,omitempty"`
	Missing  int64     `json:"missing,omitempty"`
	ModOnly  int64     `json:"modOnly"`
	Deltas   int       `json:"deltas"`         // how many bundles of the line came before
	New      []added   `json:"new,omitempty"`  // versions that came with the newest bundle of several, the first 200
	More     int       `json:"more,omitempty"` // how many came besides
}

// An added version came with the newest bundle of a line.
type added struct {
	Path    string `json:"path"`
	Version string `json:"version"`
}

// maxNew bounds the added versions of a line on the first page.
const maxNew = 200

// first returns the first page.
func (s *Site) first(v *Visit) (*page, error) {
	given, err := v.Start()
	if err != nil {
		return nil, err
	}
	p := startPage{
		Start: given, URL: v.URL, Modules: len(s.catalog.modules), Versions: s.catalog.count, Bytes: s.catalog.bytes,
	}
	if len(s.catalog.std) > 0 {
		p.Std = s.catalog.std[0].release
	}
	if found := s.Vulns(); found != nil {
		p.Compared, p.Affected, p.Fixable = true, found.Affected, found.Fixable
	}
	for _, b := range s.View.Lines {
		l := lineOf(b)
		if err := l.addNew(v.Request.Context(), b); err != nil {
			return nil, err
		}
		p.Lines = append(p.Lines, l)
	}
	return &page{template: "start.html", title: s.lines(), data: &p, fresh: true}, nil
}

func lineOf(b *bundle.Bundle) line {
	m := b.Manifest
	l := line{
		Name: m.Name, ID: b.ID(), Sequence: m.Sequence, Created: m.Created, Signers: []string{}, DB: m.DB,
		Missing: m.Counts.Missing, ModOnly: m.Counts.ModOnly,
	}
	l.Signers = append(l.Signers, b.Signers...)
	if m.DB != "" {
		l.Records = m.Head.N
	}
	return l
}

// addNew adds what came with the newest bundle of several.
func (l *line) addNew(ctx context.Context, b *bundle.Bundle) error {
	if l.Deltas = len(b.Line()); l.Deltas == 0 {
		return nil
	}
	for f, err := range b.Own(ctx) {
		if err != nil {
			return err
		}
		r, err := modpath.Parse(f.Path)
		if err != nil || r.Kind != modpath.Zip {
			continue
		}
		if len(l.New) == maxNew {
			l.More++
			continue
		}
		l.New = append(l.New, added{r.Path, r.Version})
	}
	slices.SortFunc(l.New, func(a, b added) int { return cmp.Or(cmp.Compare(a.Path, b.Path), semver.Compare(a.Version, b.Version)) })
	return nil
}

// Toolchain reports whether the version is one of Go, which has no page of its own.
func (a added) Toolchain() bool { return a.Path == modpath.Toolchain }
