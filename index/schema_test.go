package index

import (
	"bytes"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

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

// TestSchemaVersions reads the same rows from both versions of the schema. An index that claims
// another version than it has is refused.
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

// TestSchemaConstraints expects that a value that breaks a constraint is found in both versions of
// the schema.
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
