package modgraph

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
)

func TestGoAtLeast(t *testing.T) {
	for v, want := range map[string]bool{"1.17": true, "1.16": false, "1.9": false, "1.21.3": true, "1.22rc1": true, "1.17beta1": false, "1.17rc1": false, "1.18rc1": true, "2": true} {
		if got := goAtLeast(v, "1.17"); got != want {
			t.Errorf("goAtLeast(%q) = %v", v, got)
		}
	}
}

// TestSelection has unpruned graphs and the build lists that cmd/go/internal/mvs/mvs_test.go wants
// for them, under the names that they have there. B2 stands for example.com/B v1.0.2.
func TestSelection(t *testing.T) {
	for _, tc := range []struct{ name, graph, want string }{
		{"trim", "A: B1 C2; B1: D3; C2: B2; B2:; D3:", "B2 C2 D3"},
		{"cross1", "A: B0 C0; B0: D1; C0: D2; D1: E2; D2: E1; E1:; E2:", "B0 C0 D2 E2"},
		{"cross1V", "A: B2 C0 D2 E1; B1:; B2: D1; C0: D2; D1: E2; D2: E1; E1:; E2:", "B2 C0 D2 E2"},
		{"cross1U", "A: B1 C0; B1:; B2: D1; C0: D2; D1: E2; D2: E1; E1:; E2:", "B1 C0 D2 E1"},
		{"cross2", "A: B0 D2; B0: D1; D1: E2; D2: E1; E1:; E2:", "B0 D2 E2"},
		{"cross4", "A: B2 D2; B1: D1; B2: D2; D1: E2; D2: E1; E1:; E2:", "B2 D2 E1"},
		{"cross7", "A: B0 C0; B0: D1; C0: E1; D1: E2; E1: D2; D2:; E2:", "B0 C0 D2 E2"},
		{"cross8", "A: B1 C1; C1: X1; B1: X2; X1: I1; X2:; I1:", "B1 C1 I1 X2"},
		{"simplify", "A: B1 C1; B1: C2; C1: D1; C2:; D1:", "B1 C2 D1"},
		{"down2", "A: B2 E2; B2: C2 F2; C2: D2 E2; D2: B2; E2: D2; F2:", "B2 C2 D2 E2 F2"},
		{"downcycle", "A: B2; B2: A1; A1:", "B2"},
	} {
		name := func(s string) (path, version string) { return "example.com/" + s[:1], "v1.0." + s[1:] }
		main, universe := "", ""
		for line := range strings.SplitSeq(tc.graph, ";") {
			head, reqs, _ := strings.Cut(strings.TrimSpace(line), ":")
			var list []string
			for r := range strings.FieldsSeq(reqs) {
				path, version := name(r)
				list = append(list, path+"@"+version)
			}
			if head == "A" {
				main = goMod("example.com/A", "1.16", list...)
				continue
			}
			path, version := name(head)
			universe += path + " " + version + " 1.16: " + strings.Join(list, " ") + "\n"
		}
		c := parseUniverse(t, universe).closure(nil)
		g, err := c.Loader.load(t.Context(), NewView("", parseMod(t, main), nil), mainOf(parseMod(t, main)))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, m := range g.buildList() {
			got = append(got, strings.TrimPrefix(m.Path, "example.com/")+strings.TrimPrefix(m.Version, "v1.0."))
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, got, tc.want)
		}
	}
}

func TestRetracted(t *testing.T) {
	g := Summarize(parseMod(t, "module example.com/m\n\nretract (\n\tv1.0.0 // wrong\n\t[v1.2.0, v1.4.0] // all wrong\n)\n"))
	for v, want := range map[string]string{"v1.0.0": "wrong", "v1.2.0": "all wrong", "v1.3.5": "all wrong", "v1.4.0": "all wrong", "v1.4.1": "", "v1.0.1": ""} {
		if reason, yes := g.Retracted(v); reason != want || yes != (want != "") {
			t.Errorf("%s: %v, %q, want %q", v, yes, reason, want)
		}
	}
	if _, yes := (*GoMod)(nil).Retracted("v1.0.0"); yes {
		t.Error("nothing retracts")
	}
}

// FuzzClosure loads the graph of a module whose go.mod may be anything, as may be those of what it
// requires. It must end, and select for each path that it requires that version or a higher one.
func FuzzClosure(f *testing.F) {
	f.Add("module example.com/a\n\ngo 1.20\n\nrequire example.com/b v1.0.0\n", "module example.com/b\n\nrequire example.com/a v1.5.0\n")
	f.Add("module example.com/a\n\nrequire (\n\texample.com/a v1.0.1\n\texample.com/b v1.1.0 // indirect\n)\n", "module example.com/b\n\ngo 1.16\n\nretract v1.1.0 // bad\n")
	f.Add("module x\n\ngo 99.9\n\nexclude example.com/b v1.0.0\n\nreplace example.com/b => ../b\n", "")
	start := module.Version{Path: "example.com/a", Version: "v1.0.0"}
	f.Fuzz(func(t *testing.T, first, others string) {
		reads := 0
		l := &Loader{Read: func(_ context.Context, m module.Version) (*GoMod, error) {
			if reads++; reads > 1000 {
				return nil, errors.New("it does not end")
			}
			text := others
			if m == start {
				text = first
			}
			mod, err := modfile.ParseLax(m.String()+"/go.mod", []byte(text), nil)
			if err == nil && mod.Module == nil {
				err = errors.New("no module line")
			}
			if err != nil {
				return nil, &BadModError{err}
			}
			return Summarize(mod), nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		graphs, err := l.module(ctx, start)
		if ctx.Err() != nil || err != nil && strings.Contains(err.Error(), "does not end") {
			t.Fatalf("%v, %v", err, ctx.Err())
		}
		for _, g := range graphs {
			for _, r := range g.require[start] {
				if got := g.selected[r.Mod.Path]; semver.Compare(got, r.Mod.Version) < 0 {
					t.Errorf("%s is required, and %q was selected", r.Mod, got)
				}
			}
		}
	})
}
