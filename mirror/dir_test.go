package mirror

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestLeftOverTempFilesAreRemoved(t *testing.T) {
	w := newWorld(t)
	left := filepath.Join(w.dir, "tmp", ".modmirror-tmp-X")
	os.MkdirAll(filepath.Dir(left), 0o755)
	if err := os.WriteFile(left, []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := w.sync("example.com/text@v1.1.0"); err != nil {
		t.Fatal(err)
	}
	if list, _ := os.ReadDir(filepath.Dir(left)); len(list) != 0 {
		t.Errorf("tmp holds %v", list)
	}
}

// TestQuarantineKeepsLongNames checks that the evidence of a module with a long path is kept, with
// its whole path beside it.
func TestQuarantineKeepsLongNames(t *testing.T) {
	d, err := OpenDir(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	long := "example.com/" + strings.Repeat("some-long-element/", 20) + "m/@v/v1.0.0.zip"
	for _, rel := range []string{"example.com/m/@v/v1.0.0.zip", long, strings.Replace(long, "some", "same", 1)} {
		f, err := d.put(rel, []byte("evidence"))
		if err != nil {
			t.Fatal(err)
		}
		if err := d.quarantine(f.Name(), rel, errors.New("its hash is another one")); err != nil {
			t.Errorf("%.60s: %v", rel, err)
		}
	}
	reasons, err := filepath.Glob(filepath.Join(d.root, quarantineDir, "*.reason"))
	if err != nil || len(reasons) != 3 {
		t.Fatalf("quarantine has %d reasons, want 3 (%v)", len(reasons), err)
	}
	for _, name := range reasons {
		evidence, err := os.ReadFile(strings.TrimSuffix(name, ".reason"))
		if err != nil || string(evidence) != "evidence" {
			t.Errorf("%s: %q, %v", name, evidence, err)
		}
		reason, _ := os.ReadFile(name)
		if !strings.Contains(string(reason), "/m/@v/v1.0.0.zip: its hash is another one") {
			t.Errorf("%s says %q", name, reason)
		}
	}
}

// TestPending reads files that have no name yet, and writes more of them than may wait, from many
// goroutines.
func TestPending(t *testing.T) {
	d, err := OpenDir(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	name := func(i int) string { return fmt.Sprintf("example.com/m%d/@v/v1.0.0.mod", i) }
	var wg sync.WaitGroup
	const writers, each = 8, 700
	for w := range writers {
		wg.Go(func() {
			for i := w * each; i < (w+1)*each; i++ {
				if err := d.write(name(i), fmt.Append(nil, i)); err != nil {
					t.Error(err)
				}
				if data, ok, err := d.read(name(i)); err != nil || !ok || string(data) != fmt.Sprint(i) {
					t.Errorf("%s: %q, %v, %v", name(i), data, ok, err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(d.pending); n >= maxPending {
		t.Errorf("%d files wait for their names, want fewer than %d", n, maxPending)
	}
	if err := d.write(name(0), []byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if len(d.pending) != 0 || d.inMemory != 0 || d.onDisk != 0 {
		t.Errorf("%d files, %d and %d bytes are left", len(d.pending), d.inMemory, d.onDisk)
	}
	for i := range writers * each {
		want := fmt.Sprint(i)
		if i == 0 {
			want = "new"
		}
		if data, err := os.ReadFile(d.Path(name(i))); err != nil || string(data) != want {
			t.Fatalf("%s: %q, %v, want %q", name(i), data, err, want)
		}
	}
}

// TestZipsFirst names zips before their hashes, in one sync.
func TestZipsFirst(t *testing.T) {
	d, err := OpenDir(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	const zip = "example.com/m/@v/v1.0.0.zip"
	if err := d.write(hashesFile(zip), []byte("h1")); err != nil {
		t.Fatal(err)
	}
	f, err := d.put(zip, []byte("zip"))
	if err == nil {
		err = d.adopt(zip, f, 3)
	}
	if err != nil {
		t.Fatal(err)
	}
	if data, ok, err := d.read(zip); err != nil || !ok || string(data) != "zip" {
		t.Errorf("before it has its name: %q, %v, %v", data, ok, err)
	}
	os.Mkdir(d.Path("example.com"), 0o777)
	if err := os.WriteFile(d.Path("example.com/m"), nil, 0o666); err != nil { // no folder can be there
		t.Fatal(err)
	}
	if err := d.flush(); err == nil {
		t.Fatal("named below a file")
	}
	if err := d.write("example.com/n/@v/v1.0.0.mod", []byte("mod")); err != nil {
		t.Fatal(err)
	}
	os.Remove(d.Path("example.com/m"))
	if err := d.Sync(); err != nil {
		t.Errorf("after that: %v", err)
	}
	if exists(d.Path(zip)) || exists(d.Path(hashesFile(zip))) || !exists(d.Path("example.com/n/@v/v1.0.0.mod")) {
		t.Error("the zip that could not be named, or its hashes, are there, or what came later is not")
	}
}

// TestOneUnnamed names all files but the one that cannot have its name.
func TestOneUnnamed(t *testing.T) {
	d, err := OpenDir(t.Context(), t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, rel := range []string{"a.example/@v/v1.0.0.mod", "b.example/@v/v1.0.0.mod", "c.example/@v/v1.0.0.mod"} {
		if err := d.write(rel, []byte("mod")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(d.Path("b.example"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := d.flush(); err == nil {
		t.Error("named below a file")
	}
	if !exists(d.Path("a.example/@v/v1.0.0.mod")) || !exists(d.Path("c.example/@v/v1.0.0.mod")) {
		t.Error("another file has no name")
	}
	os.Remove(d.Path("b.example"))
	if err := d.flush(); err != nil || !exists(d.Path("b.example/@v/v1.0.0.mod")) {
		t.Errorf("when it can be named: %v", err)
	}
}
