package modpath

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"
)

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		path string
		want Request
	}{
		{"rsc.io/quote/@v/list", Request{Kind: List, Path: "rsc.io/quote"}},
		{"rsc.io/quote/@latest", Request{Kind: Latest, Path: "rsc.io/quote"}},
		{"rsc.io/quote/@v/v1.5.2.info", Request{Kind: Info, Path: "rsc.io/quote", Version: "v1.5.2"}},
		{"rsc.io/quote/@v/main.info", Request{Kind: Info, Path: "rsc.io/quote", Version: "main"}},
		{"rsc.io/quote/v3/@v/v3.1.0.mod", Request{Kind: Mod, Path: "rsc.io/quote/v3", Version: "v3.1.0"}},
		{"github.com/!burnt!sushi/toml/@v/v1.4.0.zip", Request{Kind: Zip, Path: "github.com/BurntSushi/toml", Version: "v1.4.0"}},
		{"gopkg.in/yaml.v2/@v/v2.0.0.zip", Request{Kind: Zip, Path: "gopkg.in/yaml.v2", Version: "v2.0.0"}},
		{"x.io/y/@v/v2.0.0+incompatible.zip", Request{Kind: Zip, Path: "x.io/y", Version: "v2.0.0+incompatible"}},
		{"golang.org/toolchain/@v/v0.0.1-go1.26.8.linux-amd64.zip", Request{Kind: Zip, Path: "golang.org/toolchain", Version: "v0.0.1-go1.26.8.linux-amd64"}},
		{"sumdb/sum.golang.org/supported", Request{Kind: SumSupported, DB: "sum.golang.org"}},
		{"sumdb/sum.golang.org/latest", Request{Kind: SumLatest, DB: "sum.golang.org"}},
		{"sumdb/localhost.localdev/sumdb/latest", Request{Kind: SumLatest, DB: "localhost.localdev/sumdb"}},
		{"sumdb/sum.golang.org/lookup/github.com/!a/b@v1.0.0", Request{Kind: SumLookup, DB: "sum.golang.org", Path: "github.com/A/b", Version: "v1.0.0"}},
		{"sumdb/sum.golang.org/tile/8/0/x001/234.p/5", Request{Kind: SumTile, DB: "sum.golang.org", Tile: tlog.Tile{H: 8, L: 0, N: 1234, W: 5}}},
		{"vulndb/ID/GO-2021-0113.json.gz", Request{Kind: Vuln, Name: "ID/GO-2021-0113.json", Gzip: true}},
		{"self/linux-amd64.tar", Request{Kind: Self, Name: "linux-amd64"}},
		{"review/report.html", Request{Kind: Review, Name: ReportHTML}},
		{"review/provenance.intoto.jsonl", Request{Kind: Review, Name: Provenance}},
	} {
		got, err := Parse(tc.path)
		if err != nil {
			t.Error(err)
		} else if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("Parse(%q) (-want +got):\n%s", tc.path, diff)
		}
	}
}

var badPaths = []string{
	"", "/", "@latest", "/@latest", "@v/list", "a/@v/list/", "rsc.io/quote/@v/", "rsc.io/quote/@v/v1.5.2",
	"rsc.io/quote/@v/v1.5.2.exe", "rsc.io/quote/@v/main.zip", "rsc.io/quote/@v/v1.zip", "rsc.io/quote/@v/v2.0.0.mod",
	"rsc.io/quote/@v/../v1.0.0.mod", "../rsc.io/quote/@v/list", "rsc.io/../quote/@v/list", "rsc.io//quote/@v/list",
	"github.com/BurntSushi/toml/@v/list", "github.com/!!a/b/@v/list", "github.com/!A/b/@v/list", "a.b/c\x00/@v/list",
	"a.b/c%2f/@v/list", `a.b\c/@v/list`, "a.b/\xc0\xae/@v/list", "a.b/ü/@v/list", "a.b/con/@v/list",
	"sumdb/", "sumdb//latest", "sumdb/sum.golang.org/tile/8/data/000", "sumdb/sum.golang.org/tile/2/0/000",
	"sumdb/sum.golang.org/tile/8/0/000.p/256", "sumdb/sum.golang.org/tile/8/0/000.p/0", "sumdb/sum.golang.org/tile/8/0/-01",
	"sumdb/sum.golang.org/lookup/a.b/c", "sumdb/sum.golang.org/lookup/a.b/c@main", "sumdb/../latest", "sumdb/x/latest",
	"review/", "review/x.html", "review/report.html.gz", "review/../report.html", "review/Report.html", "vulndb/x.json", "self/x.tar",
}

func TestParseRefuses(t *testing.T) {
	longest := "example.com/" + strings.Repeat("a", MaxLength-len("example.com//@v/list")) + "/@v/list"
	if _, err := Parse(longest); err != nil {
		t.Errorf("one that is not too long: %v", err)
	}
	long := strings.Replace(longest, "aa", "aaa", 1)
	for _, p := range append(badPaths, strings.Repeat("a/", 2000)+"@v/list", long) {
		if r, err := Parse(p); err == nil {
			t.Errorf("Parse(%q) = %+v, want an error", p, r)
		}
	}
}

func TestCheckFile(t *testing.T) {
	for name, ok := range map[string]bool{
		"README.txt": true, "github.com/!burnt!sushi/toml/@v/v1.4.0+x~1.zip": true, "sumdb/sum.golang.org/tile/8/0/x001/234.p/5": true,
		"": false, "/a": false, "a/": false, "a//b": false, "./a": false, "a/../b": false, "a\\b": false, "a b": false,
		strings.Repeat("a/", MaxLength/2-1) + "aa": true, strings.Repeat("a/", MaxLength/2) + "a": false, "a\nb": false, "a\x00b": false, "ü": false, "a:b": false, "a*": false,
	} {
		if err := CheckFile(name); (err == nil) != ok {
			t.Errorf("CheckFile(%q) = %v, want ok=%v", name, err, ok)
		}
	}
}

// FuzzParse checks that an accepted path has one spelling and is a safe file name.
func FuzzParse(f *testing.F) {
	for _, p := range badPaths {
		f.Add(p)
	}
	f.Add("rsc.io/quote/@v/v1.5.2.info")
	f.Add("sumdb/sum.golang.org/lookup/github.com/!a/b@v1.0.0")
	f.Fuzz(func(t *testing.T, p string) {
		r, err := Parse(p)
		if err != nil {
			return
		}
		if r.String() != p {
			t.Errorf("Parse(%q) prints as %q", p, r)
		}
		if err := CheckFile(p); err != nil && r.Kind != Info {
			t.Error(err)
		}
	})
}

func TestNearest(t *testing.T) {
	for _, tc := range []struct{ carried, want, near string }{
		{"v1.0.0 v1.2.0 v1.4.0", "v1.1.0", "v1.2.0"},
		{"v1.4.0 v1.2.0 v1.0.0", "v1.1.0", "v1.2.0"},
		{"v1.0.0 v1.2.0", "v1.3.0", "v1.2.0"},
		{"v1.2.0 v1.0.0", "v1.3.0", "v1.2.0"},
		{"v1.0.0", "v0.1.0", "v1.0.0"},
		{"v1.0.0", "main", ""},
		{"", "v1.0.0", ""},
	} {
		if got := Nearest(strings.Fields(tc.carried), tc.want); got != tc.near {
			t.Errorf("Nearest(%s, %s) = %s, want %s", tc.carried, tc.want, got, tc.near)
		}
	}
}

func TestLookup(t *testing.T) {
	for _, m := range []module.Version{{Path: "rsc.io/quote", Version: "v1.5.2"}, {Path: "github.com/BurntSushi/toml", Version: "v1.4.0-RC"}} {
		p := Lookup("sum.golang.org", m)
		r, err := Parse(p)
		if err != nil || r.Kind != SumLookup || r.DB != "sum.golang.org" || r.Path != m.Path || r.Version != m.Version {
			t.Errorf("Lookup(%v) = %q, which is %+v, %v", m, p, r, err)
		}
	}
	if p := Lookup("sum.golang.org", module.Version{Path: "a b", Version: "v1.0.0"}); p != "" {
		t.Errorf("a path that cannot be escaped: %q", p)
	}
}
