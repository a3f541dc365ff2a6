package sources

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"
)

func TestListFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(dir+"/service", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/service/go.mod", []byte("module example.com/service\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "list.txt")
	text := "# what we carry\n\n\trsc.io/quote@v1.5.2   # pinned\nmodule ./service\nexample.com/x/v2@latest\nmissing-ok example.com/gone@v1.0.0\n"
	if err := os.WriteFile(list, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	s, err := Parse([]string{list}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.List) != 3 || s.List[0].Query.Path != "rsc.io/quote" || s.List[1].Mod.Module.Mod.Path != "example.com/service" || s.List[2].Query.Version != "latest" {
		t.Errorf("list: %+v", s.List)
	}
	if s2, err := Parse([]string{"-"}, strings.NewReader("tool a.b/v2/cmd/c@v2.0.0\ndeny a.b/no/...\ndeny a.b/never\n")); err != nil || s2.List[0].Tool != "a.b/v2/cmd/c" ||
		s2.Denies("a.b/no") != "a.b/no/..." || s2.Denies("a.b/no/x") != "a.b/no/..." || s2.Denies("a.b/nothing") != "" || s2.Denies("a.b/never") == "" || s2.Denies("a.b/never/x") != "" {
		t.Errorf("tool and deny: %+v, %v", s2, err)
	}
	if !s.MissingOK[module.Version{Path: "example.com/gone", Version: "v1.0.0"}] {
		t.Errorf("missing-ok: %v", s.MissingOK)
	}
	for line, want := range map[string]string{
		"rsc.io/quote":                    ":1: cannot read",
		"rsc.io/quote@":                   ":1: rsc.io/quote@: want module@version",
		"rsc.io/../quote@v1.0.0":          "malformed module path",
		"rsc.io/quote/v3@v2.0.0":          "should be v3",
		"tool golang.org/x/tools":         ":1: golang.org/x/tools: want package@version",
		"tool a.b/c@a/b":                  "no proxy can be asked",
		"tool a.b/c@all":                  "wanted in one version",
		"deny ../x":                       "want deny MODULE",
		"self linux":                      `"linux" is not a platform`,
		"self plan9/mips":                 "name the file of one for plan9/mips",
		"self plan9/mips source.go":       "not a modmirror",
		"vulndb a b":                      "cannot read",
		"module ./nowhere":                "no go.mod there",
		"missing-ok example.com/gone":     "want missing-ok module@version",
		"module":                          "cannot read",
		"a@v1.0.0 b@v1.0.0":               "cannot read",
		"# nothing":                       "nothing to do",
		strings.Repeat("x", 100000) + "@": "token too long",
	} {
		if _, err := Parse([]string{"-"}, strings.NewReader(line)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s", line, err, want)
		}
	}
}

// FuzzListFile checks that no list makes the parser panic or accept an invalid path.
func FuzzListFile(f *testing.F) {
	f.Add("rsc.io/quote@v1.5.2 # x\nmissing-ok a.b/c@v1.0.0\n")
	f.Add("module ./x\n\x00@")
	f.Add("tool a.b/cmd/c@latest\ntoolchain go1.26.8 linux/amd64\nvulndb\ndeny a.b/...\nonly a.b/c@v1.0.0\na.b/c@>=v1.2.0\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse([]string{"-"}, strings.NewReader(text))
		if err != nil {
			return
		}
		for _, src := range s.List {
			if src.Tool != "" && module.CheckImportPath(src.Tool) != nil || src.Tool == "" && src.Mod == nil && src.Work == nil && module.CheckPath(src.Query.Path) != nil {
				t.Errorf("accepted %q", src.Query.Path)
			}
		}
	})
}
