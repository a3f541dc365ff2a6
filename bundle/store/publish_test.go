package store_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// A folderTarget publishes to a folder, as a bucket does to storage.
type folderTarget struct {
	media.Folder
	damage bool // the last byte of an upload is wrong
}

func (t folderTarget) Open(_ context.Context, name string) (media.Media, error) {
	return media.Open(filepath.Join(t.String(), name))
}

func (t folderTarget) Upload(_ context.Context, name string, src io.ReaderAt, size int64, progress func(n int64)) error {
	data := make([]byte, size)
	if _, err := src.ReadAt(data, 0); err != nil && err != io.EOF {
		return err
	}
	if t.damage {
		data[600] ^= 1
	}
	progress(size)
	return os.WriteFile(filepath.Join(t.String(), name), data, 0o600)
}

// TestPublish publishes the bundles of a line in their order, and refuses all others.
func TestPublish(t *testing.T) {
	tb := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	delta := next(t, tb, 8, vulns(1))
	older := tb.Variant(t, func(c *bundle.Contents) { c.Sequence = 3 })
	other := tb.Variant(t, later)
	to := folderTarget{Folder: media.Folder(t.TempDir())}
	publish := func(x *testbundle.TB, to store.Target) (n int64, err error) {
		t.Helper()
		b, err := bundle.Open(ctx, x.Path, x.Trusted, "")
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		err = store.Publish(ctx, b, to, x.Trusted, func(k int64) { n += k })
		return n, err
	}
	if _, err := publish(delta, to); !isA[*bundle.MissingBaseError](err) {
		t.Errorf("a delta before its base: %v", err)
	}
	st, err := os.Stat(tb.Path)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := publish(tb, to); err != nil || n < st.Size() {
		t.Errorf("%d of twice %d bytes, %v", n, st.Size(), err)
	}
	if _, err := publish(tb, to); !isA[*store.AlreadyError](err) {
		t.Errorf("again: %v", err)
	}
	for name, x := range map[string]*testbundle.TB{"an older one": older, "another one under its number": other} {
		if _, err := publish(x, to); !isA[*bundle.RollbackError](err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := publish(delta, to); err != nil {
		t.Errorf("a delta: %v", err)
	}
	items, err := to.List(ctx)
	if err != nil || len(items) != 2 {
		t.Errorf("%v, %v", items, err)
	}
	if _, err := publish(tb, folderTarget{media.Folder(t.TempDir()), true}); err == nil {
		t.Error("an upload that was damaged on its way")
	}
}
