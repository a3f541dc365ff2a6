package main

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/review"
)

// A moduleDiff is a module of which two bundles carry different versions.
type moduleDiff struct {
	Path    string   `json:"path"`
	Added   []string `json:"added,omitempty"` // versions
	Removed []string `json:"removed,omitempty"`
	Bytes   int64    `json:"bytes,omitempty"` // of the added zips
}

// A bundleDiff is what diff prints with --json.
type bundleDiff struct {
	Modules      []moduleDiff `json:"modules"`
	NewBytes     int64        `json:"newBytes"`           // of zips that only the new bundle has
	Sizes        [2]int64     `json:"sizes"`              // of the two bundles, in bytes
	NewVulns     []string     `json:"newVulns,omitempty"` // entries of the vulnerability database
	ChangedVulns []string     `json:"changedVulns,omitempty"`
	Affected     *[2]int      `json:"affected,omitempty"` // versions with known vulnerabilities in the two bundles, by the database in the new one; null without one
}

func diffCommand() *command {
	var asJSON bool
	return &command{
		name:    "diff",
		summary: "show how the modules of two bundles differ",
		usage: `
Usage: modmirror diff [flags] OLD NEW

Prints the modules that only NEW carries whole (+), that only OLD does (-), and those
that both do in different versions (~). Then it prints what is new in the vulnerability
database, and how many versions in each have known vulnerabilities.

Example:
  modmirror diff team-2026-W47.tar team-2026-W48.tar
`,
		flags: func(fs *pflag.FlagSet) { fs.BoolVar(&asJSON, "json", false, "print JSON") },
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) != 2 {
				return usagef("want two bundles")
			}
			old, err := openBundle(ctx, e, args[0])
			if err != nil {
				return err
			}
			defer old.Close()
			now, err := openBundle(ctx, e, args[1])
			if err != nil {
				return err
			}
			defer now.Close()
			d, err := diff(ctx, old, now)
			if err != nil {
				return err
			}
			if d.Affected, err = affectedIn(ctx, old, now); err != nil {
				e.sayVulns(nil, err)
			}
			if asJSON {
				return writeJSON(e.stdout, d)
			}
			for _, m := range d.Modules {
				switch {
				case len(m.Removed) == 0:
					fmt.Fprintf(e.stdout, "+ %s %s, %s\n", m.Path, strings.Join(m.Added, " "), bytesText(m.Bytes))
				case len(m.Added) == 0:
					fmt.Fprintf(e.stdout, "- %s %s\n", m.Path, strings.Join(m.Removed, " "))
				default:
					fmt.Fprintf(e.stdout, "~ %s %s → %s, %s\n", m.Path, strings.Join(m.Removed, " "),
						strings.Join(m.Added, " "), bytesText(m.Bytes))
				}
			}
			if n, c := len(d.NewVulns), len(d.ChangedVulns); n+c > 0 {
				fmt.Fprintf(e.stdout, "vulnerabilities: %d new, %d changed; new: %s\n", n, c,
					strings.Join(d.NewVulns[:min(n, 20)], " "))
			}
			if a := d.Affected; a != nil {
				fmt.Fprintf(e.stdout, "versions with known vulnerabilities, by the new database: %d → %d (modmirror vulns names them)\n",
					a[0], a[1])
			}
			verb := "differ"
			if len(d.Modules) == 1 {
				verb = "differs"
			}
			fmt.Fprintf(e.stdout, "%s %s, %s in new zips; %s → %s\n", number(len(d.Modules), "module"), verb,
				bytesText(d.NewBytes), bytesText(d.Sizes[0]), bytesText(d.Sizes[1]))
			return nil
		},
	}
}

// diff compares two bundles. It reads both catalogs side by side, so its memory does not grow with
// them.
func diff(ctx context.Context, old, now *bundle.Bundle) (*bundleDiff, error) {
	d := &bundleDiff{Modules: []moduleDiff{}, Sizes: [2]int64{old.Manifest.Size, now.Manifest.Size}}
	of := func(path string) *moduleDiff {
		if n := len(d.Modules); n == 0 || d.Modules[n-1].Path != path {
			d.Modules = append(d.Modules, moduleDiff{Path: path})
		}
		return &d.Modules[len(d.Modules)-1]
	}
	compare := func(a, b index.Version) int {
		return slices.Compare([]string{a.Path, a.Version}, []string{b.Path, b.Version})
	}
	err := merge(wholeVersions(ctx, old), wholeVersions(ctx, now), compare, func(a, b *index.Version) {
		switch {
		case b == nil:
			m := of(a.Path)
			m.Removed = append(m.Removed, a.Version)
		case a == nil:
			m := of(b.Path)
			m.Added = append(m.Added, b.Version)
			m.Bytes += *b.ZipSize
			d.NewBytes += *b.ZipSize
		}
	})
	if err != nil {
		return nil, err
	}
	const prefix = "vulndb/ID/"
	vulns := func(b *bundle.Bundle) iter.Seq2[index.File, error] { return b.Index.FilesBelow(ctx, prefix) }
	byPath := func(a, b index.File) int { return strings.Compare(a.Path, b.Path) }
	err = merge(vulns(old), vulns(now), byPath, func(a, b *index.File) {
		if b == nil {
			return
		}
		id := strings.TrimSuffix(strings.TrimPrefix(b.Path, prefix), ".json")
		switch {
		case a == nil:
			d.NewVulns = append(d.NewVulns, id)
		case a.SHA256 != b.SHA256:
			d.ChangedVulns = append(d.ChangedVulns, id)
		}
	})
	return d, err
}

// affectedIn counts the versions in two bundles that have vulnerabilities by the database in the new
// one. It returns nil without one.
func affectedIn(ctx context.Context, old, now *bundle.Bundle) (*[2]int, error) {
	db, err := review.Database(ctx, now)
	if db == nil || err != nil {
		return nil, err
	}
	var n [2]int
	for i, b := range []*bundle.Bundle{old, now} {
		found, err := review.FindVulns(ctx, review.Catalogs(b), db)
		if err != nil {
			return nil, err
		}
		n[i] = found.Affected
	}
	return &n, nil
}

// merge merges two sorted sequences. It calls each once for equal elements, and with nil in the
// place of an element that one sequence lacks.
func merge[T any](old, now iter.Seq2[T, error], compare func(a, b T) int, each func(a, b *T)) error {
	nextOld, stopOld := iter.Pull2(old)
	defer stopOld()
	nextNow, stopNow := iter.Pull2(now)
	defer stopNow()
	a, errA, okA := nextOld()
	b, errB, okB := nextNow()
	for okA || okB {
		if okA && errA != nil {
			return errA
		}
		if okB && errB != nil {
			return errB
		}
		c := 0
		switch {
		case !okB:
			c = -1
		case !okA:
			c = 1
		default:
			c = compare(a, b)
		}
		x, y := a, b
		switch {
		case c < 0:
			each(&x, nil)
		case c > 0:
			each(nil, &y)
		default:
			each(&x, &y)
		}
		if c <= 0 {
			a, errA, okA = nextOld()
		}
		if c >= 0 {
			b, errB, okB = nextNow()
		}
	}
	return nil
}
