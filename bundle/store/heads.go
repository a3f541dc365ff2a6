package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
	"golang.org/x/mod/sumdb/tlog"
)

// Served is the tree head of a checksum database that is served, and what it does not prove.
type Served struct {
	Size     int64   `json:"size"`
	Hash     string  `json:"hash"`
	Unproven []int64 `json:"unproven,omitempty"` // numbers of records without a proof, sorted; answered with 404
	Heads    int     `json:"heads,omitempty"`    // heads of lines without a consistency proof to it: clients that remember these fail

	head    proof.Head
	damaged bool // a proof may be missing because a tile is damaged
}

// audienceOf returns the audience of bundles in files: their lines.
func audienceOf(names []string) string {
	names = slices.Clone(names)
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ",")
}

// Audience returns the name of the clients that remember the tree heads of a view of files, for
// State.Remember.
func (v *View) Audience() string {
	var names []string
	for _, b := range v.Lines {
		names = append(names, b.Manifest.Name)
	}
	return audienceOf(names)
}

// choose sets the served head of each checksum database: of the lines' heads the one that continues
// the head that was served before and proves the most, and of equals the largest. The choice among
// the same bundles is always the same, and is kept in the state directory.
func (v *View) choose(ctx context.Context, remembered func(db string) tlog.Tree, stateDir string) error {
	v.served = make(map[string]*Served)
	byDB := make(map[string][]*bundle.Bundle)
	for _, b := range v.Lines {
		if b.Manifest.DB != "" {
			byDB[b.Manifest.DB] = append(byDB[b.Manifest.DB], b)
		}
	}
	for db, lines := range byDB {
		var candidates []proof.Head
		for _, b := range lines {
			heads, err := b.Heads(ctx)
			if err != nil {
				return err
			}
			h := heads[len(heads)-1]
			if !slices.ContainsFunc(candidates, func(c proof.Head) bool { return c.Tree == h.Tree }) {
				candidates = append(candidates, h)
			}
		}
		if len(candidates) == 1 {
			v.served[db] = &Served{Size: candidates[0].N, Hash: candidates[0].Hash.String(), head: candidates[0]}
			continue
		}
		name := ""
		if stateDir != "" {
			name = filepath.Join(stateDir, "heads", choiceKey(db, lines, remembered(db))+".json")
		}
		s, err := readChoice(name, candidates)
		if err != nil {
			return err
		}
		if s == nil {
			if s, err = v.bestHead(ctx, lines, candidates, remembered(db)); err != nil {
				return err
			}
			if name != "" && !s.damaged {
				data, err := json.Marshal(s)
				if err != nil {
					return err
				}
				safefile.Write(name, data, 0o600) // without it the choice is made again
			}
		}
		v.served[db] = s
	}
	return nil
}

// choiceKey returns a name for everything that a choice depends on.
func choiceKey(db string, lines []*bundle.Bundle, remembered tlog.Tree) string {
	ids := []string{db, fmt.Sprint(remembered.N), remembered.Hash.String()}
	for _, b := range lines {
		ids = append(ids, b.ID())
	}
	slices.Sort(ids[3:])
	return hashText(strings.Join(ids, "\n"))
}

// readChoice reads a choice that was kept; nil when there is none that can be used.
func readChoice(name string, candidates []proof.Head) (*Served, error) {
	data, err := os.ReadFile(name)
	if name == "" || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	s := new(Served)
	if json.Unmarshal(data, s) != nil || !slices.IsSorted(s.Unproven) {
		return nil, nil // to be made again
	}
	for _, c := range candidates {
		if c.N == s.Size && c.Hash.String() == s.Hash {
			s.head = c
			return s, nil
		}
	}
	return nil, nil
}

// bestHead makes the choice.
func (v *View) bestHead(ctx context.Context, lines []*bundle.Bundle, candidates []proof.Head, remembered tlog.Tree) (*Served, error) {
	source := bundle.Tiles(ctx, lines...)
	var best *Served
	bestForgets := false
	slices.SortFunc(candidates, func(a, b proof.Head) int { return -cmp.Compare(a.N, b.N) })
	for _, c := range candidates {
		s := &Served{Size: c.N, Hash: c.Hash.String(), head: c}
		p := &proof.Prover{Head: c, Source: source}
		forgets := false
		if remembered.N > 0 {
			var err error
			if forgets, err = s.unshown(p.ProveConsistency(proof.Head{Tree: remembered})); err != nil {
				return nil, err
			}
		}
		for _, other := range candidates {
			if not, err := s.unshown(p.ProveConsistency(other)); err != nil {
				return nil, err
			} else if not {
				s.Heads++
			}
		}
		for _, b := range lines {
			if b.Manifest.Head == c.Tree {
				continue // sync proved all of them
			}
			err := b.EachRecords(ctx, func(batch []proof.Record) error {
				if not, err := s.unshown(p.Records(batch)); err != nil || !not {
					return err
				}
				for _, r := range batch {
					if not, err := s.unshown(p.Records([]proof.Record{r})); err != nil {
						return err
					} else if not {
						s.Unproven = append(s.Unproven, r.ID)
					}
				}
				return ctx.Err()
			})
			if err != nil {
				return nil, err
			}
		}
		slices.Sort(s.Unproven)
		s.Unproven = slices.Compact(s.Unproven)
		better := best == nil || bestForgets && !forgets ||
			bestForgets == forgets && cmp.Or(cmp.Compare(s.Heads, best.Heads), cmp.Compare(len(s.Unproven), len(best.Unproven))) < 0
		if better {
			best, bestForgets = s, forgets
		}
	}
	return best, nil
}

// unshown reports whether err means that the bundles lack a proof. Other errors, such as those of a
// disk, are returned.
func (s *Served) unshown(err error) (bool, error) {
	if err == nil {
		return false, nil
	}
	if _, bad := errors.AsType[*bundle.NotVerifiedError](err); bad { // a damaged tile is no reason to serve nothing
		s.damaged = true
		return true, nil
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, proof.ErrMismatch) {
		return true, nil
	}
	return false, err
}

// Head returns the served tree head of a checksum database, nil when no line has the database.
func (v *View) Head(db string) *proof.Head {
	if s := v.served[db]; s != nil {
		return &s.head
	}
	return nil
}

// Served returns the served tree heads by the names of their checksum databases.
func (v *View) Served() map[string]*Served { return v.served }

// Proven reports whether the served head proves a record.
func (v *View) Proven(db string, record int64) bool {
	s := v.served[db]
	if s == nil || record >= s.Size {
		return false
	}
	_, found := slices.BinarySearch(s.Unproven, record)
	return !found
}

// UnprovenVersions calls f with each version whose record the served head does not prove.
func (v *View) UnprovenVersions(ctx context.Context, f func(b *bundle.Bundle, x index.Version)) error {
	for _, b := range v.Lines {
		s := v.served[b.Manifest.DB]
		if s == nil || len(s.Unproven) == 0 {
			continue
		}
		for x, err := range b.Index.Versions(ctx, "") {
			if err != nil {
				return err
			}
			if x.Record != nil && !v.Proven(b.Manifest.DB, *x.Record) {
				f(b, x)
			}
		}
	}
	return nil
}
