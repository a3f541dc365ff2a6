package vulndb_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/vuln/scan"

	"github.com/modmirror/modmirror/review/vulndb"
)

// An event is one as in a database. Others are the parts of entries that the matcher reads.
type (
	event map[string]string

	affectedRange struct {
		Type   string  `json:"type"`
		Events []event `json:"events"`
	}

	affectedModule struct {
		Package struct {
			Name      string `json:"name"`
			Ecosystem string `json:"ecosystem"`
		} `json:"package"`
		Ranges []affectedRange `json:"ranges"`
	}

	entry struct {
		SchemaVersion string           `json:"schema_version"`
		ID            string           `json:"id"`
		Modified      string           `json:"modified"`
		Withdrawn     string           `json:"withdrawn,omitempty"`
		Affected      []affectedModule `json:"affected"`
	}
)

// randomDB writes a database of random entries: ranges in any order, that overlap, without an end,
// without events, of prereleases, of several modules, withdrawn.
func randomDB(t *testing.T, r *rand.Rand, modules, entries int) string {
	dir := t.TempDir()
	write := func(name string, v any) {
		data, err := json.Marshal(v)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.FromSlash(name)), data, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"index", "ID"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	type vuln map[string]string
	byModule := make(map[string][]vuln)
	for i := range entries {
		e := entry{SchemaVersion: "1.3.1", ID: fmt.Sprintf("GO-2026-%04d", i), Modified: "2026-01-02T03:04:05Z"}
		if r.IntN(20) == 0 {
			e.Withdrawn = "2026-01-02T03:04:05Z"
		}
		for range 1 + r.IntN(2) {
			a := affectedModule{Ranges: []affectedRange{}}
			a.Package.Ecosystem = "Go"
			a.Package.Name = fmt.Sprintf("example.com/m%d", r.IntN(modules))
			if r.IntN(10) == 0 {
				a.Package.Name = vulndb.Stdlib
			}
			for range r.IntN(3) {
				a.Ranges = append(a.Ranges, randomRange(r))
			}
			e.Affected = append(e.Affected, a)
			byModule[a.Package.Name] = append(byModule[a.Package.Name], vuln{"id": e.ID, "modified": e.Modified})
		}
		write("ID/"+e.ID+".json", e)
	}
	type row struct {
		Path  string `json:"path"`
		Vulns []vuln `json:"vulns"`
	}
	var index []row
	for path, vulns := range byModule {
		index = append(index, row{path, vulns})
	}
	write("index/modules.json", index)
	write("index/db.json", vuln{"modified": "2026-01-02T03:04:05Z"})
	return dir
}

// randomRange returns events that do not overlap, as the format asks, in any order.
func randomRange(r *rand.Rand) affectedRange {
	out := affectedRange{Type: "SEMVER", Events: []event{}}
	if r.IntN(12) == 0 {
		out.Type = "ECOSYSTEM"
	}
	var versions []string
	for range r.IntN(6) {
		v := fmt.Sprintf("1.%d.%d", r.IntN(4), r.IntN(4))
		if r.IntN(4) == 0 {
			v += fmt.Sprintf("-rc.%d", r.IntN(3))
		}
		versions = append(versions, v)
	}
	slices.SortFunc(versions, func(a, b string) int { return semver.Compare("v"+a, "v"+b) })
	for i, v := range slices.Compact(versions) {
		switch {
		case i%2 == 1:
			out.Events = append(out.Events, event{"fixed": v})
		case i == 0 && r.IntN(2) == 0:
			out.Events = append(out.Events, event{"introduced": "0"})
		default:
			out.Events = append(out.Events, event{"introduced": v})
		}
	}
	r.Shuffle(len(out.Events), func(i, j int) { out.Events[i], out.Events[j] = out.Events[j], out.Events[i] })
	return out
}

// A finding is an entry that affects a version.
type finding struct {
	mod module.Version
	id  string
}

// govulncheck returns what a module scan of govulncheck finds in a program built by a Go release,
// such as go1.22.1, from modules: the version that fixes it for each finding.
func govulncheck(t *testing.T, db, release string, modules []module.Version) map[finding]string {
	t.Helper()
	blob := filepath.Join(t.TempDir(), "blob")
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.Encode(map[string]string{"name": "govulncheck-extract", "version": "0.1.0"})
	enc.Encode(map[string]any{"path": "example.com/program", "modules": modules, "goVersion": release})
	if err := os.WriteFile(blob, buf.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	found := make(map[finding]string)
	for line := range messages(t, "-db", "file://"+db, "-mode=binary", "-scan=module", "-json", blob) {
		if f := line.Finding; f != nil {
			frame := f.Trace[0]
			found[finding{module.Version{Path: frame.Module, Version: frame.Version}, f.OSV}] = f.Fixed
		}
	}
	return found
}

// A message is one of govulncheck's output.
type message struct {
	OSV *struct {
		ID string `json:"id"`
	} `json:"osv"`
	Finding *struct {
		OSV   string `json:"osv"`
		Fixed string `json:"fixed_version"`
		Trace []struct{ Module, Version string }
	} `json:"finding"`
}

// messages runs govulncheck.
func messages(t *testing.T, args ...string) func(yield func(message) bool) {
	t.Helper()
	cmd := scan.Command(context.Background(), args...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("govulncheck %v: %v\n%s", args, err, &stderr)
	}
	return func(yield func(message) bool) {
		for dec := json.NewDecoder(&out); ; {
			var m message
			if err := dec.Decode(&m); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatal(err)
			}
			if !yield(m) {
				return
			}
		}
	}
}

// TestOracle compares the matcher with module scans of govulncheck. With VULNDB=folder it does so
// for every module of a real database, else for random databases.
func TestOracle(t *testing.T) {
	if dir := os.Getenv("VULNDB"); dir != "" {
		compareWithOracle(t, dir)
		return
	}
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			compareWithOracle(t, randomDB(t, rand.New(rand.NewPCG(seed, 1)), 20, 100))
		})
	}
}

// compareWithOracle compares, for each module of a database, versions around each version that its
// entries name.
func compareWithOracle(t *testing.T, dir string) {
	ctx := t.Context()
	db, err := vulndb.Open(ctx, vulndb.Folder(dir))
	if err != nil {
		t.Fatal(err)
	}
	var index []struct{ Path string }
	data, err := os.ReadFile(filepath.Join(dir, "index", "modules.json"))
	if err == nil {
		err = json.Unmarshal(data, &index)
	}
	if err != nil {
		t.Fatal(err)
	}
	var columns [][]module.Version // a program has one version of a module
	var releases, toolchains []string
	pairs, affected := 0, 0
	ours := make(map[finding]*vulndb.Entry)
	for _, m := range index {
		var entries []*vulndb.Entry
		for e, err := range db.Entries(ctx, m.Path) {
			if err != nil {
				t.Fatal(err)
			}
			entries = append(entries, e)
		}
		for i, v := range around(entries, m.Path) {
			mod := module.Version{Path: m.Path, Version: v}
			pairs++
			for _, e := range entries {
				if e.Affects(m.Path, v) {
					affected++
					ours[finding{mod, e.ID}] = e
				}
			}
			switch m.Path {
			case vulndb.Toolchain: // which no scan looks at
				toolchains = append(toolchains, v)
			case vulndb.Stdlib:
				releases = append(releases, v)
			default:
				for i >= len(columns) {
					columns = append(columns, nil)
				}
				columns[i] = append(columns[i], mod)
			}
		}
	}
	compare := func(what string, theirs map[finding]string, of func(module.Version) bool) {
		for f, fixed := range theirs {
			e := ours[f]
			if e == nil {
				t.Errorf("%s: only govulncheck finds %+v", what, f)
				continue
			}
			// What govulncheck names as fixed may be affected itself: see findings/govulncheck-fixed.sh.
			got := vulndb.FirstAbove(e.Fixes(f.mod.Path), f.mod.Version)
			if got != fixed && (fixed == "" || !e.Affects(f.mod.Path, fixed)) {
				t.Errorf("%s: %+v is fixed in %q, according to govulncheck in %q", what, f, got, fixed)
			}
		}
		for f := range ours {
			if _, ok := theirs[f]; of(f.mod) && !ok {
				t.Errorf("%s: govulncheck does not find %+v", what, f)
			}
		}
	}
	for i, mods := range columns {
		in := make(map[module.Version]bool)
		for _, m := range mods {
			in[m] = true
		}
		compare(fmt.Sprint("versions ", i), govulncheck(t, dir, "", mods), func(m module.Version) bool { return in[m] })
	}
	for _, v := range releases {
		release := "go" + vulndb.GoOfSemver(v)
		if back, ok := vulndb.SemverOfGo(strings.TrimPrefix(release, "go")); !ok || back != v {
			continue // no Go release can have this version
		}
		of := module.Version{Path: vulndb.Stdlib, Version: v}
		compare(release, govulncheck(t, dir, release, nil), func(m module.Version) bool { return m == of })
	}
	for _, v := range toolchains {
		ids := make(map[string]bool) // of more than affect it: see findings/govulncheck-query.sh
		for m := range messages(t, "-db", "file://"+dir, "-mode=query", "-json", vulndb.Toolchain+"@"+v) {
			if m.OSV != nil {
				ids[m.OSV.ID] = true
			}
		}
		for f := range ours {
			if f.mod == (module.Version{Path: vulndb.Toolchain, Version: v}) && !ids[f.id] {
				t.Errorf("toolchain %s: govulncheck does not find %s", v, f.id)
			}
		}
	}
	t.Logf("%d modules, %d versions, of which %d times one is affected", len(index), pairs, affected)
	if affected == 0 {
		t.Error("nothing is affected")
	}
}

// around returns versions at, just below and above those that entries about a module name: at most
// 12 of them, spread evenly.
func around(entries []*vulndb.Entry, path string) []string {
	list := []string{"v0.0.0-20200102030405-0123456789ab", "v1.0.0"}
	for _, e := range entries {
		for _, v := range named(e, path) {
			list = append(list, v, semver.MajorMinor(v)+".99")
			if semver.Prerelease(v) == "" {
				list = append(list, semver.Canonical(v)+"-0")
			}
		}
	}
	slices.SortFunc(list, semver.Compare)
	list = slices.Compact(list)
	const most = 12
	if len(list) <= most {
		return list
	}
	var some []string
	for i := range most {
		some = append(some, list[i*(len(list)-1)/(most-1)])
	}
	return some
}

// named returns the versions of a module that an entry names.
func named(e *vulndb.Entry, path string) (list []string) {
	for _, a := range e.Affected {
		for _, r := range a.Ranges {
			for _, ev := range r.Events {
				for _, v := range []string{ev.Introduced, ev.Fixed} {
					if v = "v" + v; a.Package.Name == path && semver.IsValid(v) && v != "v0" {
						list = append(list, v)
					}
				}
			}
		}
	}
	return list
}
