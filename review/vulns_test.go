package review_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/vulndb"
)

// A catalog lists versions and requirements in memory, each as PATH@VERSION.
type catalog struct {
	versions     []string
	requirements [][2]string
}

func (c catalog) Versions(context.Context, string) iter.Seq2[index.Version, error] {
	return func(yield func(index.Version, error) bool) {
		for _, s := range c.versions {
			path, version, _ := strings.Cut(s, "@")
			v := index.Version{Path: path, Version: version}
			if version, whole := strings.CutSuffix(version, " whole"); whole {
				v.Version, v.ZipSize = version, new(int64)
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}

func (c catalog) Requirements(context.Context) iter.Seq2[index.Requirement, error] {
	return func(yield func(index.Requirement, error) bool) {
		for _, r := range c.requirements {
			var x index.Requirement
			x.Path, x.Version, _ = strings.Cut(r[0], "@")
			x.Requires, x.Wanted, _ = strings.Cut(r[1], "@")
			if !yield(x, nil) {
				return
			}
		}
	}
}

// database returns a database of entries, by id: each is one module and its events.
func database(t *testing.T, entries map[string]string) *vulndb.DB {
	t.Helper()
	files := map[string]string{"index/db.json": `{"modified":"2026-01-02T03:04:05Z"}`}
	var rows []string
	for id, e := range entries {
		var affected []struct{ Package struct{ Name string } }
		if err := json.Unmarshal([]byte(e), &affected); err != nil {
			t.Fatal(err)
		}
		for _, a := range affected {
			rows = append(rows, fmt.Sprintf(`{"path":%q,"vulns":[{"id":%q}]}`, a.Package.Name, id))
		}
		files["ID/"+id+".json"] = fmt.Sprintf(`{"id":%q,"summary":"about\n\u001b[31m %[1]s","aliases":["CVE-%[1]s"],
			"affected":%s,"database_specific":{"url":"https://example.com/%[1]s"}}`, id, e)
	}
	files["index/modules.json"] = "[" + strings.Join(rows, ",") + "]"
	db, err := vulndb.Open(t.Context(), func(_ context.Context, name string, _ int64) ([]byte, error) {
		if data, ok := files[name]; ok {
			return []byte(data), nil
		}
		return nil, fs.ErrNotExist
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func ranges(module, events string) string {
	return fmt.Sprintf(`[{"package":{"name":%q},"ranges":[{"type":"SEMVER","events":[%s]}],
		"ecosystem_specific":{"imports":[{"path":"%[1]s/sub"}]}}]`, module, events)
}

// TestFindVulns has each way in which a version can be affected, and fixed.
func TestFindVulns(t *testing.T) {
	db := database(t, map[string]string{
		"A": ranges("example.com/a", `{"introduced":"0"},{"fixed":"1.2.0"}`),
		"B": ranges("example.com/a", `{"introduced":"0"},{"fixed":"1.9.0"}`),
		"C": ranges("example.com/c", `{"introduced":"0"}`),
		"D": ranges("example.com/d", `{"introduced":"1.0.0"},{"fixed":"1.1.0"}`),
		"S": ranges("stdlib", `{"introduced":"0"},{"fixed":"1.21.9"},{"introduced":"1.22.0-0"},{"fixed":"1.22.2"}`),
		"T": ranges("toolchain", `{"introduced":"0"},{"fixed":"1.22.1"}`),
		"X": `[{"package":{"name":"example.com/x"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"}]}],
			"ecosystem_specific":{"custom_ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"7.5"}]}]}}]`,
	})
	one := catalog{
		versions: []string{
			"example.com/a@v1.0.0", "example.com/a@v1.1.0 whole", "example.com/a@v1.3.0 whole",
			"example.com/c@v1.0.0 whole", "example.com/d@v1.1.0 whole", "example.com/d@v0.9.0 whole",
			"example.com/other@v1.0.0 whole", "example.com/x@v0.1.0 whole",
			"golang.org/toolchain@v0.0.1-go1.21.8.linux-amd64 whole", "golang.org/toolchain@v0.0.1-go1.21.8.windows-amd64 whole",
			"golang.org/toolchain@v0.0.1-go1.22.2.linux-amd64 whole", "golang.org/toolchain@v0.0.1-go1.27rc1.linux-amd64 whole",
		},
		requirements: [][2]string{
			{"corp.example/app", "example.com/a@v1.1.0"}, {"example.com/d@v1.1.0", "example.com/a@v1.1.0"},
			{"corp.example/app", "example.com/a@v1.0.0"},
		},
	}
	two := catalog{versions: []string{"example.com/a@v1.1.0 whole", "example.com/c@v1.5.0 whole"},
		requirements: [][2]string{{"corp.example/app", "example.com/a@v1.1.0"}, {"corp.example/tool", "example.com/a@v1.1.0"}}}
	found, err := review.FindVulns(t.Context(), []review.Catalog{one, two}, db)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, v := range found.List {
		if want := "about [31m " + v.ID; v.Summary != want {
			t.Errorf("summary %q, want %q", v.Summary, want)
		}
		got = append(got, fmt.Sprintf("%s %s: %s; %s", v.String(), v.ID, v.Action(), strings.Join(v.RequiredBy, ", ")))
	}
	want := []string{
		"example.com/a@v1.1.0 A: fixed in v1.2.0, and v1.3.0 is carried; corp.example/app, corp.example/tool, example.com/d@v1.1.0",
		"example.com/a@v1.1.0 B: fixed in v1.9.0, which is not carried; corp.example/app, corp.example/tool, example.com/d@v1.1.0",
		"example.com/a@v1.3.0 B: fixed in v1.9.0, which is not carried; ",
		"example.com/c@v1.0.0 C: no version is known to be fixed; ",
		"example.com/c@v1.5.0 C: no version is known to be fixed; ",
		"example.com/x@v0.1.0 X: no version of the module is known to be fixed; in its own numbering, 7.5 is; ",
		"go1.21.8 S: fixed in go1.21.9, and go1.22.2 is carried; ",
		"go1.21.8 T: fixed in go1.22.1, and go1.22.2 is carried; ",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	const summary = "6 of 11 carried versions are affected by known vulnerabilities; fixes for 1 of them are carried"
	if found.Summary() != summary || found.Toolchain != 1 {
		t.Errorf("%q, %d of Go, want %q, 1", found.Summary(), found.Toolchain, summary)
	}
	testFormats(t, found)
}

// TestHostileDatabase has a database that costs too much: each bound ends it.
func TestHostileDatabase(t *testing.T) {
	var events []string
	for i := range 250 {
		events = append(events, fmt.Sprintf(`{"introduced":"1.%d.0"},{"fixed":"1.%d.1"}`, i, i))
	}
	many := ranges("example.com/a", strings.Join(events, ","))
	for name, test := range map[string]struct {
		versions, entries int
		want              string
	}{
		"work":  {200_000, 1, "more than 50000 entries, or 50000000 comparisons"},
		"vulns": {2000, 30, "more than 20000 vulnerabilities"},
	} {
		t.Run(name, func(t *testing.T) {
			entries := make(map[string]string)
			for i := range test.entries {
				entries[fmt.Sprintf("X%d", i)] = many
			}
			var c catalog
			for i := range test.versions {
				c.versions = append(c.versions, fmt.Sprintf("example.com/a@v1.%d.0+b%d whole", i%250, i))
			}
			begin := time.Now()
			_, err := review.FindVulns(t.Context(), []review.Catalog{c}, database(t, entries))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := catalog{versions: []string{"example.com/a@v1.0.0 whole"}}
	if _, err := review.FindVulns(ctx, []review.Catalog{c}, database(t, map[string]string{"X": many})); err != context.Canceled {
		t.Errorf("canceled: %v", err)
	}
}

// testFormats expects each vulnerability in the other formats, and the same bytes each time.
func testFormats(t *testing.T, found *review.Vulns) {
	sarif, err := json.Marshal(found.SARIF("team.tar", "v1"))
	if err != nil {
		t.Fatal(err)
	}
	var vexes []string
	for range 2 {
		doc, err := found.OpenVEX("tester", time.Unix(1700000000, 0))
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		vexes = append(vexes, string(text))
	}
	if vexes[0] != vexes[1] {
		t.Errorf("the document changes:\n%s\n%s", vexes[0], vexes[1])
	}
	var log struct {
		Runs []struct {
			Tool struct {
				Driver struct{ Rules []struct{ ID string } }
			}
			Results []struct{ RuleID, Level string }
		}
	}
	if err := json.Unmarshal(sarif, &log); err != nil {
		t.Fatal(err)
	}
	if run := log.Runs[0]; len(run.Results) != len(found.List) || len(run.Tool.Driver.Rules) != 6 {
		t.Errorf("%d results of %d rules", len(run.Results), len(run.Tool.Driver.Rules))
	}
	for _, purl := range []string{"pkg:golang/example.com/a@v1.1.0", "pkg:golang/stdlib@1.21.8", `"timestamp":"2023-11-14T22:13:20Z"`} {
		if !strings.Contains(vexes[0], purl) {
			t.Errorf("no %s in %s", purl, vexes[0])
		}
	}
	levels := make([]string, 0, len(found.List))
	for _, r := range log.Runs[0].Results {
		levels = append(levels, r.Level)
	}
	if want := []string{"error", "error", "error", "warning", "warning", "warning", "error", "error"}; !slices.Equal(levels, want) {
		t.Errorf("levels %v, want %v", levels, want)
	}
}

// TestPURL has paths that a package URL must escape.
func TestPURL(t *testing.T) {
	for _, test := range [][3]string{
		{"golang.org/x/net", "v0.20.0", "pkg:golang/golang.org/x/net@v0.20.0"},
		{"github.com/Azure/go", "v14.2.0+incompatible", "pkg:golang/github.com/Azure/go@v14.2.0%2Bincompatible"},
		{"stdlib", "1.22.1", "pkg:golang/stdlib@1.22.1"},
	} {
		if got := review.PURL(test[0], test[1]); got != test[2] {
			t.Errorf("PURL(%s, %s) = %s, want %s", test[0], test[1], got, test[2])
		}
	}
}
