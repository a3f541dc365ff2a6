package selftar

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"io"
	"strings"
	"testing"

	"golang.org/x/mod/module"
)

func toolchain(t *testing.T, files ...string) (*zip.Reader, module.Version) {
	t.Helper()
	m := module.Version{Path: "golang.org/toolchain", Version: "v0.0.1-go1.99.1.linux-amd64"}
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	for i := 0; i < len(files); i += 2 {
		f, err := w.Create(m.String() + "/" + files[i])
		if err != nil {
			t.Fatal(err)
		}
		f.Write([]byte(files[i+1]))
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(buf.Bytes()), int64(buf.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return z, m
}

// TestCheck writes a tar, and tars that claim to have the same toolchain and do not.
func TestCheck(t *testing.T) {
	z, m := toolchain(t, "VERSION", "go1.99.1", "bin/go", "the go command", "src/_go.mod", "module std", "lib/wasm/go_js_wasm_exec", "run")
	other, _ := toolchain(t, "VERSION", "go1.99.1", "bin/go", "an evil command", "src/_go.mod", "module std", "lib/wasm/go_js_wasm_exec", "run")
	fewer, _ := toolchain(t, "VERSION", "go1.99.1", "bin/go", "the go command")
	write := func(z *zip.Reader, m module.Version) []byte {
		var buf bytes.Buffer
		if err := Write(t.Context(), &buf, z, m, io.NewSectionReader(strings.NewReader("modmirror"), 0, 9)); err != nil {
			t.Fatal(err)
		}
		return buf.Bytes()
	}
	good := write(z, m)
	modes := make(map[string]int64)
	for r := tar.NewReader(bytes.NewReader(good)); ; {
		h, err := r.Next()
		if err != nil {
			break
		}
		modes[h.Name] = h.Mode
	}
	for name, mode := range map[string]int64{"go/VERSION": 0o644, "go/bin/go": 0o755, "go/src/go.mod": 0o644, "go/lib/wasm/go_js_wasm_exec": 0o755, "modmirror": 0o755} {
		if modes[name] != mode {
			t.Errorf("%s has mode %o, want %o; all: %v", name, modes[name], mode, modes)
		}
	}
	windows := module.Version{Path: m.Path, Version: "v0.0.1-go1.99.1.windows-amd64"}
	extra := func(name string) []byte {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		if err := writeGo(t.Context(), w, z, m); err != nil {
			t.Fatal(err)
		}
		for _, n := range []string{"modmirror", name} {
			add(w, n, true, 1, strings.NewReader("x"))
		}
		w.Close()
		return buf.Bytes()
	}
	for name, tc := range map[string]struct {
		tar []byte
		ok  bool
	}{
		"good":                {good, true},
		"another go command":  {write(other, m), false},
		"files are missing":   {write(fewer, m), false},
		"another platform's":  {write(z, windows), false},
		"cut":                 {good[:len(good)/2], false},
		"empty":               {nil, false},
		"more behind it":      {extra("go/bin/go"), false},
		"a second one":        {append(bytes.Clone(good), good...), false},
		"no modmirror":        {good[:bytes.Index(good, []byte("modmirror"))], false},
		"a flipped mode":      {bytes.Replace(good, []byte("0000755"), []byte("0004755"), 1), false},
		"another's modmirror": {bytes.Replace(good, []byte("modmirror\x00"), []byte("modmirrox\x00"), 1), false},
	} {
		if err := Check(t.Context(), bytes.NewReader(tc.tar), z, m); (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}
