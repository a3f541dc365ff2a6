package bundle_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// A sealed is a verified copy of an index in a state directory, with its seal.
type sealed struct {
	tb                *testbundle.TB
	state, copy, seal string
}

// newSealed opens a bundle so that the state has a sealed copy of its index.
func newSealed(t *testing.T) *sealed {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("copies are hashed at each start here: modmirror reads no ctime on this system")
	}
	tb := testbundle.Make(t, modfiles, nil)
	s := &sealed{tb: tb, state: t.TempDir()}
	s.copy = filepath.Join(s.state, "index", tb.Draft.Manifest.ID()+".sqlite")
	s.seal = strings.TrimSuffix(s.copy, ".sqlite") + ".seal"
	if s.open(t) {
		t.Fatal("seen before the first time")
	}
	if testbundle.Read(t, s.seal) == nil {
		t.Fatal("no seal")
	}
	return s
}

// open opens the bundle, and reports whether the copy was taken.
func (s *sealed) open(t *testing.T) (seen bool) {
	t.Helper()
	b, err := bundle.Open(ctx, s.tb.Path, s.tb.Trusted, s.state)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	return b.Seen
}

// alter changes a byte of the copy that no Open reads, in place, and gives the copy its old mtime.
func (s *sealed) alter(t *testing.T) {
	t.Helper()
	st, err := os.Stat(s.copy)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(s.copy, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var p [1]byte
	at := st.Size() - 100
	if _, err := f.ReadAt(p[:], at); err != nil {
		t.Fatal(err)
	}
	p[0] ^= 1
	if _, err := f.WriteAt(p[:], at); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(s.copy, st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
}

// forged returns the seal of the copy as it is now: what only this user could write.
func (s *sealed) forged(t *testing.T) string {
	t.Helper()
	f, err := os.Open(s.copy)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	id, err := media.IdentityOf(f)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("modmirror seal 1\nindex sha256:%x\n%s", s.tb.Draft.Manifest.Index, id.Text())
}

// TestSealedCopyIsNotHashed alters a copy and forges its seal, as this user could: the copy is
// taken as it is, so it was not hashed. Hashing it again finds the damage, and removes the seal.
func TestSealedCopyIsNotHashed(t *testing.T) {
	s := newSealed(t)
	s.alter(t)
	testbundle.WriteFile(t, s.seal, []byte(s.forged(t)))
	b, err := bundle.Open(ctx, s.tb.Path, s.tb.Trusted, s.state)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if !b.Seen {
		t.Fatal("a sealed copy was hashed")
	}
	pieces := 0
	err = b.RehashIndex(func(time.Duration) error { pieces++; return nil })
	if !testbundle.Refused(err) {
		t.Errorf("hashing the altered copy again: %v", err)
	}
	if s.open(t) {
		t.Error("the altered copy was taken after its hash was found to be wrong")
	}
	if b, err = bundle.Open(ctx, s.tb.Path, s.tb.Trusted, s.state); err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.RehashIndex(func(time.Duration) error { return nil }); err != nil {
		t.Errorf("hashing the good copy again: %v", err)
	}
}

// TestSealOfAnotherFile alters a copy in each way that leaves its size and mtime: its seal does not
// count any more.
func TestSealOfAnotherFile(t *testing.T) {
	for name, change := range map[string]func(t *testing.T, s *sealed){
		"altered in place": func(*testing.T, *sealed) {},
		"exchanged for a copy": func(t *testing.T, s *sealed) {
			exchange(t, s.copy)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSealed(t)
			s.alter(t)
			change(t, s)
			if s.open(t) {
				t.Error("the altered copy was taken")
			}
			if !s.open(t) {
				t.Error("the copy that was made anew was not taken")
			}
		})
	}
}

// exchange replaces a file by a copy with the same mtime.
func exchange(t *testing.T, name string) {
	t.Helper()
	st, err := os.Stat(name)
	if err != nil {
		t.Fatal(err)
	}
	testbundle.WriteFile(t, name+".new", testbundle.Read(t, name))
	if err := os.Chmod(name+".new", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(name+".new", st.ModTime(), st.ModTime()); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

// TestRestoredCopyIsSealedAnew exchanges a copy for an equal file, as a restored backup is: it is
// hashed, taken, and sealed under its new identity.
func TestRestoredCopyIsSealedAnew(t *testing.T) {
	s := newSealed(t)
	old := string(testbundle.Read(t, s.seal))
	exchange(t, s.copy)
	if !s.open(t) {
		t.Error("the restored copy was not taken")
	}
	if now := string(testbundle.Read(t, s.seal)); now == old || now != s.forged(t) {
		t.Errorf("seal %q after %q", now, old)
	}
}

// TestBadSeals has seals of an altered copy that are not quite those that Open writes, or that
// another user could have written: the copy is hashed.
func TestBadSeals(t *testing.T) {
	for name, forge := range map[string]func(t *testing.T, s *sealed){
		"none":  func(t *testing.T, s *sealed) { os.Remove(s.seal) },
		"empty": func(t *testing.T, s *sealed) { testbundle.WriteFile(t, s.seal, nil) },
		"shorter": func(t *testing.T, s *sealed) {
			text := s.forged(t)
			testbundle.WriteFile(t, s.seal, []byte(text[:len(text)-1]))
		},
		"longer": func(t *testing.T, s *sealed) { testbundle.WriteFile(t, s.seal, []byte(s.forged(t)+"\n")) },
		"of another index": func(t *testing.T, s *sealed) {
			id := fmt.Sprintf("%x", s.tb.Draft.Manifest.Index)
			testbundle.WriteFile(t, s.seal, []byte(strings.Replace(s.forged(t), id, strings.Repeat("0", len(id)), 1)))
		},
		"a folder": func(t *testing.T, s *sealed) {
			os.Remove(s.seal)
			if err := os.Mkdir(s.seal, 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"writable by others": func(t *testing.T, s *sealed) {
			testbundle.WriteFile(t, s.seal, []byte(s.forged(t)))
			if err := os.Chmod(s.seal, 0o666); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSealed(t)
			s.alter(t)
			forge(t, s)
			if s.open(t) {
				t.Error("the altered copy was taken")
			}
		})
	}
}

// TestChangeRightAfterSeal alters a copy as soon as it is sealed, when the clock of the file system
// may not have gone on since the copy got its name: the change shows all the same.
func TestChangeRightAfterSeal(t *testing.T) {
	for range 10 {
		s := newSealed(t)
		s.alter(t)
		if s.open(t) {
			t.Fatal("the altered copy was taken")
		}
	}
}

// TestForgetIndex checks that a forgotten index leaves no seal.
func TestForgetIndex(t *testing.T) {
	s := newSealed(t)
	bundle.ForgetIndex(s.state, s.tb.Draft.Manifest.ID())
	if left, err := os.ReadDir(filepath.Dir(s.copy)); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
