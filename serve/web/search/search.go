// Package search finds packages by their paths, names, synopses, exported symbols and licenses. Its
// database is a cache: it lies in the state folder, is made from the zips that are carried, and
// takes in what is new by its h1.
package search

import (
	"cmp"
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"

	"github.com/mattn/go-sqlite3"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/serve/web/render"
)

var (
	//go:embed schema.sql
	schema string

	//go:embed rank.sql
	rank string
)

// version is the user_version of the file: another one is made anew.
const version = 2

const driverName = "modmirror-search"

func init() {
	sql.Register(driverName, &sqlite3.SQLiteDriver{ConnectHook: func(c *sqlite3.SQLiteConn) error {
		// Serve may not write to all folders that SQLite would sort in.
		_, err := c.Exec("PRAGMA temp_store = MEMORY; PRAGMA trusted_schema = OFF", nil)
		return err
	}})
}

// A DB is an open database. It is safe for concurrent use.
type DB struct {
	db *sql.DB

	ranks         atomic.Pointer[ranks] // those that were read last
	changes       atomic.Int64          // how often packages, or their ranks, have changed
	updating      sync.Mutex            // held by Update
	done, planned atomic.Int64
}

// A Zip is a version that is searched: of each module the one that is shown first.
type Zip struct {
	H1, Module, Version, License string
}

// Open opens the database at a path, and makes it when it does not exist or is of no use.
func Open(file string) (*DB, error) {
	d, err := open(file)
	if err == nil {
		return d, nil
	}
	for _, end := range []string{"", "-wal", "-shm"} {
		if err := os.Remove(file + end); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return open(file)
}

func open(file string) (*DB, error) {
	dsn := url.URL{Scheme: "file", OmitHost: true, Path: file,
		RawQuery: "_journal=WAL&_sync=NORMAL&_busy_timeout=5000&_cache_size=-2000&_txlock=immediate"}
	db, err := sql.Open(driverName, dsn.String())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(3)
	db.SetMaxIdleConns(1)
	var v int
	if err := db.QueryRow("PRAGMA user_version").Scan(&v); err != nil {
		db.Close()
		return nil, err
	}
	if v == 0 {
		_, err = db.Exec(schema + fmt.Sprintf("; PRAGMA user_version = %d", version))
	} else if v != version {
		err = fmt.Errorf("%s: version %d", file, v)
	}
	if err != nil {
		db.Close()
		return nil, err
	}
	return &DB{db: db}, nil
}

// Close closes the database, after Update has returned.
func (d *DB) Close() error {
	d.updating.Lock()
	defer d.updating.Unlock()
	return d.db.Close()
}

// Progress returns how many zips an Update has taken in of those that it will.
func (d *DB) Progress() (done, planned int64) { return d.done.Load(), d.planned.Load() }

// Update makes the database one of the zips of want. It takes in those that are new, with the
// packages that read yields, and forgets the others. failed is called with the errors of read: a zip
// is left out, until the next Update, unless it is a *render.Error. Update waits for one that is
// under way.
func (d *DB) Update(
	ctx context.Context, want []Zip, read func(context.Context, Zip, func([]render.Entry) error) error,
	failed func(Zip, error),
) error {
	d.updating.Lock()
	defer d.updating.Unlock()
	have, err := d.zips(ctx)
	if err != nil {
		return err
	}
	wanted := make(map[string]bool)
	var missing []Zip
	for _, z := range want {
		if wanted[z.H1] {
			continue
		}
		wanted[z.H1] = true
		if _, ok := have[z.H1]; !ok {
			missing = append(missing, z)
		}
	}
	d.done.Store(0)
	d.planned.Store(int64(len(missing)))
	for _, z := range missing {
		if err := d.add(ctx, z, read, failed); err != nil {
			return err
		}
		d.done.Add(1)
		d.changes.Add(1)
	}
	changed := len(missing) > 0
	for h1, id := range have {
		if !wanted[h1] {
			changed = true
			if err := d.remove(ctx, id); err != nil {
				return err
			}
		}
	}
	if changed {
		if _, err := d.db.ExecContext(ctx, rank); err != nil {
			return err
		}
		d.changes.Add(1)
	}
	_, err = d.loadRanks(ctx) // so that the first search need not
	return err
}

// zips returns the ids of the zips by their h1.
func (d *DB) zips(ctx context.Context) (map[string]int64, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT h1, id FROM zip")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	have := make(map[string]int64)
	for rows.Next() {
		var h1 string
		var id int64
		if err := rows.Scan(&h1, &id); err != nil {
			return nil, err
		}
		have[h1] = id
	}
	return have, rows.Err()
}

// add takes in a zip, whole or not at all.
func (d *DB) add(
	ctx context.Context, z Zip, read func(context.Context, Zip, func([]render.Entry) error) error,
	failed func(Zip, error),
) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	res, err := tx.ExecContext(ctx, "INSERT INTO zip (h1, module, version) VALUES (?, ?, ?)", z.H1, z.Module, z.Version)
	if err != nil {
		return err
	}
	id, err := res.LastInsertId()
	if err != nil {
		return err
	}
	var bad error // of the database
	err = read(ctx, z, func(list []render.Entry) error {
		for _, e := range list {
			if bad = insert(ctx, tx, id, z, e); bad != nil {
				return bad
			}
		}
		return nil
	})
	if bad != nil || ctx.Err() != nil {
		return cmp.Or(bad, ctx.Err())
	}
	if err != nil {
		failed(z, err)
		if _, shown := errors.AsType[*render.Error](err); !shown { // the storage, perhaps: not for ever
			return nil
		}
	}
	return tx.Commit()
}

// insert adds a package.
func insert(ctx context.Context, tx *sql.Tx, zip int64, z Zip, e render.Entry) error {
	importPath := path.Join(z.Module, e.Dir)
	if z.Module == render.Std {
		importPath = e.Dir
	}
	var words []string
	for _, s := range e.Symbols {
		words = append(words, camel(s)...)
	}
	slices.Sort(words)
	symbols := strings.Join(e.Symbols, " ") + "\n" + strings.Join(slices.Compact(words), " ")
	res, err := tx.ExecContext(ctx,
		"INSERT INTO package (zip, path, name, last, synopsis, license, symbols) VALUES (?, ?, ?, ?, ?, ?, ?)",
		zip, importPath, e.Name, lastElement(importPath), e.Synopsis, z.License, symbols)
	if err != nil {
		return err
	}
	id, err := res.LastInsertId()
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx,
		"INSERT INTO words (docid, path, name, synopsis, symbols, license) VALUES (?, ?, ?, ?, ?, ?)",
		id, importPath, e.Name, e.Synopsis, symbols, z.License); err != nil {
		return err
	}
	for _, p := range e.Imports {
		if _, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO import (zip, path) VALUES (?, ?)", zip, p); err != nil {
			return err
		}
	}
	return nil
}

// lastElement returns the last element of a path that is no major version, in lower case.
func lastElement(importPath string) string {
	prefix, _, ok := module.SplitPathVersion(importPath)
	if !ok {
		prefix = importPath
	}
	return strings.ToLower(path.Base(prefix))
}

// camel returns the words of a name such as ServeHTTP or Tag.IsRoot, if there are several.
func camel(name string) (words []string) {
	runes := []rune(name)
	start := 0
	for i := 1; i <= len(runes); i++ {
		if i < len(runes) {
			upper, before := unicode.IsUpper(runes[i]), unicode.IsUpper(runes[i-1])
			next := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if (!upper || before && !next) && runes[i] != '.' && runes[i-1] != '.' {
				continue
			}
		}
		if w := strings.Trim(string(runes[start:i]), "._"); len(w) > 1 {
			words = append(words, w)
		}
		start = i
	}
	if len(words) < 2 {
		return nil
	}
	return words
}

// remove forgets a zip.
func (d *DB) remove(ctx context.Context, zip int64) error {
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	for _, q := range []string{
		"DELETE FROM words WHERE docid IN (SELECT id FROM package WHERE zip = ?)",
		"DELETE FROM package WHERE zip = ?", "DELETE FROM import WHERE zip = ?", "DELETE FROM zip WHERE id = ?",
	} {
		if _, err := tx.ExecContext(ctx, q, zip); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// A Result is a package that was found.
type Result struct {
	Path      string `json:"path"`
	Name      string `json:"name"`
	Module    string `json:"module"`
	Version   string `json:"version"`
	Synopsis  string `json:"synopsis,omitempty"`
	License   string `json:"license,omitempty"`
	Importers int    `json:"importers"`
	// Symbols are those that the words are about, the first few.
	Symbols []string `json:"symbols,omitempty"`

	id int64
}

const (
	// MaxResults is how many packages Find returns at most.
	MaxResults = 50

	// maxWords is how many words of a query count.
	maxWords = 8

	// maxSymbols is how many symbols of a Result are named.
	maxSymbols = 5
)

// Find returns the packages that have all words of a query, the best first: those whose path or name
// is the query, then those that more modules import. The last word may be the beginning of one.
// "license:MIT" finds by license, "http.Handler" a symbol of a package.
func (d *DB) Find(ctx context.Context, query string) (list []Result, err error) {
	query = strings.TrimSpace(query)
	match := matchOf(query)
	if match == "" {
		return nil, nil
	}
	list, err = d.find(ctx, query, match)
	at := strings.LastIndexAny(match, " :") + 1
	if err != nil || len(list) == MaxResults || len(match)-at < 2 {
		return list, err
	}
	// Of a word that is not typed to its end.
	start := strings.LastIndexByte(match, ' ') + 1
	longer, err := d.longer(ctx, match[start:at], match[at:])
	if err != nil || len(longer) == 0 {
		return list, err
	}
	more, err := d.find(ctx, query, match[:start]+"("+strings.Join(longer, " OR ")+")")
	for _, r := range more {
		same := func(x Result) bool { return x.Path == r.Path && x.Module == r.Module }
		if len(list) < MaxResults && !slices.ContainsFunc(list, same) {
			list = append(list, r)
		}
	}
	return list, err
}

const (
	// maxLonger is how many words that begin with one are searched, of maxTerms that are looked at. All
	// packages that have them are read, so that once maxPostings have, there is no other one.
	maxLonger   = 100
	maxTerms    = 2000
	maxPostings = 20_000
)

// longer returns terms of a MATCH for the words that begin with a word: names of packages, those
// that are used most first, and then what more packages have. column is that of the word, with a
// colon, or "".
func (d *DB) longer(ctx context.Context, column, word string) (list []string, err error) {
	if strings.ContainsFunc(word, func(r rune) bool { return r >= utf8.RuneSelf }) {
		return []string{column + word + "*"}, nil // the index has other forms of such letters
	}
	const end = "\U0010ffff"
	type term struct {
		text     string
		packages int
	}
	var terms []term
	read := func(limit int, query string, args ...any) error {
		rows, err := d.db.QueryContext(ctx, query, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for n := 0; n < limit && rows.Next(); {
			var t term
			if err := rows.Scan(&t.text, &t.packages); err != nil {
				return err
			}
			n += t.packages
			terms = append(terms, t)
		}
		return rows.Err()
	}
	if column == "" {
		err = read(maxPostings, `SELECT last, count(*) FROM package WHERE last > ? AND last < ?
GROUP BY last ORDER BY max(weight) DESC LIMIT ?`, word, word+end, maxLonger/2)
		if err != nil {
			return nil, err
		}
	}
	names := len(terms)
	in := any("*")
	if column != "" {
		in = licenseColumn
	}
	// The terms come one by one, and each costs what it has: a few that are everywhere are enough.
	err = read(10*maxPostings, "SELECT term, documents FROM terms WHERE term > ? AND term < ? AND col = ? LIMIT ?",
		word, word+end, in, maxTerms)
	if err != nil {
		return nil, err
	}
	slices.SortStableFunc(terms[names:], func(a, b term) int { return cmp.Compare(b.packages, a.packages) })
	n := 0
	for _, t := range terms {
		text := column + t.text
		if strings.ContainsFunc(t.text, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) ||
			slices.Contains(list, text) {
			continue
		}
		list = append(list, text)
		if n += t.packages; n >= maxPostings || len(list) == maxLonger {
			break
		}
	}
	return list, nil
}

// licenseColumn is the number of the column in terms.
const licenseColumn = 4

// find returns what a MATCH finds, the best first.
func (d *DB) find(ctx context.Context, query, match string) (list []Result, err error) {
	var ids sql.NullString
	// As one text, since a row costs more than to read its number again.
	err = d.db.QueryRowContext(ctx, "SELECT group_concat(docid, ' ') FROM "+
		"(SELECT docid FROM words WHERE words MATCH ? ORDER BY docid)", match).Scan(&ids)
	if err != nil || !ids.Valid {
		return nil, err
	}
	r, err := d.loadRanks(ctx)
	if err != nil {
		return nil, err
	}
	name := strings.ToLower(nameOf(query))
	var best []string
	score := make(map[int64]float64)
	for _, x := range r.best(ids.String, name) {
		best = append(best, strconv.FormatInt(x.id, 10))
		score[x.id] = float64(x.score)
	}
	rows, err := d.db.QueryContext(ctx, `
SELECT p.id, p.path, p.name, z.module, z.version, p.synopsis, p.license, p.importers, p.symbols
FROM package p JOIN zip z ON z.id = p.zip WHERE p.id IN (`+strings.Join(best, ",")+")")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r Result
		var symbols string
		err := rows.Scan(&r.id, &r.Path, &r.Name, &r.Module, &r.Version, &r.Synopsis, &r.License, &r.Importers, &symbols)
		if err != nil {
			return nil, err
		}
		symbols, _, _ = strings.Cut(symbols, "\n")
		r.Symbols = symbolsOf(query, symbols)
		list = append(list, r)
		switch {
		case r.Path == query:
			score[r.id] = math.Inf(1)
		case strings.Contains(r.Path, name):
			score[r.id] += 2
		}
	}
	slices.SortFunc(list, func(a, b Result) int {
		return cmp.Or(cmp.Compare(score[b.id], score[a.id]), cmp.Compare(a.Path, b.Path))
	})
	return list, rows.Err()
}

// nameOf returns the part of a query that may name a package: of http.Handler it is http.
func nameOf(query string) string {
	first, _, _ := strings.Cut(query, " ")
	if name, symbol, ok := strings.Cut(first, "."); ok && !strings.Contains(first, "/") && symbol != "" {
		return name
	}
	return first
}

// matchOf returns the MATCH of a query, "" when it has no word.
func matchOf(query string) string {
	var terms []string
	for _, word := range strings.Fields(query) {
		column := ""
		if rest, ok := strings.CutPrefix(strings.ToLower(word), "license:"); ok {
			column, word = "license:", rest
		}
		for _, part := range strings.FieldsFunc(word, func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
			if len(terms) < maxWords {
				terms = append(terms, column+strings.ToLower(part))
			}
		}
	}
	if len(terms) == 0 {
		return ""
	}
	return strings.Join(terms, " ")
}

// symbolsOf returns the first symbols that have a word of a query, those that are one first.
func symbolsOf(query, symbols string) (list []string) {
	words := strings.Fields(strings.ToLower(query))
	for i, word := range words {
		if _, symbol, ok := strings.Cut(word, "."); ok && !strings.Contains(word, "/") {
			words[i] = symbol
		}
	}
	slices.Sort(words)
	words = slices.DeleteFunc(slices.Compact(words), func(w string) bool { return len(w) < 3 })
	words = words[:min(len(words), maxWords)]
	type scored struct {
		name  string
		score float64
	}
	var best []scored // maxSymbols of them
	for name := range strings.SplitSeq(symbols, " ") {
		score := 0.0
		for _, word := range words {
			score = max(score, likeness(name, word))
		}
		if score == 0 || len(best) == maxSymbols && score <= best[maxSymbols-1].score {
			continue
		}
		best = append(best[:min(len(best), maxSymbols-1)], scored{strings.Clone(name), score})
		slices.SortStableFunc(best, func(a, b scored) int { return cmp.Compare(b.score, a.score) })
	}
	for _, b := range best {
		list = append(list, b.name)
	}
	return list
}

// likeness returns how much a symbol is a word: 3 the same, 2 as a method, else the share of it, 0
// when it has it not.
func likeness(name, word string) float64 {
	lower := strings.ToLower(name)
	_, method, _ := strings.Cut(lower, ".")
	switch {
	case lower == word:
		return 3
	case method == word:
		return 2
	case strings.Contains(lower, word):
		return float64(len(word)) / float64(len(lower))
	}
	return 0
}

// Has reports whether a package has an import path.
func (d *DB) Has(ctx context.Context, importPath string) (ok bool, err error) {
	err = d.db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM package WHERE path = ?)", importPath).Scan(&ok)
	return ok, err
}

// Importers returns the modules that import a package of module mod, sorted, with the version that
// was looked at: limit of them at most, and how many there are.
func (d *DB) Importers(
	ctx context.Context, mod, importPath string, limit int,
) (list []module.Version, total int, err error) {
	rows, err := d.db.QueryContext(ctx, `SELECT z.module, z.version FROM import i JOIN zip z ON z.id = i.zip
WHERE i.path = ? AND z.module <> ? ORDER BY z.module`, importPath, mod)
	if err != nil {
		return nil, 0, err
	}
	defer rows.Close()
	for rows.Next() {
		var m module.Version
		if err := rows.Scan(&m.Path, &m.Version); err != nil {
			return nil, 0, err
		}
		if total++; len(list) < limit {
			list = append(list, m)
		}
	}
	return list, total, rows.Err()
}

// Synopses returns the synopses of the packages of a module by import path.
func (d *DB) Synopses(ctx context.Context, mod, version string) (map[string]string, error) {
	rows, err := d.db.QueryContext(ctx,
		"SELECT p.path, p.synopsis FROM package p JOIN zip z ON z.id = p.zip WHERE z.module = ? AND z.version = ?", mod, version)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	out := make(map[string]string)
	for rows.Next() {
		var p, synopsis string
		if err := rows.Scan(&p, &synopsis); err != nil {
			return nil, err
		}
		out[p] = synopsis
	}
	return out, rows.Err()
}

// Count returns how many packages there are.
func (d *DB) Count(ctx context.Context) (n int, err error) {
	err = d.db.QueryRowContext(ctx, "SELECT count(*) FROM package").Scan(&n)
	return n, err
}
