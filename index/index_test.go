package index

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var ctx = context.Background()

func ptr[T any](v T) *T { return &v }

// hash returns an h1 of its own for each name.
func hash(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "h1:" + base64.StdEncoding.EncodeToString(sum[:])
}

// write makes an index with a row in every table.
func write(t *testing.T, path string) {
	t.Helper()
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w.Bundle(Bundle{Digest: "0011", Name: "team", Sequence: 1, Payload: 512})
	own := w.Bundle(Bundle{Name: "team", Sequence: 2})
	w.Head(Head{Size: 100, Hash: strings.TrimPrefix(hash("head"), "h1:"), Note: "a note"})
	a := w.Module("example.com/a", false, "", "")
	w.Version(a, Version{Version: "v1.0.0", H1: hash("a"), GoModH1: hash("b"), Record: ptr(int64(7)), ZipSize: ptr(int64(100)), ModSize: 10, Retracted: ptr("why"), License: ptr("MIT")})
	w.Version(a, Version{Version: "v1.1.0", H1: hash("x"), GoModH1: hash("c"), Record: ptr(int64(8)), ModSize: 11})
	b := w.Module("example.com/b", true, "use c", "v1.2.0")
	w.Version(b, Version{Version: "v1.0.0", H1: hash("d"), GoModH1: hash("e"), ZipSize: ptr(int64(5)), ModSize: 12, Time: "2020-01-02T03:04:05Z", Origin: "{}"})
	w.File(File{Path: "a", Bundle: own, Offset: 512, Size: 3, SHA256: [32]byte{1}})
	w.File(File{Path: "b", Bundle: own, Offset: 1536, Size: 0, SHA256: [32]byte{2}})
	w.Missing(Missing{Path: "example.com/gone", Version: "v1.0.0", What: "zip", Status: 404, Reason: "gone", Chain: "x"})
	w.Query(Query{Path: "example.com/a", Query: "latest", Version: "v1.0.0"})
	for range 2 { // two projects may say the same
		w.Requirement(Requirement{Path: "example.com/a", Version: "v1.0.0", Requires: "example.com/b", Wanted: "v1.0.0"})
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

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

// TestHeadsAreBounded: heads are read into memory together, so there are so many and no more.
func TestHeadsAreBounded(t *testing.T) {
	for _, test := range []struct {
		heads, note int
		ok          bool
	}{
		{maxHeads, 200, true},
		{maxHeads + 1, 200, false},
		{200, 64 << 10, true},
		{300, 64 << 10, false},
	} {
		path := filepath.Join(t.TempDir(), "index.sqlite")
		w, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range test.heads {
			w.Head(Head{Size: int64(i + 1), Hash: strings.TrimPrefix(hash("head"), "h1:"), Note: strings.Repeat("n", test.note)})
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		x, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Check(ctx, int64(test.heads)); (err == nil) != test.ok || err != nil && !strings.Contains(err.Error(), "tree heads") {
			t.Errorf("%+v: %v", test, err)
		}
		x.Close()
	}
}

func TestSameRowsSameBytes(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/one")
	write(t, dir+"/two")
	one, err1 := os.ReadFile(dir + "/one")
	two, err2 := os.ReadFile(dir + "/two")
	if err1 != nil || err2 != nil || string(one) != string(two) {
		t.Errorf("%d and %d bytes differ (%v, %v)", len(one), len(two), err1, err2)
	}
}

// TestPlainShell: the sqlite3 shell of the system opens an index and finds nothing wrong.
func TestPlainShell(t *testing.T) {
	shell, err := exec.LookPath("sqlite3")
	if err != nil {
		t.Skip("no sqlite3 shell here")
	}
	path := filepath.Join(t.TempDir(), "x.sqlite")
	write(t, path)
	out, err := exec.Command(shell, path, "PRAGMA integrity_check; SELECT path, version.version FROM version JOIN module ON module.id = module WHERE private").CombinedOutput()
	if err != nil || string(out) != "ok\nexample.com/b|v1.0.0\n" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestCreateRefusesToReplace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	write(t, path)
	if w, err := Create(path); err == nil {
		w.Close()
		t.Error("Create over an index succeeded")
	}
}

func TestCleanText(t *testing.T) {
	for in, want := range map[string]string{
		"plain, with\n\ttabs and ü → 世界":    "plain, with\n\ttabs and ü → 世界",
		"\x1b[31mred\x07\r":                 "[31mred",
		"a\u202eb\u200fc\u2066d\u061ce":     "abcde",
		"a\u0085b\u009bc\x7fd\x00e":         "abcde",
		"a\u2028b\u2029c":                   "abc",
		"bad \xff byte":                     "bad \ufffd byte",
		strings.Repeat("ü", MaxText):        strings.Repeat("ü", MaxText/2),
		"xy" + strings.Repeat("世", MaxText): "xy" + strings.Repeat("世", (MaxText-2)/3),
		"x" + strings.Repeat("ü", MaxText):  "x" + strings.Repeat("ü", MaxText/2-1),
	} {
		if got := CleanText(in); got != want || CleanText(got) != got {
			t.Errorf("CleanText(%.40q) = %.40q (%d bytes), want %.40q (%d bytes)", in, got, len(got), want, len(want))
		}
	}
}

// TestLongValue: SQLite itself refuses a value that is longer than any of ours, before there is
// memory for it.
func TestLongValue(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.sqlite")
	w, err := Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w.Head(Head{Size: 1, Hash: "x", Note: "a note"})
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec("UPDATE head SET note = hex(zeroblob(1000000))"); err != nil {
		t.Fatal(err)
	}
	db.Close()
	x, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	var note string
	if err := x.db.QueryRow("SELECT note FROM head").Scan(&note); err == nil || !strings.Contains(err.Error(), "too big") {
		t.Errorf("a text of %d bytes: %v", len(note), err)
	}
}

// TestTreeOfAnotherSize: the last head is that of the tree.
func TestTreeOfAnotherSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.sqlite")
	write(t, path)
	x, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for size, ok := range map[int64]bool{100: true, 101: false, 99: false} {
		if err := x.Check(ctx, size); (err == nil) != ok {
			t.Errorf("a tree of %d: %v", size, err)
		}
	}
}

// asVersion1 makes an index of write one with version 1 of the schema.
func asVersion1(t *testing.T, path string) {
	t.Helper()
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("ALTER TABLE version RENAME COLUMN license TO licence; PRAGMA user_version = 1"); err != nil {
		t.Fatal(err)
	}
}

// TestSchemaVersions: both versions of the schema read the same, and an index that claims another
// version than it has is refused.
func TestSchemaVersions(t *testing.T) {
	dir := t.TempDir()
	new, old := filepath.Join(dir, "new"), filepath.Join(dir, "old")
	write(t, new)
	write(t, old)
	asVersion1(t, old)
	var got [2][]Version
	for i, path := range []string{new, old} {
		x, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		if want := schemas[len(schemas)-1-i]; x.schema != want {
			t.Errorf("opened as version %d, want %d", x.schema.version, want.version)
		}
		if err := x.Check(ctx, 100); err != nil {
			t.Error(err)
		}
		for v, err := range x.Versions(ctx, "") {
			if err != nil {
				t.Fatal(err)
			}
			one, ok, err := x.Lookup(ctx, v.Path, v.Version)
			if diff := cmp.Diff(v, one); !ok || err != nil || diff != "" {
				t.Errorf("Lookup of %s@%s: %v, %v\n%s", v.Path, v.Version, ok, err, diff)
			}
			got[i] = append(got[i], v)
		}
	}
	if diff := cmp.Diff(got[0], got[1]); diff != "" || len(got[0]) != 3 || *got[0][0].License != "MIT" {
		t.Errorf("%d versions\n%s", len(got[0]), diff)
	}
	for _, path := range []string{new, old} {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for version := range byte(4) {
			if version == data[63] {
				continue
			}
			bad := bytes.Clone(data)
			bad[63] = version
			file := filepath.Join(dir, "bad")
			if err := os.WriteFile(file, bad, 0o644); err != nil {
				t.Fatal(err)
			}
			if x, err := Open(file); !errors.Is(err, ErrBad) {
				x.Close()
				t.Errorf("version %d as %d: %v", data[63], version, err)
			}
		}
	}
}

// TestSchemaConstraints: a value that breaks a constraint is found in both versions of the schema.
func TestSchemaConstraints(t *testing.T) {
	for _, old := range []bool{false, true} {
		path, column := filepath.Join(t.TempDir(), "x"), "license"
		write(t, path)
		if old {
			column = "licence"
			asVersion1(t, path)
		}
		db, err := sql.Open("sqlite3", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec("PRAGMA ignore_check_constraints = ON; UPDATE version SET " + column + " = x'41'"); err != nil {
			t.Fatal(err)
		}
		db.Close()
		x, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.CheckPages(ctx); !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), "table version") {
			t.Errorf("%s: %v", column, err)
		}
		x.Close()
	}
}
