package index

import (
	"bytes"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWriteAndRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "odd ?name#100%.sqlite")
	write(t, path)
	x, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	if err := x.Check(ctx, 100); err != nil {
		t.Fatal(err)
	}
	f, ok, err := x.File(ctx, "b")
	if want := (File{ID: 2, Path: "b", Bundle: 2, Offset: 1536, SHA256: [32]byte{2}}); !ok || err != nil || f != want {
		t.Errorf("File = %+v, %v, %v", f, ok, err)
	}
	if _, ok, err := x.File(ctx, "c"); ok || err != nil {
		t.Errorf("a file that is not there: %v, %v", ok, err)
	}
	v, ok, err := x.Lookup(ctx, "example.com/b", "v1.0.0")
	want := Version{Path: "example.com/b", Version: "v1.0.0", Time: "2020-01-02T03:04:05Z", H1: hash("d"), GoModH1: hash("e"), ZipSize: ptr(int64(5)), ModSize: 12, Deprecated: "use c", Latest: "v1.2.0", Origin: "{}", Private: true}
	if diff := cmp.Diff(want, v); !ok || err != nil || diff != "" {
		t.Errorf("Lookup: %v, %v\n%s", ok, err, diff)
	}
	var versions []string
	for v, err := range x.Versions(ctx, "example.com/a") {
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, v.Version)
	}
	if diff := cmp.Diff([]string{"v1.0.0", "v1.1.0"}, versions); diff != "" {
		t.Error(diff)
	}
	for m, err := range x.MissingFor(ctx, "example.com/gone", "v1.0.0") {
		if err != nil || m.Status != 404 {
			t.Errorf("%+v, %v", m, err)
		}
	}
	c, err := x.Counts(ctx)
	if want := (Counts{Modules: 2, Versions: 2, ModOnly: 1, Private: 1, Files: 2, Missing: 1}); err != nil || c != want {
		t.Errorf("Counts = %+v, %v", c, err)
	}
	if _, err := x.db.Exec("DELETE FROM file"); err == nil {
		t.Error("the index can be written to")
	}
}

// collect returns the elements of a sequence as key makes them.
func collect[T any](t *testing.T, rows iter.Seq2[T, error], key func(T) string) (list []string) {
	t.Helper()
	for row, err := range rows {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, key(row))
	}
	return list
}

// manyRows makes and opens an index with rows for TestQueries, and those that follow it.
func manyRows(t *testing.T) (x *Index, path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "x")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	first := w.Bundle(Bundle{Digest: "0011", Name: "team", Sequence: 1, Payload: 512})
	own := w.Bundle(Bundle{Name: "team", Sequence: 2})
	m := w.Module("example.com/a", false, "old", "")
	w.Version(m, Version{Version: "v1.0.0", Time: "2020-01-02T03:04:05Z", ZipSize: ptr(int64(1)), Retracted: ptr("")})
	w.Version(m, Version{Version: "v1.1.0"})
	m = w.Module("corp.example/b", true, "", "")
	w.Version(m, Version{Version: "v1.0.0", ZipSize: ptr(int64(1))})
	for i, f := range []string{
		"README.txt", "example.com/a/@v/main.info", "example.com/a/@v/v1.0.0.info", "self/darwin-arm64.tar", "self/linux-amd64.tar",
		"selfish", "vulndb/ID/GO-1.json", "vulndb/ID/GO-2.json", "vulndb/index/db.json",
	} {
		bundle, offset := own, int64(9-i)*1024
		if strings.HasPrefix(f, "vulndb/ID") {
			bundle = first
		}
		w.File(File{Path: f, Bundle: bundle, Offset: offset, Size: 1})
	}
	w.Missing(Missing{Path: "a path", Version: "v1", What: "zip"})
	w.Query(Query{Path: "example.com/a", Query: "main", Version: "v1.0.0"})
	w.Query(Query{Path: "corp.example/b", Query: "latest", Version: "v1.0.0"})
	w.Requirement(Requirement{Path: "example.com/project", Requires: "example.com/a", Wanted: "v1.0.0"})
	w.Requirement(Requirement{Path: "example.com/a", Version: "v1.0.0", Requires: "example.com/c", Wanted: "v1.0.0", Indirect: true})
	w.Requirement(Requirement{Path: "example.com/a", Version: "v1.0.0", Requires: "no module", Wanted: "v1.0.0"})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if x, err = Open(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.Close() })
	return x, path
}

// TestQueries calls each method that returns rows.
func TestQueries(t *testing.T) {
	x, _ := manyRows(t)
	filePath := func(f File) string { return f.Path }
	query := func(q Query) string { return q.Path + "@" + q.Query + "=" + q.Version }
	requirement := func(r Requirement) string {
		return fmt.Sprint(r.Path, "@", r.Version, ">", r.Requires, "@", r.Wanted, " ", r.Indirect)
	}
	same := func(path string) string { return path }
	for _, test := range []struct {
		name string
		got  []string
		want string
	}{
		{"Files", collect(t, x.Files(ctx), filePath), "vulndb/ID/GO-2.json vulndb/ID/GO-1.json vulndb/index/db.json selfish self/linux-amd64.tar " +
			"self/darwin-arm64.tar example.com/a/@v/v1.0.0.info example.com/a/@v/main.info README.txt"},
		{"FilesIn", collect(t, x.FilesIn(ctx, 1), filePath), "vulndb/ID/GO-2.json vulndb/ID/GO-1.json"},
		{"FilesBelow", collect(t, x.FilesBelow(ctx, "self/"), filePath), "self/darwin-arm64.tar self/linux-amd64.tar"},
		{"Bundles", collect(t, x.Bundles(ctx), func(b Bundle) string { return fmt.Sprint(b.Digest, b.Sequence, ",", b.Payload) }), "00111,512 2,0"},
		{"Missing", collect(t, x.Missing(ctx), func(m Missing) string { return m.Path + "@" + m.Version }), "a%20path@v1"},
		{"Queries", collect(t, x.Queries(ctx, ""), query), "example.com/a@main=v1.0.0 corp.example/b@latest=v1.0.0"},
		{"Queries of one", collect(t, x.Queries(ctx, "example.com/a"), query), "example.com/a@main=v1.0.0"},
		{"Requirements", collect(t, x.Requirements(ctx), requirement),
			"example.com/project@>example.com/a@v1.0.0 false example.com/a@v1.0.0>example.com/c@v1.0.0 true"},
		{"RequirementsOf", collect(t, x.RequirementsOf(ctx, "example.com/project", ""), requirement), "example.com/project@>example.com/a@v1.0.0 false"},
		{"Roots", collect(t, x.Roots(ctx), func(r Requirement) string { return r.Path + "@" + r.Version }), "corp.example/b@v1.0.0 example.com/project@"},
		{"Private", collect(t, x.Private(ctx), same), "corp.example/b"},
		{"Public", collect(t, x.Public(ctx), same), "example.com/a"},
	} {
		if got := strings.Join(test.got, " "); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// TestSummaries calls the methods that count rows, or list what they stand for.
func TestSummaries(t *testing.T) {
	x, _ := manyRows(t)
	if list, err := x.Bootstraps(ctx); err != nil || !slices.Equal(list, []string{"darwin/arm64", "linux/amd64"}) {
		t.Errorf("Bootstraps: %v, %v", list, err)
	}
	if n, err := x.Vulns(ctx); err != nil || n != 2 {
		t.Errorf("Vulns: %d, %v", n, err)
	}
	if retracted, deprecated, err := x.Advised(ctx); err != nil || retracted != 1 || deprecated != 1 {
		t.Errorf("Advised: %d, %d, %v", retracted, deprecated, err)
	}
}

// TestFileOf asks for the files of a version, of a branch, and of a version without the file.
func TestFileOf(t *testing.T) {
	x, _ := manyRows(t)
	for _, test := range []struct {
		path, version, time string
		known, ok           bool
	}{
		{"example.com/a/@v/v1.0.0.info", "v1.0.0", "2020-01-02T03:04:05Z", true, true},
		{"example.com/a/@v/main.info", "main", "", false, true},
		{"example.com/a/@v/v1.1.0.info", "v1.1.0", "", false, false},
	} {
		f, when, known, ok, err := x.FileOf(ctx, test.path, "example.com/a", test.version)
		if err != nil || ok != test.ok || known != test.known || when != test.time || ok && f.Path != test.path {
			t.Errorf("FileOf %s: %+v, %q, %v, %v, %v", test.path, f, when, known, ok, err)
		}
	}
}

// TestContent reads the bytes of an open index.
func TestContent(t *testing.T) {
	x, path := manyRows(t)
	content, err := x.Content()
	if err != nil {
		t.Fatal(err)
	}
	got, err1 := io.ReadAll(content)
	want, err2 := os.ReadFile(path)
	if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
		t.Errorf("Content: %d bytes, %v, of %d, %v", len(got), err1, len(want), err2)
	}
}
