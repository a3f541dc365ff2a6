package index

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"strings"
	"sync"
)

// SchemaVersion is the version of the schema that Create writes. Open reads this one and all before
// it; docs/format.md has their differences.
const SchemaVersion = 3

var (
	//go:embed schema1.sql
	schema1SQL string
	//go:embed schema2.sql
	schema2SQL string
	//go:embed schema.sql
	schema3SQL string
)

// A schema is a version of the schema.
type schema struct {
	version uint32
	sql     string
	license string                 // the name of column license in it
	rows    func() (string, error) // its text as schemaText returns it, computed once
}

// schemas has the versions that Open reads, oldest first.
var schemas = []*schema{
	newSchema(1, schema1SQL, "licence"),
	newSchema(2, schema2SQL, "license"),
	newSchema(SchemaVersion, schema3SQL, "license"),
}

func newSchema(version uint32, text, license string) *schema {
	return &schema{version, text, license, sync.OnceValues(func() (string, error) {
		db, err := sql.Open(driverName, ":memory:")
		if err != nil {
			return "", err
		}
		defer db.Close()
		db.SetMaxOpenConns(1)
		if _, err := db.Exec(text); err != nil {
			return "", err
		}
		return schemaText(context.Background(), db)
	})}
}

// schemaOf returns the schema of a version. The error wraps ErrBad for a version that Open does not
// read.
func schemaOf(version uint32) (*schema, error) {
	for _, s := range schemas {
		if s.version == version {
			return s, nil
		}
	}
	return nil, badf("schema version %d, this modmirror reads %d to %d", version, schemas[0].version, SchemaVersion)
}

// schemaText returns the text of a database's schema, automatic indexes included.
func schemaText(ctx context.Context, db *sql.DB) (string, error) {
	rows, err := db.QueryContext(ctx,
		"SELECT type, name, tbl_name, ifnull(sql, '') FROM sqlite_master ORDER BY rowid LIMIT 100")
	if err != nil {
		return "", err
	}
	defer rows.Close()
	var all strings.Builder
	for rows.Next() {
		var typ, name, table, text string
		if err := rows.Scan(&typ, &name, &table, &text); err != nil {
			return "", err
		}
		fmt.Fprintf(&all, "%q %q %q %q\n", typ, name, table, text)
	}
	return all.String(), rows.Err()
}

// check compares the schema of a database with s, text for text.
func (s *schema) check(ctx context.Context, db *sql.DB) error {
	want, err := s.rows()
	if err != nil {
		return err
	}
	got, err := schemaText(ctx, db)
	if err != nil {
		return badf("reading schema: %v", err)
	}
	if got != want {
		return badf("schema is not that of version %d", s.version)
	}
	return nil
}

// hasFacts reports whether the schema has table fact.
func (s *schema) hasFacts() bool { return s.version >= 3 }

// selectVersion returns the SELECT of versions, to which a WHERE may be added, for scanVersion.
func (s *schema) selectVersion() string {
	return `SELECT m.path, v.version, v.time, v.h1, v.gomod_h1, v.record, v.zip_size, v.mod_size, v.retracted,
  m.deprecated, m.latest, v.` + s.license + `, v.origin, m.private
FROM version v JOIN module m ON m.id = v.module`
}
