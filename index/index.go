// Package index is the catalogue of a bundle: an SQLite database with a fixed schema.
//
// The schema is in schema.sql. It uses nothing that an sqlite3 of version 3.26 does not know, so
// that anyone can ask a bundle questions with the shell at hand. application_id and user_version
// of the file name the format.
//
// An index is opened only after its hash was found in a signed manifest. It is
// still read defensively, since the key may be stolen: Open compares the schema with its own,
// text for text, so a view, trigger, virtual table or generated column cannot be in it; Check goes on
// to have SQLite check every page, and looks at every value. All connections are read-only, immutable, with
// trusted_schema off and cell_size_check on.
package index

import (
	"bytes"
	"context"
	"database/sql"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/mattn/go-sqlite3"
)

const (
	// ApplicationID marks an SQLite file as a modmirror index: "modm".
	ApplicationID = 0x6d6f646d

	// SchemaVersion is the version of the schema. A reader refuses others.
	SchemaVersion = 1

	// MaxSize is the largest index in bytes: about 40 million files.
	MaxSize = 8 << 30

	pageSize = 4096
)

//go:embed schema.sql
var schema string

const driverName = "modmirror-index"

var sqlite = &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
	// No statement of ours is long; one that needs more was not ours.
	c.SetLimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 64<<10)
	c.SetLimit(sqlite3.SQLITE_LIMIT_LENGTH, 1<<20) // of a row; the longest has a few texts of MaxText
	c.SetLimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
	for _, pragma := range []string{"trusted_schema = OFF", "cell_size_check = ON"} {
		if _, err := c.Exec("PRAGMA "+pragma, nil); err != nil {
			return err
		}
	}
	return nil
}}

func init() { sql.Register(driverName, sqlite) }

// dsn returns the data source name of an SQLite file: a URI, in which the path is escaped.
func dsn(path, params string) string {
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: params}).String()
}

// wantSchema returns the rows that sqlite_schema has in a new index, computed once.
var wantSchema = sync.OnceValues(func() (string, error) {
	db, err := sql.Open(driverName, ":memory:")
	if err != nil {
		return "", err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(schema); err != nil {
		return "", err
	}
	return schemaOf(context.Background(), db)
})

// schemaOf returns the text of a database's schema, automatic indexes included.
func schemaOf(ctx context.Context, db *sql.DB) (string, error) {
	rows, err := db.QueryContext(ctx, "SELECT type, name, tbl_name, ifnull(sql, '') FROM sqlite_master ORDER BY rowid LIMIT 100")
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

// An Index is an open catalogue. It is safe for concurrent use.
type Index struct {
	db   *sql.DB
	file *os.File // held open, so that no other file gets its inode

	fileByPath, fileOf, lookup, versions *sql.Stmt
}

// ErrBad is wrapped by the errors about an index that is not what it should be.
var ErrBad = errors.New("not a valid index")

func badf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBad, fmt.Sprintf(format, args...))
}

// checkHeader checks the first 100 bytes of the file (https://sqlite.org/fileformat.html),
// before SQLite sees any of it.
func checkHeader(f *os.File) error {
	st, err := f.Stat()
	if err != nil {
		return err
	}
	var h [100]byte
	if _, err := f.ReadAt(h[:], 0); err != nil {
		return badf("shorter than an SQLite header")
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(h[at:]) }
	switch {
	case !bytes.HasPrefix(h[:], []byte("SQLite format 3\x00")):
		return badf("not an SQLite database")
	case u32(68) != ApplicationID:
		return badf("SQLite database of another application (application_id %#x)", u32(68))
	case u32(60) != SchemaVersion:
		return badf("schema version %d, this modmirror reads %d", u32(60), SchemaVersion)
	case binary.BigEndian.Uint16(h[16:]) != pageSize:
		return badf("page size is not %d", pageSize)
	case h[18] != 1 || h[19] != 1:
		return badf("journal mode is WAL")
	case u32(56) != 1:
		return badf("text encoding is not UTF-8")
	case st.Size() > MaxSize:
		return badf("larger than %d bytes", int64(MaxSize))
	case int64(u32(28))*pageSize != st.Size():
		return badf("file has %d bytes, its header says %d pages", st.Size(), u32(28))
	}
	return nil
}

// Open opens the index at path for reading, as OpenFile.
func Open(path string) (*Index, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	return OpenFile(f)
}

// OpenFile opens an index for reading. The caller has read f and found its hash in a signed
// manifest: every connection reads this very file, and the one at its path only while that is the
// same. The index closes f, at once when there is an error.
func OpenFile(f *os.File) (*Index, error) {
	x := &Index{file: f}
	if err := checkHeader(f); err != nil {
		f.Close()
		return nil, err
	}
	path, err := filepath.Abs(f.Name())
	if err != nil {
		f.Close()
		return nil, err
	}
	x.db = sql.OpenDB(&connector{file: f, dsn: dsn(path, "mode=ro&immutable=1&_query_only=1&_cache_size=-1024")})
	x.db.SetMaxOpenConns(maxConns)
	x.db.SetMaxIdleConns(maxConns)
	if err := x.prepare(); err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

// maxConns bounds the connections to an index. Each has a page cache of 1 MiB.
const maxConns = 8

func (x *Index) prepare() error {
	want, err := wantSchema()
	if err != nil {
		return err
	}
	got, err := schemaOf(context.Background(), x.db)
	if err != nil {
		return badf("reading schema: %v", err)
	}
	if got != want {
		return badf("schema is not that of version %d", SchemaVersion)
	}
	// fileOf is asked for each small file that is not cached, and has subqueries: SQLite plans a join of these tables anew each time.
	for _, s := range []struct {
		stmt *(*sql.Stmt)
		text string
	}{
		{&x.fileByPath, selectFile + " WHERE path = ?"},
		{&x.fileOf, strings.Replace(selectFile, " FROM", ", (SELECT time FROM version WHERE module = (SELECT id FROM module WHERE path = ?2) AND version = ?3) FROM", 1) + " WHERE path = ?1"},
		{&x.lookup, selectVersion + " WHERE m.path = ? AND v.version = ?"},
		{&x.versions, selectVersion + " WHERE m.path = ? ORDER BY v.id"},
	} {
		if *s.stmt, err = x.db.Prepare(s.text); err != nil {
			return badf("%v", err)
		}
	}
	return nil
}

// Content returns the bytes of the index.
func (x *Index) Content() (*io.SectionReader, error) {
	st, err := x.file.Stat()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(x.file, 0, st.Size()), nil
}

// Close closes the index.
func (x *Index) Close() error { return errors.Join(x.db.Close(), x.file.Close()) }

// SQLiteVersion returns the version of the SQLite that is built in.
func SQLiteVersion() string {
	v, _, _ := sqlite3.Version()
	return v
}
