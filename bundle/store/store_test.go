package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// later is a change that makes another bundle.
func later(c *bundle.Contents) { c.Created = c.Created.Add(time.Second) }

// vulns is a change that gives a delta something to carry.
func vulns(i int) func(*bundle.Contents) {
	return func(c *bundle.Contents) {
		c.Vulns = []bundle.Source{bundle.DataSource("vulndb/index/db.json", fmt.Appendf(nil, `{"modified":%d}`, i))}
	}
}

// reopened returns the store as another process sees it.
func reopened(t testing.TB, s *store.Store, keyring *trust.Keyring, state string) *store.Store {
	t.Helper()
	again, err := store.Open(s.Dir, keyring, state)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// TestForeignJournal puts the manifest of another bundle beside one that is signed: what is signed
// stays the one that was verified.
func TestForeignJournal(t *testing.T) {
	good := testbundle.Make(t, modfiles, nil)
	evil := good.Variant(t, later)
	before := testbundle.Read(t, good.Path)
	testbundle.WriteFile(t, good.Path+".signing", testbundle.Read(t, evil.Path)[512:512+bundle.ManifestSize])
	approver, err := trust.EphemeralKey("approver")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Sign(good.Path, good.Trusted, approver); !testbundle.Refused(err) {
		t.Errorf("signing beside a foreign journal: %v", err)
	}
	if !bytes.Equal(testbundle.Read(t, good.Path), before) {
		t.Error("the bundle was changed")
	}
	// And one whose index is not the one in the manifest is not signed at all.
	data := bytes.Clone(before)
	data[512+bundle.ManifestSize+512+5000] ^= 1
	testbundle.WriteFile(t, good.Path, data)
	if err := os.Remove(good.Path + ".signing"); err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Sign(good.Path, good.Trusted, approver); !testbundle.Refused(err) {
		t.Errorf("signing a damaged bundle: %v", err)
	}
}

// TestDetachedSignatures: those of keys that nobody trusts here do not count, whatever room they
// take; those of another bundle are refused.
func TestDetachedSignatures(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	text := tb.Draft.Manifest.Text()
	room := (bundle.ManifestSize - len(text) - 20) / 4 * 4
	testbundle.WriteFile(t, tb.Path+".sig", []byte(text+"\n— x "+strings.Repeat("AAAA", room/4)+"\n"))
	if err := take(t, newStore(t, tb.Trusted), tb, nil); err != nil {
		t.Errorf("a long signature of an unknown key: %v", err)
	}
	other := tb.Variant(t, later)
	approver, err := trust.EphemeralKey("approver")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.SignDetached(other.Path, other.Path+".sig", tb.Trusted, approver); err != nil {
		t.Fatal(err)
	}
	testbundle.WriteFile(t, tb.Path+".sig", testbundle.Read(t, other.Path+".sig"))
	if _, err := bundle.Open(ctx, tb.Path, tb.Trusted, ""); !testbundle.Refused(err) {
		t.Errorf("signatures of another bundle: %v", err)
	}
}

// TestImportReadsIndex damages the index of a bundle that was seen before: import reads what is
// carried, and not what it remembers.
func TestImportReadsIndex(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	s := newStore(t, tb.Trusted)
	b, err := bundle.Open(ctx, tb.Path, tb.Trusted, stateOf(s))
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	bad := *tb
	bad.Path = filepath.Join(t.TempDir(), "bad.tar")
	data := testbundle.Read(t, tb.Path)
	data[512+bundle.ManifestSize+512+3000] ^= 1
	testbundle.WriteFile(t, bad.Path, data)
	if err := take(t, s, &bad, nil); err == nil {
		t.Error("imported with a damaged index")
	}
	if _, err := os.Stat(filepath.Join(stateOf(s), "index", tb.Draft.Manifest.ID()+".sqlite")); err != nil {
		t.Errorf("the index that a server may be using is gone: %v", err)
	}
}

// TestStoreIsNotOverwritten: what is in a store counts, whatever a process remembers of it.
func TestStoreIsNotOverwritten(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	delta := next(t, tb, 8, vulns(1))
	other := tb.Variant(t, later) // under the number of the base
	s := newStore(t, tb.Trusted)
	waiting := reopened(t, s, tb.Trusted, stateOf(s)) // it has read the state, and waits for the lock
	for _, x := range []*testbundle.TB{tb, delta} {
		if err := take(t, s, x, nil); err != nil {
			t.Fatal(err)
		}
	}
	for name, s := range map[string]*store.Store{"waited": waiting, "another state": reopened(t, s, tb.Trusted, t.TempDir())} {
		for _, allow := range []bool{false, true} {
			err := take(t, s, other, func(im *store.Import) { im.AllowRollback = allow })
			if _, ok := errors.AsType[*bundle.RollbackError](err); !ok {
				t.Errorf("%s, allowed %v: %v", name, allow, err)
			}
		}
	}
	if !bytes.Equal(testbundle.Read(t, filepath.Join(s.Dir, "test-7.tar")), testbundle.Read(t, tb.Path)) {
		t.Error("the base was overwritten")
	}
	// Two deltas to one base: the second would take away what the first brought.
	fork := next(t, tb, 9, vulns(2))
	err := take(t, s, fork, nil)
	if _, ok := errors.AsType[*bundle.RollbackError](err); !ok {
		t.Errorf("a fork of the line: %v", err)
	}
}

// TestCarriedAgain: a bundle that was damaged in the store is replaced by the one that is carried
// again.
func TestCarriedAgain(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	s := newStore(t, tb.Trusted)
	if err := take(t, s, tb, nil); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(s.Dir, "test-7.tar")
	data := testbundle.Read(t, name)
	data[len(data)-100000] ^= 1
	testbundle.WriteFile(t, name, data)
	if err := take(t, s, tb, nil); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(testbundle.Read(t, name), testbundle.Read(t, tb.Path)) {
		t.Error("it is still damaged")
	}
	err := take(t, s, tb, nil)
	if _, ok := errors.AsType[*store.AlreadyError](err); !ok {
		t.Errorf("once more: %v", err)
	}
}

// TestPruneKeepsWhatItCannotRead: nothing is pruned while a bundle cannot be opened, since nobody
// knows what it needs.
func TestPruneKeepsWhatItCannotRead(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	keyB, err := trust.EphemeralKey("keyb")
	if err != nil {
		t.Fatal(err)
	}
	both := trust.NewKeyring(tb.Key.Verifier, keyB.Verifier)
	b1 := tb.Variant(t, func(c *bundle.Contents) { c.Name = "other" })
	b1.Key, b1.Trusted = keyB, both
	b1.Write(t)
	s := newStore(t, both)
	for _, x := range []*testbundle.TB{tb, next(t, tb, 8, vulns(1)), b1, next(t, b1, 8, vulns(3))} {
		if err := take(t, s, x, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := reopened(t, s, tb.Trusted, stateOf(s)).Prune(ctx, 1, false); !testbundle.Refused(err) {
		t.Errorf("pruned without knowing a line: %v", err)
	}
	p, err := reopened(t, s, both, stateOf(s)).Prune(ctx, 1, false)
	if err != nil || len(p.Bundles) != 2 || p.Packed == 0 {
		t.Fatal(p, err)
	}
	v, err := s.View(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, b := range v.Lines {
		for f, err := range b.Index.Files(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Read(ctx, f, f.Size); err != nil {
				t.Errorf("%s: %v", b.Manifest.Name, err)
			}
		}
	}
}

// TestConflictingLines: a version outside the checksum database that two lines have with other
// contents is refused, whichever comes first.
func TestConflictingLines(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	secret := func(c *bundle.Contents) {
		c.Name = "other"
		for i := range c.Versions {
			if v := &c.Versions[i]; v.Private {
				zip := bundle.DataSource(v.Zip.Path, c.Versions[2].Zip.Data)
				v.GoMod = bundle.DataSource(v.GoMod.Path, []byte("module corp.example/secret\n\ngo 1.21\n"))
				v.GoModH1, v.ModSize = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", v.GoMod.Size
				v.Zip, v.ZipSize = &zip, &zip.Size
			}
		}
	}
	other := tb.Variant(t, secret)
	for _, order := range [][]*testbundle.TB{{tb, other}, {other, tb}} {
		s := newStore(t, tb.Trusted)
		if err := s.State.SetDeepVerified(other.Draft.Manifest.ID()); err != nil { // what it says of itself is not the question here
			t.Fatal(err)
		}
		if err := take(t, s, order[0], nil); err != nil {
			t.Fatal(err)
		}
		if err := take(t, s, order[1], nil); !testbundle.Refused(err) {
			t.Errorf("%s after %s: %v", order[1].Contents.Name, order[0].Contents.Name, err)
		}
	}
}

// TestStateNeverGoesBack: a server that read the state before an import does not take it back.
func TestStateNeverGoesBack(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	s := newStore(t, tb.Trusted)
	state, err := store.ReadState(stateOf(s))
	if err != nil {
		t.Fatal(err)
	}
	v, err := store.OpenFiles(ctx, []string{tb.Path}, tb.Trusted, state)
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	if err := take(t, s, tb.Variant(t, func(c *bundle.Contents) { c.Sequence = 8 }), nil); err != nil {
		t.Fatal(err)
	}
	for _, allow := range []bool{false, true} {
		if err := state.Remember(v, v.Audience(), allow); err != nil {
			t.Fatal(err)
		}
		now, err := store.ReadState(stateOf(s))
		if err != nil {
			t.Fatal(err)
		}
		if got := now.Lines["test"].Sequence; (got == 8) == allow {
			t.Errorf("rollback allowed: %v; it remembers %d", allow, got)
		}
	}
}

// TestHostilePieces: names that leave the store's folder, pieces without end, and what is no file
// at all.
func TestHostilePieces(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	data := testbundle.Read(t, tb.Path)
	s := newStore(t, tb.Trusted)
	for _, name := range []string{"...001", "..001", ".001", "-x.001", "a\nb.001"} {
		piece := filepath.Join(t.TempDir(), name)
		testbundle.WriteFile(t, piece, data)
		if len(media.Pieces(piece)) > 0 {
			t.Errorf("%q is taken for a piece", name)
		}
		if _, _, err := s.Stage(t.Context(), piece); err == nil {
			t.Errorf("%q is staged", name)
		}
	}
	// A manifest that is signed, behind a piece of one byte: there would be millions.
	dir := t.TempDir()
	testbundle.WriteFile(t, dir+"/team.tar.001", data[:1])
	testbundle.WriteFile(t, dir+"/team.tar.002", data[1:20000])
	if _, err := bundle.Open(ctx, dir+"/team.tar.001", tb.Trusted, ""); !testbundle.Refused(err) {
		t.Errorf("pieces of a byte: %v", err)
	}
	// A piece that was damaged behind its beginning is replaced by the good one.
	n := len(data) / 2
	dir = t.TempDir()
	bad := bytes.Clone(data[n:])
	bad[len(bad)-20000] ^= 1
	stage := func(name string, content []byte) (missing []string) {
		t.Helper()
		testbundle.WriteFile(t, filepath.Join(dir, name), content)
		_, missing, err := s.Stage(t.Context(), filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return missing
	}
	unlock, err := s.Lock(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	stage("team.tar.001", data[:len(data)-n])
	if missing := stage("team.tar.002", bytes.Clone(bad)); len(missing) > 0 {
		t.Fatal(missing)
	}
	stage("team.tar.002", data[len(data)-n:])
	in, _, err := media.OpenInput(filepath.Join(s.Dir, "incoming", "team.tar", "team.tar.001"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if got, err := io.ReadAll(in); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the good piece did not replace the damaged one: %v", err)
	}
}

// TestLinksOnAMedium: whoever imports reads files that others may not; a link to one, beside a
// piece or in its place, brings none of it into the store.
func TestLinksOnAMedium(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	data := testbundle.Read(t, tb.Path)
	secret := filepath.Join(t.TempDir(), "shadow")
	testbundle.WriteFile(t, secret, []byte("root:secret\n"))
	for _, name := range []string{"team.tar.001", "team.tar.sha256", "team.tar.sig"} {
		dir, s := t.TempDir(), newStore(t, tb.Trusted)
		testbundle.WriteFile(t, dir+"/team.tar.001", data)
		os.Remove(filepath.Join(dir, name))
		if err := os.Symlink(secret, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Stage(t.Context(), dir+"/team.tar.001"); err == nil || !strings.Contains(err.Error(), name+": it is a symbolic link") {
			t.Errorf("%s: %v", name, err)
		}
		nothingOf(t, s.Dir, "secret")
	}
	// Nor are detached signatures of a whole bundle read through one, nor a journal.
	whole := filepath.Join(t.TempDir(), "team.tar")
	testbundle.WriteFile(t, whole, data)
	for _, ext := range []string{".sig", ".signing"} {
		if err := os.Symlink(secret, whole+ext); err != nil {
			t.Fatal(err)
		}
		_, err := bundle.Sign(whole, tb.Trusted, tb.Key)
		if err == nil || !strings.Contains(err.Error(), ext+": it is a symbolic link") {
			t.Errorf("a link %s: %v", ext, err)
		}
		os.Remove(whole + ext)
	}
	// Nor is a file copied that is no list.
	dir, s := t.TempDir(), newStore(t, tb.Trusted)
	testbundle.WriteFile(t, dir+"/team.tar.001", data)
	testbundle.WriteFile(t, dir+"/team.tar.sha256", []byte("root  secret\n"))
	if _, _, err := s.Stage(t.Context(), dir+"/team.tar.001"); !testbundle.Refused(err) {
		t.Errorf("no list: %v", err)
	}
	nothingOf(t, s.Dir, "secret")
}

// nothingOf fails when a file below dir has a text in it.
func nothingOf(t *testing.T, dir, text string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() && bytes.Contains(testbundle.Read(t, name), []byte(text)) {
			t.Errorf("%s has %q in it", name, text)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestLineIsRepaired: a bundle that is damaged or gone, and that a newer one of its line names, is
// carried again.
func TestLineIsRepaired(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil).Variant(t, func(c *bundle.Contents) { c.Sequence = 9 }) // before 10 as a number, and not as a name
	delta := next(t, tb, 10, vulns(1))
	s := newStore(t, tb.Trusted)
	for _, x := range []*testbundle.TB{tb, delta} {
		if err := take(t, s, x, nil); err != nil {
			t.Fatal(err)
		}
	}
	err := take(t, s, tb, nil)
	if _, ok := errors.AsType[*store.AlreadyError](err); !ok {
		t.Errorf("what is there, again: %v", err)
	}
	name := filepath.Join(s.Dir, "test-9.tar")
	data := testbundle.Read(t, name)
	data[len(data)-100000] ^= 1
	testbundle.WriteFile(t, name, data)
	for _, trouble := range []string{"damaged", "gone"} {
		if err := take(t, s, tb, nil); err != nil {
			t.Errorf("%s: %v", trouble, err)
		}
		if !bytes.Equal(testbundle.Read(t, name), testbundle.Read(t, tb.Path)) {
			t.Errorf("%s: it was not replaced", trouble)
		}
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLinesApart: what is wrong with one line is no reason to refuse, or not to serve, another one.
func TestLinesApart(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	other := tb.Variant(t, func(c *bundle.Contents) { c.Name = "other" })
	approver, err := trust.EphemeralKey("approver")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bundle.Sign(other.Path, tb.Trusted, approver); err != nil {
		t.Fatal(err)
	}
	two := trust.NewKeyring(tb.Key.Verifier, approver.Verifier)
	s := newStore(t, two)
	if err := take(t, s, tb, nil); err != nil {
		t.Fatal(err)
	}
	strict := trust.NewKeyring(two.Keys...)
	strict.Require = 2
	s = reopened(t, s, strict, stateOf(s))
	if err := take(t, s, other, nil); err != nil {
		t.Errorf("beside a line with one signature: %v", err)
	}
	// The second signature comes later: the bundle itself, which may be on its way to a client,
	// stays as it is.
	before := testbundle.Read(t, filepath.Join(s.Dir, "test-7.tar"))
	if _, err := bundle.Sign(tb.Path, two, approver); err != nil {
		t.Fatal(err)
	}
	err = take(t, s, tb, nil)
	if already, ok := errors.AsType[*store.AlreadyError](err); !ok || len(already.Signed) != 1 {
		t.Errorf("signed since: %v", err)
	}
	if !bytes.Equal(before, testbundle.Read(t, filepath.Join(s.Dir, "test-7.tar"))) {
		t.Error("the bundle in the store was written to")
	}
	v, err := s.View(ctx, nil)
	if err != nil || len(v.Lines) != 2 {
		t.Fatal(v, err)
	}
	v.Close()
	name := filepath.Join(s.Dir, "test-7.tar")
	data := testbundle.Read(t, name)
	data[512+bundle.ManifestSize+512+5000] ^= 1 // of the index
	testbundle.WriteFile(t, name, data)
	fresh := reopened(t, s, strict, t.TempDir())
	v, err = fresh.View(ctx, nil)
	if err != nil || len(v.Lines) != 1 || v.Lines[0].Manifest.Name != "other" || len(v.Skipped) != 1 {
		t.Fatal(v, err)
	}
	v.Close()
	if _, err := store.OpenNewest(ctx, s.Dir, strict); err == nil {
		t.Error("the newest bundle of a store is told although one cannot be read")
	}
}

// TestFutureDates: a line dated in the future stands before others only by the day when it was
// first seen.
func TestFutureDates(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	dated := func(name string, when time.Time) *testbundle.TB {
		return tb.Variant(t, func(c *bundle.Contents) { c.Name, c.Created = name, when })
	}
	s := newStore(t, tb.Trusted)
	order := func() string {
		t.Helper()
		v, err := s.View(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer v.Close()
		var names []string
		for _, b := range v.Lines {
			names = append(names, b.Manifest.Name)
		}
		return strings.Join(names, " ")
	}
	now := time.Now()
	for _, step := range []struct {
		name string
		made time.Time
		want string
	}{
		{"old", now.Add(-time.Hour), "old"},
		{"far", time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), "far old"},
		{"new", now.Add(time.Hour), "new far old"}, // by a clock that is a little ahead
		{"last", now.Add(2 * time.Hour), "last new far old"},
	} {
		if err := take(t, s, dated(step.name, step.made), nil); err != nil {
			t.Fatal(err)
		}
		if got := order(); got != step.want {
			t.Errorf("with %s: %s, want %s", step.name, got, step.want)
		}
	}
	s = reopened(t, s, tb.Trusted, stateOf(s))
	if got := order(); got != "last new far old" {
		t.Errorf("after a restart: %s", got)
	}
}

// TestBaseWithoutFiles: a bundle of a line all of whose files were replaced is not needed to serve
// it.
func TestBaseWithoutFiles(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	s := newStore(t, tb.Trusted)
	second := next(t, tb, 8, vulns(1))
	for _, x := range []*testbundle.TB{tb, second, next(t, second, 9, vulns(2))} {
		if err := take(t, s, x, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, gone := range []struct {
		name string
		ok   bool
	}{{"test-8.tar", true}, {"test-7.tar", false}} {
		if err := os.Remove(filepath.Join(s.Dir, gone.name)); err != nil {
			t.Fatal(err)
		}
		v, err := reopened(t, s, tb.Trusted, stateOf(s)).View(ctx, nil)
		if (err == nil) != gone.ok {
			t.Fatalf("without %s: %v", gone.name, err)
		}
		if err != nil {
			continue
		}
		for f, err := range v.Lines[0].Index.Files(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			if _, err := v.Lines[0].Read(ctx, f, f.Size); err != nil {
				t.Error(err)
			}
		}
		v.Close()
	}
}
