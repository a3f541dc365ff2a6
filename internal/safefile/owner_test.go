//go:build unix

package safefile

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestOwner has another user, and write permission for others, at each level of a path.
func TestOwner(t *testing.T) {
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dir := filepath.Join(top, "a", "state")
	must(os.MkdirAll(dir, 0o700))
	must(CheckOwner(dir))
	refused := func(what, path string) {
		t.Helper()
		if e, ok := errors.AsType[*OwnerError](CheckOwner(path)); !ok {
			t.Errorf("%s: %v", what, e)
		}
	}
	for _, p := range []string{dir, filepath.Dir(dir)} {
		for _, mode := range []os.FileMode{0o777, 0o702} {
			must(os.Chmod(p, mode))
			refused(p+" "+mode.String(), dir)
		}
		must(os.Chmod(p, 0o700))
	}
	must(os.Chmod(filepath.Dir(dir), 0o777|os.ModeSticky)) // like /tmp
	must(CheckOwner(dir))
	must(os.Chmod(dir, 0o777|os.ModeSticky))
	refused("sticky itself", dir)
	must(os.Chmod(dir, 0o700))
	must(os.Chmod(filepath.Dir(dir), 0o770)) // this user's own group
	must(CheckOwner(dir))

	file := filepath.Join(dir, "file")
	must(os.WriteFile(file, nil, 0o600))
	f, err := os.Open(file)
	must(err)
	defer f.Close()
	must(CheckFileOwner(f))
	must(f.Chmod(0o606))
	if CheckFileOwner(f) == nil {
		t.Error("a file that others can write to")
	}
	must(f.Chmod(0o600))

	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	must(os.Chown(file, 12345, -1))
	if CheckFileOwner(f) == nil {
		t.Error("a file of another user")
	}
	for _, p := range []string{dir, filepath.Dir(dir)} {
		must(os.Chown(p, 12345, -1))
		refused(p+" of another user", dir)
		must(os.Chown(p, 0, -1))
	}
	must(CheckOwner(dir))
	link := filepath.Join(top, "a", "link")
	must(os.Symlink(dir, link))
	must(CheckOwner(link))
	must(os.Lchown(link, 12345, -1)) // its owner can point it elsewhere
	refused("through his link", link)
}
