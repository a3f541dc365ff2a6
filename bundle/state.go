package bundle

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
)

// A State remembers which bundles were seen, so that an older one, or another one under a number that was seen, is not
// taken for the newest. It is a file in the state directory; one that is not there has seen nothing.
type State struct {
	Lines  map[string]Seen `json:"lines"`  // by name
	Served map[string]Tree `json:"served"` // by servedKey: the head that clients may remember

	dir string
}

// Seen is the newest bundle of a line that was accepted.
type Seen struct {
	Sequence int64     `json:"sequence"`
	ID       string    `json:"id"`
	DB       string    `json:"db,omitempty"`
	Head     Tree      `json:"head"`
	When     time.Time `json:"when"`
}

// A Tree is a head of a checksum database without its signature.
type Tree struct {
	Size int64  `json:"size"`
	Hash string `json:"hash"`
}

func treeOf(t tlog.Tree) Tree { return Tree{t.N, t.Hash.String()} }

// tree returns t as tlog knows it; the zero tree when there is none.
func (t Tree) tree() tlog.Tree {
	h, err := tlog.ParseHash(t.Hash)
	if err != nil {
		return tlog.Tree{}
	}
	return tlog.Tree{N: t.Size, Hash: h}
}

const stateName = "lines.json"

// NoState returns a state that remembers nothing.
func NoState() *State { return &State{Lines: make(map[string]Seen), Served: make(map[string]Tree)} }

// forgetIndex removes the copy of an index that is not needed.
func (s *State) forgetIndex(id string) {
	os.Remove(filepath.Join(s.dir, indexFolder, id+".sqlite")) // what is left does no harm
}

// ReadState reads the state in a directory. One that cannot be read is an error: what it remembered would be lost silently.
func ReadState(dir string) (*State, error) {
	s := NoState()
	s.dir = dir
	if err := safefile.CheckOwner(dir); errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return nil, err
	}
	name := filepath.Join(dir, stateName)
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	s = &State{dir: dir}
	if err := json.Unmarshal(data, s); err != nil {
		return nil, &StateError{name, err}
	}
	if s.Lines == nil || s.Served == nil {
		return nil, &StateError{name, errors.New("a part is missing")}
	}
	for n, seen := range s.Lines {
		if CheckName(n) != nil || parseHex(make([]byte, sha256.Size), seen.ID) != nil || seen.Sequence < 0 {
			return nil, &StateError{name, errors.New("impossible values")}
		}
	}
	return s, nil
}

// A StateError says that what was remembered cannot be read.
type StateError struct {
	File string
	Err  error
}

// Error names the file.
func (e *StateError) Error() string {
	return fmt.Sprintf("%s, which remembers the newest bundles, is damaged: %v", e.File, e.Err)
}

// Unwrap returns the reason.
func (e *StateError) Unwrap() error { return e.Err }

// Dir returns the state directory.
func (s *State) Dir() string { return s.dir }

// remembered returns the heads that were served in a place, by database.
func (s *State) remembered(place string) func(db string) tlog.Tree {
	return func(db string) tlog.Tree { return s.Served[servedKey(place, db)].tree() }
}

// A RollbackError says that a bundle is not newer than what was seen before.
type RollbackError struct {
	Bundle string
	Reason string
}

// Error says what is wrong with it.
func (e *RollbackError) Error() string { return e.Bundle + ": " + e.Reason }

// Check refuses a bundle that is older than the one of its line that was seen last, or another one under its number, or whose checksum
// database is not seen to be the same log: a *RollbackError. An *UnshownError says that nothing shows that the database continues the one seen.
func (s *State) Check(ctx context.Context, b *Bundle) error {
	m := &b.Manifest
	seen, ok := s.Lines[m.Name]
	if !ok {
		return nil
	}
	fail := func(format string, args ...any) error { return &RollbackError{b.path, fmt.Sprintf(format, args...)} }
	switch when := seen.When.UTC().Format("2006-01-02"); {
	case m.Sequence < seen.Sequence:
		return fail("its sequence is %d, and %d of %s was accepted on %s", m.Sequence, seen.Sequence, m.Name, when)
	case m.Sequence == seen.Sequence && b.ID() != seen.ID:
		return fail("another bundle %s with sequence %d was accepted on %s: two exist under one number", m.Name, m.Sequence, when)
	case m.DB != seen.DB:
		if seen.DB != "" {
			return fail("its checksum database is %q, and that of %s was %s", m.DB, m.Name, seen.DB)
		}
		return nil
	case m.DB == "":
		return nil
	case m.Head.N < seen.Head.Size:
		return fail("its checksum database has %d records, and there were %d in what was accepted on %s", m.Head.N, seen.Head.Size, when)
	}
	if b.Index == nil {
		return nil
	}
	return b.continues(ctx, seen.Head, fail)
}

// continues checks that the head of b continues an earlier one.
func (b *Bundle) continues(ctx context.Context, old Tree, fail func(string, ...any) error) error {
	heads, err := b.Heads(ctx)
	if err != nil {
		return err
	}
	for _, h := range heads {
		if h.N != old.Size {
			continue
		}
		if h.Hash.String() != old.Hash {
			return fail("its checksum database is a fork: tree %d is %v, and was %s", h.N, h.Hash, old.Hash)
		}
		return nil
	}
	p := &proof.Prover{Head: heads[len(heads)-1], Source: Tiles(ctx, b)}
	switch err := p.ProveConsistency(proof.Head{Tree: old.tree()}); {
	case err == nil:
		return nil
	case errors.Is(err, proof.ErrMismatch):
		return fail("its checksum database is a fork: %v", err)
	}
	return &UnshownError{b.path, old.Size}
}

// An UnshownError says that a bundle does not show that its checksum database continues the one that was served before.
type UnshownError struct {
	Bundle string
	Size   int64
}

// Error says so.
func (e *UnshownError) Error() string {
	return fmt.Sprintf("%s does not show that its checksum database continues the one of %d records that was served before, so clients that remember that would refuse it", e.Bundle, e.Size)
}

// Remember has the state remember the bundles of a view and the heads that are served in a place: a store's folder, or what tells bundles in
// files from others. Nothing is written when nothing is new. A newer bundle that was seen in between stays the one that is remembered, unless
// a rollback is allowed.
func (s *State) Remember(v *View, place string, rollback bool) error {
	return s.update(func(s *State) (changed bool) {
		for _, b := range v.Lines {
			m := &b.Manifest
			old, ok := s.Lines[m.Name]
			if ok && (old.ID == b.ID() || old.Sequence >= m.Sequence && !rollback) {
				continue
			}
			s.Lines[m.Name] = Seen{m.Sequence, b.ID(), m.DB, treeOf(m.Head), time.Now().UTC().Truncate(time.Second)}
			changed = true
		}
		for db, served := range v.served {
			key := servedKey(place, db)
			if t := treeOf(served.head.Tree); s.Served[key] != t {
				s.Served[key] = t
				changed = true
			}
		}
		return changed
	})
}

// servedKey names a checksum database as it is served in a place.
func servedKey(place, db string) string { return db + " in " + place }

// update changes the file, one process at a time.
func (s *State) update(change func(*State) bool) error {
	if !change(s) {
		return nil
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	unlock, err := safefile.Lock(context.Background(), filepath.Join(s.dir, stateName+".lock"), nil) // held for a moment only
	if err != nil {
		return err
	}
	defer unlock()
	now, err := ReadState(s.dir)
	if err != nil {
		return err
	}
	change(now) // what others wrote in between is kept
	s.Lines, s.Served = now.Lines, now.Served
	data, err := json.MarshalIndent(now, "", "\t")
	if err != nil {
		return err
	}
	return safefile.Write(filepath.Join(s.dir, stateName), append(data, '\n'), 0o600)
}

// deepFile is where it is remembered that a bundle passed Deep.
func (s *State) deepFile(id string) string { return filepath.Join(s.dir, "deep", id) }

// WasDeep reports whether a bundle passed Deep before.
func (s *State) WasDeep(id string) bool {
	_, err := os.Stat(s.deepFile(id))
	return err == nil
}

// SetDeep remembers that a bundle passed Deep.
func (s *State) SetDeep(id string) error { return safefile.Write(s.deepFile(id), nil, 0o600) }

func hashText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
