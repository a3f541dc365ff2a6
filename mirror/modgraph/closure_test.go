package modgraph

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// examples is testdata/mod, the upstream that package mirror compares with the go command.
const examples = `
example.com/UpperCase v1.0.0 1.20:
example.com/check v1.0.0 1.20: example.com/diff@v1.0.0
example.com/deep v1.0.0 1.20:
example.com/diff v1.0.0 1.20:
example.com/hello v1.0.0 1.20: example.com/text@v1.0.0
example.com/hello v1.1.0 1.20: example.com/check@v1.0.0 example.com/text@v1.1.0 example.com/diff@v1.0.0
example.com/incompat v2.0.0+incompatible -:
example.com/middle v1.0.0 1.20: example.com/deep@v1.0.0
example.com/old v0.1.0 -:
example.com/promote v1.0.0 1.20: example.com/old@v0.1.0 example.com/text@v1.1.0
example.com/text v1.0.0 1.20:
example.com/text v1.1.0 1.20:
example.com/tip v0.0.0-20200102030405-0123456789ab 1.20:
example.com/unpruned v1.0.0 1.16: example.com/middle@v1.0.0
`

// TestProjects has the answers of go1.26.8 "list -m all" recorded as zips. TestBuildListIsGos of
// package mirror asks the go command here about the same projects.
func TestProjects(t *testing.T) {
	const head = "module example.com/main\ngo 1.20\n"
	for _, tc := range []struct{ name, goMod, zips, mods string }{
		{"leaf", head + "require example.com/text v1.0.0\n", "text@v1.0.0", ""},
		{"pruned", head + "require example.com/hello v1.1.0\n", "check@v1.0.0 diff@v1.0.0 hello@v1.1.0 text@v1.1.0", ""},
		{"root outbid", head + "require example.com/promote v1.0.0\nrequire example.com/text v1.0.0\n",
			"old@v0.1.0 promote@v1.0.0 text@v1.1.0", "text@v1.0.0"},
		{"unpruned dependency", head + "require example.com/unpruned v1.0.0\n", "deep@v1.0.0 middle@v1.0.0 unpruned@v1.0.0", ""},
		{"unpruned main", "module example.com/main\ngo 1.16\nrequire example.com/hello v1.1.0\nrequire example.com/unpruned v1.0.0\n",
			"check@v1.0.0 deep@v1.0.0 diff@v1.0.0 hello@v1.1.0 middle@v1.0.0 text@v1.1.0 unpruned@v1.0.0", ""},
		{"no go line", "module example.com/main\nrequire example.com/hello v1.1.0\n", "check@v1.0.0 diff@v1.0.0 hello@v1.1.0 text@v1.1.0", ""},
		{"exclude", head + "require example.com/promote v1.0.0\nrequire example.com/text v1.0.0\nexclude example.com/text v1.1.0\n",
			"old@v0.1.0 promote@v1.0.0 text@v1.0.0", ""},
		{"replace by folder", head + "require example.com/hello v1.1.0\nreplace example.com/hello => ./local\n", "deep@v1.0.0", ""},
		{"replace one version", head + "require example.com/hello v1.0.0\nrequire example.com/text v1.0.0\nreplace example.com/text v1.1.0 => example.com/fork v1.0.1\n",
			"hello@v1.0.0 text@v1.0.0", ""},
		{"upper case and incompatible", head + "require example.com/UpperCase v1.0.0\nrequire example.com/incompat v2.0.0+incompatible\nrequire example.com/old v0.1.0\n",
			"UpperCase@v1.0.0 incompat@v2.0.0+incompatible old@v0.1.0", ""},
		{"an older main", "module example.com/text\ngo 1.16\nrequire example.com/hello v1.1.0\n", "check@v1.0.0 diff@v1.0.0 hello@v1.1.0", "text@v1.1.0"},
		{"an older pruned main", "module example.com/text\ngo 1.20\nrequire example.com/unpruned v1.0.0\n", "deep@v1.0.0 middle@v1.0.0 unpruned@v1.0.0", ""},
	} {
		c := parseUniverse(t, examples).closure(map[string]string{"/p/local/go.mod": goMod("example.com/hello", "1.20", "example.com/deep@v1.0.0")})
		if _, err := c.AddProject(t.Context(), Project{Name: "p", Dir: "/p", Mod: parseMod(t, tc.goMod)}); err != nil {
			t.Errorf("%s: %v", tc.name, err)
		}
		if zips(c) != tc.zips || mods(c) != tc.mods {
			t.Errorf("%s: zips %s, want %s; mods %s, want %s", tc.name, zips(c), tc.zips, mods(c), tc.mods)
		}
	}
}

// TestCompat has the graph of cmd/go/testdata/script/mod_graph_version.txt: Go 1.17 prunes out a
// version that Go 1.16 selects.
func TestCompat(t *testing.T) {
	const text = `
example.com/lazy v0.1.0 1.17: example.com/incompatible@v1.0.0 example.com/requirer@v0.1.0
example.com/requirer v0.1.0 1.15: example.com/incompatible@v2.0.0+incompatible
example.com/incompatible v1.0.0 1.15:
example.com/incompatible v2.0.0+incompatible -:
`
	main := parseMod(t, goMod("example.com/m", "1.18", "example.com/incompatible@v1.0.0", "example.com/lazy@v0.1.0"))
	for _, tc := range []struct {
		compat     bool
		zips, mods string
	}{
		{false, "incompatible@v1.0.0 lazy@v0.1.0 requirer@v0.1.0", ""},
		{true, "incompatible@v1.0.0 incompatible@v2.0.0+incompatible lazy@v0.1.0 requirer@v0.1.0", ""},
	} {
		c := parseUniverse(t, text).closure(nil)
		c.Compat = tc.compat
		if _, err := c.AddProject(t.Context(), Project{Name: "m", Mod: main}); err != nil {
			t.Fatal(err)
		}
		if zips(c) != tc.zips || mods(c) != tc.mods {
			t.Errorf("compat %v: zips %s, want %s; mods %s", tc.compat, zips(c), tc.zips, mods(c))
		}
		// The same for a module that is asked for by name.
		c = parseUniverse(t, text).closure(nil)
		c.Compat = tc.compat
		m := module.Version{Path: "example.com/lazy", Version: "v0.1.0"}
		if _, err := c.AddModules(t.Context(), []module.Version{m}, map[module.Version]string{m: "lazy"}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestCompatReadsMore asks for a module of which only old go commands read a certain go.mod.
func TestCompatReadsMore(t *testing.T) {
	u := parseUniverse(t, `
example.com/a v1.0.0 1.20: example.com/b@v1.0.0
example.com/b v1.0.0 1.20: example.com/c@v1.0.0
example.com/c v1.0.0 1.20: example.com/d@v1.0.0
example.com/d v1.0.0 1.20:
`)
	a := module.Version{Path: "example.com/a", Version: "v1.0.0"}
	for compat, want := range map[bool]string{false: "", true: "d@v1.0.0"} {
		c := u.closure(nil)
		c.Compat = compat
		if _, err := c.AddModules(t.Context(), []module.Version{a}, map[module.Version]string{a: "a"}); err != nil {
			t.Fatal(err)
		}
		if mods(c) != want || zips(c) != "a@v1.0.0 b@v1.0.0 c@v1.0.0" {
			t.Errorf("compat %v: zips %s, mods %q, want %q", compat, zips(c), mods(c), want)
		}
	}
}

// TestGo117 has a project whose tidy wants, for the sake of Go 1.16, the zips of the unpruned graph
// (cmd/go/internal/modload/init.go, tidy -compat).
func TestGo117(t *testing.T) {
	u := parseUniverse(t, `
example.com/near v1.0.0 1.17: example.com/p@v1.0.0 example.com/sub@v1.0.0
example.com/sub v1.0.0 1.17: example.com/far@v1.0.0
example.com/far v1.0.0 1.17: example.com/p@v1.2.0
example.com/p v1.0.0 1.17:
example.com/p v1.2.0 1.17:
`)
	for goLine, want := range map[string]string{
		"1.18": "near@v1.0.0 p@v1.0.0 sub@v1.0.0",
		"1.17": "far@v1.0.0 near@v1.0.0 p@v1.0.0 p@v1.2.0 sub@v1.0.0",
	} {
		c := u.closure(nil)
		if _, err := c.AddProject(t.Context(), Project{Name: "m", Mod: parseMod(t, goMod("example.com/m", goLine, "example.com/near@v1.0.0"))}); err != nil {
			t.Fatal(err)
		}
		if zips(c) != want {
			t.Errorf("go %s: zips %s, want %s", goLine, zips(c), want)
		}
	}
}

// TestClose checks that a new project inside can start from every version of a closed closure: its
// own build list is in the closure.
func TestClose(t *testing.T) {
	u := parseUniverse(t, examples+"example.com/bad v1.0.0 1.20:\nexample.com/user v1.0.0 1.20: example.com/bad@v1.0.0 example.com/promote@v1.0.0\n")
	u[module.Version{Path: "example.com/bad", Version: "v1.0.0"}] = new(modfile.File)
	user := module.Version{Path: "example.com/user", Version: "v1.0.0"}
	c := u.closure(nil)
	names := map[module.Version]string{user: "list.txt:1"}
	lists, err := c.AddModules(t.Context(), []module.Version{user}, names)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context(), []module.Version{user}, lists, names); err != nil {
		t.Fatal(err)
	}
	if want := "bad@v1.0.0 old@v0.1.0 promote@v1.0.0 text@v1.1.0 user@v1.0.0"; zips(c) != want {
		t.Errorf("zips %s, want %s", zips(c), want)
	}
	if len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "no new project can start from example.com/bad@v1.0.0") {
		t.Errorf("notes %q", c.Notes)
	}
	for _, w := range c.Versions() {
		if w.Mod.Path == "example.com/text" {
			if got := strings.Join(w.Chain, " → "); got != "list.txt:1 → example.com/promote@v1.0.0 → example.com/text@v1.1.0" {
				t.Errorf("chain %s", got)
			}
		}
	}
	if s := c.Size(); s.Versions != 5 || s.ModOnly != 0 {
		t.Errorf("size %+v", s)
	}
	if r := c.Requirements(); !slices.Contains(r, Requirement{From: user, To: module.Version{Path: "example.com/bad", Version: "v1.0.0"}}) {
		t.Errorf("requirements %v", r)
	}
}

// TestOptional checks what stays optional when a version comes in twice.
func TestOptional(t *testing.T) {
	m := module.Version{Path: "example.com/m", Version: "v1.0.0"}
	type add struct{ optional, zip bool }
	for _, tc := range []struct {
		adds          []add
		optional, zip bool // of the version and of its zip
	}{
		{[]add{{true, true}}, true, true},
		{[]add{{true, false}}, true, false},
		{[]add{{false, true}}, false, false},
		{[]add{{false, false}, {true, true}}, false, true},
		{[]add{{true, true}, {false, false}}, false, true},
		{[]add{{true, true}, {false, true}}, false, false},
		{[]add{{false, true}, {true, true}}, false, false},
	} {
		var c Closure
		for _, a := range tc.adds {
			c.Optional = a.optional
			c.Want(m, a.zip, "source")
		}
		if w := c.Versions()[0]; w.Optional != tc.optional || w.OptionalZip != tc.zip {
			t.Errorf("%v: version optional %v, zip optional %v", tc.adds, w.Optional, w.OptionalZip)
		}
	}
}

// TestAbsent checks that a refused go.mod makes a leaf, and a wrong path an error that names the
// chain.
func TestAbsent(t *testing.T) {
	c := parseUniverse(t, "example.com/a v1.0.0 1.16: example.com/gone@v1.0.0\n").closure(nil)
	if _, err := c.AddProject(t.Context(), Project{Name: "p", Mod: parseMod(t, goMod("example.com/m", "1.20", "example.com/a@v1.0.0"))}); err != nil {
		t.Fatal(err)
	}
	if want := "a@v1.0.0 gone@v1.0.0"; zips(c) != want {
		t.Errorf("zips %s, want %s", zips(c), want)
	}
	u := parseUniverse(t, "example.com/a v1.0.0 1.16: example.com/wrong@v1.0.0\n")
	u[module.Version{Path: "example.com/wrong", Version: "v1.0.0"}] = parseMod(t, "module example.com/right\n")
	_, err := u.closure(nil).AddProject(t.Context(), Project{Name: "p", Mod: parseMod(t, goMod("example.com/m", "1.20", "example.com/a@v1.0.0"))})
	if _, ok := errors.AsType[*BadModError](err); !ok || !strings.Contains(err.Error(), "example.com/m → example.com/a@v1.0.0 → example.com/wrong@v1.0.0: its go.mod declares its path as example.com/right") {
		t.Errorf("wrong path: %v", err)
	}
}
