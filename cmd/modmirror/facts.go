package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/facts"
)

func factsCommand() *command {
	var asJSON, files, scan bool
	return &command{
		name:    "facts",
		summary: "show licenses, and what the code of a bundle can do",
		usage: `
Usage: modmirror facts [flags] BUNDLE [MODULE[@VERSION]...]

Prints for each version of a bundle, or of some modules, its license and what its code,
tests aside, does that most code need not: cgo, assembly, //go:linkname, unsafe, os/exec,
net, syscall, plugin, prebuilt objects, large files that are no source, //go:generate
lines that fetch something, imports of folders such as testdata. Then it counts the
licenses, and lists the versions whose license is not known.

sync looks at imports and first bytes, compiles nothing, and writes the facts into the
index, where they are what the signer says. --scan reads the zips instead, as is done for
bundles of older modmirrors.

Example:
  modmirror facts team.tar
  modmirror facts --files team.tar github.com/mattn/go-sqlite3
`,
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&files, "files", false, "name license files, and the first file that shows each fact")
			scanFlag(fs, &scan)
			fs.BoolVar(&asJSON, "json", false, "print a JSON object for each version")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) == 0 {
				return usagef("want a bundle")
			}
			reviewMemory()
			b, err := openBundle(ctx, e, args[0])
			if err != nil {
				return err
			}
			defer b.Close()
			c := &licenseCount{byLicense: make(map[string]int)}
			found := make(map[string]bool) // arguments
			err = review.ReadFacts(ctx, zipsOf(b, scan), chosen(args[1:]), func(f review.VersionFacts) error {
				c.add(f)
				found[f.Path], found[f.Path+"@"+f.Version] = true, true
				if asJSON {
					return writeJSON(e.stdout, f)
				}
				return printFacts(e.stdout, f, files)
			})
			if err != nil {
				return err
			}
			for _, arg := range args[1:] {
				if !found[arg] {
					return notCarried(arg, args[0])
				}
			}
			if asJSON {
				return nil
			}
			return c.print(e.stdout)
		},
	}
}

// scanFlag adds the flag --scan.
func scanFlag(fs *pflag.FlagSet, scan *bool) {
	fs.BoolVar(scan, "scan", false, "read the zips instead of the facts in the index")
}

// zipsOf returns the zips of a bundle, for facts as its index has them, or with scan as its zips
// do.
func zipsOf(b *bundle.Bundle, scan bool) review.Zips {
	if scan {
		return review.Unread(review.NewCarried(b))
	}
	return review.NewCarried(b)
}

// chosen returns a filter for MODULE and MODULE@VERSION; nil for all.
func chosen(args []string) func(index.Version) bool {
	if len(args) == 0 {
		return nil
	}
	return func(v index.Version) bool {
		return slices.Contains(args, v.Path) || slices.Contains(args, v.Path+"@"+v.Version)
	}
}

// printFacts prints the facts of a version on a line, and with files one for each file.
func printFacts(w io.Writer, f review.VersionFacts, files bool) error {
	var kinds []string
	for _, u := range f.Uses {
		kinds = append(kinds, string(u.Kind))
	}
	does := cmp.Or(strings.Join(kinds, ","), "-")
	if _, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", f.Path, f.Version, f.License, does); err != nil || !files {
		return err
	}
	for _, l := range f.Licenses {
		ids := cmp.Or(strings.Join(l.IDs, " AND "), "unknown")
		fmt.Fprintf(w, "\tlicense\t%s\t%s, %.1f %% of it known\n", cleanText(l.File), ids, l.Coverage)
	}
	for _, u := range f.Uses {
		more := ""
		if u.Files > 1 {
			more = fmt.Sprintf(" and %d more", u.Files-1)
		}
		fmt.Fprintf(w, "\t%s\t%s%s\t%s\n", u.Kind, cleanText(u.File), more, cleanText(u.Detail))
	}
	return nil
}

// A licenseCount counts versions by license.
type licenseCount struct {
	all       int
	byLicense map[string]int
	unknown   []string // PATH@VERSION
}

func (c *licenseCount) add(f review.VersionFacts) {
	c.all++
	c.byLicense[f.License]++
	if f.License == facts.NoAssertion || f.License == facts.None {
		c.unknown = append(c.unknown, f.Path+"@"+f.Version)
	}
}

// print prints how many versions have which license, the most frequent first.
func (c *licenseCount) print(w io.Writer) error {
	if c.all == 0 {
		_, err := fmt.Fprintln(w, "no versions")
		return err
	}
	known := c.all - len(c.unknown)
	percent := 100 * float64(known) / float64(c.all)
	fmt.Fprintf(w, "\n%d of %s have a known license (%.1f %%):\n", known, number(c.all, "version"), percent)
	order := slices.SortedFunc(maps.Keys(c.byLicense), func(a, b string) int {
		return cmp.Or(cmp.Compare(c.byLicense[b], c.byLicense[a]), strings.Compare(a, b))
	})
	for _, l := range order {
		fmt.Fprintf(w, "%6d  %s\n", c.byLicense[l], l)
	}
	if len(c.unknown) > 0 {
		fmt.Fprintln(w, "unknown or none:")
	}
	for _, m := range c.unknown {
		fmt.Fprintf(w, "  %s\n", m)
	}
	return nil
}
