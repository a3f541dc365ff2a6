package safetree

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/bundle/media"
)

// open returns a tree in a new folder.
func open(t *testing.T) *Tree {
	t.Helper()
	tree, err := Open(filepath.Join(t.TempDir(), "tree"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// write writes text to a path.
func write(tree *Tree, name, text string) (bool, error) {
	return tree.Write(name, strings.NewReader(text), sha256.Sum256([]byte(text)), make([]byte, 100))
}

// TestWrite writes files, and files that are in the way.
func TestWrite(t *testing.T) {
	tree := open(t)
	for _, want := range []bool{true, false} {
		if wrote, err := write(tree, "a/b/c.txt", "text"); err != nil || wrote != want {
			t.Errorf("wrote %v, %v, want %v", wrote, err, want)
		}
	}
	if data, err := tree.ReadFile(t.Context(), "a/b/c.txt", 10); err != nil || string(data) != "text" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := tree.ReadFile(t.Context(), "a/b/c.txt", 3); err == nil {
		t.Error("a file above the limit was read")
	}
	if _, err := tree.ReadFile(t.Context(), "a/none", 3); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := write(tree, "a/b/c.txt", "other"); !occupied(err) {
		t.Errorf("other contents: %v", err)
	}
	tree.SetReplace()
	if wrote, err := write(tree, "a/b/c.txt", "other"); err != nil || !wrote {
		t.Errorf("replace: %v, %v", wrote, err)
	}
	_, err := tree.Write("bad", strings.NewReader("text"), [32]byte{1}, make([]byte, 100))
	if _, ok := errors.AsType[*media.NotVerifiedError](err); !ok {
		t.Errorf("another SHA-256: %v", err)
	}
	if _, err := os.Lstat(filepath.Join(tree.Dir, "bad")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it was written: %v", err)
	}
	if err := tree.Sync(); err != nil {
		t.Error(err)
	}
}

// TestLinks writes where symbolic links lead out of the tree: nothing outside changes.
func TestLinks(t *testing.T) {
	tree := open(t)
	outside := t.TempDir()
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, to := range map[string]string{"file": secret, "dir": outside} {
		if err := os.Symlink(to, filepath.Join(tree.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	tree.SetReplace()
	for _, name := range []string{"file", "dir/secret", "dir/new", "file/below"} {
		if _, err := write(tree, name, "text"); err == nil {
			t.Errorf("%s: written", name)
		}
		if data, err := tree.ReadFile(t.Context(), name, 100); err == nil {
			t.Errorf("%s: read %q", name, data)
		}
	}
	files, err := os.ReadDir(outside)
	data, readErr := os.ReadFile(secret)
	if err != nil || readErr != nil || len(files) != 1 || string(data) != "secret" {
		t.Errorf("outside: %v, %v, %q, %v", files, err, data, readErr)
	}
}

// TestCheckFree finds the first file that is in the way.
func TestCheckFree(t *testing.T) {
	tree := open(t)
	if _, err := write(tree, "same", "text"); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("broken")
	list := func(files []File, err error) iter.Seq2[File, error] {
		return func(yield func(File, error) bool) {
			for _, f := range files {
				if !yield(f, nil) {
					return
				}
			}
			if err != nil {
				yield(File{}, err)
			}
		}
	}
	free := []File{{Path: "same", SHA256: sha256.Sum256([]byte("text"))}, {Path: "new"}}
	if err := tree.CheckFree(t.Context(), list(free, nil)); err != nil {
		t.Error(err)
	}
	if err := tree.CheckFree(t.Context(), list(free, broken)); err != broken {
		t.Error(err)
	}
	if err := tree.CheckFree(t.Context(), list([]File{{Path: "same"}}, nil)); !occupied(err) {
		t.Errorf("other contents: %v", err)
	}
	f := File{Path: "put", Size: 4, SHA256: sha256.Sum256([]byte("text"))}
	if wrote, err := tree.Put(t.Context(), f, bytes.NewReader([]byte("text and more"))); err != nil || !wrote {
		t.Errorf("Put: %v, %v", wrote, err)
	}
	if data, err := tree.ReadFile(t.Context(), "put", 10); err != nil || string(data) != "text" {
		t.Errorf("%q, %v", data, err)
	}
}

func occupied(err error) bool {
	o, ok := errors.AsType[*OccupiedError](err)
	return ok && o.File != "" && strings.Contains(err.Error(), o.Reason)
}
