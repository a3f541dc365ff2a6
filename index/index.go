// Package index reads and writes the catalog of a bundle: an SQLite database with a fixed schema.
//
// The schema is in schema.sql. It uses only what an sqlite3 of version 3.26 knows, so that anyone
// can ask a bundle questions with the shell at hand. application_id and user_version of the file
// name the format.
//
// Callers open an index only after they found its hash in a signed manifest. It is read defensively
// all the same: the key may be stolen. Open compares the schema with its own, text for text, so
// that the file has no view, trigger, virtual table or generated column. Check has SQLite check
// every page, and checks every value itself. All connections are read-only and immutable, with
// trusted_schema off and cell_size_check on.
//
// SQLite answers all queries but one, that for each file that is served, which reads pages of the
// file itself (directory.go).
package index

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"github.com/mattn/go-sqlite3"
)

const (
	// ApplicationID marks an SQLite file as a modmirror index: "modm".
	ApplicationID = 0x6d6f646d

	// MaxSize is the largest index in bytes: about 40 million files.
	MaxSize = 8 << 30

	pageSize = 4096

	// maxConns bounds the connections to an index. Each has a page cache of 1 MiB.
	maxConns = 8
)

const driverName = "modmirror-index"

var sqlite = &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
	// The statements of this package are shorter: a longer one comes from elsewhere.
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

// dsn returns the data source name of an SQLite file: a URI with the path escaped.
func dsn(path, params string) string {
	return (&url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: params}).String()
}

// An Index is an open index. It is safe for concurrent use.
type Index struct {
	db     *sql.DB
	file   *os.File // held open, so that no other file gets its inode
	schema *schema

	builder                              builder
	fileByPath, fileOf, lookup, versions *sql.Stmt
	factsOf                              *sql.Stmt // nil for a schema without facts
}

// ErrBad is wrapped by errors that say that a file is not a valid index.
var ErrBad = errors.New("not a valid index")

// badf returns an error that wraps ErrBad.
func badf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBad, fmt.Sprintf(format, args...))
}

// checkHeader checks the first 100 bytes of the file (https://sqlite.org/fileformat.html), before
// SQLite reads any of it. It returns the schema that they name.
func checkHeader(f *os.File) (*schema, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var h [100]byte
	if _, err := f.ReadAt(h[:], 0); err != nil {
		return nil, badf("shorter than an SQLite header")
	}
	u32 := func(at int) uint32 { return binary.BigEndian.Uint32(h[at:]) }
	switch {
	case !bytes.HasPrefix(h[:], []byte("SQLite format 3\x00")):
		return nil, badf("not an SQLite database")
	case u32(68) != ApplicationID:
		return nil, badf("SQLite database of another application (application_id %#x)", u32(68))
	case binary.BigEndian.Uint16(h[16:]) != pageSize:
		return nil, badf("page size is not %d", pageSize)
	case h[18] != 1 || h[19] != 1:
		return nil, badf("journal mode is WAL")
	case u32(56) != 1:
		return nil, badf("text encoding is not UTF-8")
	case st.Size() > MaxSize:
		return nil, badf("larger than %d bytes", int64(MaxSize))
	case int64(u32(28))*pageSize != st.Size():
		return nil, badf("file has %d bytes, its header says %d pages", st.Size(), u32(28))
	}
	return schemaOf(u32(60)) // user_version
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
// manifest. Every connection reads this very file: when another file gets its name, new connections
// fail. The index owns f, and closes it also when OpenFile returns an error. The error wraps ErrBad
// when f is not a valid index.
func OpenFile(f *os.File) (*Index, error) {
	schema, err := checkHeader(f)
	if err != nil {
		f.Close()
		return nil, err
	}
	path, err := filepath.Abs(f.Name())
	if err != nil {
		f.Close()
		return nil, err
	}
	x := &Index{file: f, schema: schema}
	x.db = sql.OpenDB(&connector{file: f, dsn: dsn(path, "mode=ro&immutable=1&_query_only=1&_cache_size=-1024")})
	x.db.SetMaxOpenConns(maxConns)
	x.db.SetMaxIdleConns(maxConns)
	if err := x.prepare(); err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

// prepare checks the schema and prepares the statements that serving needs.
func (x *Index) prepare() error {
	if err := x.schema.check(context.Background(), x.db); err != nil {
		return err
	}
	selectVersion := x.schema.selectVersion()
	type statement struct {
		stmt *(*sql.Stmt)
		text string
	}
	list := []statement{
		{&x.fileByPath, selectFile + " WHERE path = ?"},
		{&x.fileOf, selectFileOf},
		{&x.lookup, selectVersion + " WHERE m.path = ? AND v.version = ?"},
		{&x.versions, selectVersion + " WHERE m.path = ? ORDER BY v.id"},
	}
	if x.schema.hasFacts() {
		list = append(list, statement{&x.factsOf, selectFact + ` WHERE f.version =
  (SELECT id FROM version WHERE module = (SELECT id FROM module WHERE path = ?) AND version = ?) ORDER BY f.id`})
	}
	for _, s := range list {
		var err error
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
func (x *Index) Close() error {
	x.builder.close()
	return errors.Join(x.db.Close(), x.file.Close())
}

// SQLiteVersion returns the version of the SQLite that is built in.
func SQLiteVersion() string {
	v, _, _ := sqlite3.Version()
	return v
}
