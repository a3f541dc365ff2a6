//go:build unix

package media

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// exchanges replaces a file by another thing and back, over and over, until the test ends.
func exchanges(t *testing.T, path, other string) {
	t.Helper()
	aside := path + ".aside"
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			default:
			}
			os.Rename(path, aside)
			os.Rename(other, path)
			os.Rename(path, other)
			os.Rename(aside, path)
		}
	}()
	t.Cleanup(func() { close(done); <-stopped })
}

// meet opens a path over and over while exchanges replaces it, until it was opened and refused
// often enough, and calls check with each opened file.
func meet(t *testing.T, path string, open func(string) (*os.File, error), enough int, check func(*os.File)) {
	t.Helper()
	opened, refused := 0, 0
	for start := time.Now(); time.Since(start) < 20*time.Second && (opened < enough || refused < enough/4); {
		f, err := open(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			refused++
			continue
		}
		opened++
		check(f)
		f.Close()
	}
	if opened == 0 || refused == 0 {
		t.Skipf("%d times opened, %d refused: the two never met", opened, refused)
	}
}

// TestExchangedForAPipe opens a path where a file and a pipe take turns: only the file is opened.
func TestExchangedForAPipe(t *testing.T) {
	dir := t.TempDir()
	path, pipe := filepath.Join(dir, "team.tar"), filepath.Join(dir, "pipe")
	if err := os.WriteFile(path, []byte("team"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip("no pipes here:", err)
	}
	exchanges(t, path, pipe)
	meet(t, path, OpenRegular, 800, func(f *os.File) {
		if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
			t.Fatalf("opened %v (%v)", st.Mode(), err)
		}
	})
}

// TestExchangedForALink opens a path where a file and a symbolic link take turns: only the file is
// opened.
func TestExchangedForALink(t *testing.T) {
	dir := t.TempDir()
	path, link, secret := filepath.Join(dir, "team.tar.sig"), filepath.Join(dir, "link"), filepath.Join(dir, "secret")
	for name, text := range map[string]string{path: "public", secret: "secret"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, link); err != nil {
		t.Skip("no links here:", err)
	}
	exchanges(t, path, link)
	meet(t, path, OpenBeside, 2000, func(f *os.File) {
		if data, err := io.ReadAll(f); err != nil || string(data) != "public" {
			t.Fatalf("read %q (%v)", data, err)
		}
	})
}
