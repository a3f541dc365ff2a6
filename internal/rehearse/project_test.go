package rehearse

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/mirror/sources"
)

// write writes files, given as name and text in turn, below dir.
func write(t *testing.T, dir string, files ...string) {
	t.Helper()
	for f := range slices.Chunk(files, 2) {
		name := filepath.Join(dir, f[0])
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(f[1]), 0o444); err != nil {
			t.Fatal(err)
		}
	}
}

// tree returns the names of all files and links below dir, sorted.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestCopyProject(t *testing.T) {
	root := t.TempDir()
	project := filepath.Join(root, "project")
	write(t, root, "beside/go.mod", "module beside.example\n", "outside.txt", "o")
	write(t, project,
		"go.mod", "module m.example\n\nreplace (\n\tbeside.example => ../beside\n\tinside.example => ./inside\n\tfork.example => fork.example/v2 v2.0.0\n)\n",
		"go.sum", "", "go.work", "go 1.20\n", "main.go", "package main\n", "sub/go.sum", "kept", "vendor/modules.txt", "v",
		"inside/go.mod", "module inside.example\n", ".git/config", "c", "sub/.hg/x", "h", "out.tar", "a bundle",
		safefile.TempPrefix+"123", "a temporary file")
	for name, target := range map[string]string{"in": "main.go", "out": "../outside.txt", "sub/up": "../main.go"} {
		if err := os.Symlink(target, filepath.Join(project, name)); err != nil {
			t.Fatal(err)
		}
	}
	src, err := sources.Options{GoWork: "off"}.Parse([]string{project}, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	o := new(recorder).options(t)
	o.Dir = filepath.Join(project, "tmp") // not copied into itself
	o.Output = filepath.Join(project, "out.tar")
	dir := filepath.Join(o.Dir, "copy")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := o.copyProject(dir, src.List[0]); err != nil {
		t.Fatal(err)
	}
	want := []string{"go.mod", "in", "inside/go.mod", "main.go", "out", "sub/go.sum", "sub/up"}
	if got := tree(t, dir); !slices.Equal(got, want) {
		t.Errorf("copied %q, want %q", got, want)
	}
	mod := read(t, filepath.Join(dir, "go.mod"))
	for _, line := range []string{
		"beside.example => " + filepath.Join(root, "beside") + "\n", "inside.example => ./inside\n", "fork.example => fork.example/v2 v2.0.0\n",
	} {
		if !strings.Contains(mod, line) {
			t.Errorf("go.mod lacks %q:\n%s", line, mod)
		}
	}
	if got := read(t, filepath.Join(dir, "out")); got != "o" {
		t.Errorf("the link to the outside leads to %q", got)
	}
	if st, err := os.Stat(filepath.Join(dir, "main.go")); err != nil || st.Mode().Perm()&0o200 == 0 {
		t.Errorf("the copy of a read-only file is not writable: %v, %v", st, err)
	}
}

func TestCopyWorkspace(t *testing.T) {
	root := t.TempDir()
	ws := filepath.Join(root, "ws")
	write(t, root, "far/go.mod", "module far.example\n\ngo 1.20\n", "near/go.mod", "module near.example\n")
	write(t, ws,
		"go.work", "go 1.20\n\nuse (\n\t./a\n\t../far\n)\n\nreplace near.example => ../near\n", "go.work.sum", "", "vendor/modules.txt", "v",
		"a/go.mod", "module a.example\n\ngo 1.20\n", "a/go.sum", "", "a/vendor/modules.txt", "v", "a/a.go", "package a\n")
	src, err := sources.Options{}.Parse([]string{ws}, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(src.List, func(s sources.Source) bool { return s.Work != nil })
	if i < 0 {
		t.Fatalf("no workspace in %+v", src.List)
	}
	o := new(recorder).options(t)
	dir := filepath.Join(o.Dir, "copy")
	modules, err := o.copyWorkspace(dir, src.List[i])
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{filepath.Join(dir, "a")}; !slices.Equal(modules, want) {
		t.Errorf("modules %q, want %q", modules, want)
	}
	if got, want := tree(t, dir), []string{"a/a.go", "a/go.mod", "go.work"}; !slices.Equal(got, want) {
		t.Errorf("copied %q, want %q", got, want)
	}
	work := read(t, filepath.Join(dir, "go.work"))
	for _, text := range []string{"./a", filepath.Join(root, "far"), "near.example => " + filepath.Join(root, "near")} {
		if !strings.Contains(work, text) {
			t.Errorf("go.work lacks %q:\n%s", text, work)
		}
	}
	if strings.Contains(work, "../") {
		t.Errorf("go.work has a relative path that leads out of the copy:\n%s", work)
	}
}

func TestProjectFiles(t *testing.T) {
	list := "text example.com/m\nmain example.com/m/cmd/tool\nx example.com/m/internal/x\ny example.com/m/vendor/y\nsub example.com/m/sub\n"
	tools, root, all := projectFiles("example.com/m", list)
	if want := []string{"-tool=example.com/m/cmd/tool"}; !slices.Equal(tools, want) {
		t.Errorf("tools %q, want %q", tools, want)
	}
	if want := "package new\n\nimport _ \"example.com/m\"\n"; root != want {
		t.Errorf("root %q, want %q", root, want)
	}
	want := "//go:build rehearsal\n\npackage new\n\nimport _ \"example.com/m\"\nimport _ \"example.com/m/sub\"\n"
	if all != want {
		t.Errorf("all %q, want %q", all, want)
	}
	if tools, root, _ := projectFiles("example.com/m", "main example.com/m\n"); len(tools) != 1 || root != "package new\n" {
		t.Errorf("a command at the root: %q, %q", tools, root)
	}
}
