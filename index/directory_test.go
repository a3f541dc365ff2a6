package index

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// directoryOf makes the directory of an index.
func directoryOf(t testing.TB, x *Index) (*directory, error) {
	t.Helper()
	roots, err := x.roots(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return readDirectory(x.file, roots, new(atomic.Bool))
}

// manyFiles makes and opens an index whose tables have several levels, with rows that go on in
// overflow pages. reverse has the rows in another order than that of their keys.
func manyFiles(t testing.TB, modules int, reverse bool) *Index {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	own := w.Bundle(Bundle{Name: "team", Sequence: 1})
	for i := range modules {
		if reverse {
			i = modules - i
		}
		name := fmt.Sprintf("example.com/m%06d", i)
		text := ""
		if i%100 == 0 {
			text = strings.Repeat("long ", 2000)
		}
		m := w.Module(name, true, text, "")
		w.Version(m, Version{Version: "v1.0.0", Time: fmt.Sprintf("2020-01-02T03:%02d:05Z", i%60), Origin: text})
		w.Version(m, Version{Version: "v1.1.0", Time: ""})
		for k, file := range []string{"list", "main.info", "v1.0.0.info", "v1.0.0.mod", "v1.1.0.info", "v1.1.0.mod"} {
			n := int64(10*i + k)
			w.File(File{
				Path: name + "/@v/" + file, Bundle: own, Offset: n + int64(i%50)<<40, Size: n % 3, SHA256: [32]byte{byte(n), byte(n >> 8)},
			})
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	x, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x
}

// TestDirectory compares the answers of a directory with those of SQLite, for each file of an
// index.
func TestDirectory(t *testing.T) {
	x := manyFiles(t, 3000, false)
	d, err := directoryOf(t, x)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.files.pages) < 300 || len(d.version.pages) < 30 || d.modules.kept == nil {
		t.Errorf("%d leaves of files, %d of versions", len(d.files.pages), len(d.version.pages))
	}
	for f, err := range x.Files(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		module, name, _ := strings.Cut(f.Path, "/@v/")
		version := strings.TrimSuffix(strings.TrimSuffix(name, ".info"), ".mod")
		want, time, known, ok, err := x.FileOf(ctx, f.Path, module, version)
		if err != nil || !ok || want != f {
			t.Fatalf("%s: SQLite says %+v, %v, %v", f.Path, want, ok, err)
		}
		got, ok := d.fileOf(f.Path, module, version)
		if ok != known {
			t.Fatalf("%s: found in the directory: %v, want %v", f.Path, ok, known)
		}
		if ok && (got.File != f || got.time != time || !got.known) {
			t.Fatalf("%s: got %+v, want %+v of %q", f.Path, got, f, time)
		}
	}
	const there, module = "example.com/m000007/@v/v1.0.0.mod", "example.com/m000007"
	for _, ask := range [][3]string{
		{there, module, "v1.0.1"}, {there, module + "0", "v1.0.0"}, {there, "", "v1.0.0"}, {there, module, ""},
		{there + "x", module, "v1.0.0"}, {"", "", ""}, {"zzz", module, "v1.0.0"}, {strings.Repeat("x", 5000), module, "v1.0.0"},
	} {
		if f, ok := d.fileOf(ask[0], ask[1], ask[2]); ok {
			t.Errorf("%.40q: %+v", ask, f)
		}
	}
}

// TestNoDirectory checks that an index whose rows are in another order than that of their keys has
// no directory, and that the one of an empty index finds nothing.
func TestNoDirectory(t *testing.T) {
	if _, err := directoryOf(t, manyFiles(t, 1000, true)); err == nil {
		t.Error("rows in reverse have a directory")
	}
	d, err := directoryOf(t, manyFiles(t, 0, false))
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := d.fileOf("example.com/a/@v/v1.0.0.mod", "example.com/a", "v1.0.0"); ok {
		t.Error("a file in an empty index")
	}
}

// TestDirectoryAfterQueries checks that many queries make the directory, that answers stay the
// same, and that it stays within a bound.
func TestDirectoryAfterQueries(t *testing.T) {
	x := manyFiles(t, 200, false)
	ask := func() {
		t.Helper()
		f, time, known, ok, err := x.FileOf(ctx, "example.com/m000007/@v/v1.0.0.mod", "example.com/m000007", "v1.0.0")
		if err != nil || !ok || !known || time != "2020-01-02T03:07:05Z" || f.SHA256[0] != 73 {
			t.Fatalf("got %+v, %q, %v, %v, %v", f, time, known, ok, err)
		}
	}
	for range directoryAfter {
		ask()
	}
	x.builder.wait.Wait()
	if x.builder.built.Load() == nil {
		t.Error("there is no directory")
	}
	ask()
	l := leaves{keys: make([]byte, maxLeaves)}
	var p page
	if err := p.read(x.file, x.builder.built.Load().files.pages[0]); err != nil {
		t.Fatal(err)
	}
	if err := l.add(&p, 2, 8); err != errBig {
		t.Errorf("one leaf more than there is room for: %v", err)
	}
}

// TestCloseEndsBuild closes an index that begins to make its directory.
func TestCloseEndsBuild(t *testing.T) {
	x := manyFiles(t, 200, false)
	for range directoryAfter {
		x.FileOf(ctx, "a", "b", "c")
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	x.builder.asked.Store(0)
	for range 2 * directoryAfter {
		if _, _, _, ok, err := x.FileOf(ctx, "a", "b", "c"); ok || err == nil {
			t.Fatal("a closed index answers")
		}
	}
}

// FuzzDirectory changes bytes of an index that was not checked: a directory of it may be wrong, and
// neither panics nor goes on for ever.
func FuzzDirectory(f *testing.F) {
	x := manyFiles(f, 60, false)
	good, err := os.ReadFile(x.file.Name())
	if err != nil {
		f.Fatal(err)
	}
	roots, err := x.roots(ctx)
	if err != nil {
		f.Fatal(err)
	}
	name := filepath.Join(f.TempDir(), "bad")
	for i, root := range roots {
		at := (root - 1) * pageSize
		f.Add(at, []byte{leafTable, 0, 0, 0xff, 0xff}, uint16(i))
		f.Add(at+8, []byte{0, 0, 0, byte(root)}, uint16(i))
		f.Add(at+12, []byte{0xff, 0xff, 0, 0}, uint16(7))
	}
	f.Fuzz(func(t *testing.T, at uint32, change []byte, module uint16) {
		data := append([]byte(nil), good...)
		copy(data[int(at)%len(data):], change)
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		d, err := readDirectory(file, roots, new(atomic.Bool))
		if err != nil {
			return
		}
		path := fmt.Sprintf("example.com/m%06d", module%64)
		if got, ok := d.fileOf(path+"/@v/v1.0.0.mod", path, "v1.0.0"); ok && got.Path != path+"/@v/v1.0.0.mod" {
			t.Errorf("asked for %s, got %+v", path, got)
		}
	})
}
