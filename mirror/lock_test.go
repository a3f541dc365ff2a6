package mirror

import (
	"errors"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/mod/module"
)

// TestLock syncs again by a lock, after the upstream has changed.
func TestLock(t *testing.T) {
	w := newWorld(t)
	args := []string{"example.com/hello@v1", "example.com/none@latest"}
	first, err := w.sync(args...)
	if err != nil {
		t.Fatal(err)
	}
	lock := NewLock(first)
	text, err := lock.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if lock, err = ParseLock(text); err != nil {
		t.Fatal(err)
	}
	w.add("example.com/hello@v1.9.0", "go 1.20\n", "h.go", "package hello\n")
	if err := w.up.Grow(); err != nil {
		t.Fatal(err)
	}
	w.cfg.Dir = t.TempDir()
	j := job(t, args...)
	j.Lock = lock
	again, err := w.open().Sync(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(zips(first), zips(again)); diff != "" || again.Head.N != first.Head.N {
		t.Errorf("head of %d, was %d; (-first +again):\n%s", again.Head.N, first.Head.N, diff)
	}
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"example.com/hello@latest"}, "was not asked for when the lock was made"},
		{append(args, "example.com/old@v0.1.0"), "is carried now and is not in the lock"},
		{args[:1], "missing is , and was example.com/none@latest list"},
		{args[1:], "is in the lock and is not carried now"},
	} {
		w.cfg.Dir = t.TempDir()
		j := job(t, tc.args...)
		j.Lock = lock
		_, err := w.open().Sync(t.Context(), j)
		if _, ok := errors.AsType[*LockError](err); !ok || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %s", tc.args, err, tc.want)
		}
	}
}

// FuzzParseLock checks that every version in an accepted lock is a module version.
func FuzzParseLock(f *testing.F) {
	good, err := (&Lock{Format: lockFormat, Name: "team", Versions: []LockedVersion{{Path: "example.com/x", Version: "v1.0.0"}}}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":"modmirror lock v1","versions":[{"path":"../x","version":"v1"}]}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := ParseLock(data)
		if err != nil {
			return
		}
		for _, v := range l.Versions {
			if err := module.Check(v.Path, v.Version); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestLockComparesContents has zips that are packed in another way, and zips with other contents.
func TestLockComparesContents(t *testing.T) {
	closure := func() *Closure {
		v := Version{Mod: module.Version{Path: "example.com/x", Version: "v1.0.0"}, H1: "h1:x", GoModH1: "h1:m", Zip: &File{SHA256: [32]byte{1}}}
		return &Closure{Versions: []Version{v}}
	}
	lock := NewLock(closure())
	same := closure()
	if err := lock.check(same); err != nil || same.Repacked != 0 {
		t.Errorf("the same: %v, %d repacked", err, same.Repacked)
	}
	repacked := closure()
	repacked.Versions[0].Zip.SHA256[0]++
	if err := lock.check(repacked); err != nil || repacked.Repacked != 1 {
		t.Errorf("packed in another way: %v, %d repacked", err, repacked.Repacked)
	}
	for name, change := range map[string]func(*Version){
		"h1":     func(v *Version) { v.H1 = "h1:y" },
		"go.mod": func(v *Version) { v.GoModH1 = "h1:y" },
		"no zip": func(v *Version) { v.Zip = nil },
	} {
		c := closure()
		change(&c.Versions[0])
		if err := lock.check(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
