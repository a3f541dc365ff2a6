package serve

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// staticBundle makes a bundle with one entry of the vulnerability database, and opens it.
func staticBundle(t *testing.T, sequence int64, name string) (*testbundle.TB, *bundle.Bundle) {
	t.Helper()
	tb := testbundle.Make(t, "../testdata/mod", func(c *bundle.Contents) {
		c.Name, c.Sequence = name, sequence
		for _, name := range []string{"ID/GO-2021-0113.json", "index/db.json", "index/modules.json", "index/vulns.json"} {
			c.Vulns = append(c.Vulns, bundle.DataSource("vulndb/"+name, []byte(`{"name":"`+name+`"}`)))
		}
	})
	b, err := bundle.Open(ctx, tb.Path, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return tb, b
}

// TestPublishPlainTree publishes a bundle to a folder: every file, entries of the vulnerability
// database compressed too, and nothing the second time.
func TestPublishPlainTree(t *testing.T) {
	_, b := staticBundle(t, 7, "test")
	dir := t.TempDir()
	files, written, err := (&Static{Dir: dir}).Publish(ctx, b)
	if err != nil || files != written || files != b.Manifest.Counts.Files+4 {
		t.Fatalf("%d files, %d written, %v; the bundle has %d", files, written, err, b.Manifest.Counts.Files)
	}
	for f, err := range b.Index.Files(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		want, err := b.Read(ctx, f, f.Size)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", f.Path, len(got), err)
		}
	}
	packed, err := os.ReadFile(filepath.Join(dir, "vulndb/index/db.json.gz"))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(z); err != nil || string(got) != `{"name":"index/db.json"}` {
		t.Errorf("%s, %v", got, err)
	}
	again, written, err := (&Static{Dir: dir}).Publish(ctx, b)
	if err != nil || again != files || written != 0 {
		t.Errorf("the second time %d of %d files were written, %v", written, again, err)
	}
}

// TestPublishRefuses an older bundle, one of another line, a folder with files of something else,
// and a bundle that does not verify.
func TestPublishRefuses(t *testing.T) {
	tb, newer := staticBundle(t, 8, "test")
	_, older := staticBundle(t, 7, "test")
	_, other := staticBundle(t, 9, "other")
	dir := t.TempDir()
	if _, _, err := (&Static{Dir: dir}).Publish(ctx, newer); err != nil {
		t.Fatal(err)
	}
	for _, b := range []*bundle.Bundle{older, other} {
		_, written, err := (&Static{Dir: dir}).Publish(ctx, b)
		if _, ok := errors.AsType[*bundle.RollbackError](err); !ok || written != 0 {
			t.Errorf("%s %d: %v, %d files written", b.Manifest.Name, b.Manifest.Sequence, err, written)
		}
		if _, _, err := (&Static{Dir: dir, AllowRollback: true}).Publish(ctx, b); err != nil {
			t.Errorf("%s %d, allowed: %v", b.Manifest.Name, b.Manifest.Sequence, err)
		}
	}

	foreign := t.TempDir()
	if err := os.MkdirAll(filepath.Join(foreign, "vulndb/index"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(foreign, "vulndb/index/db.json.gz"), []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, written, err := (&Static{Dir: foreign}).Publish(ctx, newer)
	if _, ok := errors.AsType[*bundle.OccupiedError](err); !ok || written != 0 {
		t.Errorf("a folder of something else: %v, %d files written", err, written)
	}
	if _, _, err := (&Static{Dir: foreign, Overwrite: true}).Publish(ctx, newer); err != nil {
		t.Errorf("overwriting: %v", err)
	}

	for _, marker := range []string{"{}", `{"name":"","sequence":0}`, `{"name":"../x","sequence":0}`} {
		strange := t.TempDir()
		for name, text := range map[string]string{markerName: marker, "README.txt": "mine"} {
			if err := os.WriteFile(filepath.Join(strange, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := (&Static{Dir: strange}).Publish(ctx, newer)
		if _, ok := errors.AsType[*bundle.RollbackError](err); !ok {
			t.Errorf("a marker %s: %v", marker, err)
		}
		if data, err := os.ReadFile(filepath.Join(strange, "README.txt")); err != nil || string(data) != "mine" {
			t.Errorf("a marker %s: what was there is %q, %v", marker, data, err)
		}
	}

	f, _, err := newer.Index.File(ctx, strings.TrimPrefix(largeZip, "/"))
	if err != nil {
		t.Fatal(err)
	}
	at, err := newer.Find(f)
	if err != nil {
		t.Fatal(err)
	}
	disk, err := os.OpenFile(tb.Path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer disk.Close()
	flip(t, disk, at.Offset+10)
	empty := t.TempDir()
	_, _, err = (&Static{Dir: empty}).Publish(ctx, newer)
	if _, ok := errors.AsType[*bundle.NotVerifiedError](err); !ok {
		t.Errorf("a damaged bundle: %v", err)
	}
	if _, err := os.Stat(filepath.Join(empty, "example.com/large/@v/v1.0.0.zip")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the damaged file is there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(empty, "example.com/large/@v/list")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a list names the damaged file: %v", err)
	}
}
