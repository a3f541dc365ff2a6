package mirror

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/review/facts"
)

// TestDamagedZip checks that a file that is not a zip, or whose content does not inflate, does not
// verify.
func TestDamagedZip(t *testing.T) {
	for _, change := range []func([]byte) []byte{
		func([]byte) []byte { return []byte("hello") },
		func(b []byte) []byte { b[len(b)/3] ^= 0x55; return b },
		func(b []byte) []byte { return b[:len(b)-10] },
	} {
		w := newWorld(t)
		path := "example.com/text/@v/v1.1.0.zip"
		zip, err := w.up.Get(path)
		if err != nil {
			t.Fatal(err)
		}
		w.up.Override(path, content(string(change(zip))))
		if _, err := w.sync("example.com/text@v1.1.0"); !errors.Is(err, proof.ErrMismatch) {
			t.Errorf("got %v, want a mismatch", err)
		}
		if list, _ := os.ReadDir(filepath.Join(w.dir, "quarantine")); len(list) != 2 {
			t.Errorf("quarantine holds %v", list)
		}
	}
}

// TestLongDirectory checks that a zip with an endless directory is refused before it is read into
// memory, and that the error says which and why.
func TestLongDirectory(t *testing.T) {
	w := newWorld(t)
	path := "example.com/text/@v/v1.1.0.zip"
	zip, err := w.up.Get(path)
	if err != nil {
		t.Fatal(err)
	}
	at, end := bytes.Index(zip, []byte("PK\x01\x02")), bytes.LastIndex(zip, []byte("PK\x05\x06"))
	directory, record := zip[at:end], bytes.Clone(zip[end:])
	entries, n := binary.LittleEndian.Uint16(record[10:]), 3*h1.MaxDirectory/len(directory)
	for _, i := range []int{8, 10} {
		binary.LittleEndian.PutUint16(record[i:], uint16(n*int(entries)))
	}
	binary.LittleEndian.PutUint32(record[12:], uint32(n*len(directory)))
	long := slices.Concat(zip[:at], bytes.Repeat(directory, n), record)
	w.up.Override(path, content(string(long)))
	_, err = w.sync("example.com/text@v1.1.0")
	if !errors.Is(err, proof.ErrMismatch) || !strings.Contains(err.Error(), "example.com/text@v1.1.0: not a module zip: its directory has more than") {
		t.Errorf("got %v", err)
	}
}

func TestModCacheSavesDownloads(t *testing.T) {
	w := newWorld(t)
	dir := project(t, head+"require example.com/text v1.1.0\n")
	cache := t.TempDir()
	cmd := exec.Command("go", "mod", "download", "example.com/text@v1.1.0")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPROXY="+w.up.URL, "GOSUMDB="+w.up.GOSUMDB, "GOPATH="+t.TempDir(), "GOMODCACHE="+cache, "GOFLAGS=-modcacherw", "GOENV=off", "GONOSUMDB=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.cfg.ModCache = cache
	zip := "example.com/text/@v/v1.1.0.zip"
	n := w.up.Asked(zip)
	c, err := w.sync(dir)
	if err != nil || c.Stats.Reused != 1 || w.up.Asked(zip) != n {
		t.Errorf("%v; reused %d, asked again %d times", err, c.Stats.Reused, w.up.Asked(zip)-n)
	}
	// A damaged zip of the cache is fetched instead.
	if err := os.WriteFile(filepath.Join(cache, "cache/download", zip), []byte("PK damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	w2 := newWorld(t)
	w2.cfg.ModCache = cache
	if c, err := w2.sync(dir); err != nil || c.Stats.Reused != 0 {
		t.Errorf("damaged cache: %v", err)
	}
}

// packed is the SHA-256 of the zip that repack makes of the files below. When it changes, for
// instance with another version of the compressor, change the constant packing too, so that zips in
// mirror directories are packed again.
const packed = "d2d3183c007d14845a17f6e123979acae7da988330836358a44e16f570b93bd6"

// TestRepackIsOneForm packs the same files in several ways, as different releases of Go do, and
// repacks them.
func TestRepackIsOneForm(t *testing.T) {
	m := module.Version{Path: "corp.example/m", Version: "v1.0.0"}
	files := map[string]string{
		"go.mod":      "module corp.example/m\n",
		"a.go":        "package m\n" + strings.Repeat("// the same line again and again\n", 5000),
		"data/bin":    string(bytes.Repeat([]byte{0, 1, 2, 3, 250}, 40_000)),
		"empty":       "",
		"sub/deep.go": "package sub\n",
	}
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	var sums []string
	for _, level := range []int{flate.NoCompression, flate.BestSpeed, 6, flate.BestCompression} {
		for _, backwards := range []bool{false, true} {
			order := slices.Clone(names)
			if backwards {
				slices.Reverse(order)
			}
			var buf bytes.Buffer
			w := zip.NewWriter(&buf)
			w.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, level) })
			for _, name := range order {
				dst, err := w.CreateHeader(&zip.FileHeader{Name: m.String() + "/" + name, Method: zip.Deflate, Comment: fmt.Sprint(level)})
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(dst, files[name])
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			to, err := os.Create(filepath.Join(t.TempDir(), "zip"))
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			if err := repack(t.Context(), to, bytes.NewReader(buf.Bytes()), int64(buf.Len())); err != nil {
				t.Fatal(err)
			}
			data, err := os.ReadFile(to.Name())
			if err != nil {
				t.Fatal(err)
			}
			before, err1 := h1.Zip(t.Context(), make(h1.Limiter, 1), m, bytes.NewReader(buf.Bytes()), int64(buf.Len()))
			after, err2 := h1.Zip(t.Context(), make(h1.Limiter, 1), m, bytes.NewReader(data), int64(len(data)))
			if err1 != nil || err2 != nil || before.H1 != after.H1 {
				t.Errorf("level %d: h1 %s became %s (%v, %v)", level, before.H1, after.H1, err1, err2)
			}
			sums = append(sums, fmt.Sprintf("%x", sha256.Sum256(data)))
		}
	}
	if distinct := slices.Compact(slices.Sorted(slices.Values(sums))); len(distinct) != 1 || distinct[0] != packed {
		t.Errorf("repack made %v, want %s each time", distinct, packed)
	}
}

// TestHashesFile has the file beside a zip damaged in its second line, or without one: the zip is
// scanned again, and no request is sent for it.
func TestHashesFile(t *testing.T) {
	w := newWorld(t)
	const zip = "example.com/text/@v/v1.1.0.zip"
	if _, err := w.sync("example.com/text@v1.1.0"); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(w.dir, filepath.FromSlash(hashesFile(zip)))
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(good), "\n")
	if string(good) != first+"\n"+facts.Version+` {"license":"NONE"}`+"\n" {
		t.Fatalf("%q", good)
	}
	for _, second := range []string{
		"", facts.Version, facts.Version + " null\n", facts.Version + ` {"license":"a b"}`, "facts-0 " + `{"license":"MIT"}`,
		facts.Version + ` {"license":"MIT","uses":[{"kind":"Bad Kind","file":"x","files":1}]}`,
		facts.Version + ` {"license":"MIT","licenses":[{"file":"x","coverage":1e300}]}`,
		facts.Version + ` {"license":"MIT","uses":[{"kind":"exec","file":"x","files":-1}]}`, facts.Version + " {",
	} {
		if err := os.WriteFile(file, []byte(first+"\n"+second), 0o666); err != nil {
			t.Fatal(err)
		}
		c, err := w.sync("example.com/text@v1.1.0")
		if err != nil {
			t.Fatalf("%q: %v", second, err)
		}
		if now, err := os.ReadFile(file); err != nil || string(now) != string(good) {
			t.Errorf("%q became %q, %v", second, now, err)
		}
		for _, v := range c.Versions {
			if v.Zip != nil && (v.Facts == nil || v.Facts.License != facts.None) {
				t.Errorf("%q: facts %+v", second, v.Facts)
			}
		}
	}
}
