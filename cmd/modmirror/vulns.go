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
)

func vulnsCommand() *command {
	var asJSON, asSARIF, asVEX bool
	var other, failOn string
	return &command{
		name:    "vulns",
		summary: "show which carried versions have known vulnerabilities",
		usage: `
Usage: modmirror vulns [flags] BUNDLE|STORE|FOLDER

Compares every version that is carried with its zip, and every carried Go, with the
vulnerability database in the bundle, offline. It prints what is affected, the version
that fixes it, whether that is carried too, and what requires the affected version.
A FOLDER is a plain tree: an unpacked bundle, or cache/download in GOMODCACHE.

It looks at versions alone, as govulncheck -scan module does, but for all platforms. To
find out whether your own code calls what is vulnerable, run govulncheck inside.

Example:
  modmirror vulns team.tar
  modmirror vulns --fail-on fixable --sarif /srv/modmirror >vulns.sarif
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&other, "db", "", "compare with the vulnerability database in this `folder, bundle or store` instead")
			fs.StringVar(&failOn, "fail-on", failOnNone,
				"exit with 5 on vulnerabilities: any, fixable (a fixed version exists, carried or not) or none")
			fs.BoolVar(&asJSON, "json", false, "print JSON")
			fs.BoolVar(&asSARIF, "sarif", false, "print a SARIF log")
			fs.BoolVar(&asVEX, "openvex", false, "print an OpenVEX document")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) != 1 {
				return usagef("want one bundle, store or folder")
			}
			if !slices.Contains([]string{failOnNone, failOnFixable, failOnAny}, failOn) {
				return usagef("--fail-on %s: want %s, %s or %s", failOn, failOnAny, failOnFixable, failOnNone)
			}
			if asJSON && asSARIF || asJSON && asVEX || asSARIF && asVEX {
				return usagef("want one of --json, --sarif and --openvex")
			}
			s, err := openSubject(ctx, e, args[0])
			if err != nil {
				return err
			}
			defer s.close()
			of, from := s.lines, args[0]
			if own := filepath.Join(s.tree, "vulndb"); other == "" && s.tree != "" && isFolder(own) {
				other = own
			}
			if other != "" {
				others, closeOthers, err := openOthers(ctx, e, other)
				if err != nil {
					return err
				}
				defer closeOthers()
				of, from = others, other
			}
			db, err := openVulnDB(ctx, other, from, of)
			if err != nil {
				return err
			}
			found, err := review.FindVulns(ctx, s.catalogs, db)
			if err != nil {
				return err
			}
			if age := time.Until(found.Database); age > store.MaxDrift {
				e.say("the vulnerability database is of %s, which is in the future: is the clock right?",
					day(found.Database))
			}
			switch {
			case asJSON:
				err = writeJSON(e.stdout, found)
			case asSARIF:
				err = writeJSON(e.stdout, found.SARIF(filepath.Base(args[0]), version()))
			case asVEX:
				author, created := "modmirror", found.Database // of a plain tree
				if len(s.lines) > 0 {
					author, created = strings.Join(s.lines[0].Signers, ", "), s.lines[0].Manifest.Created
				}
				doc, vexErr := found.OpenVEX(author, created)
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
			return failVulns(e, found, failOn)
		},
	}
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
		fmt.Fprintf(w, "  %s", v.ID)
		if len(v.Aliases) > 0 {
			fmt.Fprintf(w, " (%s)", strings.Join(v.Aliases, ", "))
		}
		fmt.Fprintf(w, ": %s\n", v.Summary)
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

// someOf returns the first n of a list, and how many more there are.
func someOf(list []string, n int) string {
	text := strings.Join(list[:min(n, len(list))], ", ")
	if more := len(list) - n; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// failVulns returns errDenied, after it has said why, when --fail-on says so.
func failVulns(e *env, found *review.Vulns, failOn string) error {
	n := 0
	for i := range found.List {
		v := &found.List[i]
		if failOn == failOnAny || failOn == failOnFixable && (v.Fixed != "" || v.FixCarried != "") {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	e.complain("%s, and --fail-on is %s", number(n, "finding"), failOn)
	return errDenied
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
