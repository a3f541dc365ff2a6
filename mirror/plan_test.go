package mirror

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/testproxy"
	"github.com/modmirror/modmirror/mirror/modgraph"
)

// TestPlan compares what Plan says with what Sync does then.
func TestPlan(t *testing.T) {
	w := newWorld(t)
	w.up.Override("example.com/diff/@v/v1.0.0.zip", testproxy.Status(404, "gone"))
	m, j := w.open(), job(t, "example.com/hello@v1.1.0", "example.com/none@latest")
	none := func(module.Version) (bool, error) { return false, nil }
	plan, err := m.Plan(t.Context(), j, none)
	if err != nil {
		t.Fatal(err)
	}
	if plan.Versions != 4 || plan.ModOnly != 0 || plan.Fetch != 4 || plan.Unknown != 0 || plan.Carried != 0 || len(plan.Missing) != 2 {
		t.Errorf("%+v", plan)
	}
	var planned modgraph.Size
	m.cfg.Planned = func(_, all modgraph.Size) { planned = all }
	c, err := m.Sync(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	var bytes int64
	for _, v := range c.Versions {
		if v.Zip != nil {
			bytes += v.Zip.Size
		}
	}
	if planned != plan.Size || bytes != plan.ToFetch || bytes != plan.Bytes {
		t.Errorf("planned %+v with %d bytes; synced %+v with %d", plan.Size, plan.ToFetch, planned, bytes)
	}
	what := func(list []Missing) (names []string) {
		for _, m := range list {
			names = append(names, m.Mod.String()+" "+m.What)
		}
		slices.Sort(names)
		return names
	}
	if diff := gocmp.Diff(what(plan.Missing), what(c.Missing)); diff != "" {
		t.Errorf("missing (-plan +sync):\n%s", diff)
	}
	plan, err = m.Plan(t.Context(), j, func(m module.Version) (bool, error) { return m.Path == "example.com/hello", nil })
	if err != nil || plan.Carried != 1 || plan.Versions != 3 || plan.Fetch != 1 || plan.ToFetch != 0 {
		t.Errorf("with a bundle: %+v, %v", plan, err)
	}
}

func TestDeny(t *testing.T) {
	w := newWorld(t)
	_, err := w.sync(list(t, "example.com/hello@v1.1.0", "deny example.com/text"))
	denied, ok := errors.AsType[*DeniedError](err)
	if !ok || len(denied.Modules) != 1 || denied.Modules[0].Mod.String() != "example.com/text@v1.1.0" || denied.Modules[0].Line != "example.com/text" {
		t.Fatalf("%+v, %v", denied, err)
	}
	if chain := strings.Join(denied.Modules[0].Chain, " → "); !strings.HasSuffix(chain, "hello@v1.1.0 → example.com/text@v1.1.0") {
		t.Errorf("chain %s", chain)
	}
	// What may be absent is left out instead.
	c, err := w.sync(list(t, "example.com/check@v1.0.0", "maybe example.com/text@v1.0.0", "maybe example.com/none@latest", "deny example.com/text"))
	if err != nil || len(c.Notes) != 2 || !strings.Contains(c.Notes[0], "text@v1.0.0 is not carried, since it is denied") || !strings.HasPrefix(c.Notes[1], "left out: maybe ") {
		t.Errorf("notes %q, %v", c.Notes, err)
	}
}

var goMods = []struct{ name, goMod string }{
	{"leaf", head + "require example.com/text v1.0.0\n"},
	{"pruned", head + "require example.com/hello v1.1.0\n"},
	{"root outbid", head + "require (\n\texample.com/promote v1.0.0\n\texample.com/text v1.0.0\n)\n"},
	{"unpruned dependency", head + "require example.com/unpruned v1.0.0\n"},
	{"unpruned main", "module example.com/main\n\ngo 1.16\n\nrequire (\n\texample.com/hello v1.1.0\n\texample.com/unpruned v1.0.0\n)\n"},
	{"no go line", "module example.com/main\n\nrequire example.com/hello v1.1.0\n"},
	{"go 1.17", "module example.com/main\n\ngo 1.17\n\nrequire example.com/hello v1.1.0\n"},
	{"replace by module", head + "require (\n\texample.com/hello v1.1.0\n\texample.com/text v1.1.0\n)\n\nreplace example.com/text => example.com/fork v1.0.1\n"},
	{"replace one version", head + "require (\n\texample.com/hello v1.0.0\n\texample.com/text v1.0.0\n)\n\nreplace example.com/text v1.1.0 => example.com/fork v1.0.1\n"},
	{"replace by folder", head + "require example.com/hello v1.1.0\n\nreplace example.com/hello => ./local\n"},
	{"exclude", head + "require (\n\texample.com/promote v1.0.0\n\texample.com/text v1.0.0\n)\n\nexclude example.com/text v1.1.0\n"},
	{"no go.mod and upper case and incompatible", head + "require (\n\texample.com/UpperCase v1.0.0\n\texample.com/incompat v2.0.0+incompatible\n\texample.com/old v0.1.0\n)\n"},
	{"pseudo-version", head + "require example.com/tip v0.0.0-20200102030405-0123456789ab\n"},
	{"an older main", "module example.com/text\n\ngo 1.16\n\nrequire example.com/hello v1.1.0\n"},
	{"an older pruned main", "module example.com/text\n\ngo 1.20\n\nrequire example.com/unpruned v1.0.0\n"},
}

// TestBuildListIsGos compares the zips of a closure with "go list -m all" of the go command here.
func TestBuildListIsGos(t *testing.T) {
	for _, tc := range goMods {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			dir := project(t, tc.goMod, "local/go.mod", "module example.com/hello\n\ngo 1.20\n\nrequire example.com/deep v1.0.0\n")
			c, err := w.sync(dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(w.goList(dir), zips(c)); diff != "" {
				t.Errorf("zips (-go list -m all +closure):\n%s", diff)
			}
			// The go command says the same with nothing but the mirror directory.
			if diff := gocmp.Diff(w.goList(dir), w.goListFrom(dir, "file://"+w.dir)); diff != "" {
				t.Errorf("go list -m all (-upstream +mirror directory):\n%s", diff)
			}
		})
	}
}

func TestWrittenButNotSelectedVersionsAreCarried(t *testing.T) {
	w := newWorld(t)
	c, err := w.sync(project(t, head+"require (\n\texample.com/promote v1.0.0\n\texample.com/text v1.0.0\n)\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff([]string{"example.com/text@v1.0.0"}, mods(c)); diff != "" {
		t.Errorf("only the go.mod (-want +got):\n%s", diff)
	}
}

func TestClosedClosure(t *testing.T) {
	w := newWorld(t)
	c, err := w.sync("example.com/hello@v1.1.0")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"example.com/check@v1.0.0", "example.com/diff@v1.0.0", "example.com/hello@v1.1.0", "example.com/text@v1.1.0"}
	if diff := gocmp.Diff(want, zips(c)); diff != "" {
		t.Errorf("zips (-want +got):\n%s", diff)
	}
	// In the build closure of a project that raises text, the closed closure also has what promote
	// alone would select.
	dir := project(t, head+"require (\n\texample.com/hello v1.0.0\n\texample.com/text v1.1.0\n)\n")
	w.cfg.Closed = true
	if c, err = w.sync(dir); err != nil {
		t.Fatal(err)
	}
	want = []string{"example.com/hello@v1.0.0", "example.com/text@v1.0.0", "example.com/text@v1.1.0"}
	if diff := gocmp.Diff(want, zips(c)); diff != "" {
		t.Errorf("closed zips (-want +got):\n%s", diff)
	}
}

// TestGo117 has a project whose tidy asks, for the sake of Go 1.16, for a zip that no build needs:
// the unpruned graph selects a newer version of a module whose path is the beginning of an imported
// one.
func TestGo117(t *testing.T) {
	w := newWorld(t)
	w.add("example.com/p@v1.0.0", "go 1.17\n", "p.go", "package p\n")
	w.add("example.com/p@v1.2.0", "go 1.17\n", "p.go", "package p\n")
	w.add("example.com/p/sub@v1.0.0", "go 1.17\n\nrequire example.com/far v1.0.0\n", "sub.go", "package sub\n")
	w.add("example.com/far@v1.0.0", "go 1.17\n\nrequire example.com/p v1.2.0\n", "far.go", "package far\n")
	w.add("example.com/near@v1.0.0", "go 1.17\n\nrequire (\n\texample.com/p v1.0.0\n\texample.com/p/sub v1.0.0\n)\n", "near.go", "package near\n\nimport _ \"example.com/p/sub\"\n")
	w.tidiesOffline(project(t, "module example.com/main\n\ngo 1.17\n\nrequire example.com/near v1.0.0\n\nrequire example.com/p/sub v1.0.0 // indirect\n",
		"main.go", "package main\n\nimport _ \"example.com/near\"\n\nfunc main() {}\n"))
}

// tidiesOffline syncs a project, and has the go command tidy and build it from the mirror directory
// alone.
func (w *world) tidiesOffline(dir string) {
	w.t.Helper()
	if _, err := w.sync(dir); err != nil {
		w.t.Fatal(err)
	}
	w.up.Close() // only the mirror directory is left
	for _, args := range [][]string{{"mod", "tidy"}, {"build", "./..."}, {"mod", "graph"}, {"mod", "why", "-m", "all"}, {"mod", "verify"}} {
		if out, err := w.goFrom(dir, "file://"+w.dir, args...); err != nil {
			w.t.Errorf("go %v: %v\n%s", args, err, out)
		}
	}
}

// TestOddGoModOfALeaf checks that a go.mod that no graph reads need not be well-formed.
func TestOddGoModOfALeaf(t *testing.T) {
	w := newWorld(t)
	w.add("example.com/a@v1.0.0", "go 1.20\n\nrequire example.com/leaf v1.0.0\n\nrequire example.com/otherpath v1.0.0 // indirect\n", "a.go", "package a\n")
	w.add("example.com/leaf@v1.0.0", "require (\n", "leaf.go", "package leaf\n")
	if err := w.up.Add("example.com/otherpath", "v1.0.0", &txtar.Archive{Files: []txtar.File{{Name: "go.mod", Data: []byte("module example.com/OtherPath\n")}}}); err != nil {
		t.Fatal(err)
	}
	c, err := w.sync(project(t, head+"require example.com/a v1.0.0\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"example.com/a@v1.0.0", "example.com/leaf@v1.0.0", "example.com/otherpath@v1.0.0"}; !slices.Equal(zips(c), want) {
		t.Errorf("zips %v, want %v", zips(c), want)
	}
	// In a closed closure no project can start from them, and a note says so.
	c, err = w.sync("example.com/a@v1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Notes) != 2 || !strings.Contains(c.Notes[0], "no new project can start from example.com/leaf@v1.0.0") {
		t.Errorf("notes %q", c.Notes)
	}
	if _, err = w.sync("example.com/leaf@v1.0.0"); err == nil || !strings.Contains(err.Error(), "leaf@v1.0.0/go.mod:4: syntax error") {
		t.Errorf("asked for by name: %v", err)
	}
}

// TestClosedFork closes a project over a fork that keeps the module path of the original.
func TestClosedFork(t *testing.T) {
	w := newWorld(t)
	w.cfg.Closed = true
	if err := w.up.Add("example.com/forked", "v1.5.0", &txtar.Archive{Files: []txtar.File{{Name: "go.mod", Data: []byte("module example.com/text\n\ngo 1.20\n")}}}); err != nil {
		t.Fatal(err)
	}
	c, err := w.sync(project(t, head+"require example.com/hello v1.1.0\n\nreplace example.com/text => example.com/forked v1.5.0\n"))
	if err != nil || !slices.Contains(zips(c), "example.com/forked@v1.5.0") {
		t.Errorf("%v", err)
	}
}

// TestWorkspaceIsGos compares what go commands do in workspaces from the upstream and from the
// mirror directory.
func TestWorkspaceIsGos(t *testing.T) {
	mod := func(path, rest string) string { return "module " + path + "\n\ngo 1.20\n\n" + rest }
	uses := func(pkgs ...string) string {
		text := "package x\n\n"
		for _, p := range pkgs {
			text += "import _ \"" + p + "\"\n"
		}
		return text
	}
	for _, tc := range []struct {
		name  string
		files []string
	}{
		{"two", []string{"a/go.mod", mod("example.com/wa", "require example.com/text v1.0.0\n"), "a/a.go", uses("example.com/text"),
			"b/go.mod", mod("example.com/wb", "require (\n\texample.com/UpperCase v1.0.0\n\texample.com/wa v0.0.0\n)\n\nreplace example.com/wa => ../a\n"), "b/b.go", uses("example.com/wa", "example.com/UpperCase")}},
		{"outbid", []string{"a/go.mod", mod("example.com/wa", "require example.com/outbid v1.0.0\n"), "a/a.go", uses("example.com/outbid"),
			"b/go.mod", mod("example.com/wb", "require example.com/outbid v1.1.0\n"), "b/b.go", uses("example.com/outbid")}},
		{"outbid deeper", []string{"a/go.mod", mod("example.com/wa", "require example.com/near v1.0.0\n"), "a/a.go", uses("example.com/near"),
			"b/go.mod", mod("example.com/wb", "require (\n\texample.com/near v1.1.0\n\texample.com/outbid v1.2.0\n)\n"), "b/b.go", uses("example.com/near", "example.com/outbid")}},
		{"unpruned", []string{"a/go.mod", "module example.com/wa\n\ngo 1.16\n\nrequire example.com/hello v1.1.0\n", "a/a.go", uses("example.com/hello"),
			"b/go.mod", mod("example.com/wb", "require example.com/unpruned v1.0.0\n"), "b/b.go", uses("example.com/unpruned")}},
		{"replace", []string{"go.work", "go 1.20\n\nuse (\n\t./a\n\t./b\n)\n\nreplace example.com/text => example.com/fork v1.0.1\n",
			"a/go.mod", mod("example.com/wa", "require example.com/text v1.1.0\n\nreplace example.com/text v1.1.0 => ./local\n"), "a/a.go", uses("example.com/text"),
			"a/local/go.mod", "module example.com/text\n",
			"b/go.mod", mod("example.com/wb", "require example.com/hello v1.1.0\n\nexclude example.com/check v1.0.0\n"), "b/b.go", uses("example.com/hello")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.add("example.com/outbid@v1.0.0", "go 1.20\n", "o.go", "package outbid\n")
			w.add("example.com/outbid@v1.1.0", "go 1.20\n\nrequire example.com/middle v1.0.0\n", "o.go", "package outbid\n\nimport _ \"example.com/middle\"\n")
			w.add("example.com/outbid@v1.2.0", "go 1.20\n\nrequire example.com/promote v1.0.0\n", "o.go", "package outbid\n\nimport _ \"example.com/promote\"\n")
			w.add("example.com/near@v1.0.0", "go 1.20\n\nrequire example.com/outbid v1.0.0\n", "n.go", "package near\n\nimport _ \"example.com/outbid\"\n")
			w.add("example.com/near@v1.1.0", "go 1.20\n\nrequire example.com/outbid v1.1.0\n", "n.go", "package near\n\nimport _ \"example.com/outbid\"\n")
			dir := t.TempDir()
			write := func(name, text string) {
				name = filepath.Join(dir, name)
				os.MkdirAll(filepath.Dir(name), 0o755)
				if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write("go.work", "go 1.20\n\nuse (\n\t./a\n\t./b\n)\n")
			for i := 0; i < len(tc.files); i += 2 {
				write(tc.files[i], tc.files[i+1])
			}
			c, err := w.sync(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range c.Missing {
				t.Errorf("missing %s of %s: %s", m.What, m.Mod, m.Reason)
			}
			for _, args := range [][]string{{"list", "-m", "all"}, {"mod", "graph"}, {"list", "-deps", "-f", "{{with .Module}}{{.Path}}@{{.Version}}{{end}}", "./a/...", "./b/..."}, {"mod", "why", "-m", "all"}, {"mod", "download", "-json"}} {
				online, err := w.goFrom(dir, w.up.URL, args...)
				if err != nil {
					t.Fatalf("online: %v", err)
				}
				offline, err := w.goFrom(dir, "file://"+w.dir, args...)
				if err != nil {
					t.Fatalf("offline: %v", err)
				}
				if args[1] == "download" { // it prints folders of the module cache
					continue
				}
				if diff := gocmp.Diff(string(online), string(offline)); diff != "" {
					t.Errorf("go %v (-online +offline):\n%s", args, diff)
				}
			}
		})
	}
}

func TestWrongModulePath(t *testing.T) {
	w := newWorld(t)
	_, err := w.sync(project(t, head+"require example.com/wrongpath v1.0.0\n"))
	if err == nil || !strings.Contains(err.Error(), "declares its path as example.com/rightpath") {
		t.Errorf("got %v", err)
	}
}

func TestOnly(t *testing.T) {
	w := newWorld(t)
	list := filepath.Join(t.TempDir(), "again.txt")
	os.WriteFile(list, []byte("# To be carried again\nonly example.com/hello@v1.1.0\n"), 0o644)
	c, err := w.sync(list)
	if want := []string{"example.com/hello@v1.1.0"}; err != nil || !slices.Equal(zips(c), want) || len(c.Versions) != 1 {
		t.Errorf("%v, %v", c.Versions, err)
	}
}
