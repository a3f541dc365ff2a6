package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
)

func listCommand() *command {
	var asJSON, missing, all, tree bool
	return &command{
		name:    "list",
		summary: "list the module versions in a bundle, or what is missing",
		usage: `
Usage: modmirror list [flags] BUNDLE

Prints path, version, size of the zip and h1 of each version that is carried whole,
and whether the module's newest version, carried or not, retracts it or is deprecated.

Example:
  modmirror list team.tar | grep golang.org/x
  modmirror list --tree team.tar | less
`,
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&asJSON, "json", false, "print a JSON object a line")
			fs.BoolVar(&all, "all", false, "also versions of which only the go.mod is carried")
			fs.BoolVar(&tree, "tree", false, "print what requires what instead, from the projects and the versions that were asked for; with --json a line of go.mod an object")
			fs.BoolVar(&missing, "missing", false, "list what could not be had instead")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			b, err := oneBundle(ctx, e, args)
			if err != nil {
				return err
			}
			defer b.Close()
			if tree {
				if missing || all {
					return usagef("--tree goes with --json only")
				}
				if asJSON {
					return printEach(e.stdout, true, b.Index.Requirements(ctx), func(io.Writer, index.Requirement) error { return nil })
				}
				return printTree(ctx, e.stdout, b)
			}
			if missing {
				return printEach(e.stdout, asJSON, b.Index.Missing(ctx), func(w io.Writer, m index.Missing) error {
					accepted := ""
					if m.Allowed {
						accepted = "\tmissing-ok"
					}
					_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s%s\n", m.Path, m.Version, m.What, m.Status, m.Chain, accepted)
					return err
				})
			}
			versions := wholeVersions(ctx, b)
			if all {
				versions = b.Index.Versions(ctx, "")
			}
			return printEach(e.stdout, asJSON, versions, func(w io.Writer, v index.Version) error {
				size := "-"
				if v.ZipSize != nil {
					size = fmt.Sprint(*v.ZipSize)
				}
				note := ""
				if v.Private {
					note = "\tprivate"
				}
				if v.Retracted != nil {
					note += "\tretracted: " + oneLine(errors.New(*v.Retracted))
				}
				if v.Deprecated != "" {
					note += "\tdeprecated: " + oneLine(errors.New(v.Deprecated))
				}
				_, err := fmt.Fprintf(w, "%s\t%s\t%s\t%s%s\n", v.Path, v.Version, size, v.H1, note)
				return err
			})
		},
	}
}

// printTree prints the module graph as its go.mod files have it. What a version requires is printed once, the first time.
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

// maxIndent bounds how far a line of a tree is indented: a hostile graph may be one long chain.
const maxIndent = 50
