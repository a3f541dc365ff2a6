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
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// maxIndex is the longest index in bytes: a hundred times today's.
	maxIndex = 64 << 20

	// maxEntry is the longest entry in bytes. The longest today has 8 KB.
	maxEntry = 4 << 20

	// maxEvents bounds the events of an entry. The largest today has 48.
	maxEvents = 2000

	// maxEntries bounds the entries that the index names for one module.
	maxEntries = 50_000
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

// Open opens a database. The error is, or wraps, a *BadError, which wraps fs.ErrNotExist when there
// is no database.
func Open(ctx context.Context, read Reader) (*DB, error) {
	var meta struct {
		Modified time.Time `json:"modified"`
	}
	var modules []struct {
		Path  string `json:"path"`
		Vulns []struct {
			ID string `json:"id"`
		} `json:"vulns"`
	}
	if err := readJSON(ctx, read, dbFile, maxIndex, &meta); err != nil {
		return nil, err
	}
	if err := readJSON(ctx, read, modulesFile, maxIndex, &modules); err != nil {
		return nil, err
	}
	db := &DB{Modified: meta.Modified, read: read, modules: make(map[string][]string, len(modules))}
	if meta.Modified.IsZero() {
		return nil, &BadError{dbFile, errors.New("it does not say when it was modified")}
	}
	if len(modules) == 0 {
		return nil, &BadError{modulesFile, errors.New("it names no module")}
	}
	for _, m := range modules {
		ids := db.modules[m.Path]
		for _, v := range m.Vulns {
			if !isID(v.ID) {
				return nil, &BadError{modulesFile, fmt.Errorf("%.40q, for module %.200q, is not an id", v.ID, m.Path)}
			}
			ids = append(ids, v.ID)
		}
		if len(ids) > maxEntries {
			return nil, &BadError{modulesFile, fmt.Errorf("more than %d entries for module %.200q", maxEntries, m.Path)}
		}
		slices.Sort(ids)
		db.modules[m.Path] = slices.Compact(ids)
	}
	return db, nil
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
// modules are paths, Stdlib and Toolchain. An error is, or wraps, a *BadError.
func (db *DB) Entries(ctx context.Context, module string) ([]*Entry, error) {
	var list []*Entry
	for _, id := range db.modules[module] {
		e, err := db.entry(ctx, id)
		if err != nil {
			return nil, err
		}
		if e.Withdrawn == nil {
			list = append(list, e)
		}
	}
	return list, nil
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
	events := 0
	for _, a := range e.Affected {
		for _, r := range slices.Concat(a.Ranges, a.Ecosystem.Custom) {
			events += len(r.Events)
		}
	}
	if events > maxEvents {
		return nil, &BadError{file, fmt.Errorf("it has more than %d events", maxEvents)}
	}
	return e, nil
}
