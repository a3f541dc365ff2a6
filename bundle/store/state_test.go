package store_test

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// TestOthersMayWriteState has others be allowed to write to the state folder: the state is not
// read.
func TestOthersMayWriteState(t *testing.T) {
	state := t.TempDir()
	if err := os.Chmod(state, 0o777); err != nil {
		t.Fatal(err)
	}
	if _, err := store.ReadState(state); err == nil || !strings.Contains(err.Error(), "who could exchange what was verified") {
		t.Error(err)
	}
}

// TestLineOfAnotherDatabase: a line does not change its checksum database.
func TestLineOfAnotherDatabase(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	b, err := bundle.Open(ctx, tb.Path, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	head := tb.Contents.Head
	for _, test := range []struct {
		db   string
		tree store.Tree
		ok   bool
	}{
		{tb.DB.Name, store.Tree{Size: head.N, Hash: head.Hash.String()}, true},
		{"sum.other.example", store.Tree{Size: head.N, Hash: head.Hash.String()}, false},
		{"", store.Tree{}, true}, // it had none
		{tb.DB.Name, store.Tree{Size: head.N + 1, Hash: head.Hash.String()}, false},
	} {
		state := store.NoState()
		state.Lines["test"] = store.Seen{Sequence: 1, ID: strings.Repeat("0", 64), DB: test.db, Head: test.tree}
		for what, b := range map[string]*bundle.Bundle{"open": b, "before its index is read": {Manifest: b.Manifest}} {
			err := state.Check(ctx, b)
			if _, back := errors.AsType[*bundle.RollbackError](err); back == test.ok || err != nil && !back {
				t.Errorf("after %+v, %s: %v", test, what, err)
			}
		}
	}
}

// TestRollbackAgainstTheStore: what the store has is newer, although the state remembers nothing.
func TestRollbackAgainstTheStore(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	s := newStore(t, tb.Trusted)
	if err := take(t, s, tb, nil); err != nil {
		t.Fatal(err)
	}
	older := tb.Variant(t, func(c *bundle.Contents) { c.Sequence = 3 })
	s = reopened(t, s, tb.Trusted, t.TempDir())
	err := take(t, s, older, nil)
	if _, back := errors.AsType[*bundle.RollbackError](err); !back {
		t.Errorf("an older bundle beside a newer one: %v", err)
	}
}

// TestSignaturesOfABase: the bundle before a delta has as many signatures as are required, each
// public key counted once, also when the store has another line that would be served without it.
func TestSignaturesOfABase(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	approver, err := trust.EphemeralKey("approver")
	if err != nil {
		t.Fatal(err)
	}
	alias := testbundle.Renamed(t, tb.Key, "alias")
	both := trust.NewKeyring(tb.Key.Verifier, alias.Verifier, approver.Verifier)
	sign := func(tb *testbundle.TB, keys ...*trust.Key) *testbundle.TB {
		if _, err := bundle.Sign(tb.Path, both, keys...); err != nil {
			t.Fatal(err)
		}
		return tb
	}
	for _, test := range []struct {
		name string
		keys []*trust.Key
		ok   bool
	}{
		{"one", nil, false},
		{"one under two names", []*trust.Key{alias}, false},
		{"two", []*trust.Key{approver}, true},
	} {
		s := newStore(t, both)
		base := sign(tb.Variant(t, func(c *bundle.Contents) {}), test.keys...)
		delta := sign(next(t, base, 8, vulns(1)), approver)
		other := sign(tb.Variant(t, func(c *bundle.Contents) { c.Name = "other" }), approver)
		for _, x := range []*testbundle.TB{base, other} {
			if err := take(t, s, x, nil); err != nil {
				t.Fatal(err)
			}
		}
		strict := trust.NewKeyring(both.Keys...)
		strict.Require = 2
		s = reopened(t, s, strict, stateOf(s))
		err := take(t, s, delta, nil)
		if _, few := errors.AsType[*trust.TooFewError](err); few == test.ok || (err == nil) != test.ok {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}
