package index

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// TestExchangedFile exchanges the file by name under an open index. The open connection goes on
// with its file, and no later one reads the other file.
func TestExchangedFile(t *testing.T) {
	dir := t.TempDir()
	name, other := filepath.Join(dir, "index.sqlite"), filepath.Join(dir, "other.sqlite")
	for i, file := range []string{name, other} {
		w, err := Create(file)
		if err != nil {
			t.Fatal(err)
		}
		w.Head(Head{Size: int64(i + 1), Hash: "x", Note: "x"})
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	x, err := Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	ctx := context.Background()
	first, err := x.db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	second, err := x.db.Conn(ctx) // while the first is held: a second descriptor
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if err := os.Rename(other, name); err != nil {
		t.Fatal(err)
	}
	x.db.SetMaxIdleConns(-1)
	if c, err := x.db.Conn(ctx); err == nil {
		defer c.Close()
		var n int64
		err := c.QueryRowContext(ctx, "SELECT size FROM head").Scan(&n)
		t.Errorf("a connection to the other file reads %d (%v)", n, err)
	}
	var n int64
	if err := first.QueryRowContext(ctx, "SELECT size FROM head").Scan(&n); err != nil || n != 1 {
		t.Errorf("the first connection reads %d (%v)", n, err)
	}
}
