// Package vulndb reads a Go vulnerability database and finds the entries that affect a version.
//
// The database has the form that https://go.dev/doc/security/vuln/database describes, schema v1: an
// index of modules, and an entry in the OSV format for each vulnerability. The matcher takes the
// decisions of govulncheck (golang.org/x/vuln, internal/semver and internal/vulncheck), but for
// platforms: an entry about Windows affects a version that is carried, whatever this machine is.
//
// A database may be hostile, also when a bundle's signature covers it: the sizes of its files, the
// names in them and the number of its entries are bounded.
package vulndb

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

const (
	// maxIndex is the longest file of the index in bytes: twenty times today's.
	maxIndex = 8 << 20

	// maxModules and maxIDs bound the modules that the index names, and the ids that it names for
	// all of them: today it has 1,400 and 6,000.
	maxModules = 50_000
	maxIDs     = 200_000

	// maxEntries bounds the entries about one module: today 275 at most.
	maxEntries = 5_000

	// maxEntry is the longest entry in bytes. The longest today has 8 KB.
	maxEntry = 256 << 10

	// maxEvents bounds the events of an entry, and maxParts all other lists in it. The largest of
	// today have 48 and 22, besides symbols.
	maxEvents = 500
	maxParts  = 2000
)

// A Reader returns the content of a file of a database, such as index/db.json, if it has at most
// limit bytes. The error wraps fs.ErrNotExist when there is no such file.
type Reader func(ctx context.Context, name string, limit int64) ([]byte, error)

// Folder returns a Reader of a database in a folder.
func Folder(dir string) Reader {
	return func(_ context.Context, name string, limit int64) ([]byte, error) {
		name = filepath.Join(dir, filepath.FromSlash(name))
		st, err := os.Stat(name)
		if err != nil {
			return nil, err
		}
		if st.Size() > limit {
			return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
		}
		return os.ReadFile(name)
	}
}

// A DB is an open database. It is safe for concurrent use if its Reader is.
type DB struct {
	Modified time.Time // when the newest entry changed

	read    Reader
	modules map[string][]string // ids of the entries about a module
}

// A BadError says that a database, or a file of it, is not one of schema v1.
type BadError struct {
	File string // index/modules.json or ID/….json
	Err  error
}

func (e *BadError) Error() string {
	return fmt.Sprintf("vulnerability database: %s: %v", e.File, e.Err)
}

func (e *BadError) Unwrap() error { return e.Err }

// readJSON decodes a file of the database into v.
func readJSON(ctx context.Context, read Reader, file string, limit int64, v any) error {
	data, err := read(ctx, file, limit)
	if err == nil {
		err = json.Unmarshal(data, v)
	}
	if err != nil {
		return &BadError{file, err}
	}
	return nil
}

// Files of the index.
const (
	dbFile      = "index/db.json"
	modulesFile = "index/modules.json"
)

// Open opens a database. The error is, or wraps, a *BadError. It wraps fs.ErrNotExist only when
// there is no database at all.
func Open(ctx context.Context, read Reader) (*DB, error) {
	var meta struct {
		Modified time.Time `json:"modified"`
	}
	if err := readJSON(ctx, read, dbFile, maxIndex, &meta); err != nil {
		return nil, err
	}
	if meta.Modified.IsZero() {
		return nil, &BadError{dbFile, errors.New("it does not say when it was modified")}
	}
	data, err := read(ctx, modulesFile, maxIndex)
	if errors.Is(err, fs.ErrNotExist) {
		err = errors.New("it is not there")
	}
	db := &DB{Modified: meta.Modified, read: read, modules: make(map[string][]string)}
	if err == nil {
		err = db.readModules(data)
	}
	if err != nil {
		return nil, &BadError{modulesFile, err}
	}
	return db, nil
}

// readModules reads the index of modules. It decodes one module at a time, so that a hostile index
// does not take many times its size of memory.
func (db *DB) readModules(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if t, err := dec.Token(); err != nil {
		return eof(err)
	} else if t != json.Delim('[') {
		return errors.New("it is no list")
	}
	n, ids := 0, 0
	for dec.More() {
		var m struct {
			Path  string `json:"path"`
			Vulns []struct {
				ID string `json:"id"`
			} `json:"vulns"`
		}
		if err := dec.Decode(&m); err != nil {
			return eof(err)
		}
		list := db.modules[m.Path]
		for _, v := range m.Vulns {
			if !isID(v.ID) {
				return fmt.Errorf("%.40q, for module %.200q, is not an id", v.ID, m.Path)
			}
			list = append(list, v.ID)
		}
		n, ids = n+1, ids+len(m.Vulns)
		switch {
		case len(list) > maxEntries:
			return fmt.Errorf("more than %d entries for module %.200q", maxEntries, m.Path)
		case n > maxModules || ids > maxIDs:
			return fmt.Errorf("more than %d modules, or %d ids", maxModules, maxIDs)
		}
		db.modules[m.Path] = list
	}
	if _, err := dec.Token(); err != nil {
		return eof(err)
	}
	if n == 0 {
		return errors.New("it names no module")
	}
	for path, list := range db.modules {
		slices.Sort(list)
		db.modules[path] = slices.Compact(list)
	}
	return nil
}

// eof returns the error of JSON that is cut as json.Unmarshal has it.
func eof(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("unexpected end of JSON input")
	}
	return err
}

// isID reports whether s can be an id, which is part of a file name.
func isID(s string) bool {
	ok := func(r rune) bool {
		return r == '-' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z'
	}
	return s != "" && len(s) <= 100 && strings.IndexFunc(s, func(r rune) bool { return !ok(r) }) < 0
}

// Has reports whether the database has an entry about a module.
func (db *DB) Has(module string) bool { return len(db.modules[module]) > 0 }

// Entries returns the entries about a module, by id, but for those that were withdrawn. Names of
// modules are paths, Stdlib and Toolchain. An error, which is, or wraps, a *BadError, is the last
// element.
func (db *DB) Entries(ctx context.Context, module string) iter.Seq2[*Entry, error] {
	return func(yield func(*Entry, error) bool) {
		for _, id := range db.modules[module] {
			e, err := db.entry(ctx, id)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(nil, err)
				return
			}
			if e.Withdrawn == nil && !yield(e, nil) {
				return
			}
		}
	}
}

// entry reads an entry.
func (db *DB) entry(ctx context.Context, id string) (*Entry, error) {
	file := "ID/" + id + ".json"
	e := new(Entry)
	if err := readJSON(ctx, db.read, file, maxEntry, e); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, &BadError{file, fmt.Errorf("the index names it, and it is not there: %w", err)}
		}
		return nil, err
	}
	if e.ID != id {
		return nil, &BadError{file, fmt.Errorf("it is about %.40q", e.ID)}
	}
	// A second major version of OSV could mean something else by the same words.
	if v := e.SchemaVersion; v != "" && !strings.HasPrefix(v, "1.") && !strings.HasPrefix(v, "0.") {
		return nil, &BadError{file, fmt.Errorf("version %.20q of the OSV schema; this modmirror reads 1", v)}
	}
	if err := e.check(); err != nil {
		return nil, &BadError{file, err}
	}
	for i := range e.Affected {
		for _, r := range e.Affected[i].Ranges {
			slices.SortStableFunc(r.Events, func(a, b Event) int { return semver.Compare(a.version(), b.version()) })
		}
	}
	return e, nil
}

// WriteFolder writes what govulncheck asks for of the database into a folder, which may be empty: a
// file://DIR is a database for its -db then.
func (db *DB) WriteFolder(ctx context.Context, dir string) error {
	for _, folder := range []string{"index", "ID"} {
		if err := os.MkdirAll(filepath.Join(dir, folder), 0o777); err != nil {
			return err
		}
	}
	write := func(file string, limit int64) error {
		data, err := db.read(ctx, file, limit)
		if err != nil {
			return &BadError{file, err}
		}
		return os.WriteFile(filepath.Join(dir, filepath.FromSlash(file)), data, 0o666)
	}
	for _, file := range []string{dbFile, modulesFile} {
		if err := write(file, maxIndex); err != nil {
			return err
		}
	}
	done := make(map[string]bool)
	for _, ids := range db.modules {
		for _, id := range ids {
			if done[id] {
				continue
			}
			done[id] = true
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := write("ID/"+id+".json", maxEntry); err != nil {
				return err
			}
		}
	}
	return nil
}
