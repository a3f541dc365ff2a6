package index

import (
	"context"
	"database/sql"
	"errors"
	"iter"
	"strings"

	"github.com/modmirror/modmirror/internal/modpath"
)

// A Bundle is a bundle of the line.
type Bundle struct {
	ID       int64
	Digest   string // the bundle's id; "" for the bundle that the index is in
	Name     string
	Sequence int64
	Payload  int64 // offset of its payload in bytes; 0 for the bundle that the index is in
}

// A Head is a signed tree head of the checksum database.
type Head struct {
	Size int64  // records in the tree
	Hash string // of the tree, in base64
	Note string // the signed note
}

// A File is a file of the payload.
type File struct {
	ID     int64 // from 1, without gaps
	Path   string
	Bundle int64 // ID of the Bundle that carries it
	Offset int64 // of its first byte, from the start of that bundle's payload
	Size   int64 // in bytes
	SHA256 [32]byte
}

// A Version is a module version.
type Version struct {
	Path       string  `json:"path"`
	Version    string  `json:"version"`
	Time       string  `json:"time,omitempty"` // of the commit, RFC 3339; "" when unknown
	H1         string  `json:"h1,omitempty"`   // of the zip; "" for a private version without one
	GoModH1    string  `json:"goModH1"`
	Record     *int64  `json:"record,omitempty"`  // nil outside the checksum database
	ZipSize    *int64  `json:"zipSize,omitempty"` // nil when only .mod and .info are carried
	ModSize    int64   `json:"modSize"`
	Retracted  *string `json:"retracted,omitempty"`  // the reason, perhaps ""; nil when it is not retracted
	Deprecated string  `json:"deprecated,omitempty"` // the message, "" when it is not deprecated
	Latest     string  `json:"latest,omitempty"`     // newest version of the module that the upstream had
	License    *string `json:"license,omitempty"`    // SPDX expression; nil when unknown
	Origin     string  `json:"origin,omitempty"`     // JSON of Origin in the .info file, "" without one
	Private    bool    `json:"private,omitempty"`    // outside the checksum database
}

// A Fact is what the zip of a version says by itself: a license file, or something that its code
// can do. Package review/facts has the kinds.
type Fact struct {
	Kind     string
	File     string   // the license file, or the first file that shows it
	Files    int64    // how many show it
	Detail   string   // of that file: SPDX identifiers with " AND " between them, an import, a format, a line
	Coverage *float64 // of a license file: the share of its text that is known, in percent; nil for others
}

// LicenseFact is the kind of the fact that is a license file.
const LicenseFact = "license"

// A Missing is a file of the closure that could not be fetched.
type Missing struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	What    string `json:"what"`             // go.mod, info, zip, record or list
	Status  int    `json:"status,omitempty"` // HTTP status of the refusal
	Reason  string `json:"reason"`
	Chain   string `json:"chain"`             // requirements that lead to it, with " → " between them
	Allowed bool   `json:"allowed,omitempty"` // by a missing-ok line
}

// A Query is a query, such as latest or a branch, that was resolved when the bundle was made.
type Query struct {
	Path    string `json:"path"`
	Query   string `json:"query"` // latest, a branch or a commit
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

// Counts counts the rows of an index.
type Counts struct {
	Modules  int64 `json:"modules"`  // module paths
	Versions int64 `json:"versions"` // with their zip
	ModOnly  int64 `json:"modOnly"`  // versions with .mod and .info alone
	Private  int64 `json:"private"`  // versions outside the checksum database
	Files    int64 `json:"files"`
	Missing  int64 `json:"missing"`
}

const (
	selectFile = "SELECT id, path, bundle, offset, size, sha256 FROM file"

	// selectFileOf is the query of FileOf, which serves each small file that is not cached. It has
	// subqueries because SQLite would plan a join of these tables anew each time.
	selectFileOf = `SELECT id, path, bundle, offset, size, sha256,
  (SELECT time FROM version WHERE module = (SELECT id FROM module WHERE path = ?2) AND version = ?3)
FROM file WHERE path = ?1`

	selectMissing     = "SELECT path, version, what, status, reason, chain, allowed FROM missing"
	selectRequirement = "SELECT path, version, requires, wanted, indirect FROM requirement"
)

// A scanner is an *sql.Row or *sql.Rows.
type scanner interface{ Scan(...any) error }

// scanFile reads a row of selectFile.
func scanFile(row scanner) (f File, err error) {
	var sum sql.RawBytes
	if rows, ok := row.(*sql.Rows); ok {
		err = rows.Scan(&f.ID, &f.Path, &f.Bundle, &f.Offset, &f.Size, &sum)
		copy(f.SHA256[:], sum)
		return f, err
	}
	var own []byte // an *sql.Row does not take RawBytes
	err = row.Scan(&f.ID, &f.Path, &f.Bundle, &f.Offset, &f.Size, &own)
	copy(f.SHA256[:], own)
	return f, err
}

// scanVersion reads a row of schema.selectVersion.
func scanVersion(row scanner) (v Version, err error) {
	err = row.Scan(&v.Path, &v.Version, &v.Time, &v.H1, &v.GoModH1, &v.Record, &v.ZipSize, &v.ModSize, &v.Retracted,
		&v.Deprecated, &v.Latest, &v.License, &v.Origin, &v.Private)
	return v, err
}

// found returns ok = false instead of sql.ErrNoRows.
func found[T any](v T, err error) (T, bool, error) {
	if errors.Is(err, sql.ErrNoRows) {
		return v, false, nil
	}
	return v, err == nil, err
}

// File returns the file at a path. ok is false when there is none.
func (x *Index) File(ctx context.Context, path string) (f File, ok bool, err error) {
	return found(scanFile(x.fileByPath.QueryRowContext(brief(ctx), path)))
}

// Lookup returns a version of a module. ok is false when the index does not have it.
func (x *Index) Lookup(ctx context.Context, path, version string) (v Version, ok bool, err error) {
	return found(scanVersion(x.lookup.QueryRowContext(brief(ctx), path, version)))
}

// FileOf returns the file at a path, and the time of the version of a module that the path belongs
// to. ok is false when there is no file. known is false when the index has no such version: the
// file may be of a branch.
func (x *Index) FileOf(
	ctx context.Context, path, module, version string,
) (f File, time string, known, ok bool, err error) {
	if d := x.directory(); d != nil && module != "" {
		if f, ok := d.fileOf(path, module, version); ok {
			return f.File, f.time, f.known, true, nil
		}
	}
	var when *string
	row := x.fileOf.QueryRowContext(brief(ctx), path, module, version)
	f, ok, err = found(scanFile(scanWith{row, &when}))
	if when != nil {
		time = *when
	}
	return f, time, when != nil, ok, err
}

// scanWith reads one more column, the last, into last.
type scanWith struct {
	row  scanner
	last any
}

// Scan implements scanner.
func (s scanWith) Scan(dest ...any) error { return s.row.Scan(append(dest, s.last)...) }

// brief returns ctx without its end, for queries that take some microseconds: for a context that
// can end, database/sql and go-sqlite3 start two goroutines a query, which take as long.
func brief(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }

// each returns the rows of a query, read by scan. An error is the last element.
func each[T any](
	ctx context.Context, q func(context.Context) (*sql.Rows, error), scan func(scanner) (T, error),
) iter.Seq2[T, error] {
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

// query returns a query for each.
func (x *Index) query(text string, args ...any) func(context.Context) (*sql.Rows, error) {
	return func(ctx context.Context) (*sql.Rows, error) { return x.db.QueryContext(ctx, text, args...) }
}

// Files returns all files, by bundle and offset.
func (x *Index) Files(ctx context.Context) iter.Seq2[File, error] {
	return each(ctx, x.query(selectFile+" ORDER BY bundle, offset"), scanFile)
}

// FilesIn returns the files of one bundle of the line, by offset.
func (x *Index) FilesIn(ctx context.Context, bundle int64) iter.Seq2[File, error] {
	return each(ctx, x.query(selectFile+" WHERE bundle = ? ORDER BY offset", bundle), scanFile)
}

const (
	// maxHeads is how many tree heads an index may have: one for each bundle that a line may have.
	// Callers hold them in memory together.
	maxHeads = 10_000

	// maxHeadBytes bounds the notes of all heads together. One of sum.golang.org has 190 bytes,
	// with cosignatures a few thousand.
	maxHeadBytes = 16 << 20
)

// Heads returns the tree heads, smallest first. The last one is the bundle's own. More heads than a
// line may have are an error that wraps ErrBad.
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

// Versions returns the versions of a module, or of all modules when path is "", by path and
// version.
func (x *Index) Versions(ctx context.Context, path string) iter.Seq2[Version, error] {
	if path == "" {
		return each(ctx, x.query(x.schema.selectVersion()+" ORDER BY v.id"), scanVersion)
	}
	query := func(ctx context.Context) (*sql.Rows, error) { return x.versions.QueryContext(ctx, path) }
	return each(ctx, query, scanVersion)
}

const selectFact = "SELECT f.kind, f.file, f.files, f.detail, f.coverage FROM fact f"

// HasFacts reports whether the index knows facts of the versions that have a license.
func (x *Index) HasFacts() bool { return x.schema.hasFacts() }

// FactsOf returns the facts of a version. There are none when Version.License is nil: nobody
// looked.
func (x *Index) FactsOf(ctx context.Context, path, version string) (list []Fact, err error) {
	if !x.HasFacts() {
		return nil, nil
	}
	query := func(ctx context.Context) (*sql.Rows, error) { return x.factsOf.QueryContext(brief(ctx), path, version) }
	for f, err := range each(ctx, query, scanFact) {
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// scanFact reads a row of selectFact.
func scanFact(row scanner) (f Fact, err error) {
	err = row.Scan(&f.Kind, &f.File, &f.Files, &f.Detail, &f.Coverage)
	return f, err
}

// Missing returns the files that could not be fetched.
func (x *Index) Missing(ctx context.Context) iter.Seq2[Missing, error] {
	return each(ctx, x.query(selectMissing+" ORDER BY id"), scanMissing)
}

// Bundles returns the bundles of the line, oldest first.
func (x *Index) Bundles(ctx context.Context) iter.Seq2[Bundle, error] {
	query := x.query("SELECT id, ifnull(digest, ''), name, sequence, ifnull(payload, 0) FROM bundle ORDER BY id")
	return each(ctx, query, func(row scanner) (b Bundle, err error) {
		err = row.Scan(&b.ID, &b.Digest, &b.Name, &b.Sequence, &b.Payload)
		return b, err
	})
}

// Counts counts the rows of the index.
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

// Queries returns the queries about one module or, when path is "", about all.
func (x *Index) Queries(ctx context.Context, path string) iter.Seq2[Query, error] {
	query := x.query("SELECT path, query, version FROM query WHERE ?1 IN ('', path) ORDER BY id", path)
	return each(ctx, query, func(row scanner) (q Query, err error) {
		err = row.Scan(&q.Path, &q.Query, &q.Version)
		return q, err
	})
}

// Requirements returns the module graph.
func (x *Index) Requirements(ctx context.Context) iter.Seq2[Requirement, error] {
	return each(ctx, x.query(selectRequirement+" ORDER BY id"), scanRequirement)
}

// scanRequirement reads a row of selectRequirement.
func scanRequirement(row scanner) (r Requirement, err error) {
	err = row.Scan(&r.Path, &r.Version, &r.Requires, &r.Wanted, &r.Indirect)
	return r, err
}

// MissingFor returns the files of a version that could not be fetched.
func (x *Index) MissingFor(ctx context.Context, path, version string) iter.Seq2[Missing, error] {
	return each(ctx, x.query(selectMissing+" WHERE path = ? AND version = ? ORDER BY id", path, version), scanMissing)
}

// scanMissing reads a row of selectMissing.
func scanMissing(row scanner) (m Missing, err error) {
	err = row.Scan(&m.Path, &m.Version, &m.What, &m.Status, &m.Reason, &m.Chain, &m.Allowed)
	return m, err
}

// FilesByPath returns all files, sorted by path, byte by byte.
func (x *Index) FilesByPath(ctx context.Context) iter.Seq2[File, error] {
	return each(ctx, x.query(selectFile+" ORDER BY path"), scanFile)
}

// FilesBelow returns the files below a folder, whose name ends in a slash, by path.
func (x *Index) FilesBelow(ctx context.Context, folder string) iter.Seq2[File, error] {
	end := strings.TrimSuffix(folder, "/") + "0" // 0 follows / in ASCII
	return each(ctx, x.query(selectFile+" WHERE path > ? AND path < ? ORDER BY path", folder, end), scanFile)
}

// RequirementsOf returns the requirements of one version. A project has version "".
func (x *Index) RequirementsOf(ctx context.Context, path, version string) iter.Seq2[Requirement, error] {
	query := x.query(selectRequirement+" WHERE path = ? AND version = ? ORDER BY requires, wanted", path, version)
	return each(ctx, query, scanRequirement)
}

// Roots returns the modules that nothing requires: the projects, and the versions that sync was
// asked for. Only Path and Version are set.
func (x *Index) Roots(ctx context.Context) iter.Seq2[Requirement, error] {
	query := x.query(`SELECT DISTINCT path, version FROM requirement WHERE version = ''
UNION ALL SELECT m.path, v.version FROM version v JOIN module m ON m.id = v.module
WHERE v.zip_size IS NOT NULL AND (m.path, v.version) NOT IN (SELECT requires, wanted FROM requirement)
ORDER BY 1, 2`)
	return each(ctx, query, func(row scanner) (r Requirement, err error) {
		return r, row.Scan(&r.Path, &r.Version)
	})
}

// Advised counts the retracted versions with their zip, and the deprecated modules.
func (x *Index) Advised(ctx context.Context) (retracted, deprecated int64, err error) {
	err = x.db.QueryRowContext(ctx, `SELECT
  (SELECT count(*) FROM version WHERE zip_size IS NOT NULL AND retracted IS NOT NULL),
  (SELECT count(*) FROM module WHERE deprecated <> '')`).Scan(&retracted, &deprecated)
	return retracted, deprecated, err
}

// Bootstraps returns the platforms, such as linux/amd64, for which modmirror and Go are carried.
func (x *Index) Bootstraps(ctx context.Context) (list []string, err error) {
	for f, err := range x.FilesBelow(ctx, "self/") {
		if err != nil {
			return nil, err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(f.Path, "self/"), ".tar")
		list = append(list, modpath.PlatformOf(name))
	}
	return list, nil
}

// Vulns counts the entries of the vulnerability database.
func (x *Index) Vulns(ctx context.Context) (n int64, err error) {
	const query = "SELECT count(*) FROM file WHERE path > 'vulndb/ID/' AND path < 'vulndb/ID0'"
	err = x.db.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

// Private returns the paths of the modules outside the checksum database.
func (x *Index) Private(ctx context.Context) iter.Seq2[string, error] { return x.paths(ctx, true) }

// Public returns the paths of the modules that the checksum database vouches for.
func (x *Index) Public(ctx context.Context) iter.Seq2[string, error] { return x.paths(ctx, false) }

// paths returns the paths of the modules outside or in the checksum database.
func (x *Index) paths(ctx context.Context, private bool) iter.Seq2[string, error] {
	query := x.query("SELECT path FROM module WHERE private = ? ORDER BY path", private)
	return each(ctx, query, func(row scanner) (path string, err error) {
		err = row.Scan(&path)
		return path, err
	})
}

// RequiredBy returns the requirements of any version of a module.
func (x *Index) RequiredBy(ctx context.Context, path string) iter.Seq2[Requirement, error] {
	return each(ctx, x.query(selectRequirement+" WHERE requires = ? ORDER BY path, version, wanted", path), scanRequirement)
}
