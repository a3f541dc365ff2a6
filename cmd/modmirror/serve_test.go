package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/modmirror/modmirror/serve"
)

// TestRollbackWhileServing takes the newest bundle out of a store under a server whose state folder
// forgot what was served, as one does that cannot be written to: what was served before goes on.
func TestRollbackWhileServing(t *testing.T) {
	tb := testbundle.Make(t, "../../testdata/mod", nil)
	newer := *tb
	c := *tb.Contents
	c.Sequence++
	newer.Contents = &c
	newer.Write(t)
	dir := t.TempDir()
	put := func(name, from string) string {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	put("test-7.tar", tb.Path)
	newest := put("test-8.tar", newer.Path)
	for _, allow := range []bool{false, true} {
		s := &served{server: new(serve.Server), args: []string{dir}, keyring: tb.Trusted, state: t.TempDir(), log: slog.New(slog.DiscardHandler), allowRollback: allow}
		v, err := s.open(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		v.Close()
		if err := os.Remove(newest); err != nil {
			t.Fatal(err)
		}
		s.state = t.TempDir() // nothing is remembered
		v, err = s.reload(context.Background())
		if v != nil {
			v.Close()
		}
		if _, back := errors.AsType[*bundle.RollbackError](err); back == allow || (v != nil) != allow {
			t.Errorf("rollback allowed %v: %v, %v", allow, v, err)
		}
		put("test-8.tar", newer.Path)
	}
}
