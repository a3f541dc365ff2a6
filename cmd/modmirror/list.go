package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/review"
)

func listCommand() *command {
	var asJSON, missing, all, tree bool
	return &command{
		name:    "list",
		summary: "list the module versions in a bundle, or what is missing",
		usage: `
Usage: modmirror list [flags] BUNDLE

Prints path, version, size of the zip and h1 of each version that is carried whole.
A note follows if the module's newest version retracts it or is deprecated, whether
or not that version is carried.

Example:
  modmirror list team.tar | grep golang.org/x
  modmirror list --tree team.tar | less
`,
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&asJSON, "json", false, "print a JSON object for each line")
			fs.BoolVar(&all, "all", false, "also list versions of which only the go.mod is carried")
			fs.BoolVar(&tree, "tree", false,
				"print instead what requires what, from the projects and the versions that were asked for; with --json an object for each requirement")
			fs.BoolVar(&missing, "missing", false, "list instead what could not be had")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			b, err := oneBundle(ctx, e, args)
			if err != nil {
				return err
			}
			defer b.Close()
			switch {
			case tree && (missing || all):
				return usagef("--tree goes with --json only")
			case tree && asJSON:
				return printEach(e.stdout, true, b.Index.Requirements(ctx),
					func(io.Writer, index.Requirement) error { return nil })
			case tree:
				return printTree(ctx, e.stdout, b)
			case missing:
				return printEach(e.stdout, asJSON, b.Index.Missing(ctx), printMissing)
			case all:
				return printEach(e.stdout, asJSON, b.Index.Versions(ctx, ""), printVersion)
			}
			return printEach(e.stdout, asJSON, review.WholeVersions(ctx, b.Index), printVersion)
		},
	}
}

// printVersion prints a line of list.
func printVersion(w io.Writer, v index.Version) error {
	size := "-"
	if v.ZipSize != nil {
		size = fmt.Sprint(*v.ZipSize)
	}
	note := ""
	if v.Private {
		note = "\tprivate"
	}
	if v.Retracted != nil {
		note += "\tretracted: " + cleanText(*v.Retracted)
	}
	if v.Deprecated != "" {
		note += "\tdeprecated: " + cleanText(v.Deprecated)
	}
	_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s%s\n", v.Path, v.Version, size, v.H1, note)
	return err
}

// printMissing prints a line of list --missing.
func printMissing(w io.Writer, m index.Missing) error {
	accepted := ""
	if m.Allowed {
		accepted = "\tmissing-ok"
	}
	_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s%s\n", m.Path, m.Version, m.What, m.Status, m.Chain, accepted)
	return err
}

// maxIndent limits the indentation of printTree: a hostile graph may be one long chain.
const maxIndent = 50

// printTree prints the module graph of the go.mod files. It prints the requirements of a version
// only where the version comes first.
func printTree(ctx context.Context, w io.Writer, b *bundle.Bundle) error {
	printed := make(map[module.Version]bool)
	type line struct {
		mod   module.Version
		depth int
	}
	for root, err := range b.Index.Roots(ctx) {
		if err != nil {
			return err
		}
		for stack := []line{{module.Version{Path: root.Path, Version: root.Version}, 0}}; len(stack) > 0; {
			l := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			var below []line
			for r, err := range b.Index.RequirementsOf(ctx, l.mod.Path, l.mod.Version) {
				if err != nil {
					return err
				}
				below = append(below, line{module.Version{Path: r.Requires, Version: r.Wanted}, l.depth + 1})
			}
			note := ""
			if printed[l.mod] && len(below) > 0 {
				note, below = " (above)", nil
			}
			printed[l.mod] = true
			if _, err := fmt.Fprintf(w, "%s%s%s\n", strings.Repeat("  ", min(l.depth, maxIndent)), l.mod, note); err != nil {
				return err
			}
			slices.Reverse(below)
			stack = append(stack, below...)
		}
	}
	return nil
}
