// Package proof verifies the answers of a Go checksum database, online and offline.
//
// A checksum database is a transparency log (https://go.dev/design/25530-sumdb,
// https://research.swtch.com/tlog). The answer to a lookup is a record, which is a number and two
// go.sum lines, followed by a signed tree head. The record itself is not signed: it is true only
// when its hash is proven to be at its number in a tree whose head is signed. Hashes are read in
// tiles, and a tile is true only when it leads to the head.
//
// The package proves records and older heads under one head, and remembers the tiles that this
// took: a go command asks for them later, to repeat the proof. Package mirror uses it over the
// network, package bundle over the files of a bundle.
package proof

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// MaxLookup is the longest answer to a lookup in bytes. Real answers have about 350; a head with
// many cosignatures may have a few thousand.
const MaxLookup = 64 << 10

// SumGolangOrg is the public key of sum.golang.org (cmd/go/internal/modfetch/key.go).
const SumGolangOrg = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

// ErrMismatch is wrapped by every error that means that something is wrong and not absent: a
// signature, a hash or a proof that does not hold.
var ErrMismatch = errors.New("does not verify")

func mismatchf(format string, args ...any) error {
	return fmt.Errorf(format+": %w", append(args, ErrMismatch)...)
}

// A Database is a checksum database known by its key.
type Database struct {
	Name string // host[/path], as it stands after sumdb/ in a GOPROXY path
	URL  string // the URL to ask instead of the proxies; may be ""

	verifiers note.Verifiers
	last      atomic.Pointer[Head] // the head that ParseHead found good last
}

// ParseGOSUMDB parses the value of GOSUMDB by the rules of cmd/go
// (modfetch/sumdb.go dbDial). It returns nil for "off".
func ParseGOSUMDB(s string) (*Database, error) {
	if s == "off" {
		return nil, nil
	}
	if s == "sum.golang.google.cn" {
		s = "sum.golang.org https://sum.golang.google.cn"
	}
	f := strings.Fields(s)
	if len(f) == 0 || len(f) > 2 {
		return nil, fmt.Errorf("invalid GOSUMDB %q: want a name or key, and perhaps a URL", s)
	}
	if f[0] == "sum.golang.org" {
		f[0] = SumGolangOrg
	}
	v, err := note.NewVerifier(f[0])
	if err != nil {
		return nil, fmt.Errorf("invalid GOSUMDB %q: %w", s, err)
	}
	db := &Database{Name: v.Name(), verifiers: note.VerifierList(v)}
	if len(f) == 2 {
		db.URL = strings.TrimSuffix(f[1], "/")
	}
	return db, nil
}

// ReadTile reads a tile with get. When that fails with an error that absent accepts, ReadTile cuts
// the tile from the full tile: a database need not keep partial tiles once the full one exists
// (x/mod/sumdb/client.go readTile).
func ReadTile(t tlog.Tile, get func(tlog.Tile) ([]byte, error), absent func(error) bool) ([]byte, error) {
	data, err := get(t)
	if full := FullTile(t); err != nil && t != full && absent(err) {
		if wide, fullErr := get(full); fullErr == nil && len(wide) == full.W*tlog.HashSize {
			return wide[:t.W*tlog.HashSize], nil
		} else if fullErr != nil {
			return nil, fullErr
		}
	}
	return data, err
}

// A Head is a signed tree head.
type Head struct {
	tlog.Tree
	Note []byte // the signed note with the tree
}

// MergeHeads merges lists of heads: those of trees smaller than size, smallest first, one for each
// size.
func MergeHeads(size int64, lists ...[]Head) []Head {
	var all []Head
	for _, h := range slices.Concat(lists...) {
		if h.N < size {
			all = append(all, h)
		}
	}
	slices.SortStableFunc(all, func(a, b Head) int { return cmp.Compare(a.N, b.N) })
	return slices.CompactFunc(all, func(a, b Head) bool { return a.N == b.N })
}

// ParseHead parses a head and checks its signature. The answers to many lookups have one head, so
// that the last one is remembered.
func (db *Database) ParseHead(msg []byte) (Head, error) {
	if last := db.last.Load(); last != nil && bytes.Equal(last.Note, msg) {
		return *last, nil
	}
	head, err := db.parseHead(msg)
	if err == nil {
		db.last.Store(&head)
	}
	return head, err
}

func (db *Database) parseHead(msg []byte) (Head, error) {
	n, err := note.Open(msg, db.verifiers)
	if err != nil {
		return Head{}, mismatchf("tree head of %s: %v", db.Name, err)
	}
	tree, err := tlog.ParseTree([]byte(n.Text))
	if err != nil {
		return Head{}, mismatchf("tree head of %s: %v", db.Name, err)
	}
	if tree.N < 1 {
		return Head{}, mismatchf("tree head of %s is of an empty tree", db.Name)
	}
	return Head{tree, bytes.Clone(msg)}, nil
}

// A Record is what a checksum database says about a module version.
type Record struct {
	Mod     module.Version
	ID      int64  // number of the record in the log
	H1      string // hash of the module zip, "h1:…"
	GoModH1 string // hash of the go.mod file, "h1:…"
}

// Text returns the record's text in the log: its go.sum lines.
func (r Record) Text() []byte {
	return fmt.Appendf(nil, "%s %s %s\n%[1]s %[2]s/go.mod %[4]s\n", r.Mod.Path, r.Mod.Version, r.H1, r.GoModH1)
}

// Lookup composes the answer to a lookup of r from the record and a head.
func (r Record) Lookup(head Head) []byte {
	return fmt.Appendf(nil, "%d\n%s\n%s", r.ID, r.Text(), head.Note)
}

// ParseLookup parses the answer to a lookup of m and checks the signature of its head. Callers must
// not trust the record before Prover.Records proves it.
func (db *Database) ParseLookup(m module.Version, msg []byte) (Record, Head, error) {
	fail := func(format string, args ...any) (Record, Head, error) {
		return Record{}, Head{}, mismatchf("%s: answer of checksum database %s: %s",
			m, db.Name, fmt.Sprintf(format, args...))
	}
	if len(msg) > MaxLookup {
		return fail("longer than %d bytes", MaxLookup)
	}
	id, text, rest, err := tlog.ParseRecord(msg)
	if err != nil {
		return fail("%v", err)
	}
	head, err := db.ParseHead(rest)
	if err != nil {
		return Record{}, Head{}, fmt.Errorf("%s: %w", m, err)
	}
	if id < 0 || id >= head.N {
		return fail("record %d is outside of a tree of %d", id, head.N)
	}
	r, err := parseText(m, id, text)
	if err != nil {
		return fail("%v", err)
	}
	if !bytes.Equal(r.Lookup(head), msg) {
		return fail("not in canonical form")
	}
	return r, head, nil
}

// parseText parses the text of a record. It accepts nothing but the two lines of m, so that the
// text can be composed again from the hashes.
func parseText(m module.Version, id int64, text []byte) (Record, error) {
	r := Record{Mod: m, ID: id}
	lines := strings.SplitAfter(string(text), "\n")
	if len(lines) != 3 || lines[2] != "" {
		return r, fmt.Errorf("record has %d lines, want 2", len(lines)-1)
	}
	r.H1 = strings.TrimSuffix(strings.TrimPrefix(lines[0], m.Path+" "+m.Version+" "), "\n")
	r.GoModH1 = strings.TrimSuffix(strings.TrimPrefix(lines[1], m.Path+" "+m.Version+"/go.mod "), "\n")
	if !IsH1(r.H1) || !IsH1(r.GoModH1) || !bytes.Equal(r.Text(), text) {
		return r, fmt.Errorf("record %d is not about %s: %.200q", id, m, text)
	}
	return r, nil
}

// IsH1 reports whether s has the form of a go.sum hash: "h1:" and the base64 of 32 bytes.
func IsH1(s string) bool {
	b64, ok := strings.CutPrefix(s, "h1:")
	if !ok {
		return false
	}
	_, err := tlog.ParseHash(b64)
	return err == nil
}
