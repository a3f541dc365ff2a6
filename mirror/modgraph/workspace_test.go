package modgraph

import (
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// TestWorkspaces has the graphs of cmd/go/testdata/script/work_prune.txt and work_prune_all.txt,
// and what "go list -m" says there.
func TestWorkspaces(t *testing.T) {
	for name, tc := range map[string]struct {
		universe string
		a, p     []string
		zips     string
	}{
		"work_prune": {`
example.com/b v1.0.0 1.18: example.com/q@v1.1.0
example.com/q v1.0.0 1.18:
example.com/q v1.1.0 1.18:
`, []string{"example.com/b@v1.0.0"}, []string{"example.com/q@v1.0.0"}, "b@v1.0.0 q@v1.1.0"},
		"work_prune_all": {`
example.com/b v1.0.0 1.18: example.com/q@v1.1.0
example.com/q v1.0.0 1.18:
example.com/q v1.0.5 1.18: example.com/r@v1.0.0
example.com/q v1.1.0 1.18: example.com/w@v1.0.0 example.com/z@v1.1.0
example.com/r v1.0.0 1.18:
example.com/w v1.0.0 1.18: example.com/x@v1.0.0
example.com/x v1.0.0 1.18: example.com/y@v1.0.0
example.com/y v1.0.0 1.18:
example.com/z v1.0.0 1.18: example.com/q@v1.0.5
example.com/z v1.1.0 1.18:
`, []string{"example.com/b@v1.0.0", "example.com/z@v1.0.0"}, []string{"example.com/q@v1.0.0"},
			"b@v1.0.0 q@v1.1.0 w@v1.0.0 x@v1.0.0 z@v1.1.0"},
	} {
		w := NewWorkspace("/w", new(modfile.WorkFile), []Member{
			{"/w/a", parseMod(t, goMod("example.com/a", "1.18", tc.a...))},
			{"/w/p", parseMod(t, goMod("example.com/p", "1.18", tc.p...))},
		})
		c := parseUniverse(t, tc.universe).closure(nil)
		if _, err := c.AddWorkspace(t.Context(), "w", w); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if zips(c) != tc.zips {
			t.Errorf("%s: zips %s, want %s", name, zips(c), tc.zips)
		}
	}
}

// TestWorkspaceReplaces checks which replacement counts: go.work's before a member's, and one of
// all versions in go.work before a member's of one version
// (cmd/go/testdata/script/work_replace_conflict_override.txt).
func TestWorkspaceReplaces(t *testing.T) {
	work, err := modfile.ParseWork("go.work", []byte("go 1.20\nreplace example.com/x => ./x\nreplace example.com/y v1.0.0 => example.com/fork v1.0.0\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := NewWorkspace("/w", work, []Member{
		{"/w/a", parseMod(t, goMod("example.com/a", "1.20")+"replace example.com/x v1.0.0 => ../other\nreplace example.com/y => ../y\nreplace example.com/z => ../z\nexclude example.com/e v1.0.0\n")},
		{"/w/b", parseMod(t, goMod("example.com/b", "1.20")+"replace example.com/z => /elsewhere\n")},
	})
	version := func(path, v string) module.Version { return module.Version{Path: "example.com/" + path, Version: v} }
	for m, want := range map[module.Version]module.Version{
		version("x", "v1.0.0"):    {Path: "/w/x"},
		version("x", "v1.1.0"):    {Path: "/w/x"},
		version("y", "v1.0.0"):    version("fork", "v1.0.0"),
		version("y", "v1.1.0"):    {Path: "/w/y"},
		version("z", "v1.0.0"):    {Path: "/w/z"}, // the first member's
		version("fork", "v1.0.0"): version("fork", "v1.0.0"),
	} {
		if got := w.view.actual(m); got != want {
			t.Errorf("%s is replaced by %v, want %v", m, got, want)
		}
		if covers := w.covers(m); covers != (want != m) {
			t.Errorf("covers %s: %v", m, covers)
		}
	}
	if !w.view.exclude[version("e", "v1.0.0")] || !w.covers(version("a", "v1.0.0")) || (*Workspace)(nil).covers(version("a", "v1.0.0")) {
		t.Error("exclusion, member or nil")
	}
}

// TestMemberAlone has members that cannot be built without their workspace: what it covers need not
// be had, and a folder that is not there is only noted.
func TestMemberAlone(t *testing.T) {
	a := parseMod(t, goMod("example.com/a", "1.20", "example.com/b@v0.0.0", "example.com/text@v1.0.0"))
	b := parseMod(t, goMod("example.com/b", "1.20", "example.com/gone@v1.0.0")+"replace example.com/gone => ../nowhere\n")
	w := NewWorkspace("/w", new(modfile.WorkFile), []Member{{"/w/a", a}, {"/w/b", b}})
	c := parseUniverse(t, examples).closure(nil)
	if _, err := c.AddProject(t.Context(), Project{Name: "a", Dir: "/w/a", Mod: a, Workspace: w}); err != nil {
		t.Fatal(err)
	}
	if want := "text@v1.0.0"; zips(c) != want || mods(c) != "" {
		t.Errorf("zips %s, want %s; mods %s", zips(c), want, mods(c))
	}
	if _, err := c.AddProject(t.Context(), Project{Name: "b", Dir: "/w/b", Mod: b, Workspace: w}); err != nil || len(c.Notes) != 1 {
		t.Errorf("notes %q, %v", c.Notes, err)
	}
	if _, err := c.AddProject(t.Context(), Project{Name: "b", Dir: "/w/b", Mod: b}); err == nil {
		t.Error("without its workspace, a missing folder is no error")
	}
}
