package store

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

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/safefile"
)

// A State remembers the newest bundle of each line that this machine accepted, and the tree heads
// that its clients may remember. It is a JSON file in the state directory. rollback.go has the
// rules that compare new bundles with it.
type State struct {
	Lines  map[string]Seen `json:"lines"`  // by name
	Served map[string]Tree `json:"served"` // by servedKey

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

// A Tree is a tree head of a checksum database without its signature.
type Tree struct {
	Size int64  `json:"size"`
	Hash string `json:"hash"`
}

func treeOf(t tlog.Tree) Tree { return Tree{t.N, t.Hash.String()} }

// tree returns t as package tlog has it: the zero tree when t is empty.
func (t Tree) tree() tlog.Tree {
	h, err := tlog.ParseHash(t.Hash)
	if err != nil {
		return tlog.Tree{}
	}
	return tlog.Tree{N: t.Size, Hash: h}
}

const stateName = "lines.json"

// NoState returns a state that remembers nothing and is in no file.
func NoState() *State { return &State{Lines: make(map[string]Seen), Served: make(map[string]Tree)} }

// ReadState reads the state in a directory. A missing file is an empty state. A damaged file is a
// *StateError: to go on without it would forget what it remembered.
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
		id, err := hex.DecodeString(seen.ID)
		if bundle.CheckName(n) != nil || err != nil || len(id) != sha256.Size || seen.Sequence < 0 {
			return nil, &StateError{name, errors.New("impossible values")}
		}
	}
	return s, nil
}

// A StateError reports a state that cannot be read.
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

// remembered returns the heads that were served to an audience, by database.
func (s *State) remembered(audience string) func(db string) tlog.Tree {
	return func(db string) tlog.Tree { return s.Served[servedKey(audience, db)].tree() }
}

// Remember records the bundles that a view serves, and the tree heads that an audience sees: a
// store's clients, or those of the lines in files. It writes nothing when nothing is new. A newer
// bundle that was recorded meanwhile stays, unless a rollback is allowed.
func (s *State) Remember(v *View, audience string, rollback bool) error {
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
			key := servedKey(audience, db)
			if t := treeOf(served.head.Tree); s.Served[key] != t {
				s.Served[key] = t
				changed = true
			}
		}
		return changed
	})
}

// servedKey returns the key of a checksum database as an audience sees it.
func servedKey(audience, db string) string { return db + " in " + audience }

// update changes the file, one process at a time, and keeps what others wrote meanwhile.
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
	change(now)
	s.Lines, s.Served = now.Lines, now.Served
	data, err := json.MarshalIndent(now, "", "\t")
	if err != nil {
		return err
	}
	return safefile.Write(filepath.Join(s.dir, stateName), append(data, '\n'), 0o600)
}

// deepFile returns the path of the mark that a bundle passed VerifyDeep.
func (s *State) deepFile(id string) string { return filepath.Join(s.dir, "deep", id) }

// DeepVerified reports whether the bundle with an id passed VerifyDeep before.
func (s *State) DeepVerified(id string) bool {
	_, err := os.Stat(s.deepFile(id))
	return err == nil
}

// SetDeepVerified remembers that the bundle with an id passed VerifyDeep.
func (s *State) SetDeepVerified(id string) error { return safefile.Write(s.deepFile(id), nil, 0o600) }

// hashText returns the SHA-256 of text in hex.
func hashText(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
