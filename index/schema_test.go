package index

import (
	"bytes"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// asVersion makes an index of write one with an older version of the schema.
func asVersion(t *testing.T, path string, version uint32) {
	t.Helper()
	change := ""
	if version < 3 {
		change += "DROP TABLE fact;"
	}
	if version < 2 {
		change += "ALTER TABLE version RENAME COLUMN license TO licence;"
	}
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(change + fmt.Sprintf("PRAGMA user_version = %d", version)); err != nil {
		t.Fatal(err)
	}
}

// TestSchemaVersions reads the same rows from all versions of the schema, but for facts, which the
// first two lack. An index that claims another version than it has is refused.
func TestSchemaVersions(t *testing.T) {
	dir := t.TempDir()
	var want []Version
	for _, schema := range schemas {
		path := filepath.Join(dir, fmt.Sprint(schema.version))
		write(t, path)
		asVersion(t, path, schema.version)
		x, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		if x.schema != schema {
			t.Errorf("opened as version %d, want %d", x.schema.version, schema.version)
		}
		if err := x.Check(ctx, 100); err != nil {
			t.Error(err)
		}
		var got []Version
		for v, err := range x.Versions(ctx, "") {
			if err != nil {
				t.Fatal(err)
			}
			one, ok, err := x.Lookup(ctx, v.Path, v.Version)
			if diff := cmp.Diff(v, one); !ok || err != nil || diff != "" {
				t.Errorf("Lookup of %s@%s: %v, %v\n%s", v.Path, v.Version, ok, err, diff)
			}
			got = append(got, v)
		}
		if want == nil {
			want = got
		}
		if diff := cmp.Diff(want, got); diff != "" || len(got) != 3 || *got[0].License != "MIT" {
			t.Errorf("%d versions\n%s", len(got), diff)
		}
		facts, err := x.FactsOf(ctx, "example.com/a", "v1.0.0")
		if diff := cmp.Diff(someFacts, facts); err != nil || (diff == "") != (schema.version >= 3) || diff != "" && len(facts) > 0 {
			t.Errorf("version %d: facts: %v\n%s", schema.version, err, diff)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for version := range byte(5) {
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

// TestSchemaConstraints expects that a value that breaks a constraint is found in all versions of
// the schema.
func TestSchemaConstraints(t *testing.T) {
	for _, schema := range schemas {
		path, column := filepath.Join(t.TempDir(), "x"), schema.license
		write(t, path)
		asVersion(t, path, schema.version)
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
