package index

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"strings"
)

// A Bundle is a bundle of a line.
type Bundle struct {
	ID       int64
	Digest   string // "" for the bundle that the index is in
	Name     string
	Sequence int64
	Payload  int64 // byte offset of its payload; 0 for the bundle that the index is in
}

// A Head is a signed tree head of the checksum database.
type Head struct {
	Size int64  // records in the tree
	Hash string // of the tree, in base64
	Note string // the signed note
}

// A File is a file of the payload.
type File struct {
	ID     int64 // dense, from 1
	Path   string
	Bundle int64
	Offset int64 // of its first byte, from the start of its bundle's payload
	Size   int64 // in bytes
	SHA256 [32]byte
}

// A Version is a module version.
type Version struct {
	Path       string  `json:"path"`
	Version    string  `json:"version"`
	Time       string  `json:"time,omitempty"`
	H1         string  `json:"h1,omitempty"`
	GoModH1    string  `json:"goModH1"`
	Record     *int64  `json:"record,omitempty"`  // nil outside the checksum database
	ZipSize    *int64  `json:"zipSize,omitempty"` // nil when only .mod and .info are carried
	ModSize    int64   `json:"modSize"`
	Retracted  *string `json:"retracted,omitempty"`
	Deprecated string  `json:"deprecated,omitempty"`
	Latest     string  `json:"latest,omitempty"` // newest version of the module that the upstream had
	Licence    *string `json:"licence,omitempty"`
	Origin     string  `json:"origin,omitempty"`
	Private    bool    `json:"private,omitempty"`
}

// A Missing is a file that belongs to the closure and could not be had.
type Missing struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	What    string `json:"what"`
	Status  int    `json:"status,omitempty"`
	Reason  string `json:"reason"`
	Chain   string `json:"chain"`
	Allowed bool   `json:"allowed,omitempty"`
}

// A Query is a question that was resolved when the bundle was made.
type Query struct {
	Path    string `json:"path"`
	Query   string `json:"query"`
	Version string `json:"version"`
}

// A Requirement is a require line: Path at Version requires Requires at Wanted.
type Requirement struct {
	Path     string `json:"path"`
	Version  string `json:"version,omitempty"` // "" for a project
	Requires string `json:"requires"`
	Wanted   string `json:"wanted"`
	Indirect bool   `json:"indirect,omitempty"`
}

// Counts is what an index holds.
type Counts struct {
	Modules  int64 `json:"modules"`  // module paths
	Versions int64 `json:"versions"` // with their zip
	ModOnly  int64 `json:"modOnly"`  // of which only .mod and .info are carried
	Private  int64 `json:"private"`  // versions outside the checksum database
	Files    int64 `json:"files"`
	Missing  int64 `json:"missing"`
}

const (
	selectFile    = "SELECT id, path, bundle, offset, size, sha256 FROM file"
	selectVersion = `SELECT m.path, v.version, v.time, v.h1, v.gomod_h1, v.record, v.zip_size, v.mod_size, v.retracted, m.deprecated, m.latest, v.licence, v.origin, m.private
FROM version v JOIN module m ON m.id = v.module`
)

// A scanner is a row, of one or of many.
type scanner interface{ Scan(...any) error }

func scanFile(row scanner) (f File, err error) {
	var sum sql.RawBytes
	if rows, ok := row.(*sql.Rows); ok {
		err = rows.Scan(&f.ID, &f.Path, &f.Bundle, &f.Offset, &f.Size, &sum)
		copy(f.SHA256[:], sum)
		return f, err
	}
	var own []byte // a single row does not lend its bytes
	err = row.Scan(&f.ID, &f.Path, &f.Bundle, &f.Offset, &f.Size, &own)
	copy(f.SHA256[:], own)
	return f, err
}

func scanVersion(row scanner) (v Version, err error) {
	err = row.Scan(&v.Path, &v.Version, &v.Time, &v.H1, &v.GoModH1, &v.Record, &v.ZipSize, &v.ModSize, &v.Retracted, &v.Deprecated, &v.Latest, &v.Licence, &v.Origin, &v.Private)
	return v, err
}

// found turns the absence of a row into ok = false.
func found[T any](v T, err error) (T, bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return v, false, nil
	}
	return v, err == nil, err
}

// File returns the file at a path.
func (x *Index) File(ctx context.Context, path string) (f File, ok bool, err error) {
	return found(scanFile(x.fileByPath.QueryRowContext(brief(ctx), path)))
}

// Lookup returns a version of a module.
func (x *Index) Lookup(ctx context.Context, path, version string) (v Version, ok bool, err error) {
	return found(scanVersion(x.lookup.QueryRowContext(brief(ctx), path, version)))
}

// FileOf returns the file at a path, which is one of a version of a module, and the version's time, RFC 3339 or ""; known is false when
// there is no such version, only a file, as of a branch.
func (x *Index) FileOf(ctx context.Context, path, module, version string) (f File, time string, known, ok bool, err error) {
	var when *string
	row := x.fileOf.QueryRowContext(brief(ctx), path, module, version)
	f, ok, err = found(scanFile(scanWith{row, &when}))
	if when != nil {
		time = *when
	}
	return f, time, when != nil, ok, err
}

// scanWith scans a last column besides.
type scanWith struct {
	row  scanner
	last any
}

// Scan is that of sql.Row.
func (s scanWith) Scan(dest ...any) error { return s.row.Scan(append(dest, s.last)...) }

// brief is for queries that take some microseconds: for a context that can end, database/sql and go-sqlite3 start two goroutines a query, which take as long.
func brief(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

// each returns the rows of a query as they are scanned by scan.
func each[T any](ctx context.Context, q func(context.Context) (*sql.Rows, error), scan func(scanner) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		rows, err := q(ctx)
		if err != nil {
			var zero T
			yield(zero, err)
			return
		}
		defer rows.Close()
		for rows.Next() {
			if v, err := scan(rows); !yield(v, err) || err != nil {
				return
			}
		}
		if err := rows.Err(); err != nil {
			var zero T
			yield(zero, err)
		}
	}
}

func (x *Index) query(text string, args ...any) func(context.Context) (*sql.Rows, error) {
	return func(ctx context.Context) (*sql.Rows, error) { return x.db.QueryContext(ctx, text, args...) }
}

// Files returns all files, those of a bundle of the line together, in the order of their offsets.
func (x *Index) Files(ctx context.Context) iter.Seq2[File, error] {
	return each(ctx, x.query(selectFile+" ORDER BY bundle, offset"), scanFile)
}

// FilesIn returns the files of one bundle of the line, in the order of their offsets.
func (x *Index) FilesIn(ctx context.Context, bundle int64) iter.Seq2[File, error] {
	return each(ctx, x.query(selectFile+" WHERE bundle = ? ORDER BY offset", bundle), scanFile)
}

const (
	// maxHeads is how many tree heads an index may have, which are read into memory together: one
	// for each bundle that a line may have.
	maxHeads = 10_000

	// maxHeadBytes is how long they may be together. One of sum.golang.org has 190 bytes; with
	// cosignatures a few thousand.
	maxHeadBytes = 16 << 20
)

// Heads returns the tree heads, smallest first: the last one is that of the bundle.
func (x *Index) Heads(ctx context.Context) iter.Seq2[Head, error] {
	rows := each(ctx, x.query("SELECT size, hash, note FROM head ORDER BY id"), func(row scanner) (h Head, err error) {
		err = row.Scan(&h.Size, &h.Hash, &h.Note)
		return h, err
	})
	return func(yield func(Head, error) bool) {
		n, size := 0, 0
		for h, err := range rows {
			n, size = n+1, size+len(h.Hash)+len(h.Note)
			if err == nil && (n > maxHeads || size > maxHeadBytes) {
				err = badf("more than %d tree heads, or %d bytes of them", maxHeads, maxHeadBytes)
			}
			if !yield(h, err) || err != nil {
				return
			}
		}
	}
}

// Versions returns the versions of a module, or of all modules when path is "",
// in the order of paths and versions.
func (x *Index) Versions(ctx context.Context, path string) iter.Seq2[Version, error] {
	if path == "" {
		return each(ctx, x.query(selectVersion+" ORDER BY v.id"), scanVersion)
	}
	return each(ctx, func(ctx context.Context) (*sql.Rows, error) { return x.versions.QueryContext(ctx, path) }, scanVersion)
}

// Missing returns what could not be had.
func (x *Index) Missing(ctx context.Context) iter.Seq2[Missing, error] {
	return each(ctx, x.query("SELECT path, version, what, status, reason, chain, allowed FROM missing ORDER BY id"), scanMissing)
}

// Bundles returns the bundles of the line, oldest first.
func (x *Index) Bundles(ctx context.Context) iter.Seq2[Bundle, error] {
	return each(ctx, x.query("SELECT id, ifnull(digest, ''), name, sequence, ifnull(payload, 0) FROM bundle ORDER BY id"), func(row scanner) (b Bundle, err error) {
		err = row.Scan(&b.ID, &b.Digest, &b.Name, &b.Sequence, &b.Payload)
		return b, err
	})
}

// Counts counts what is in the index.
func (x *Index) Counts(ctx context.Context) (c Counts, err error) {
	err = x.db.QueryRowContext(ctx, `SELECT
  (SELECT count(*) FROM module),
  (SELECT count(*) FROM version WHERE zip_size IS NOT NULL),
  (SELECT count(*) FROM version WHERE zip_size IS NULL),
  (SELECT count(*) FROM version v JOIN module m ON m.id = v.module WHERE m.private),
  (SELECT count(*) FROM file),
  (SELECT count(*) FROM missing)`).Scan(&c.Modules, &c.Versions, &c.ModOnly, &c.Private, &c.Files, &c.Missing)
	return c, err
}

// Queries returns the questions that were resolved, about one module or, when path is "", about all.
func (x *Index) Queries(ctx context.Context, path string) iter.Seq2[Query, error] {
	return each(ctx, x.query("SELECT path, query, version FROM query WHERE ?1 IN ('', path) ORDER BY id", path), func(row scanner) (q Query, err error) {
		err = row.Scan(&q.Path, &q.Query, &q.Version)
		return q, err
	})
}

// Requirements returns the module graph.
func (x *Index) Requirements(ctx context.Context) iter.Seq2[Requirement, error] {
	return each(ctx, x.query("SELECT path, version, requires, wanted, indirect FROM requirement ORDER BY id"), scanRequirement)
}

func scanRequirement(row scanner) (r Requirement, err error) {
	err = row.Scan(&r.Path, &r.Version, &r.Requires, &r.Wanted, &r.Indirect)
	return r, err
}

// MissingFor returns what of a version could not be had.
func (x *Index) MissingFor(ctx context.Context, path, version string) iter.Seq2[Missing, error] {
	return each(ctx, x.query("SELECT path, version, what, status, reason, chain, allowed FROM missing WHERE path = ? AND version = ? ORDER BY id", path, version), scanMissing)
}

func scanMissing(row scanner) (m Missing, err error) {
	err = row.Scan(&m.Path, &m.Version, &m.What, &m.Status, &m.Reason, &m.Chain, &m.Allowed)
	return m, err
}

// FilesBelow returns the files in a folder, whose name ends in a slash, and in those in it, by path.
func (x *Index) FilesBelow(ctx context.Context, folder string) iter.Seq2[File, error] {
	end := strings.TrimSuffix(folder, "/") + "0" // the character behind the slash
	return each(ctx, x.query(selectFile+" WHERE path > ? AND path < ? ORDER BY path", folder, end), scanFile)
}

// RequirementsOf returns what one version requires; that of a project is "".
func (x *Index) RequirementsOf(ctx context.Context, path, version string) iter.Seq2[Requirement, error] {
	return each(ctx, x.query("SELECT path, version, requires, wanted, indirect FROM requirement WHERE path = ? AND version = ? ORDER BY requires, wanted", path, version), scanRequirement)
}

// Roots returns what nothing requires: the projects, and the versions that were asked for. Only Path and Version are set.
func (x *Index) Roots(ctx context.Context) iter.Seq2[Requirement, error] {
	return each(ctx, x.query(`SELECT DISTINCT path, version FROM requirement WHERE version = ''
UNION ALL SELECT m.path, v.version FROM version v JOIN module m ON m.id = v.module
WHERE v.zip_size IS NOT NULL AND (m.path, v.version) NOT IN (SELECT requires, wanted FROM requirement) ORDER BY 1, 2`), func(row scanner) (r Requirement, err error) {
		return r, row.Scan(&r.Path, &r.Version)
	})
}

// Advised counts the versions carried whole that are retracted, and the modules that are deprecated.
func (x *Index) Advised(ctx context.Context) (retracted, deprecated int64, err error) {
	err = x.db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM version WHERE zip_size IS NOT NULL AND retracted IS NOT NULL),
(SELECT count(*) FROM module WHERE deprecated <> '')`).Scan(&retracted, &deprecated)
	return retracted, deprecated, err
}

// Selfs returns the platforms, such as linux/amd64, for which modmirror and Go are carried.
func (x *Index) Selfs(ctx context.Context) (list []string, err error) {
	for f, err := range x.FilesBelow(ctx, "self/") {
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(f.Path, "self/"), ".tar")
		list = append(list, strings.Replace(name, "-", "/", 1))
	}
	return list, nil
}

// Vulns counts the entries of the vulnerability database.
func (x *Index) Vulns(ctx context.Context) (n int64, err error) {
	err = x.db.QueryRowContext(ctx, "SELECT count(*) FROM file WHERE path > 'vulndb/ID/' AND path < 'vulndb/ID0'").Scan(&n)
	return n, err
}

// Private returns the paths of the modules outside the checksum database.
func (x *Index) Private(ctx context.Context) iter.Seq2[string, error] { return x.paths(ctx, true) }

// Public returns the paths of the modules that the checksum database vouches for.
func (x *Index) Public(ctx context.Context) iter.Seq2[string, error] { return x.paths(ctx, false) }

func (x *Index) paths(ctx context.Context, private bool) iter.Seq2[string, error] {
	return each(ctx, x.query("SELECT path FROM module WHERE private = ? ORDER BY path", private), func(row scanner) (path string, err error) {
		err = row.Scan(&path)
		return path, err
	})
}
