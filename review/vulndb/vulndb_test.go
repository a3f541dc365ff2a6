package vulndb_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/review/vulndb"
)

// files is a database in memory.
type files map[string]string

func (f files) read(_ context.Context, name string, limit int64) ([]byte, error) {
	data, ok := f[name]
	if !ok {
		return nil, fmt.Errorf("%s: %w", name, fs.ErrNotExist)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return []byte(data), nil
}

const (
	meta    = `{"modified":"2026-01-02T03:04:05Z"}`
	modules = `[{"path":"example.com/text","vulns":[{"id":"GO-2026-0001"}]}]`
	entry1  = `{"schema_version":"1.3.1","id":"GO-2026-0001","affected":[{"package":{"name":"example.com/text"},
		"ranges":[{"type":"SEMVER","events":[{"introduced":"1.0.0"},{"fixed":"1.2.0"}]}]}]}`
)

// TestBadDatabase has databases that are cut, of another schema, or hostile. Each error names the
// file.
func TestBadDatabase(t *testing.T) {
	for name, test := range map[string]struct {
		change files
		want   string
	}{
		"cut index":        {files{"index/modules.json": modules[:20]}, "index/modules.json: unexpected end"},
		"no modules":       {files{"index/modules.json": "[]"}, "index/modules.json: it names no module"},
		"another index":    {files{"index/modules.json": `{"a":1}`}, "index/modules.json: it is no list"},
		"index gone":       {files{"index/modules.json": "-"}, "index/modules.json: it is not there"},
		"no time":          {files{"index/db.json": "{}"}, "index/db.json: it does not say when"},
		"cut db.json":      {files{"index/db.json": ""}, "index/db.json: unexpected end"},
		"a path as id":     {files{"index/modules.json": `[{"path":"a","vulns":[{"id":"../../x"}]}]`}, `"../../x", for module "a", is not an id`},
		"entry gone":       {files{"ID/GO-2026-0001.json": "-"}, "ID/GO-2026-0001.json: the index names it"},
		"entry cut":        {files{"ID/GO-2026-0001.json": entry1[:50]}, "ID/GO-2026-0001.json: unexpected end"},
		"entry of another": {files{"ID/GO-2026-0001.json": `{"id":"GO-2026-0002"}`}, `it is about "GO-2026-0002"`},
		"schema 2":         {files{"ID/GO-2026-0001.json": `{"id":"GO-2026-0001","schema_version":"2.0.0"}`}, `version "2.0.0" of the OSV schema`},
		"too many events": {files{"ID/GO-2026-0001.json": `{"id":"GO-2026-0001","affected":[{"ranges":[{"events":[` +
			strings.Repeat("{},", 500) + `{}]}]}]}`}, "more than 500 events"},
		"too many parts": {files{"ID/GO-2026-0001.json": `{"id":"GO-2026-0001","affected":[` +
			strings.Repeat("{},", 2000) + `{}]}`}, "more than 2000 elements"},
		"too large": {files{"ID/GO-2026-0001.json": strings.Repeat(" ", 5<<20)}, "more than 262144 bytes"},
		"too many entries": {files{"index/modules.json": `[{"path":"a","vulns":[{"id":"x"}` +
			strings.Repeat(`,{"id":"x"}`, 5000) + `]}]`}, `more than 5000 entries for module "a"`},
		"too many modules": {files{"index/modules.json": `[{}` + strings.Repeat(`,{}`, 50_000) + `]`},
			"more than 50000 modules"},
	} {
		t.Run(name, func(t *testing.T) {
			all := files{"index/db.json": meta, "index/modules.json": modules, "ID/GO-2026-0001.json": entry1}
			for file, data := range test.change {
				if all[file] = data; data == "-" {
					delete(all, file)
				}
			}
			db, err := vulndb.Open(t.Context(), all.read)
			if err == nil {
				for _, err = range db.Entries(t.Context(), "example.com/text") {
				}
			}
			bad, ok := errors.AsType[*vulndb.BadError](err)
			if !ok || !strings.Contains(bad.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
	if _, err := vulndb.Open(t.Context(), files{}.read); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a database: %v", err)
	}
}

// TestGoVersions has the versions of Go releases as entries name them.
func TestGoVersions(t *testing.T) {
	for release, want := range map[string]string{
		"1.22.1": "v1.22.1", "1.20": "v1.20.0", "1.21.0": "v1.21.0", "1.27rc1": "v1.27.0-rc.1", "1.9.2rc2": "v1.9.2-rc.2",
		"1.18beta1": "v1.18.0-beta.1", "1": "", "1.22.1-custom": "", "": "", "1.2.3.4": "", "devel": "",
	} {
		got, ok := vulndb.SemverOfGo(release)
		if got != want || ok != (want != "") {
			t.Errorf("SemverOfGo(%q) = %q, %v, want %q", release, got, ok, want)
		}
		if back := vulndb.GoOfSemver(want); ok && back != release && back != release+".0" {
			t.Errorf("GoOfSemver(%q) = %q, want %q", want, back, release)
		}
	}
}
