package h1

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/dirhash"
	modzip "golang.org/x/mod/zip"
)

var mod = module.Version{Path: "example.com/m", Version: "v1.0.0"}

func makeZip(t testing.TB, names ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for i, n := range names {
		f, err := w.Create(n)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(f, strings.Repeat(n, 1000*i))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func hash(data []byte) (ZipHash, error) {
	return Zip(context.Background(), make(Limiter, 2), mod, bytes.NewReader(data), int64(len(data)))
}

// TestEqualsDirhash compares with the implementation in x/mod.
func TestEqualsDirhash(t *testing.T) {
	for _, names := range [][]string{{}, {"go.mod"}, {"b", "a", "dir/z", "go.mod", "dir/a", "é", "Ab"}} {
		for i := range names {
			names[i] = "example.com/m@v1.0.0/" + names[i]
		}
		data := makeZip(t, names...)
		file := filepath.Join(t.TempDir(), "m.zip")
		if err := os.WriteFile(file, data, 0o644); err != nil {
			t.Fatal(err)
		}
		want, err := dirhash.HashZip(file, dirhash.Hash1)
		if err != nil {
			t.Fatal(err)
		}
		got, err := hash(data)
		if err != nil || got.H1 != want {
			t.Errorf("%q: %s, %v; dirhash says %s", names, got.H1, err, want)
		}
		if has := strings.Contains(strings.Join(names, " "), "/go.mod"); has != (got.GoMod != nil) {
			t.Errorf("%q: go.mod found: %v", names, got.GoMod != nil)
		}
	}
	data := []byte("module example.com/m\n")
	want, err := dirhash.Hash1([]string{"go.mod"}, func(string) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	if err != nil {
		t.Fatal(err)
	}
	if got := GoMod(data); got != want {
		t.Errorf("GoMod = %s, dirhash says %s", got, want)
	}
}

func TestZipRefuses(t *testing.T) {
	good := makeZip(t, "example.com/m@v1.0.0/a", "example.com/m@v1.0.0/b")
	flipped := bytes.Clone(good)
	flipped[len("PK")+60] ^= 1
	for name, data := range map[string][]byte{
		"empty":       nil,
		"cut":         good[:len(good)-10],
		"other":       makeZip(t, "example.com/n@v1.0.0/a"),
		"traversal":   makeZip(t, "../a"),
		"twice":       makeZip(t, "example.com/m@v1.0.0/a", "example.com/m@v1.0.0/a"),
		"line break":  makeZip(t, "example.com/m@v1.0.0/a\nb"),
		"flipped bit": makeFlipped(t),
	} {
		if h, err := hash(data); err == nil {
			t.Errorf("%s: hashed as %s", name, h.H1)
		}
	}
	for name, sizes := range map[string][]uint64{
		"a file": {modzip.MaxZipFile + 1}, "a number that overflows": {math.MaxUint64, 2}, "together": {modzip.MaxZipFile / 2, modzip.MaxZipFile/2 + 1, 1},
	} {
		if _, err := hash(makeLying(t, "f", sizes...)); err == nil || !strings.Contains(err.Error(), "it holds more than") {
			t.Errorf("%s larger than a module zip: %v", name, err)
		}
	}
	if _, err := hash(makeLying(t, "go.mod", modzip.MaxGoMod+1)); err == nil || !strings.Contains(err.Error(), "go.mod has more than") {
		t.Errorf("a large go.mod: %v", err)
	}
	if h, err := hash(good); err != nil {
		t.Errorf("good zip: %v %v", h, err)
	}
}

// makeLying returns a zip of empty files whose directory gives them other sizes.
func makeLying(t *testing.T, name string, sizes ...uint64) []byte {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for i, size := range sizes {
		n := "example.com/m@v1.0.0/" + name
		if i > 0 {
			n += fmt.Sprint(i)
		}
		if _, err := w.CreateRaw(&zip.FileHeader{Name: n, Method: zip.Store, UncompressedSize64: size}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// makeFlipped returns a zip with a wrong bit in its compressed content.
func makeFlipped(t *testing.T) []byte {
	data := makeZip(t, "example.com/m@v1.0.0/a", "example.com/m@v1.0.0/b")
	r, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	at, err := r.File[1].DataOffset()
	if err != nil {
		t.Fatal(err)
	}
	data[at+int64(r.File[1].CompressedSize64)/2] ^= 1
	return data
}

// FuzzZip checks that an accepted zip has the hash that x/mod gives it.
func FuzzZip(f *testing.F) {
	f.Add(makeZip(f, "example.com/m@v1.0.0/a", "example.com/m@v1.0.0/b"))
	f.Add(makeZip(f, "example.com/m@v1.0.0/go.mod"))
	f.Add([]byte("PK\x05\x06" + strings.Repeat("\x00", 18)))
	file := filepath.Join(f.TempDir(), "x.zip")
	f.Fuzz(func(t *testing.T, data []byte) {
		z, err := hash(data)
		if err != nil {
			return
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if want, err := dirhash.HashZip(file, dirhash.Hash1); err != nil || z.H1 != want {
			t.Errorf("%s, want %s (%v)", z.H1, want, err)
		}
	})
}
