package index

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"
	modzip "golang.org/x/mod/zip"

	"github.com/modmirror/modmirror/internal/proof"
)

const (
	// maxName is the longest path, version or query in bytes: what the GOPROXY paths that name
	// them may have.
	maxName = 2048

	// MaxText is the longest free text in bytes: a deprecation, the reason of a retraction, what an
	// upstream answered, a chain of requirements, an Origin.
	MaxText = 64 << 10
)

// CleanText returns s as an index may hold it: valid UTF-8 of at most MaxText bytes, without
// characters that steer a terminal or change the direction of text. Such text comes from
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
	for len(s) > 0 && !utf8.ValidString(s[lastRune(s):]) { // not in the middle of a character
		s = s[:len(s)-1]
	}
	return s
}

// lastRune returns where the last character of s begins, whole or not.
func lastRune(s string) int {
	i := len(s) - 1
	for i > 0 && !utf8.RuneStart(s[i]) {
		i--
	}
	return i
}

// printable returns s as an index may hold it for a name: words that no module path can be, such as one with a
// space that somebody's go.mod requires, are escaped as in a URL.
func printable(s string) string {
	if checkNames(s) != nil {
		s = url.PathEscape(s)
	}
	return s[:min(len(s), maxName)]
}

// steers reports whether a character does something else than being printed. Line breaks and tabs
// may be in free text; who prints it on a line replaces them.
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

// CheckPages has SQLite check every page, constraint and index entry, and that no row refers to a row that is not there. It
// reads the whole file. Nothing else may be asked of an index that comes from outside before that.
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

// reTable and reConstraint find the tables of the schema, and the constraints of one.
var (
	reTable      = regexp.MustCompile(`(?s)CREATE TABLE (\w+) \(.*?\n\);`)
	reConstraint = regexp.MustCompile(`CHECK (\((?:[^()]|\([^()]*\))*\))`)
)

// checkConstraints checks the CHECK constraints of the schema. SQLite forgets them when a database
// is opened for reading only (sqlite3AddCheckConstraint in its build.c), so that integrity_check
// says nothing of them.
func (x *Index) checkConstraints(ctx context.Context) error {
	for _, table := range reTable.FindAllStringSubmatch(schema, -1) {
		var all []string
		for _, c := range reConstraint.FindAllStringSubmatch(table[0], -1) {
			all = append(all, c[1])
		}
		var bad bool
		if err := x.db.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+table[1]+" WHERE NOT ("+strings.Join(all, " AND ")+"))").Scan(&bad); err != nil {
			return badf("%v", err)
		}
		if bad {
			return badf("a value of table %s breaks a constraint of the schema", table[1])
		}
	}
	return nil
}

// CheckRows checks that every value, but those of files, is one that modmirror writes. tree is the size of the checksum database's tree,
// 0 without a database.
func (x *Index) CheckRows(ctx context.Context, tree int64) error {
	for v, err := range x.Versions(ctx, "") {
		if err == nil {
			err = v.check(tree)
		}
		if err != nil {
			return badf("version %.200q of %.200q: %v", v.Version, v.Path, err)
		}
	}
	var last int64
	for h, err := range x.Heads(ctx) {
		if err == nil {
			_, err = tlog.ParseHash(h.Hash)
		}
		if err == nil && (h.Size <= last || h.Size > tree) {
			err = fmt.Errorf("tree head %d after %d, in a tree of %d", h.Size, last, tree)
		}
		if err == nil {
			err = checkTexts(h.Note)
		}
		if err != nil {
			return badf("table head: %v", err)
		}
		last = h.Size
	}
	if last != tree {
		return badf("its last tree head is %d, and the tree has %d", last, tree)
	}
	// A module without a version would be in no list, but among the private ones that clients are told of.
	var empty int
	if err := x.db.QueryRowContext(ctx, "SELECT count(*) FROM module WHERE id NOT IN (SELECT module FROM version)").Scan(&empty); err != nil {
		return badf("%v", err)
	}
	if empty > 0 {
		return badf("a module has no version")
	}
	for m, err := range x.Missing(ctx) {
		if err == nil {
			err = m.check()
		}
		if err != nil {
			return badf("table missing: %v", err)
		}
	}
	for q, err := range x.Queries(ctx, "") {
		if err == nil {
			err = checkNames(q.Path, q.Query, q.Version)
		}
		if err != nil {
			return badf("table query: %v", err)
		}
	}
	for r, err := range x.Requirements(ctx) {
		if err == nil {
			err = r.check()
		}
		if err != nil {
			return badf("table requirement: %v", err)
		}
	}
	return nil
}

// check checks the values of a version.
func (v *Version) check(tree int64) error {
	if err := checkNames(v.Path, v.Version); err != nil {
		return err
	}
	if err := module.Check(v.Path, v.Version); err != nil {
		return err
	}
	if err := checkTexts(v.Deprecated, v.Origin, deref(v.Retracted), deref(v.Licence)); err != nil {
		return err
	}
	if v.Latest != "" {
		if err := module.Check(v.Path, v.Latest); err != nil {
			return err
		}
	}
	if t, err := time.Parse(time.RFC3339, v.Time); v.Time != "" && (err != nil || t.UTC().Format(time.RFC3339) != v.Time) {
		return fmt.Errorf("time %.40q is not one of RFC 3339 in UTC, in whole seconds", v.Time)
	}
	switch {
	case v.Private != (v.Record == nil):
		return errors.New("either a record of the checksum database vouches for a version, or it is private")
	case v.Record != nil && (*v.Record < 0 || *v.Record >= tree):
		return fmt.Errorf("record %d is not in a tree of %d", *v.Record, tree)
	case !proof.IsH1(v.GoModH1), !proof.IsH1(v.H1) && (v.H1 != "" || v.ZipSize != nil || v.Record != nil):
		return errors.New("a hash is not an h1")
	case v.ModSize < 0 || v.ModSize > modzip.MaxGoMod, v.ZipSize != nil && (*v.ZipSize < 0 || *v.ZipSize > modzip.MaxZipFile):
		return errors.New("impossible size")
	}
	return nil
}

// check checks the values of a missing version.
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

// check checks the names of a requirement; only that of a project has no version.
func (r *Requirement) check() error {
	if r.Version == "" {
		return checkNames(r.Path, r.Requires, r.Wanted)
	}
	return checkNames(r.Path, r.Version, r.Requires, r.Wanted)
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// checkNames checks that each is a word of printable ASCII, as module paths, versions and queries are.
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

// checkTexts checks that each is what CleanText returns.
func checkTexts(texts ...string) error {
	for _, s := range texts {
		if CleanText(s) != s {
			return fmt.Errorf("text %.40q is too long or has characters that steer a terminal", s)
		}
	}
	return nil
}
