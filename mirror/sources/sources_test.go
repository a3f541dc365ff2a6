package sources

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
)

// TestHints has mistakes and the advice for them.
func TestHints(t *testing.T) {
	for arg, hint := range map[string]string{
		"go test ./...":                     "--rehearse='go test ./...'",
		"rsc.io/quote":                      "rsc.io/quote@latest",
		"https://rsc.io/quote":              "rsc.io/quote@latest",
		"encoding/json":                     standardHint,
		"rsc.io/quote@":                     "rsc.io/quote@latest",
		"https://rsc.io/quote.git@latest":   "did you mean rsc.io/quote@latest?",
		"encoding/json@latest":              standardHint,
		"rsc.io/quote@v3.1.0":               "", // it may be +incompatible
		"rsc.io/quote/v3@v2.0.0":            "did you mean rsc.io/quote/v2@v2.0.0?",
		"rsc.io/quote/v3@v1.5.2":            "did you mean rsc.io/quote@v1.5.2?",
		"rsc.io/quote@latest,":              "did you mean rsc.io/quote@latest?",
		"gopkg.in/yaml.v2@v3.0.0":           "",
		"rsc.io/quote@>=v1.2.0":             "",
		"rsc.io/quote@v1.5.2+build.is.kept": "",
	} {
		_, err := Parse([]string{arg}, nil)
		bad, _ := errors.AsType[*Error](err)
		switch {
		case hint == "" && bad != nil && bad.Hint != "":
			t.Errorf("%s: hint %q", arg, bad.Hint)
		case hint != "" && (bad == nil || !strings.Contains(bad.Hint, hint)):
			t.Errorf("%s: %v, want the hint %s", arg, err, hint)
		}
	}
}

// TestLearn has the paths that a go command asked for.
func TestLearn(t *testing.T) {
	s, err := Parse([]string{"example.com/a@v1.0.0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	paths := []string{
		"example.com/z/@v/v1.0.0.zip", "example.com/m/@v/v1.0.0.mod", "sumdb/sum.example/lookup/example.com/s@v1.0.0",
		"example.com/i/@v/main.info", "example.com/l/@v/list", "example.com/l/@latest",
		"sumdb/sum.example/latest", "../nonsense", "example.com/z/@v/v1.0.0.zip",
	}
	want := []string{"example.com/z@v1.0.0", "example.com/m@v1.0.0/go.mod", "example.com/s@v1.0.0/go.mod", "example.com/i@main", "example.com/l@latest"}
	if got := s.Learn(paths); !slices.Equal(got, want) {
		t.Errorf("learned %q, want %q", got, want)
	}
	if got := s.Learn(paths); got != nil {
		t.Errorf("learned again: %q", got)
	}
	var kinds []string
	for _, src := range s.List[1:] {
		kinds = append(kinds, fmt.Sprint(src.OnlyThis, src.NoZip, src.Optional))
	}
	if want := []string{"true false false", "true true false", "true true false", "true false true", "true false true"}; !slices.Equal(kinds, want) {
		t.Errorf("only this, no zip, optional: %q, want %q", kinds, want)
	}
}

// TestLines has each kind of line, with what it adds.
func TestLines(t *testing.T) {
	list := `
maybe example.com/m@all
maybe nonsense@latest
only example.com/o@v1.0.0
head sum.golang.org 1234
toolchain auto linux/amd64 darwin/arm64
toolchain go1.26.8 linux/arm64
vulndb ./db
self
`
	s, err := Parse([]string{"-"}, strings.NewReader(list))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, src := range s.List {
		got = append(got, fmt.Sprintf("%s %v %v %v", src.Query, src.OnlyThis, src.Optional, src.NoZip))
	}
	want := []string{
		"example.com/m@latest false true false", "example.com/o@v1.0.0 true false false",
		"golang.org/toolchain@v0.0.1-go1.26.8.linux-arm64 true false false",
		"golang.org/toolchain@v0.0.1-go1.26.8.linux-amd64 true false true",
	}
	if !slices.Equal(got, want) {
		t.Errorf("sources\n%q, want\n%q", got, want)
	}
	if len(s.Notes) != 1 || !strings.HasPrefix(s.Notes[0], "left out: maybe stdin:3: nonsense@latest:") {
		t.Errorf("notes %q", s.Notes)
	}
	if len(s.Trees) != 1 || s.Trees[0] != (Tree{"stdin:5", "sum.golang.org", 1234}) {
		t.Errorf("trees %v", s.Trees)
	}
	if !s.AutoToolchain || len(s.Platforms) != 2 || s.VulnDB != "db" || len(s.Bootstraps) != 1 || s.Bootstraps[0].Platform != modpath.ThisPlatform {
		t.Errorf("toolchain auto %v %v, vulndb %q, bootstraps %v", s.AutoToolchain, s.Platforms, s.VulnDB, s.Bootstraps)
	}
	for text, want := range map[string]string{
		"head sum.golang.org zero\n":         "want head DATABASE SIZE",
		"head x 5\n":                         "want head DATABASE SIZE",
		"self\nself\n":                       "a second modmirror for",
		"toolchain go1.26\n":                 "not a released Go version",
		"toolchain auto linux\n":             "is not a platform",
		"toolchain go1.26.8 beos/amd64\n":    "is not a platform",
		"\xff\xfea\x00":                      "it is UTF-16",
		"a\x00b":                             "it is not text",
		strings.Repeat("head a.b 1\n", 1001): "more than 1000 lines head",
	} {
		if _, err := Parse([]string{"-"}, strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %s", text, err, want)
		}
	}
	if s, err := Parse([]string{"-"}, strings.NewReader("\xef\xbb\xbfrsc.io/quote@latest\n")); err != nil || s.List[0].Query.Path != "rsc.io/quote" {
		t.Errorf("a byte order mark: %v", err)
	}
}

func TestToolchains(t *testing.T) {
	s := new(Sources)
	for _, v := range []string{"1.25.9", "go1.26.1", "go1.25.10"} {
		if err := s.AddToolchain("x", v, []string{"linux/amd64"}); err != nil {
			t.Fatal(err)
		}
	}
	if m, ok := s.NewestToolchain("linux/amd64"); !ok || m != modpath.ToolchainVersion("go1.26.1", "linux/amd64") {
		t.Errorf("newest is %v, %v", m, ok)
	}
	if _, ok := s.NewestToolchain("linux/arm64"); ok {
		t.Error("there is none for linux/arm64")
	}
	if !s.HasToolchain("go1.25.9", "linux/amd64") || s.HasToolchain("go1.25.8", "linux/amd64") || s.HasToolchain("go1.25.9", "linux/arm64") {
		t.Error("HasToolchain")
	}
	s = new(Sources)
	if err := s.AddToolchain("x", "go1.26.1", []string{"darwin/arm64"}); err != nil || s.HasToolchain("go1.26.1", "linux/amd64") {
		t.Errorf("only the .info of linux/amd64 is wanted: %+v, %v", s.List, err)
	}
}

// TestMatcher has queries and what they allow (cmd/go/internal/modload/query_test.go).
// TestQueriesAreGos of package mirror asks the go command.
func TestMatcher(t *testing.T) {
	versions := []string{"v0.9.0", "v1.0.0", "v1.2.0-pre", "v1.2.0", "v1.2.5", "v1.9.0"}
	for query, want := range map[string]string{
		"latest": "v0.9.0 v1.0.0 v1.2.0-pre v1.2.0 v1.2.5 v1.9.0", "upgrade": "v0.9.0 v1.0.0 v1.2.0-pre v1.2.0 v1.2.5 v1.9.0",
		"v1": "v1.0.0 v1.2.0-pre v1.2.0 v1.2.5 v1.9.0", "v1.2": "v1.2.0 v1.2.5", ">v1.0.0": "v1.2.0-pre v1.2.0 v1.2.5 v1.9.0",
		">=v1.2.5": "v1.2.5 v1.9.0", "<v1.2.0": "v0.9.0 v1.0.0 v1.2.0-pre", "<=v1.0.0": "v0.9.0 v1.0.0", "<v1": "v0.9.0",
	} {
		q, ok, err := NewMatcher(query)
		if err != nil || !ok {
			t.Errorf("%s: %v, %v", query, ok, err)
			continue
		}
		var got []string
		for _, v := range versions {
			if q.Allows(v) {
				got = append(got, v)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s allows %v, want %s", query, got, want)
		}
		if q.Lower != strings.HasPrefix(query, ">") || q.MayLatest != (query == "latest" || query == "upgrade") {
			t.Errorf("%s: %+v", query, q)
		}
	}
	for query, want := range map[string]string{"patch": "patch needs a version", ">v1": "ambiguous", "<=v1.2": "ambiguous", "<x": "invalid semantic version"} {
		if _, _, err := NewMatcher(query); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", query, err, want)
		}
	}
	for _, query := range []string{"main", "0123456", "v1.2.3"} {
		if _, ok, err := NewMatcher(query); ok || err != nil {
			t.Errorf("%s is for a list: %v", query, err)
		}
	}
	for query, want := range map[string]bool{"v2": true, "v1": false, "latest": false, ">=v2.0.0": true} {
		if q, _, _ := NewMatcher(query); q.Incompatible("example.com/m") != want {
			t.Errorf("%s of example.com/m: incompatible is not %v", query, want)
		}
	}
}

func TestDenies(t *testing.T) {
	s := &Sources{Deny: []string{"a.b/no/...", "a.b/never"}}
	for path, want := range map[string]string{
		"a.b/no": "a.b/no/...", "a.b/no/x": "a.b/no/...", "a.b/nothing": "", "a.b/never": "a.b/never", "a.b/never/x": "", "a.b": "",
	} {
		if got := s.Denies(path); got != want {
			t.Errorf("%s is denied by %q, want %q", path, got, want)
		}
	}
	s.AddVersion("line x", module.Version{Path: "a.b/c", Version: "v1.0.0"}, false)
	if v := s.List[0]; !v.OnlyThis || !v.NoZip || v.Name != "line x" {
		t.Errorf("%+v", v)
	}
}
