package assemble

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/modmirror/modmirror/mirror"
)

func TestReadLock(t *testing.T) {
	w := newWorld(t)
	for _, file := range []string{"", w.path("missing")} {
		if l, err := ReadLock(file); l != nil || err != nil {
			t.Errorf("%q: %v, %v", file, l, err)
		}
	}
	w.must(os.WriteFile(w.path("bad"), []byte("{}"), 0o666))
	_, err := ReadLock(w.path("bad"))
	if !isUsage(err, w.path("bad")+": its format is") || !hasHint(err, "", "to make a new lock, name a file") {
		t.Errorf("%v", err)
	}
	if _, err := ReadLock(w.dir); err == nil { // a folder
		t.Error("a folder was read as a lock")
	}
}

// TestLock makes a lock, and the same bytes from it, later and elsewhere.
func TestLock(t *testing.T) {
	w := newWorld(t)
	lock := w.path("team.lock")
	r := w.bundle("team.tar", func(o *Options) { o.Lock = lock }, "example.com/hello@latest")
	if !r.has("wrote " + lock + ": with it, sync --lock makes the same bytes again") {
		t.Errorf("said %q", r.said)
	}
	l, err := ReadLock(lock)
	w.must(err)
	m := r.written.Manifest
	if l.Name != "team" || l.Sequence != m.Sequence || !l.Created.Equal(m.Created) || l.Base != "" ||
		l.Index != r.written.index || l.Contents != r.written.contents || len(l.Versions) != len(r.closure.Versions) {
		t.Errorf("lock %+v of %+v", l, m)
	}
	before, err := os.ReadFile(lock)
	w.must(err)
	w.must(w.up.Grow()) // a newer tree head, that the lock does not know
	w.config.Dir = t.TempDir()
	r = w.bundle("again.tar", func(o *Options) { o.Lock, o.Created = lock, time.Unix(1_800_000_000, 0) }, "example.com/hello@latest")
	if first, again := read(t, w.path("team.tar")), read(t, w.path("again.tar")); !bytes.Equal(first, again) {
		t.Error("the second bundle has other bytes")
	}
	if after := read(t, lock); !bytes.Equal(before, after) || r.has("wrote "+lock) {
		t.Error("the lock was written again")
	}
}

func TestLockDiffers(t *testing.T) {
	w := newWorld(t)
	lock := w.path("team.lock")
	w.bundle("team.tar", func(o *Options) { o.Lock = lock }, "example.com/text@v1.1.0")
	for name, test := range map[string]struct {
		change func(*Options)
		source string
		err    string
	}{
		"other sources":   {nil, "example.com/UpperCase@v1.0.0", "lock: example.com/UpperCase@v1.0.0 is carried now and is not in the lock"},
		"another base":    {func(o *Options) { o.Bases = []string{w.path("base.tar")}; o.Name = "team" }, "example.com/text@v1.1.0", "--sequence"},
		"other name":      {func(o *Options) { o.Name = "other" }, "example.com/text@v1.1.0", "is the lock of bundle team, sequence 1700000000"},
		"other sequence":  {func(o *Options) { o.Sequence = 8 }, "example.com/text@v1.1.0", "is the lock of bundle team, sequence 1700000000"},
		"other GONOSUMDB": {func(o *Options) { o.Mirror.NoSumDB = "example.com/text" }, "example.com/text@v1.1.0", "lock: "},
	} {
		if name == "another base" {
			w.bundle("base.tar", func(o *Options) { o.Name = "team" }, "example.com/text@v1.1.0")
		}
		o, r := w.options("x.tar", test.source)
		o.Lock = lock
		if test.change != nil {
			test.change(&o)
		}
		if err := w.make(o); !contains(err, test.err) {
			t.Errorf("%s: %v, want %q", name, err, test.err)
		}
		if r.written != nil {
			t.Errorf("%s: a bundle was written", name)
		}
	}
}

func TestCheckLock(t *testing.T) {
	w := newWorld(t)
	w.bundle("team.tar", nil, "example.com/text@v1.1.0")
	own := w.open("team.tar")
	none, some := &bases{}, &bases{own: own}
	if err := errors.Join(none.checkLock(&mirror.Lock{}), some.checkLock(&mirror.Lock{Base: own.ID()})); err != nil {
		t.Error(err)
	}
	for _, err := range []error{none.checkLock(&mirror.Lock{Base: own.ID()}), some.checkLock(&mirror.Lock{})} {
		if !contains(err, "lock: the base is") {
			t.Errorf("%v", err)
		}
	}
}

// TestCheckContents compares bundles whose zips are packed in another way than those of the lock.
func TestCheckContents(t *testing.T) {
	for _, test := range []struct {
		lock      *mirror.Lock
		repacked  int
		sameIndex bool
		err       string
	}{
		{nil, 0, false, ""},
		{&mirror.Lock{Contents: "other", Form: indexForm}, 0, true, ""}, // the index is compared, which says more
		{&mirror.Lock{Contents: "digest", Form: indexForm}, 2, false, ""},
		{&mirror.Lock{Contents: "other", Form: indexForm}, 1, false, "lock: " + errNotOfLock.Reason},
		{&mirror.Lock{Form: indexForm}, 1, false, "lock: " + errOtherPacking.Reason},
		{&mirror.Lock{Contents: "digest"}, 0, false, ""},
		{&mirror.Lock{Contents: "other"}, 0, false, "lock: " + errNotOfLock.Reason},
		{&mirror.Lock{}, 0, false, "lock: " + errOtherPacking.Reason},
	} {
		rec := new(recorder)
		r := &Run{o: Options{Report: rec}, lock: test.lock}
		same, err := r.checkContents(&mirror.Closure{Repacked: test.repacked}, "digest")
		if same != test.sameIndex || test.err == "" && err != nil || test.err != "" && !hasHint(err, test.err, "remove the lock") {
			t.Errorf("%+v: %v, %v", test, same, err)
		}
		if said := rec.has("2 zips packed differently than when the lock was made"); said != (test.repacked == 2) {
			t.Errorf("%+v: said %q", test, rec.said)
		}
		other := test.repacked == 0 && test.lock != nil && test.lock.Contents == "digest"
		if rec.has("the lock is of another modmirror") != other {
			t.Errorf("%+v: said %q", test, rec.said)
		}
	}
}

func TestOtherLock(t *testing.T) {
	if err := otherLock(nil); err != nil {
		t.Errorf("%v", err)
	}
	if err := otherLock(context.Canceled); err != context.Canceled {
		t.Errorf("%v", err)
	}
	if err := otherLock(&mirror.LockError{Reason: "x"}); err.Error() != "lock: x" || !hasHint(err, "x", "remove the lock") {
		t.Errorf("%v", err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
