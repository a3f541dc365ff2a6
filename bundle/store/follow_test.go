package store_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/media/object"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// follower returns a Follower of the store in a new folder, and the folder.
func follower(t *testing.T, keyring *trust.Keyring) (*store.Follower, string) {
	t.Helper()
	dir := t.TempDir()
	return &store.Follower{Paths: []string{dir}, Trust: keyring, StateDir: t.TempDir(),
		Log: slog.New(slog.DiscardHandler)}, dir
}

// put copies a bundle into a store without asking it.
func put(t *testing.T, dir, name string, tb *testbundle.TB) string {
	t.Helper()
	file := filepath.Join(dir, name)
	testbundle.WriteFile(t, file, testbundle.Read(t, tb.Path))
	return file
}

// sequences returns the sequences of the lines of a view, which it closes; nil for no view.
func sequences(t *testing.T, v *store.View, err error) (list []int64) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if v == nil {
		return nil
	}
	for _, b := range v.Lines {
		list = append(list, b.Manifest.Sequence)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
	return list
}

// sequence is a change that gives a bundle another sequence.
func sequence(n int64) func(*bundle.Contents) {
	return func(c *bundle.Contents) { c.Sequence = n }
}

func TestFollowerReload(t *testing.T) {
	tb := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	newer := tb.Variant(t, sequence(8))
	other := tb.Variant(t, func(c *bundle.Contents) { c.Name = "other" })
	f, dir := follower(t, tb.Trusted)
	put(t, dir, "test-7.tar", tb)
	reload := func(want ...int64) {
		t.Helper()
		v, err := f.Reload(t.Context())
		if got := sequences(t, v, err); !slices.Equal(got, want) {
			t.Errorf("reloaded sequences %v, want %v", got, want)
		}
	}
	v, err := f.Open(t.Context())
	if got := sequences(t, v, err); !slices.Equal(got, []int64{7}) {
		t.Errorf("opened sequences %v, want 7", got)
	}
	reload() // nothing has changed
	put(t, dir, "test-8.tar", newer)
	reload(8)
	reload()
	put(t, dir, "other-7.tar", other)
	reload(7, 8)
	testbundle.WriteFile(t, filepath.Join(dir, "notes.txt"), nil) // not a bundle
	reload(7, 8)
}

// TestFollowerWaits has a store filled while Open waits for it.
func TestFollowerWaits(t *testing.T) {
	tb := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	for _, made := range []bool{false, true} {
		f, dir := follower(t, tb.Trusted)
		f.Paths[0] = filepath.Join(dir, "store")
		if made {
			if err := f.MakeStore(); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Test(t, func(t *testing.T) {
			start, waited := time.Now(), 0
			f.Waiting = func(why error) {
				if waited++; why != store.ErrEmpty {
					t.Errorf("waits because of: %v", why)
				}
				time.AfterFunc(2*time.Second+time.Millisecond, func() {
					if err := f.MakeStore(); err != nil {
						t.Error(err)
					}
					put(t, f.Paths[0], "test-7.tar", tb)
				})
			}
			v, err := f.Open(t.Context())
			if got := sequences(t, v, err); !slices.Equal(got, []int64{7}) {
				t.Errorf("opened sequences %v, want 7", got)
			}
			if waited != 1 {
				t.Errorf("said %d times that it waits, want once", waited)
			}
			// Sealing the index may wait some milliseconds more.
			if took := time.Since(start); took.Truncate(time.Second) != 3*time.Second {
				t.Errorf("took %v, want 3 s", took)
			}
		})
	}
}

func TestFollowerStopsWaiting(t *testing.T) {
	f, _ := follower(t, trust.NewKeyring())
	ctx, cancel := context.WithCancel(t.Context())
	f.Waiting = func(error) { cancel() }
	if v, err := f.Open(ctx); v != nil || !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v, want context.Canceled", v, err)
	}
}

func TestFollowerIsStore(t *testing.T) {
	tb := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	dir := t.TempDir()
	pieces := filepath.Join(dir, "pieces")
	testbundle.WriteFile(t, pieces+".001", nil)
	for _, tt := range []struct {
		paths []string
		want  bool
	}{
		{[]string{dir}, true},
		{[]string{filepath.Join(dir, "later")}, true},
		{[]string{tb.Path}, false},
		{[]string{filepath.Join(dir, "gone.tar")}, false},
		{[]string{filepath.Join(dir, "gone.001")}, false},
		{[]string{pieces}, false},
		{[]string{dir, dir}, false},
	} {
		f := &store.Follower{Paths: tt.paths}
		if got := f.IsStore(); got != tt.want {
			t.Errorf("%v: is a dir: %v, want %v", tt.paths, got, tt.want)
		}
		if err := f.MakeStore(); err != nil {
			t.Errorf("%v: %v", tt.paths, err)
		}
		st, err := os.Stat(tt.paths[0])
		if folder := err == nil && st.IsDir(); len(tt.paths) == 1 && folder != tt.want {
			t.Errorf("%v: is a folder: %v, want %v", tt.paths, folder, tt.want)
		}
	}
	f := &store.Follower{Paths: []string{filepath.Join(tb.Path, "store")}}
	if err := f.MakeStore(); f.IsStore() && err == nil {
		t.Error("a folder was made in a file")
	}
}

// TestFollowerKeepsView takes a line away under a running server, or damages its newest bundle: the
// last view stays until the store is whole again.
func TestFollowerKeepsView(t *testing.T) {
	tb := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	other := tb.Variant(t, func(c *bundle.Contents) { c.Name = "other" })
	newer := tb.Variant(t, sequence(8))
	synctest.Test(t, func(t *testing.T) {
		f, dir := follower(t, tb.Trusted)
		put(t, dir, "test-7.tar", tb)
		gone := put(t, dir, "other-7.tar", other)
		v, err := f.Open(t.Context())
		if got := sequences(t, v, err); len(got) != 2 {
			t.Fatalf("opened sequences %v, want two lines", got)
		}
		accepted := 0
		f.Accept = func(context.Context, *store.View) error { accepted++; return nil }
		refused := func(after time.Duration, opened int, text string) {
			t.Helper()
			time.Sleep(after)
			v, err := f.Reload(t.Context())
			if v != nil || err == nil || !strings.Contains(err.Error(), text) {
				t.Errorf("%v, %v, want an error with %q", v, err, text)
			}
			if accepted != opened {
				t.Errorf("the store was opened %d times, want %d", accepted, opened)
			}
		}
		if err := os.Remove(gone); err != nil {
			t.Fatal(err)
		}
		refused(time.Second, 1, "the line other is not in the store any more")
		refused(time.Second, 1, "the line other is not in the store any more")
		refused(30*time.Second, 2, "the line other is not in the store any more") // perhaps it was something else

		state, err := store.ReadState(f.StateDir)
		if err != nil || len(state.Lines) != 2 {
			t.Errorf("remembered: %v, %v", state, err)
		}
		put(t, dir, "other-7.tar", other)
		put(t, dir, "test-8.tar", newer)
		v, err = f.Reload(t.Context())
		if got := sequences(t, v, err); len(got) != 2 {
			t.Errorf("reloaded sequences %v, want two lines", got)
		}
		if v, err := f.Reload(t.Context()); v != nil || err != nil {
			t.Errorf("%v, %v after the store is whole", v, err)
		}
	})
}

// TestFollowerRollback takes the newest bundle out of a store under a server whose state folder
// forgot what was served, as one does that cannot be written to: what was served before goes on.
func TestFollowerRollback(t *testing.T) {
	tb := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	newer := tb.Variant(t, sequence(8))
	for _, allow := range []bool{false, true} {
		f, dir := follower(t, tb.Trusted)
		f.AllowRollback = allow
		put(t, dir, "test-7.tar", tb)
		newest := put(t, dir, "test-8.tar", newer)
		v, err := f.Open(t.Context())
		if got := sequences(t, v, err); !slices.Equal(got, []int64{8}) {
			t.Fatalf("opened sequences %v, want 8", got)
		}
		if err := os.Remove(newest); err != nil {
			t.Fatal(err)
		}
		f.StateDir = t.TempDir() // nothing is remembered
		v, err = f.Reload(t.Context())
		if v != nil {
			v.Close()
		}
		if _, back := errors.AsType[*bundle.RollbackError](err); back == allow || (v != nil) != allow {
			t.Errorf("rollback allowed %v: %v, %v", allow, v, err)
		}
	}
}

// TestFollowerRemembers opens an older bundle than the state has seen.
func TestFollowerRemembers(t *testing.T) {
	tb := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	newer := tb.Variant(t, sequence(8))
	state := t.TempDir()
	open := func(allow bool, files ...string) ([]int64, error) {
		f := &store.Follower{Paths: files, Trust: tb.Trusted, StateDir: state, AllowRollback: allow,
			Log: slog.New(slog.DiscardHandler)}
		v, err := f.Open(t.Context())
		if err != nil {
			return nil, err
		}
		return sequences(t, v, nil), nil
	}
	if got, err := open(false, newer.Path); err != nil || !slices.Equal(got, []int64{8}) {
		t.Fatalf("%v, %v, want 8", got, err)
	}
	_, err := open(false, tb.Path)
	if _, back := errors.AsType[*bundle.RollbackError](err); !back {
		t.Errorf("an older bundle: %v, want a *RollbackError", err)
	}
	if got, err := open(true, tb.Path); err != nil || !slices.Equal(got, []int64{7}) {
		t.Errorf("allowed: %v, %v, want 7", got, err)
	}
	if got, err := open(false, tb.Path); err != nil || !slices.Equal(got, []int64{7}) {
		t.Errorf("after that: %v, %v, want 7", got, err)
	}
}

func TestFollowerMinSequence(t *testing.T) {
	tb := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	for least, ok := range map[int64]bool{0: true, 7: true, 8: false} {
		f := &store.Follower{Paths: []string{tb.Path}, Trust: tb.Trusted, StateDir: t.TempDir(), MinSequence: least,
			Log: slog.New(slog.DiscardHandler)}
		v, err := f.Open(t.Context())
		if v != nil {
			v.Close()
		}
		_, below := errors.AsType[*store.MinSequenceError](err)
		_, back := errors.AsType[*bundle.RollbackError](err)
		if (v != nil) != ok || below == ok || back == ok {
			t.Errorf("at least %d: %v, %v", least, v, err)
		}
	}
}

// TestFollowerAccept refuses a view for a reason of the server's own: nothing is remembered of it.
func TestFollowerAccept(t *testing.T) {
	tb := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	refusal := errors.New("no")
	f := &store.Follower{Paths: []string{tb.Path}, Trust: tb.Trusted, StateDir: t.TempDir(),
		Log: slog.New(slog.DiscardHandler)}
	f.Accept = func(_ context.Context, v *store.View) error {
		if len(v.Lines) != 1 || v.Lines[0].Manifest.Sequence != 7 {
			t.Errorf("asked about %v", v.Lines)
		}
		return refusal
	}
	if v, err := f.Open(t.Context()); v != nil || !errors.Is(err, refusal) {
		t.Errorf("%v, %v, want the refusal", v, err)
	}
	state, err := store.ReadState(f.StateDir)
	if err != nil || len(state.Lines) > 0 {
		t.Errorf("remembered: %v, %v", state, err)
	}
}

// TestFollowerErrors meets what waiting does not help against.
func TestFollowerErrors(t *testing.T) {
	tb := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	damaged := t.TempDir()
	testbundle.WriteFile(t, filepath.Join(damaged, "lines.json"), []byte("{"))
	stranger := trust.NewKeyring()
	dir := t.TempDir()
	put(t, dir, "test-7.tar", tb)
	for _, tt := range []struct {
		name    string
		path    string
		keyring *trust.Keyring
		state   string
		is      func(error) bool
	}{
		{"no such file", filepath.Join(dir, "gone.tar"), tb.Trusted, t.TempDir(), os.IsNotExist},
		{"a bundle of a stranger", tb.Path, stranger, t.TempDir(), isA[*trust.UntrustedError]},
		{"a store of a stranger's", dir, stranger, t.TempDir(), isA[*trust.UntrustedError]},
		{"a damaged state", tb.Path, tb.Trusted, damaged, isA[*store.StateError]},
		{"a damaged state for a store", dir, tb.Trusted, damaged, isA[*store.StateError]},
	} {
		f := &store.Follower{Paths: []string{tt.path}, Trust: tt.keyring, StateDir: tt.state,
			Log: slog.New(slog.DiscardHandler)}
		f.Waiting = func(why error) { t.Errorf("%s: waits: %v", tt.name, why) }
		v, err := f.Open(t.Context())
		if v != nil || err == nil || !(tt.is(err) || tt.is(errors.Unwrap(err))) {
			t.Errorf("%s: %v, %v", tt.name, v, err)
		}
	}
	f := &store.Follower{Paths: []string{dir}, Trust: tb.Trusted, StateDir: damaged,
		Log: slog.New(slog.DiscardHandler)}
	if v, err := f.Reload(t.Context()); v != nil || !isA[*store.StateError](err) {
		t.Errorf("reload with a damaged state: %v, %v", v, err)
	}
}

func isA[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// TestFollowerBucketDenied has a bucket that may not be read: Open does not wait, and Reload asks
// again only after a while.
func TestFollowerBucketDenied(t *testing.T) {
	asked := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked++
		http.Error(w, "no", http.StatusForbidden)
	}))
	defer srv.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "k")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s")
	b, err := object.Open("s3://modules/team", srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &store.Follower{Shelf: b, Trust: trust.NewKeyring(), StateDir: t.TempDir(),
		Log: slog.New(slog.DiscardHandler)}
	if !f.IsStore() {
		t.Error("a bucket is no store")
	}
	denied := func(v *store.View, err error) {
		t.Helper()
		if gone, ok := errors.AsType[*media.UnavailableError](err); v != nil || !ok || !gone.Denied {
			t.Errorf("%v, %v, want that access is denied", v, err)
		}
	}
	f.Waiting = func(why error) { t.Errorf("waits: %v", why) }
	denied(f.Open(t.Context()))
	denied(f.Reload(t.Context()))
	before := asked
	denied(f.Reload(t.Context()))
	if asked != before {
		t.Errorf("the bucket was asked %d times more", asked-before)
	}
}
