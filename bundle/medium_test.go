//go:build unix

package bundle

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// exchanges has something put another thing in the place of a file, and back, all the time.
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

// meet opens a path again and again while something exchanges it, until it was opened and refused
// often enough, and has check look at each file that was opened.
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

// TestExchangedForAPipe: what is opened is a regular file, whatever lies there a moment before.
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
	meet(t, path, openRegular, 800, func(f *os.File) {
		if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
			t.Fatalf("opened %v (%v)", st.Mode(), err)
		}
	})
}

// TestExchangedForALink: nor is it one behind a link that lies there a moment later.
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
	meet(t, path, openBeside, 2000, func(f *os.File) {
		if data, err := io.ReadAll(f); err != nil || string(data) != "public" {
			t.Fatalf("read %q (%v)", data, err)
		}
	})
}

// TestPackTable has footers that lie about the table: none is a pack.
func TestPackTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.pack")
	record := bytes.Repeat([]byte{7}, packRecord)
	for _, test := range []struct {
		count, table uint64
		ok           bool
	}{
		{1, 10, true},
		{0, 10, false},
		{2, 10, false},
		{1, 9, false},
		{1, 11, false},
		{1 << 63, 10, false},
		{1<<63 - 1, 10, false},
		{1, 1 << 63, false},
		{0, uint64(10 + packRecord), true},
	} {
		data := append([]byte("0123456789"), record...)
		data = binary.BigEndian.AppendUint64(data, test.count)
		data = binary.BigEndian.AppendUint64(data, test.table)
		if err := os.WriteFile(file, append(data, packMagic...), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := openPack(file)
		if err == nil {
			p.medium.Close()
		}
		if (err == nil) != test.ok {
			t.Errorf("%d contents, table at %d: %v", int64(test.count), int64(test.table), err)
		}
	}
}
