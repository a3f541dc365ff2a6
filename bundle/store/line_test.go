package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/testbundle"
)

const modfiles = "../../testdata/mod"

var ctx = context.Background()

// next writes the delta that follows tb in its line: the same contents under the same head, after
// change.
func next(t testing.TB, tb *testbundle.TB, sequence int64, change func(*bundle.Contents)) *testbundle.TB {
	t.Helper()
	base, err := bundle.Open(ctx, tb.Path, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer base.Close()
	c := *tb.Contents
	c.Versions = slices.Clone(c.Versions)
	c.Base, c.Sequence = base, sequence
	if change != nil {
		change(&c)
	}
	out := *tb
	out.Contents = &c
	out.Write(t)
	return &out
}

// store returns an empty store.
func newStore(t testing.TB, keyring *trust.Keyring) *store.Store {
	t.Helper()
	s, err := store.Open(filepath.Join(t.TempDir(), "store"), keyring, filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// take imports a bundle as the command does.
func take(t testing.TB, s *store.Store, tb *testbundle.TB, change func(*store.Import)) error {
	t.Helper()
	unlock, err := s.Lock(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	in, _, err := media.OpenInput(tb.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	im := &store.Import{DB: tb.DB, Report: func(d bundle.Damage) { t.Logf("%s: %v", d.Path, d.Err) }, Warn: func(err error) { t.Log(err) }}
	if change != nil {
		change(im)
	}
	_, err = s.Import(ctx, tb.Path, in, im)
	return err
}

// TestSequences are the vectors S16 to S20 of threats.md, against an import and what is remembered
// of it.
func TestSequences(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil) // sequence 7
	at := func(sequence int64, name string) *testbundle.TB {
		out := *tb
		c := *tb.Contents
		c.Sequence, c.Name = sequence, name
		out.Contents = &c
		out.Write(t)
		return &out
	}
	for _, tc := range []struct {
		name string
		next *testbundle.TB
		ok   bool
	}{
		{"higher", at(8, "test"), true},
		{"lower", at(6, "test"), false},
		{"same sequence, same bundle", tb, true},
		{"same sequence, other id", func() *testbundle.TB {
			other := *tb
			c := *tb.Contents
			c.Created = c.Created.Add(time.Second)
			other.Contents = &c
			other.Write(t)
			return &other
		}(), false},
		{"lower, of another line", at(1, "other"), true},
		{"the largest integer", at(math.MaxInt64, "test"), true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStore(t, tb.Trusted)
			if err := take(t, s, tb, nil); err != nil {
				t.Fatal(err)
			}
			err := take(t, s, tc.next, nil)
			if already, ok := errors.AsType[*store.AlreadyError](err); ok && tc.next == tb {
				err = nil
				_ = already
			}
			_, refused := errors.AsType[*bundle.RollbackError](err)
			if (err == nil) != tc.ok || err != nil && !refused {
				t.Fatalf("got %v", err)
			}
			if tc.ok {
				return
			}
			// After a restart, and with another store, too.
			state, stateErr := store.ReadState(stateOf(s))
			if stateErr != nil {
				t.Fatal(stateErr)
			}
			b, openErr := bundle.Open(ctx, tc.next.Path, tb.Trusted, "")
			if openErr != nil {
				t.Fatal(openErr)
			}
			defer b.Close()
			if _, ok := errors.AsType[*bundle.RollbackError](state.Check(ctx, b)); !ok {
				t.Error("accepted after a restart")
			}
			warned := false
			other, otherErr := store.Open(filepath.Join(t.TempDir(), "other"), tb.Trusted, stateOf(s))
			if otherErr != nil {
				t.Fatal(otherErr)
			}
			if err := take(t, other, tc.next, func(im *store.Import) { im.AllowRollback, im.Warn = true, func(error) { warned = true } }); err != nil || !warned {
				t.Errorf("allowed: %v, warned %v", err, warned)
			}
		})
	}
	// S20: the state is not there, damaged, read-only.
	s := newStore(t, tb.Trusted)
	if err := take(t, s, tb, nil); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(stateOf(s), "lines.json")
	for _, damage := range []string{"", "{", "{}", `{"lines":{"test":{"sequence":-1}},"served":{}}`, `{"lines":{"../x":{"sequence":1,"id":"00"}},"served":{}}`, "null"} {
		if err := os.WriteFile(file, []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := store.ReadState(stateOf(s))
		if _, ok := errors.AsType[*store.StateError](err); !ok {
			t.Errorf("state %q: %v", damage, err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if state, err := store.ReadState(stateOf(s)); err != nil || len(state.Lines) != 0 {
		t.Errorf("no state: %v", err)
	}
}

func stateOf(s *store.Store) string { return s.State.Dir() }

// TestLog are the vectors D12 to D15 of threats.md: what the checksum database's heads in a line of
// bundles may be.
func TestLog(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	head := tb.Contents.Head
	mark := func(size int64, change func(*tlog.Tree)) proof.Head { // signed by nobody that counts here
		tree := tlog.Tree{N: size, Hash: head.Hash}
		change(&tree)
		return proof.Head{Tree: tree, Note: forgedNote(t, tree)}
	}
	remember := func(t *testing.T, seen tlog.Tree) *store.State {
		t.Helper()
		s := newStore(t, tb.Trusted)
		if err := take(t, s, tb, nil); err != nil {
			t.Fatal(err)
		}
		state, err := store.ReadState(stateOf(s))
		if err != nil {
			t.Fatal(err)
		}
		was := state.Lines["test"]
		was.Sequence, was.Head = 1, store.Tree{Size: seen.N, Hash: seen.Hash.String()}
		state.Lines["test"] = was
		return state
	}
	b, err := bundle.Open(ctx, tb.Path, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	fork := mark(head.N, func(t *tlog.Tree) { t.Hash[0] ^= 1 })
	smaller := mark(head.N+5, func(*tlog.Tree) {})
	older, err := testbundle.OlderTree(ctx, b, head, 9)
	if err != nil {
		t.Fatal(err)
	}
	wrong := older
	wrong.Hash[3] ^= 1
	for _, tc := range []struct {
		name     string
		seen     tlog.Tree
		rollback bool
	}{
		{"the same head", head.Tree, false},
		{"D12 fork at the same size", fork.Tree, true},
		{"D12 fork at an earlier size", wrong, true},
		{"D13 a smaller head than was seen", smaller.Tree, true},
		{"an earlier head of the same log", older, false},
	} {
		err := remember(t, tc.seen).Check(ctx, b)
		if _, ok := errors.AsType[*bundle.RollbackError](err); ok != tc.rollback || err != nil && !ok {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	// D12 in the heads that a bundle itself names, D14 one that is newer than its own, D15 a tile
	// that is missing.
	for name, change := range map[string]func(*bundle.Contents){
		"a head of another key":    func(c *bundle.Contents) { c.Heads = []proof.Head{{Tree: older, Note: forgedNote(t, older)}} },
		"a fork among its heads":   func(c *bundle.Contents) { c.Heads = []proof.Head{{Tree: wrong, Note: forgedNote(t, wrong)}} },
		"heads not in order":       func(c *bundle.Contents) { c.Heads = []proof.Head{mark(head.N+1, func(*tlog.Tree) {})} },
		"the same head twice":      func(c *bundle.Contents) { c.Heads = []proof.Head{head} },
		"a head that is no note":   func(c *bundle.Contents) { c.Heads = []proof.Head{{Tree: older, Note: []byte("x\n")}} },
		"a consistency tile fewer": func(c *bundle.Contents) { c.Tiles = c.Tiles[:len(c.Tiles)-1] },
	} {
		t.Run(name, func(t *testing.T) {
			c := *tb.Contents
			change(&c)
			bad := *tb
			bad.Contents = &c
			if d, err := bundle.NewDraft(ctx, &c, t.TempDir()); err != nil {
				return // refused before it is signed
			} else if err := d.Close(); err != nil {
				t.Fatal(err)
			}
			bad.Write(t)
			if err := testbundle.Verify(bad.Path, bad.Trusted, bad.DB); err == nil {
				t.Error("accepted")
			}
			if err := take(t, newStore(t, tb.Trusted), &bad, nil); err == nil {
				t.Error("imported")
			}
		})
	}
}

// forgedNote returns the note of a tree, signed by a key that nobody knows in the name of the
// database.
func forgedNote(t *testing.T, tree tlog.Tree) []byte {
	t.Helper()
	skey, _, err := note.GenerateKey(zeros{}, "sum.test.example/db")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := note.Sign(&note.Note{Text: string(tlog.FormatTree(tree))}, signer)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestDeepDelta verifies a delta with its base, without an earlier bundle that is known to be good,
// and then with a lookup file and a zip of the base damaged: each is reported once.
func TestDeepDelta(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	delta := next(t, tb, 8, vulns(1))
	data := testbundle.Read(t, tb.Path)
	var want []string
	verify := func(base string) {
		t.Helper()
		first, err := bundle.Open(ctx, base, tb.Trusted, "")
		if err != nil {
			t.Fatal(err)
		}
		defer first.Close()
		b, err := bundle.Open(ctx, delta.Path, tb.Trusted, "")
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		b.Attach(first)
		var got []string
		err = b.VerifyDeep(ctx, &bundle.Deep{DB: tb.DB}, nil, func(d bundle.Damage) { got = append(got, d.Path) })
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%q, want %q, %v", got, want, err)
		}
		if want != nil {
			return
		}
		for f, err := range first.Index.Files(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if f.Path == "example.com/hello/@v/v1.1.0.zip" || strings.HasSuffix(f.Path, "/lookup/example.com/hello@v1.1.0") {
				place, err := first.Find(f)
				if err != nil {
					t.Fatal(err)
				}
				data[place.Offset+f.Size/2] ^= 1
				want = append(want, f.Path)
			}
		}
	}
	verify(tb.Path)
	if len(want) != 2 {
		t.Fatalf("damaging %q", want)
	}
	bad := filepath.Join(t.TempDir(), "bad.tar")
	testbundle.WriteFile(t, bad, data)
	verify(bad)
}

// TestHostileLine has a thief of the bundle key sign deltas that are not what they should be.
func TestHostileLine(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	delta := next(t, tb, 8, func(c *bundle.Contents) {
		c.Vulns = []bundle.Source{bundle.DataSource("vulndb/index/db.json", []byte("{}"))}
	})
	for name, change := range map[string]func([]byte) []byte{
		"base of another name":     testbundle.ChangeSQL(t, "UPDATE bundle SET name = 'other' WHERE id = 1"),
		"base of another id":       testbundle.ChangeSQL(t, "UPDATE bundle SET digest = replace(digest, substr(digest, 1, 1), 'f') || '' WHERE id = 1; UPDATE bundle SET digest = '0' || substr(digest, 2) WHERE id = 1"),
		"base with no id":          testbundle.ChangeSQL(t, "UPDATE bundle SET digest = NULL WHERE id = 1"),
		"base that is newer":       testbundle.ChangeSQL(t, "UPDATE bundle SET sequence = 9 WHERE id = 1"),
		"base with a wild payload": testbundle.ChangeSQL(t, "UPDATE bundle SET payload = 9223372036854775295 WHERE id = 1"),
		"base without a payload":   testbundle.ChangeSQL(t, "UPDATE bundle SET payload = NULL WHERE id = 1"),
		"base left out":            testbundle.ChangeSQL(t, "PRAGMA foreign_keys = OFF; DELETE FROM bundle WHERE id = 1"),
		"files of no bundle":       testbundle.ChangeSQL(t, "PRAGMA foreign_keys = OFF; UPDATE file SET bundle = 7 WHERE bundle = 1"),
		"own file in the base":     testbundle.ChangeSQL(t, "UPDATE file SET bundle = 1, offset = 1000000 WHERE path LIKE 'vulndb/%'"),
		"overlap in the base":      testbundle.ChangeSQL(t, "UPDATE file SET size = size + 100000 WHERE id = 3"),
		"offset in the base":       testbundle.ChangeSQL(t, "UPDATE file SET offset = -512 WHERE id = 3"),
		"README in the base":       testbundle.ChangeSQL(t, "UPDATE file SET path = 'README.tx' WHERE path = 'README.txt'; UPDATE file SET path = 'README.txt' WHERE id = 3"),
		"head of another size":     testbundle.ChangeSQL(t, "UPDATE head SET size = size - 1"),
		"head without note":        testbundle.ChangeSQL(t, "UPDATE head SET note = ''"),
		"head of another hash":     testbundle.ChangeSQL(t, "UPDATE head SET hash = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='"),
		"no head":                  testbundle.ChangeSQL(t, "DELETE FROM head"),
	} {
		t.Run(name, func(t *testing.T) {
			forged := *delta
			forged.Path = delta.Forge(t, change)
			if err := testbundle.Verify(forged.Path, delta.Trusted, nil); !testbundle.Refused(err) {
				t.Errorf("got %v, want it refused", err)
			}
		})
	}
	// It says that the base has other contents than it has: verified, and not imported.
	forged := *delta
	forged.Path = delta.Forge(t, testbundle.ChangeSQL(t, "UPDATE file SET sha256 = zeroblob(32) WHERE path = 'example.com/hello/@v/v1.1.0.zip'"))
	s := newStore(t, tb.Trusted)
	if err := take(t, s, tb, nil); err != nil {
		t.Fatal(err)
	}
	if err := take(t, s, &forged, nil); err == nil {
		t.Error("a delta that says other things about its base was imported")
	}
	if err := take(t, s, delta, nil); err != nil {
		t.Errorf("the good one: %v", err)
	}
	// A delta without its base, and under another line's.
	if err := take(t, newStore(t, tb.Trusted), delta, nil); err == nil {
		t.Error("imported without its base")
	} else if _, ok := errors.AsType[*bundle.MissingBaseError](err); !ok {
		t.Errorf("without its base: %v", err)
	}
}

// TestStalledImport cancels the import of a stream that stalls, at different places. The import
// must end and leave nothing behind.
func TestStalledImport(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	good := testbundle.Read(t, tb.Path)
	s := newStore(t, tb.Trusted)
	unlock, err := s.Lock(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	for _, n := range []int{100, 20_000, len(good) / 2, len(good) - 100, len(good)} {
		r, w := io.Pipe()
		stop, cancel := context.WithCancel(ctx)
		go func() {
			w.Write(good[:n])
			cancel()
		}()
		_, err := s.Import(stop, "stream", r, &store.Import{DB: tb.DB, Report: func(d bundle.Damage) { t.Errorf("%s: %v", d.Path, d.Err) }})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after %d bytes: %v", n, err)
		}
		w.Close()
	}
	files, err := filepath.Glob(s.Dir + "/*.tar")
	if left, _ := filepath.Glob(s.Dir + "/.modmirror*"); err != nil || len(files)+len(left) != 0 {
		t.Errorf("left in the store: %v %v", files, left)
	}
}

// TestImportStream cuts, lengthens and damages the stream that is imported: the store has nothing
// of it, and takes the good one then.
func TestImportStream(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	good, err := os.ReadFile(tb.Path)
	if err != nil {
		t.Fatal(err)
	}
	s := newStore(t, tb.Trusted)
	unlock, err := s.Lock(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	feed := func(r io.Reader) error {
		_, err := s.Import(ctx, "stream", r, &store.Import{DB: tb.DB, Report: func(bundle.Damage) {}})
		return err
	}
	for n := 0; n < len(good); n += len(good)/40 + 1 {
		if err := feed(bytes.NewReader(good[:n])); !testbundle.Refused(err) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
		if err := feed(io.MultiReader(bytes.NewReader(good[:n]), iotest.ErrReader(io.ErrUnexpectedEOF))); testbundle.Refused(err) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("a reader that breaks after %d bytes: %v", n, err) // nothing is known of the bundle
		}
		if err := feed(io.MultiReader(bytes.NewReader(good[:n]), failing{})); !errors.Is(err, errPulled) && !testbundle.Refused(err) {
			t.Fatalf("an error after %d bytes: %v", n, err)
		}
		bad := bytes.Clone(good)
		bad[n] ^= 1
		if err := feed(bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d changed: accepted", n)
		}
	}
	for _, more := range []string{"\x00", strings.Repeat("x", 1<<20)} {
		if err := feed(io.MultiReader(bytes.NewReader(good), strings.NewReader(more))); !testbundle.Refused(err) {
			t.Errorf("%d bytes behind it: %v", len(more), err)
		}
	}
	files, err := filepath.Glob(s.Dir + "/*.tar")
	if left, _ := filepath.Glob(s.Dir + "/.modmirror*"); err != nil || len(files)+len(left) != 0 {
		t.Errorf("left in the store: %v %v", files, left)
	}
	if err := feed(iotestOneByte{bytes.NewReader(good)}); err != nil {
		t.Fatalf("the good one, slowly: %v", err)
	}
	got, err := os.ReadFile(filepath.Join(s.Dir, "test-7.tar"))
	if err != nil || !bytes.Equal(got, good) {
		t.Error("what is in the store is not what was carried")
	}
}

var errPulled = errors.New("media pulled")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errPulled }

// iotestOneByte returns little at a time, as pipes do.
type iotestOneByte struct{ r io.Reader }

func (o iotestOneByte) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), 1000)]) }

// TestHundredBundles makes a line of a hundred: the last one alone tells where everything is, and
// looking it up takes no more steps than in the first. Steps are counted by what they allocate,
// which does not depend on what else the machine does.
func TestHundredBundles(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	first := tb
	files := []string{tb.Path}
	for i := range int64(99) {
		tb = next(t, tb, 8+i, func(c *bundle.Contents) {
			c.Vulns = []bundle.Source{bundle.DataSource("vulndb/index/db.json", fmt.Appendf(nil, `{"modified":%d}`, i))}
		})
		files = append(files, tb.Path)
	}
	look := func(files []string) float64 {
		v, err := store.OpenFiles(ctx, files, tb.Trusted, store.NoState())
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		if len(v.Lines) != 1 {
			t.Fatalf("%d lines", len(v.Lines))
		}
		return testing.AllocsPerRun(300, func() {
			r, ok, err := v.File(context.Background(), "example.com/hello/@v/v1.1.0.zip")
			if err != nil || !ok {
				t.Fatal(ok, err)
			}
			if _, err := r.In.Read(ctx, r.File, 1<<20); err != nil {
				t.Fatal(err)
			}
		})
	}
	one, hundred := look([]string{first.Path}), look(files)
	t.Logf("a lookup with reading: %v allocations in a bundle, %v in a line of %d", one, hundred, len(files))
	if hundred > one+10 {
		t.Errorf("a lookup takes %v allocations in a hundred bundles, %v in one", hundred, one)
	}
}
