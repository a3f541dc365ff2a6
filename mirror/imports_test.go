package mirror

import (
	"archive/zip"
	"go/build/constraint"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/testproxy"
)

func TestImportsOf(t *testing.T) {
	m := module.Version{Path: "example.com/b", Version: "v1.0.0"}
	name := filepath.Join(t.TempDir(), "m.zip")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	z := zip.NewWriter(f)
	for file, text := range map[string]string{
		"b.go":             "package b\n\nimport (\n\t\"fmt\"\n\t\"example.com/one\"\n\t\"example.com/b/sub\"\n\t\"example.com/b/api\"\n\t_ \"./relative\"\n)\n",
		"sub/sub.go":       "package sub\n\nimport \"example.com/b/v2/x\"\n",
		"b_test.go":        "package b\n\nimport \"example.com/tests\"\n",
		"gen.go":           "//go:build ignore\n\npackage main\n\nimport \"example.com/ignored\"\n",
		"linux.go":         "//go:build linux && !cgo\n\npackage b\n\nimport \"example.com/linux\"\n",
		"testdata/x.go":    "package x\n\nimport \"example.com/testdata\"\n",
		"_old/x.go":        "package x\n\nimport \"example.com/underscore\"\n",
		"vendor/a.b/x.go":  "package x\n\nimport \"example.com/vendored\"\n",
		"broken.go":        "pack age",
		"long.go":          "/*" + strings.Repeat(" ", 2<<20) + "*/\npackage b\n\nimport \"example.com/late\"\n",
		"sub/deep/deep.go": "package deep\n\nimport \"example.com/one\"\n",
	} {
		w, err := z.Create(m.String() + "/" + file)
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(text))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	want := []string{"example.com/b/api", "example.com/b/v2/x", "example.com/late", "example.com/linux", "example.com/one"}
	got, err := importsOf(name, m, false)
	if err != nil || !gocmp.Equal(got, want) {
		t.Errorf("%v: %s", err, gocmp.Diff(want, got))
	}
	if got, err = importsOf(name, m, true); err != nil || !gocmp.Equal(got, append(want, "example.com/tests")) {
		t.Errorf("with tests: %v: %v", err, got)
	}
}

func TestMayHold(t *testing.T) {
	for text, want := range map[string]bool{
		"ignore": false, "ignore || linux": true, "ignore && linux": false, "!ignore": true, "linux && !cgo": true, "!(linux || windows)": true, "!linux && !windows": true,
	} {
		x, err := constraint.Parse("//go:build " + text)
		if err != nil {
			t.Fatal(err)
		}
		if got := mayHold(x, true); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// noGoModWorld has a version without a go.mod that imports packages.
func noGoModWorld(t *testing.T, imports ...string) *world {
	w := newWorld(t)
	text := "package main\n\nimport (\n"
	for _, i := range imports {
		text += "\t_ \"" + i + "\"\n"
	}
	if err := w.up.Add("example.com/naked", "v1.0.0", &txtar.Archive{Files: []txtar.File{{Name: "main.go", Data: []byte(text + ")\n\nfunc main() {}\n")}}}); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestBareImports checks that packages that cannot be had are reported, whatever the upstream
// answers, and that the rest is carried.
func TestBareImports(t *testing.T) {
	w := noGoModWorld(t, "example.com/text", "example.com/gone/a", "example.com/odd", "example.com/denied")
	w.up.Override("example.com/odd/@v/list", testproxy.Status(400, "what?"))
	list := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(list, []byte("tool example.com/naked@v1.0.0\ndeny example.com/hello\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	c, err := w.sync(list)
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, m := range c.Missing {
		if !m.Allowed {
			t.Errorf("%s is in the way", m.Mod)
		}
		missing = append(missing, m.Mod.Path)
	}
	if want := []string{"example.com/denied", "example.com/gone/a", "example.com/odd"}; !gocmp.Equal(missing, want) {
		t.Errorf("missing: %v, want %v", missing, want)
	}
	var have []string
	for _, v := range c.Versions {
		have = append(have, v.Mod.String())
	}
	if want := []string{"example.com/naked@v1.0.0", "example.com/text@v1.1.0"}; !gocmp.Equal(have, want) {
		t.Errorf("carried: %v, want %v", have, want)
	}
}

// TestNoSuchTool asks for a command that its module does not have.
func TestNoSuchTool(t *testing.T) {
	w := newWorld(t)
	list := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(list, []byte("tool example.com/tools/cmd/nosuch@latest\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := w.sync(list); err == nil || !strings.Contains(err.Error(), "no package example.com/tools/cmd/nosuch in example.com/tools@v1.0.0") {
		t.Errorf("%v", err)
	}
}
