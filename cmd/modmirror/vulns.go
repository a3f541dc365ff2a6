package main

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/vulndb"
)

// Values of --fail-on.
const (
	failOnNone    = "none"
	failOnFixable = "fixable" // a fix exists, carried or not
	failOnAny     = "any"
	failOnCalled  = "called" // with --source: what is vulnerable may be called
)

// vulnsFlags are the flags of vulns.
type vulnsFlags struct {
	asJSON, asSARIF, asVEX bool
	other, failOn          string
	sources                []string
}

func vulnsCommand() *command {
	f := new(vulnsFlags)
	return &command{
		name:    "vulns",
		summary: "show which carried versions have known vulnerabilities",
		usage: `
Usage: modmirror vulns [flags] BUNDLE|STORE|FOLDER

Compares every version that is carried with its zip, and every carried Go, with the
vulnerability database in the bundle, offline. It prints what is affected, the version
that fixes it, whether that is carried too, and what requires the affected version.
A FOLDER is a plain tree: an unpacked bundle, or cache/download in GOMODCACHE.

It looks at versions alone, as govulncheck -scan module does, but for all platforms.
With --source it analyzes the code of a project instead, as govulncheck does, and says
what of it may call what is vulnerable. The go command must be able to build it, for the
GOOS and GOARCH of the environment. The database is that of the BUNDLE, or of --db.

Example:
  modmirror vulns team.tar
  modmirror vulns --source ~/src/app --fail-on called team.tar
  modmirror vulns --fail-on fixable --sarif /srv/modmirror >vulns.sarif
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&f.other, "db", "", "compare with the vulnerability database in this `folder, bundle or store` instead")
			fs.StringVar(&f.failOn, "fail-on", failOnNone,
				"exit with 5 on vulnerabilities of a `kind`: any, fixable (a fixed version exists, carried or not), "+
					"called (by a --source) or none")
			fs.StringArrayVar(&f.sources, "source", nil, "analyze the module in this `folder`; may be repeated")
			fs.BoolVar(&f.asJSON, "json", false, "print JSON")
			fs.BoolVar(&f.asSARIF, "sarif", false, "print a SARIF log")
			fs.BoolVar(&f.asVEX, "openvex", false, "print an OpenVEX document")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) != 1 {
				return usagef("want one bundle, store or folder")
			}
			if err := f.check(); err != nil {
				return err
			}
			s, err := openSubject(ctx, e, args[0])
			if err != nil {
				return err
			}
			defer s.close()
			of, from := s.lines, args[0]
			if own := filepath.Join(s.tree, "vulndb"); f.other == "" && s.tree != "" && isFolder(own) {
				f.other = own
			}
			if f.other != "" {
				others, closeOthers, err := openOthers(ctx, e, f.other)
				if err != nil {
					return err
				}
				defer closeOthers()
				of, from = others, f.other
			}
			db, err := openVulnDB(ctx, f.other, from, of)
			if err != nil {
				return err
			}
			if age := time.Until(db.Modified); age > store.MaxDrift {
				e.say("the vulnerability database is of %s, which is in the future: is the clock right?", day(db.Modified))
			}
			if len(f.sources) > 0 {
				return f.sourceVulns(ctx, e, s, db)
			}
			return f.versionVulns(ctx, e, s, args[0], db)
		},
	}
}

// check checks flags that need nothing but themselves.
func (f *vulnsFlags) check() error {
	switch {
	case f.failOn == failOnCalled && len(f.sources) == 0:
		return usagef("--fail-on %s needs a --source, whose code is looked at", failOnCalled)
	case !slices.Contains([]string{failOnAny, failOnFixable, failOnCalled, failOnNone}, f.failOn):
		return usagef("--fail-on %s: want %s, %s, %s or %s", f.failOn, failOnAny, failOnFixable, failOnCalled, failOnNone)
	case f.asJSON && f.asSARIF || f.asJSON && f.asVEX || f.asSARIF && f.asVEX:
		return usagef("want one of --json, --sarif and --openvex")
	case f.asSARIF && len(f.sources) > 0:
		return usagef("--sarif is about versions: for --source want --json or --openvex")
	}
	return nil
}

// versionVulns prints which carried versions are affected, in the form that the flags want. name is
// that of the subject.
func (f *vulnsFlags) versionVulns(ctx context.Context, e *env, s *subject, name string, db *vulndb.DB) error {
	found, err := review.FindVulns(ctx, s.catalogs, db)
	if err != nil {
		return err
	}
	switch {
	case f.asJSON:
		err = writeJSON(e.stdout, found)
	case f.asSARIF:
		err = writeJSON(e.stdout, found.SARIF(filepath.Base(name), version()))
	case f.asVEX:
		doc, vexErr := found.OpenVEX(s.author(found.Database))
		if vexErr != nil {
			return vexErr
		}
		err = writeJSON(e.stdout, doc)
	default:
		err = printVulns(e.stdout, found)
	}
	if err != nil {
		return err
	}
	return failVulns(e, found, f.failOn)
}

// author returns who vouches for the subject, and since when: of a plain tree the time of the
// database.
func (s *subject) author(database time.Time) (string, time.Time) {
	if len(s.lines) == 0 {
		return "modmirror", database
	}
	return strings.Join(s.lines[0].Signers, ", "), s.lines[0].Manifest.Created
}

// A subject is what is compared with a vulnerability database.
type subject struct {
	catalogs []review.Catalog
	lines    []*bundle.Bundle // none of a plain tree
	tree     string           // folder of a plain tree; "" for none
	close    func() error
}

// openSubject opens a bundle, a store or a plain tree.
func openSubject(ctx context.Context, e *env, name string) (*subject, error) {
	if isFolder(name) {
		tree, err := review.OpenTree(ctx, name)
		if err != nil {
			return nil, err
		}
		if tree != nil {
			e.complain("%s is a plain tree: nothing vouches for what is in it", name)
			return &subject{[]review.Catalog{*tree}, nil, tree.Dir, func() error { return nil }}, nil
		}
	}
	lines, closeLines, err := openLines(ctx, e, name)
	if err != nil {
		return nil, err
	}
	return &subject{review.Catalogs(lines...), lines, "", closeLines}, nil
}

// openOthers opens the bundle or store that --db names; none for a folder with a database.
func openOthers(ctx context.Context, e *env, other string) ([]*bundle.Bundle, func() error, error) {
	if isFolder(filepath.Join(other, "index")) {
		return nil, func() error { return nil }, nil
	}
	return openLines(ctx, e, other)
}

// openVulnDB opens the vulnerability database in a folder, if other is one, or the one that bundles
// carry, which have a name for errors.
func openVulnDB(ctx context.Context, other, name string, of []*bundle.Bundle) (*vulndb.DB, error) {
	if other != "" && isFolder(filepath.Join(other, "index")) {
		return vulndb.Open(ctx, vulndb.Folder(other))
	}
	db, err := review.Database(ctx, of...)
	if err == nil && db == nil {
		err = hint.Add(fmt.Errorf("%s carries no vulnerability database", name),
			"make the bundle with modmirror sync --vulndb; or name a database with --db")
	}
	return db, err
}

// printVulns prints vulnerabilities by version.
func printVulns(w io.Writer, found *review.Vulns) error {
	last := ""
	for i := range found.List {
		v := &found.List[i]
		if s := v.String(); s != last {
			last = s
			fmt.Fprintln(w, s)
			if len(v.RequiredBy) > 0 {
				fmt.Fprintf(w, "  required by %s\n", someOf(v.RequiredBy, 5))
			}
		}
		fmt.Fprintf(w, "  %s: %s\n", idText(v.ID, v.Aliases), v.Summary)
		for _, s := range v.Severity {
			fmt.Fprintf(w, "    severity %s\n", s.Score)
		}
		if len(v.Packages) > 0 {
			fmt.Fprintf(w, "    in %s\n", someOf(v.Packages, 5))
		}
		note := ""
		if v.Unreviewed {
			note = "; not reviewed by the Go team"
		}
		fmt.Fprintf(w, "    %s%s\n", v.Action(), note)
	}
	_, err := fmt.Fprintf(w, "%s; database of %s\n", found.Summary(), day(found.Database))
	return err
}

// idText returns the id of a vulnerability with its aliases.
func idText(id string, aliases []string) string {
	if len(aliases) == 0 {
		return id
	}
	return fmt.Sprintf("%s (%s)", id, strings.Join(aliases, ", "))
}

// someOf returns the first n of a list, and how many more there are.
func someOf(list []string, n int) string {
	text := strings.Join(list[:min(n, len(list))], ", ")
	if more := len(list) - n; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// failVulns returns errDenied when --fail-on says so.
func failVulns(e *env, found *review.Vulns, failOn string) error {
	n := 0
	for i := range found.List {
		v := &found.List[i]
		if failOn == failOnAny || failOn == failOnFixable && (v.Fixed != "" || v.FixCarried != "") {
			n++
		}
	}
	return refuseFindings(e, n, failOn)
}

// day returns a date in UTC.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// vulnCounts count carried versions with known vulnerabilities, for programs.
type vulnCounts struct {
	Database time.Time `json:"database"`
	Affected int       `json:"affected"`
	Fixable  int       `json:"fixable"` // affected, and a fix of each vulnerability is carried
}

// sayVulns says in one line how many carried versions have known vulnerabilities, and returns the
// counts; found is nil without a vulnerability database. One that cannot be read keeps nobody from
// carrying it.
func (e *env) sayVulns(found *review.Vulns, err error) *vulnCounts {
	switch {
	case err != nil:
		e.say("which versions have vulnerabilities is not known: %s", oneLine(err))
		return nil
	case found == nil:
		return nil
	}
	e.say("%s (database of %s)", found.Summary(), day(found.Database))
	return &vulnCounts{found.Database, found.Affected, found.Fixable}
}
