package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"testing"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// A failingObject is an object of storage that answers each read with an error.
type failingObject struct{ cause error }

func (o failingObject) String() string { return "s3://bucket/test-8.tar" }

func (o failingObject) ReadAt(context.Context, []byte, int64) (int, error) {
	return 0, &media.UnavailableError{What: "reading", Err: o.cause}
}

func (o failingObject) NewReader(context.Context, int64, int64) io.ReadCloser {
	panic("no content is read")
}

// A failingShelf is a folder in which test-8.tar cannot be read.
type failingShelf struct {
	media.Folder
	cause error
}

func (s failingShelf) List(ctx context.Context) ([]media.Item, error) {
	items, err := s.Folder.List(ctx)
	for i := range items {
		if items[i].Name == "test-8.tar" {
			items[i].Open = func(context.Context) (media.Media, error) {
				return media.NewObject(failingObject{s.cause}, 1<<20, nil), nil
			}
		}
	}
	return items, err
}

// TestUnreadNewest has storage fail while the newest bundle is read, in ways that look like the end
// of a file: the older bundle is not served in its place.
func TestUnreadNewest(t *testing.T) {
	tb := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	for _, cause := range []error{errors.New("refused"), fmt.Errorf("Get: %w", io.EOF), io.ErrUnexpectedEOF} {
		dir := t.TempDir()
		put(t, dir, "test-7.tar", tb)
		put(t, dir, "test-8.tar", tb.Variant(t, sequence(8)))
		s, err := store.OpenShelf(failingShelf{media.Folder(dir), cause}, tb.Trusted, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		v, err := s.View(ctx, nil)
		if _, ok := errors.AsType[*media.UnreadError](err); !ok || v != nil {
			t.Errorf("%v: %v, %v", cause, v, err)
		}
	}
}

// TestUnverifiedIndexInStore has signed bundles lie in a store whose indexes do not verify: an
// import of an earlier one neither uses nor remembers them.
func TestUnverifiedIndexInStore(t *testing.T) {
	tb := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	for _, sql := range []string{
		"UPDATE file SET offset = offset + 1",
		"UPDATE bundle SET name = 'other'",
		"PRAGMA foreign_keys = off; DELETE FROM bundle",
	} {
		forged := tb.Variant(t, sequence(8)).Forge(t, testbundle.ChangeSQL(t, sql))
		s := newStore(t, tb.Trusted)
		unlock, err := s.Lock(ctx, nil)
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		testbundle.WriteFile(t, filepath.Join(s.Dir, "test-8.tar"), testbundle.Read(t, forged))
		err = take(t, s, tb, func(im *store.Import) {
			im.AllowRollback = true
			im.Serves = func(v *store.View) {
				for _, b := range v.Lines {
					if b.Manifest.Sequence == 8 {
						t.Errorf("%s: sequence 8 would be served", sql)
					}
				}
			}
		})
		if !testbundle.Refused(err) {
			t.Errorf("%s: %v", sql, err)
		}
		if seen := s.State.Lines["test"]; seen.Sequence == 8 {
			t.Errorf("%s: sequence 8 is remembered", sql)
		}
	}
}

// TestBeforeWithFewSignatures has the newest bundle that passed VerifyDeep lack a signature that is
// required now: it vouches for nothing, and all of the next one is checked.
func TestBeforeWithFewSignatures(t *testing.T) {
	tb := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	b, err := store.OpenFiles(ctx, []string{tb.Path}, tb.Trusted, store.NoState())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	two := trust.NewKeyring(tb.Key.Verifier)
	two.Require = 2
	if err := b.Lines[0].OpenIndex(ctx, two, ""); !isA[*trust.TooFewError](err) || b.Lines[0].Index != nil {
		t.Errorf("an index of a bundle with too few signatures: %v", err)
	}
}
