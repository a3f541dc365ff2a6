package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// draft returns the draft of a bundle with files around the size of a part, some of them on disk.
func draft(t *testing.T) (*testbundle.TB, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "content")
	b := testbundle.Make(t, "../testdata/mod", func(c *bundle.Contents) {
		for i, size := range []int{0, 1, 511, 512, 100_000, 256<<10 - 1, 256 << 10, 256<<10 + 1, 3_000_000} {
			path, data := fmt.Sprintf("vulndb/ID/GO-2024-%04d.json", i), bytes.Repeat([]byte{byte(i + 1)}, size)
			src := bundle.DataSource(path, data)
			if size == 3_000_000 {
				if err := os.WriteFile(file, data, 0o666); err != nil {
					t.Fatal(err)
				}
				src.Data, src.File = nil, file
			}
			c.Vulns = append(c.Vulns, src)
		}
	})
	return b, file
}

// TestWriteParts writes the same bytes into a file, on several cores, as into a stream.
func TestWriteParts(t *testing.T) {
	b, content := draft(t)
	write := func(ctx context.Context) ([]byte, error) {
		f, err := safefile.Create(filepath.Join(t.TempDir(), "b.tar"), 0o666)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Discard()
		if err := b.Draft.Write(ctx, f, b.Key); err != nil {
			return nil, err
		}
		return os.ReadFile(f.Name())
	}
	var want bytes.Buffer
	if err := b.Draft.Write(t.Context(), &want, b.Key); err != nil {
		t.Fatal(err)
	}
	got, err := write(t.Context())
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes in the file, %d in the stream, %v", len(got), want.Len(), err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := write(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
	for what, change := range map[string]func() error{
		"changed": func() error { return os.WriteFile(content, bytes.Repeat([]byte{1}, 3_000_000), 0o666) },
		"shorter": func() error { return os.Truncate(content, 2_000_000) },
		"gone":    func() error { return os.Remove(content) },
	} {
		saved, err := os.ReadFile(content)
		if err == nil {
			err = change()
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = write(t.Context())
		changed, ok := errors.AsType[*bundle.ChangedError](err)
		if isGone := errors.Is(err, os.ErrNotExist); isGone != (what == "gone") || !isGone && (!ok || changed.File != content) {
			t.Errorf("a file that is %s: %v", what, err)
		}
		if err := os.WriteFile(content, saved, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}
