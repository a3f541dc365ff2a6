package sources

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"
)

// tree writes files, NAME and content in turn, into a new folder and returns it.
func tree(t *testing.T, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// names returns the sources of a folder as "project PATH", "member PATH" and "workspace", relative
// to it.
func names(s *Sources, dir string) (list []string) {
	for _, src := range s.List {
		kind := "project "
		switch {
		case src.Work != nil:
			list = append(list, "workspace")
			continue
		case src.Workspace != nil:
			kind = "member "
		}
		list = append(list, kind+src.Mod.Module.Mod.Path)
	}
	return list
}

// TestFolders has folders in which the go command finds a project or a workspace (go help work,
// cmd/go/internal/modload/init.go FindGoWork).
func TestFolders(t *testing.T) {
	dir := tree(t,
		"go.work", "go 1.20\n\nuse (\n\t./a\n\t./b\n)\n",
		"a/go.mod", "module example.com/a\n",
		"a/sub/x.go", "package sub\n",
		"b/go.mod", "module example.com/b\n\nreplace example.com/x => ../x\n",
		"alone/go.mod", "module example.com/alone\n",
		"other.work", "go 1.20\n\nuse ./alone\n",
		"none/readme", "",
	)
	workspace := []string{"workspace", "member example.com/a", "member example.com/b"}
	for _, tc := range []struct {
		folder, goWork string
		want           []string
		err            string
	}{
		{".", "", workspace, ""},
		{"a", "auto", workspace, ""},
		{"a/sub", "", workspace, ""},
		{"none", "", workspace, ""},
		{"a/sub", "off", []string{"project example.com/a"}, ""},
		{"alone", "", []string{"project example.com/alone"}, ""}, // go.work does not use it
		{"alone", filepath.Join(dir, "other.work"), []string{"workspace", "member example.com/alone"}, ""},
		{"none", "off", nil, "no go.mod there"},
		{"a", "other.work", nil, "want the absolute path of a go.work"},
		{"nowhere", "", nil, "no such file or folder"},
	} {
		s, err := Options{GoWork: tc.goWork}.Parse([]string{filepath.Join(dir, tc.folder)}, nil)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s with GOWORK=%s: %v, want %s", tc.folder, tc.goWork, err, tc.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s with GOWORK=%s: %v", tc.folder, tc.goWork, err)
			continue
		}
		if got := names(s, dir); !slices.Equal(got, tc.want) {
			t.Errorf("%s with GOWORK=%s: %q, want %q", tc.folder, tc.goWork, got, tc.want)
		}
	}
	// Two members of a workspace are one workspace.
	s, err := Parse([]string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}, nil)
	if err != nil || !slices.Equal(names(s, dir), workspace) {
		t.Errorf("two members: %q, %v", names(s, dir), err)
	}
	if file := filepath.Join(dir, "x", "go.mod"); !slices.Contains(s.Files, file) {
		t.Errorf("the files that are read lack %s, by which a folder replaces a module: %q", file, s.Files)
	}
	if ws := s.List[1].Workspace; ws == nil || len(ws.Members) != 2 || ws.Members[1].Mod != s.List[2].Mod {
		t.Errorf("members: %+v", ws)
	}
}

// TestModFile has -modfile of GOFLAGS, which is relative to the folder that is named.
func TestModFile(t *testing.T) {
	dir := tree(t, "go.mod", "module example.com/a\n", "sub/alt.mod", "module example.com/alternate\n", "sub/alt.sum", "")
	s, err := Options{ModFile: "alt.mod"}.Parse([]string{filepath.Join(dir, "sub")}, nil)
	if err != nil || s.List[0].Mod.Module.Mod.Path != "example.com/alternate" || s.List[0].Dir != filepath.Join(dir, "sub", "..") && s.List[0].Dir != dir {
		t.Fatalf("%+v, %v", s, err)
	}
	if s.List[0].Sum != filepath.Join(dir, "sub", "alt.sum") || len(s.Notes) != 1 {
		t.Errorf("go.sum %s, notes %q", s.List[0].Sum, s.Notes)
	}
	if _, err := (Options{ModFile: "alt.txt"}).Parse([]string{dir}, nil); err == nil || !strings.Contains(err.Error(), "must end in .mod") {
		t.Errorf("another name: %v", err)
	}
	// A go.mod that is named itself is read.
	s, err = Options{ModFile: "alt.mod"}.Parse([]string{filepath.Join(dir, "go.mod")}, nil)
	if err != nil || s.List[0].Mod.Module.Mod.Path != "example.com/a" {
		t.Errorf("a go.mod by name: %v", err)
	}
}

func TestBadProjects(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "no module line",
		"module example.com/a\nrequire x\n":   "go.mod:2:",
		"module ../a\n":                       "malformed import path",
		"module example.com/a\n\nbogus x y\n": "unknown directive",
	} {
		if _, err := Parse([]string{tree(t, "go.mod", text)}, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	dir := tree(t, "go.work", "go 1.20\n\nuse ./gone\n")
	if _, err := Parse([]string{filepath.Join(dir, "go.work")}, nil); err == nil || !strings.Contains(err.Error(), "go.work:3: ") {
		t.Errorf("a member that is not there: %v", err)
	}
}

func TestGoSum(t *testing.T) {
	const hash = "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
	x := module.Version{Path: "example.com/x", Version: "v1.0.0"}
	s, err := Parse([]string{tree(t, "go.mod", "module example.com/a\n",
		"go.sum", "example.com/x v1.0.0 "+hash+"\n\nexample.com/x v1.0.0/go.mod "+emptyGoModH1+"\nexample.com/y v1.0.0 h2:other\n")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := s.List[0].GoSum
	if err := sum.Check(x, hash); err != nil {
		t.Error(err)
	}
	if err := sum.Check(x, "h1:other"); err == nil || !strings.Contains(err.Error(), "go.sum says "+hash) {
		t.Errorf("another hash: %v", err)
	}
	for _, m := range []module.Version{{Path: x.Path, Version: "v1.0.0/go.mod"}, {Path: "example.com/y", Version: "v1.0.0"}, {Path: "example.com/z", Version: "v1.0.0"}} {
		if err := sum.Check(m, "h1:any"); err != nil {
			t.Errorf("without a hash that counts: %v", err)
		}
	}
	if err := (GoSum{}).Check(x, hash); err != nil {
		t.Error(err)
	}
	_, err = Parse([]string{tree(t, "go.mod", "module example.com/a\n", "go.sum", "\na b\n")}, nil)
	if err == nil || !strings.Contains(err.Error(), "go.sum:2: malformed go.sum line: 2 fields, want 3") {
		t.Errorf("malformed: %v", err)
	}
}
