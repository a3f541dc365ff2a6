package mirror

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/h1"
)

// packed is the SHA-256 of what repack makes of the files below. When it changes, by another
// version of the compressor for one, packing must have another name, so that what mirror
// directories have is packed again.
const packed = "d2d3183c007d14845a17f6e123979acae7da988330836358a44e16f570b93bd6"

// TestRepackIsOneForm packs the same files in several ways, as releases of Go do, and repacks them.
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
