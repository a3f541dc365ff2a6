package index

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"
	modzip "golang.org/x/mod/zip"

	"github.com/modmirror/modmirror/internal/proof"
)

const (
	// maxName is the longest path, version or query in bytes: that of GOPROXY paths, which name
	// them.
	maxName = 2048

	// MaxText is the longest free text in bytes: a deprecation, the reason of a retraction, what an
	// upstream answered, a chain of requirements, an Origin.
	MaxText = 64 << 10
)

// CleanText returns s without what no index may hold: it is valid UTF-8 of at most MaxText bytes,
// without characters that steer a terminal or change the direction of text. Such text comes from
// upstreams and module authors, and is printed.
func CleanText(s string) string {
	s = strings.Map(func(r rune) rune {
		if steers(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "\ufffd"))
	if len(s) <= MaxText {
		return s
	}
	s = s[:MaxText]
	for len(s) > 0 && !utf8.ValidString(s[lastRune(s):]) { // a cut character
		s = s[:len(s)-1]
	}
	return s
}

// lastRune returns the start of the last character of s, which may be cut.
func lastRune(s string) int {
	i := len(s) - 1
	for i > 0 && !utf8.RuneStart(s[i]) {
		i--
	}
	return i
}

// printable returns s as a name that an index may hold. It escapes, as in a URL, a name that no
// module has, such as one with a space in a go.mod file.
func printable(s string) string {
	if checkNames(s) != nil {
		s = url.PathEscape(s)
	}
	return s[:min(len(s), maxName)]
}

// Visible returns s with each character that is not seen, or that steers a terminal or the
// direction of text, as ⟨U+202E⟩, and each byte that is not UTF-8 as ⟨0xff⟩. A reviewer must see
// what is in a text, and not what it does. Line breaks, tabs and spaces stay.
func Visible(s string) string {
	var out strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\ufffd"):
			fmt.Fprintf(&out, "⟨%#02x⟩", s[i])
		case steers(r), isUnseen(r):
			fmt.Fprintf(&out, "⟨U+%04X⟩", r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

// VisibleLine is Visible for a text on one line, with one space for each run of spaces.
func VisibleLine(s string) string { return Visible(strings.Join(strings.Fields(s), " ")) }

// isUnseen reports whether a character takes no room, or looks like a space and is none.
func isUnseen(r rune) bool {
	switch {
	case r == ' ', r == '\n', r == '\t':
		return false
	case unicode.In(r, unicode.Cf, unicode.Zs, unicode.Variation_Selector, unicode.Other_Default_Ignorable_Code_Point):
		return true
	}
	return r == 0x034f || r == 0x2800 // combining grapheme joiner, blank of Braille
}

// steers reports whether a character steers a terminal. Line breaks and tabs do not count: a caller
// that prints free text on one line replaces them.
func steers(r rune) bool {
	switch {
	case r == '\n', r == '\t':
		return false
	case r < ' ', 0x7f <= r && r < 0xa0: // C0, DEL, C1
		return true
	case r == 0x061c, 0x200e <= r && r <= 0x200f, 0x202a <= r && r <= 0x202e, 0x2066 <= r && r <= 0x2069: // direction
		return true
	case r == 0x2028, r == 0x2029: // separators of lines and paragraphs
		return true
	}
	return false
}

// Check checks an index in full: CheckPages and CheckRows.
func (x *Index) Check(ctx context.Context, tree int64) error {
	if err := x.CheckPages(ctx); err != nil {
		return err
	}
	return x.CheckRows(ctx, tree)
}

// CheckPages has SQLite check every page, constraint, index entry and reference to another row. It
// reads the whole file. Callers must call it before any other method on an index from outside.
func (x *Index) CheckPages(ctx context.Context) error {
	var msg string
	if err := x.db.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&msg); err != nil {
		return badf("%v", err)
	}
	if msg != "ok" {
		return badf("%.200s", msg)
	}
	if err := x.checkConstraints(ctx); err != nil {
		return err
	}
	rows, err := x.db.QueryContext(ctx, "PRAGMA foreign_key_check")
	if err != nil {
		return badf("%v", err)
	}
	defer rows.Close()
	if rows.Next() {
		return badf("a row refers to a row that is not there")
	}
	if err := rows.Err(); err != nil {
		return badf("%v", err)
	}
	return nil
}

// reTable finds the tables of a schema, and reConstraint the constraints of a table.
var (
	reTable      = regexp.MustCompile(`(?s)CREATE TABLE (\w+) \(.*?\n\);`)
	reConstraint = regexp.MustCompile(`CHECK (\((?:[^()]|\([^()]*\))*\))`)
)

// checkConstraints checks the CHECK constraints of the schema. SQLite ignores them in a database
// that is opened read-only (sqlite3AddCheckConstraint in its build.c), so that integrity_check does
// not check them.
func (x *Index) checkConstraints(ctx context.Context) error {
	for _, table := range reTable.FindAllStringSubmatch(x.schema.sql, -1) {
		var all []string
		for _, c := range reConstraint.FindAllStringSubmatch(table[0], -1) {
			all = append(all, c[1])
		}
		query := "SELECT EXISTS (SELECT 1 FROM " + table[1] + " WHERE NOT (" + strings.Join(all, " AND ") + "))"
		var bad bool
		if err := x.db.QueryRowContext(ctx, query).Scan(&bad); err != nil {
			return badf("%v", err)
		}
		if bad {
			return badf("a value of table %s breaks a constraint of the schema", table[1])
		}
	}
	return nil
}

// CheckRows checks that every value, but those of files, is one that modmirror writes. tree is the
// size of the checksum database's tree, 0 without a database.
func (x *Index) CheckRows(ctx context.Context, tree int64) error {
	for v, err := range x.Versions(ctx, "") {
		if err == nil {
			err = v.check(tree)
		}
		if err != nil {
			return badf("version %.200q of %.200q: %v", v.Version, v.Path, err)
		}
	}
	if err := x.checkHeads(ctx, tree); err != nil {
		return err
	}
	// A module without a version would be in no list, but clients would be told of a private one.
	const query = "SELECT count(*) FROM module WHERE id NOT IN (SELECT module FROM version)"
	var empty int
	if err := x.db.QueryRowContext(ctx, query).Scan(&empty); err != nil {
		return badf("%v", err)
	}
	if empty > 0 {
		return badf("a module has no version")
	}
	if x.schema.hasFacts() {
		facts := each(ctx, x.query(selectFact), scanFact)
		if err := checkEach("fact", facts, (*Fact).Check); err != nil {
			return err
		}
		const query = "SELECT EXISTS (SELECT 1 FROM fact GROUP BY version HAVING count(*) > ?)"
		var many bool
		if err := x.db.QueryRowContext(ctx, query, MaxFacts).Scan(&many); err != nil {
			return badf("%v", err)
		}
		if many {
			return badf("a version has more than %d facts", MaxFacts)
		}
	}
	if err := checkEach("missing", x.Missing(ctx), (*Missing).check); err != nil {
		return err
	}
	if err := checkEach("query", x.Queries(ctx, ""), (*Query).check); err != nil {
		return err
	}
	return checkEach("requirement", x.Requirements(ctx), (*Requirement).check)
}

// checkEach checks the rows of a table.
func checkEach[T any](table string, rows iter.Seq2[T, error], check func(*T) error) error {
	for row, err := range rows {
		if err == nil {
			err = check(&row)
		}
		if err != nil {
			return badf("table %s: %v", table, err)
		}
	}
	return nil
}

// checkHeads checks that the tree heads grow, up to a tree of so many records.
func (x *Index) checkHeads(ctx context.Context, tree int64) error {
	var last int64
	err := checkEach("head", x.Heads(ctx), func(h *Head) error {
		if _, err := tlog.ParseHash(h.Hash); err != nil {
			return err
		}
		if h.Size <= last || h.Size > tree {
			return fmt.Errorf("tree head %d after %d, in a tree of %d", h.Size, last, tree)
		}
		last = h.Size
		return checkTexts(h.Note)
	})
	if err != nil {
		return err
	}
	if last != tree {
		return badf("its last tree head is %d, and the tree has %d", last, tree)
	}
	return nil
}

// check checks the values of a version, in a tree of so many records.
func (v *Version) check(tree int64) error {
	if err := checkNames(v.Path, v.Version); err != nil {
		return err
	}
	if err := module.Check(v.Path, v.Version); err != nil {
		return err
	}
	if err := checkTexts(v.Deprecated, v.Origin, deref(v.Retracted)); err != nil {
		return err
	}
	if v.License != nil {
		if err := CheckLicense(*v.License); err != nil {
			return err
		}
	}
	if v.Latest != "" {
		if err := module.Check(v.Path, v.Latest); err != nil {
			return err
		}
	}
	if t, err := time.Parse(time.RFC3339, v.Time); v.Time != "" && (err != nil || t.UTC().Format(time.RFC3339) != v.Time) {
		return fmt.Errorf("time %.40q is not one of RFC 3339 in UTC, in whole seconds", v.Time)
	}
	return v.checkProof(tree)
}

// checkProof checks the record, hashes and sizes of a version, in a tree of so many records.
func (v *Version) checkProof(tree int64) error {
	switch {
	case v.Private != (v.Record == nil):
		return errors.New("either a record of the checksum database vouches for a version, or it is private")
	case v.Record != nil && (*v.Record < 0 || *v.Record >= tree):
		return fmt.Errorf("record %d is not in a tree of %d", *v.Record, tree)
	case !proof.IsH1(v.GoModH1), !proof.IsH1(v.H1) && (v.H1 != "" || v.ZipSize != nil || v.Record != nil):
		return errors.New("a hash is not an h1")
	case v.ModSize < 0 || v.ModSize > modzip.MaxGoMod:
		return errors.New("impossible size of the go.mod")
	case v.ZipSize != nil && (*v.ZipSize < 0 || *v.ZipSize > modzip.MaxZipFile):
		return errors.New("impossible size of the zip")
	}
	return nil
}

// MaxFacts is how many facts a version may have.
const MaxFacts = 256

// reKind matches a kind of facts.
var reKind = regexp.MustCompile(`^[a-z]{1,32}$`)

// reSPDX matches an SPDX expression as bundles have it.
var reSPDX = regexp.MustCompile(`^[A-Za-z0-9.+-]+( AND [A-Za-z0-9.+-]+)*$`)

// CheckLicense checks an SPDX expression, which has identifiers with AND between them.
func CheckLicense(s string) error {
	if len(s) > MaxText || !reSPDX.MatchString(s) {
		return fmt.Errorf("license %.40q is no SPDX expression of AND alone", s)
	}
	return nil
}

// Check checks the values of a fact.
func (f *Fact) Check() error {
	if !reKind.MatchString(f.Kind) {
		return fmt.Errorf("kind of fact %.40q is no word", f.Kind)
	}
	if f.File == "" || f.Files < 1 || f.Files > modzip.MaxZipFile {
		return fmt.Errorf("fact %s of %d files", f.Kind, f.Files)
	}
	if f.Coverage != nil && (f.Kind != LicenseFact || !(0 <= *f.Coverage && *f.Coverage <= 100)) {
		return fmt.Errorf("coverage of a fact %s", f.Kind)
	}
	if f.Kind == LicenseFact && f.Detail != "" {
		if err := CheckLicense(f.Detail); err != nil {
			return err
		}
	}
	for _, s := range []string{f.File, f.Detail} { // they are printed in rows
		if len(s) > MaxText || Visible(s) != s || strings.ContainsAny(s, "\n\t") {
			return fmt.Errorf("text %.40q of a fact is too long or has characters that are not seen", s)
		}
	}
	return nil
}

// check checks the values of a missing file.
func (m *Missing) check() error {
	switch m.What {
	case "go.mod", "info", "zip", "record", "list":
	default:
		return fmt.Errorf("what is missing is no %.40q", m.What)
	}
	if m.Status < 0 || m.Status > 999 {
		return fmt.Errorf("HTTP status %d", m.Status)
	}
	return errors.Join(checkNames(m.Path, m.Version), checkTexts(m.Reason, m.Chain))
}

// check checks the names of a query.
func (q *Query) check() error { return checkNames(q.Path, q.Query, q.Version) }

// check checks the names of a requirement. Only a project has no version.
func (r *Requirement) check() error {
	if r.Version == "" {
		return checkNames(r.Path, r.Requires, r.Wanted)
	}
	return checkNames(r.Path, r.Version, r.Requires, r.Wanted)
}

// deref returns *s, "" for nil.
func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// checkNames checks that each name is a word of printable ASCII, as module paths, versions and
// queries are.
func checkNames(names ...string) error {
	for _, s := range names {
		if s == "" || len(s) > maxName {
			return fmt.Errorf("a name of %d bytes", len(s))
		}
		if i := strings.IndexFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }); i >= 0 {
			return fmt.Errorf("bad name %.200q", s)
		}
	}
	return nil
}

// checkTexts checks that CleanText leaves each text as it is.
func checkTexts(texts ...string) error {
	for _, s := range texts {
		if CleanText(s) != s {
			return fmt.Errorf("text %.40q is too long or has characters that steer a terminal", s)
		}
	}
	return nil
}
