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
)

var ctx = context.Background()

func ptr[T any](v T) *T { return &v }

// hash returns an h1 of its own for each name.
func hash(name string) string {
	sum := sha256.Sum256([]byte(name))
	return "h1:" + base64.StdEncoding.EncodeToString(sum[:])
}

// someFacts are those of the first version of write.
var someFacts = []Fact{
	{Kind: LicenseFact, File: "LICENSE", Files: 1, Detail: "MIT", Coverage: ptr(97.5)},
	{Kind: LicenseFact, File: "sub/COPYING", Files: 1, Coverage: ptr(12.0)},
	{Kind: "exec", File: "run.go", Files: 3, Detail: "os/exec"},
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
	number := w.Version(a, Version{Version: "v1.0.0", H1: hash("a"), GoModH1: hash("b"), Record: ptr(int64(7)), ZipSize: ptr(int64(100)), ModSize: 10, Retracted: ptr("why"), License: ptr("MIT")})
	for _, f := range someFacts {
		w.Fact(number, f)
	}
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

// TestPlainShell opens an index with the sqlite3 shell of the system.
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

// TestLongValue has a value longer than any that modmirror writes. SQLite refuses it before there
// is memory for it.
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

// TestOtherFiles opens files that are not indexes: their first bytes say so.
func TestOtherFiles(t *testing.T) {
	dir := t.TempDir()
	good := filepath.Join(dir, "good")
	write(t, good)
	data, err := os.ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"shorter than an SQLite header": func(b []byte) []byte { return b[:99] },
		"not an SQLite database":        func(b []byte) []byte { b[0] = 's'; return b },
		"of another application":        func(b []byte) []byte { b[68] = 0; return b },
		"page size is not 4096":         func(b []byte) []byte { b[16] = 2; return b },
		"journal mode is WAL":           func(b []byte) []byte { b[18], b[19] = 2, 2; return b },
		"text encoding is not UTF-8":    func(b []byte) []byte { b[59] = 2; return b },
		"its header says":               func(b []byte) []byte { return b[:len(b)-pageSize] },
		"schema version 9":              func(b []byte) []byte { b[63] = 9; return b },
	} {
		file := filepath.Join(dir, "bad")
		if err := os.WriteFile(file, change(bytes.Clone(data)), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(file); !errors.Is(err, ErrBad) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that does not exist: %v", err)
	}
}
