package index

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
)

// A Writer writes a new index. The same rows in the same order make the same bytes, with the same
// version of SQLite. The methods that add rows return no errors: after the first error they do
// nothing, and Close returns it. A Writer is not safe for concurrent use.
type Writer struct {
	db    *sql.DB
	tx    *sql.Tx
	stmts map[string]*sql.Stmt
	err   error
}

// Create makes an index at path, which must not exist. The caller calls Close or Discard.
func Create(path string) (*Writer, error) {
	// No journal and no sync: a file that is not finished is thrown away.
	db, err := sql.Open(driverName, dsn(path, "mode=rwc&_journal_mode=OFF&_synchronous=OFF&_locking_mode=EXCLUSIVE"))
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	w := &Writer{db: db, stmts: make(map[string]*sql.Stmt)}
	for _, s := range []string{
		fmt.Sprintf("PRAGMA page_size = %d", pageSize),
		fmt.Sprintf("PRAGMA application_id = %d", ApplicationID),
		fmt.Sprintf("PRAGMA user_version = %d", SchemaVersion),
		schema3SQL,
	} {
		if _, err := db.Exec(s); err != nil {
			db.Close()
			return nil, fmt.Errorf("creating index: %w", err)
		}
	}
	if w.tx, err = db.Begin(); err != nil {
		db.Close()
		return nil, err
	}
	return w, nil
}

// insert adds a row and returns its number. After an error it does nothing.
func (w *Writer) insert(text string, args ...any) int64 {
	if w.err != nil {
		return 0
	}
	stmt := w.stmts[text]
	if stmt == nil {
		if stmt, w.err = w.tx.Prepare(text); w.err != nil {
			return 0
		}
		w.stmts[text] = stmt
	}
	res, err := stmt.Exec(args...)
	if err != nil {
		w.err = fmt.Errorf("writing index: %w", err)
		return 0
	}
	id, err := res.LastInsertId()
	w.err = err
	return id
}

// Bundle adds a bundle of the line and returns its number, which files need.
func (w *Writer) Bundle(b Bundle) int64 {
	var digest, payload any
	if b.Digest != "" {
		digest, payload = b.Digest, b.Payload
	}
	return w.insert("INSERT INTO bundle (digest, name, sequence, payload) VALUES (?, ?, ?, ?)",
		digest, b.Name, b.Sequence, payload)
}

// Head adds a tree head.
func (w *Writer) Head(h Head) {
	w.insert("INSERT INTO head (size, hash, note) VALUES (?, ?, ?)", h.Size, h.Hash, h.Note)
}

// Module adds a module and returns its number, which its versions need.
func (w *Writer) Module(path string, private bool, deprecated, latest string) int64 {
	return w.insert("INSERT INTO module (path, private, deprecated, latest) VALUES (?, ?, ?, ?)",
		path, private, CleanText(deprecated), latest)
}

// Version adds a version of a module, whose number is that of Module, and returns its number, which
// its facts need.
func (w *Writer) Version(module int64, v Version) int64 {
	if v.Retracted != nil {
		reason := CleanText(*v.Retracted)
		v.Retracted = &reason
	}
	return w.insert(`INSERT INTO version
  (module, version, time, h1, gomod_h1, record, zip_size, mod_size, retracted, license, origin)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, module, v.Version, v.Time, v.H1, v.GoModH1, v.Record, v.ZipSize, v.ModSize,
		v.Retracted, v.License, CleanText(v.Origin))
}

// Fact adds a fact of a version, whose number is that of Version.
func (w *Writer) Fact(version int64, f Fact) {
	w.insert("INSERT INTO fact (version, kind, file, files, detail, coverage) VALUES (?, ?, ?, ?, ?, ?)",
		version, f.Kind, CleanText(f.File), f.Files, CleanText(f.Detail), f.Coverage)
}

// File adds a file.
func (w *Writer) File(f File) {
	w.insert("INSERT INTO file (path, bundle, offset, size, sha256) VALUES (?, ?, ?, ?, ?)",
		f.Path, f.Bundle, f.Offset, f.Size, f.SHA256[:])
}

// Missing adds a file that could not be fetched.
func (w *Writer) Missing(m Missing) {
	w.insert("INSERT INTO missing (path, version, what, status, reason, chain, allowed) VALUES (?, ?, ?, ?, ?, ?, ?)",
		printable(m.Path), printable(m.Version), m.What, m.Status, CleanText(m.Reason), CleanText(m.Chain), m.Allowed)
}

// Query adds a resolved query.
func (w *Writer) Query(q Query) {
	w.insert("INSERT INTO query (path, query, version) VALUES (?, ?, ?)", q.Path, q.Query, q.Version)
}

// Requirement adds a require line, unless it has words that are not a module path or version: no
// module can satisfy that. It ignores a line that the index has already.
func (w *Writer) Requirement(r Requirement) {
	if r.check() != nil {
		return
	}
	w.insert("INSERT OR IGNORE INTO requirement (path, version, requires, wanted, indirect) VALUES (?, ?, ?, ?, ?)",
		r.Path, r.Version, r.Requires, r.Wanted, r.Indirect)
}

// Discard closes the index without its rows. It does nothing after Close.
func (w *Writer) Discard() {
	if w.db == nil {
		return
	}
	w.err = cmp.Or(w.err, errors.New("given up"))
	w.Close()
}

// Close finishes the index, or returns the first error of the Writer.
func (w *Writer) Close() error {
	defer func() { w.db = nil }()
	for _, s := range w.stmts {
		s.Close()
	}
	if w.err != nil {
		w.tx.Rollback()
		return errors.Join(w.err, w.db.Close())
	}
	if err := w.tx.Commit(); err != nil {
		w.db.Close()
		return fmt.Errorf("writing index: %w", err)
	}
	return w.db.Close()
}
