package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
)

// bundleInfo is what info prints with --json.
type bundleInfo struct {
	Name       string       `json:"name"`
	ID         string       `json:"id"`
	Sequence   int64        `json:"sequence"`
	Created    time.Time    `json:"created"`
	Size       int64        `json:"size"`
	SignedBy   []string     `json:"signedBy"`
	SumDB      string       `json:"sumdb,omitempty"`
	SumDBSize  int64        `json:"sumdbSize,omitempty"`
	Counts     index.Counts `json:"counts"`
	Vulns      int64        `json:"vulns,omitempty"`      // entries of the vulnerability database
	Retracted  int64        `json:"retracted,omitempty"`  // versions
	Deprecated int64        `json:"deprecated,omitempty"` // modules
	Self       []string     `json:"self,omitempty"`       // platforms with modmirror and Go for a host that has nothing
	Line       []lineInfo   `json:"line,omitempty"`       // the bundles before a delta, oldest first
}

// lineInfo is an earlier bundle of a line.
type lineInfo struct {
	ID       string `json:"id"`
	Sequence int64  `json:"sequence"`
}

func infoCommand() *command {
	var asJSON bool
	return &command{
		name:    "info",
		summary: "show who signed a bundle and what it holds",
		usage: `
Usage: modmirror info [flags] BUNDLE|STORE

Of a store it shows the newest bundle of each line.

Example:
  modmirror info team.tar
`,
		flags: func(fs *pflag.FlagSet) { fs.BoolVar(&asJSON, "json", false, "print JSON") },
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) != 1 {
				return usagef("want one bundle or store")
			}
			if st, err := os.Stat(args[0]); err != nil || !st.IsDir() {
				b, err := openBundle(ctx, e, args[0])
				if err != nil {
					return err
				}
				defer b.Close()
				return showInfo(ctx, e, b, asJSON)
			}
			keyring, err := e.keyring(1)
			if err != nil {
				return err
			}
			v, err := bundle.OpenLines(ctx, args[0], keyring)
			if err != nil {
				return err
			}
			defer v.Close()
			for i, b := range v.Lines {
				if i > 0 && !asJSON {
					fmt.Fprintln(e.stdout)
				}
				if err := showInfo(ctx, e, b, asJSON); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// showInfo prints who signed a bundle and what it holds.
func showInfo(ctx context.Context, e *env, b *bundle.Bundle, asJSON bool) error {
	var err error
	m := b.Manifest
	info := bundleInfo{m.Name, m.ID(), m.Sequence, m.Created, m.Size, b.Signers, m.DB, m.Head.N, m.Counts, 0, 0, 0, nil, nil}
	for _, x := range b.Line() {
		info.Line = append(info.Line, lineInfo{x.Digest, x.Sequence})
	}
	if info.Vulns, err = b.Index.Vulns(ctx); err != nil {
		return err
	}
	if info.Retracted, info.Deprecated, err = b.Index.Advised(ctx); err != nil {
		return err
	}
	if info.Self, err = b.Index.Bootstraps(ctx); err != nil {
		return err
	}
	if asJSON {
		return writeJSON(e.stdout, info)
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	line := func(key, format string, args ...any) { fmt.Fprintf(w, key+"\t"+format+"\n", args...) }
	line("name", "%s", m.Name)
	line("id", "%s", info.ID)
	for _, s := range b.Signers {
		line("signed by", "%s", s)
	}
	line("created", "%s, sequence %d", m.Created.Format(time.RFC3339), m.Sequence)
	if n := len(info.Line); n > 0 {
		line("delta to", "sequence %d, id %.16s; %s before it in the line, and what follows is about all of them", info.Line[n-1].Sequence, m.Base, number(n, "bundle"))
	}
	line("size", "%s; %s in the catalogue", bytesText(m.Size), number(m.Counts.Files, "file"))
	line("modules", "%d, in %s", m.Counts.Modules, number(m.Counts.Versions, "version"))
	line("go.mod only", "%s, for module graphs", number(m.Counts.ModOnly, "version"))
	if m.DB != "" {
		line("checksums", "%s up to record %d", m.DB, m.Head.N)
	} else {
		line("checksums", "no checksum database: only the signature vouches for the modules")
	}
	if info.Vulns > 0 {
		line("vulnerabilities", "%s, for which only the signature vouches", number(info.Vulns, "entry"))
	}
	if info.Retracted+info.Deprecated > 0 {
		line("advice", "%s retracted, %s deprecated (list has the reasons)", number(info.Retracted, "version"), number(info.Deprecated, "module"))
	}
	for _, p := range info.Self {
		line("self", "modmirror and Go for %s; for this modmirror only the signature vouches", p)
	}
	if m.Counts.Private > 0 {
		line("private", "%s outside the checksum database: only the signature vouches for it", number(m.Counts.Private, "version"))
		for path, err := range b.Index.Private(ctx) {
			if err != nil {
				return err
			}
			line("", "%s", path)
		}
	}
	if m.Counts.Missing > 0 {
		line("missing", "%s could not be had", number(m.Counts.Missing, "file"))
		for miss, err := range b.Index.Missing(ctx) {
			if err != nil {
				return err
			}
			accepted := ""
			if miss.Allowed {
				accepted = " (missing-ok)"
			}
			line("", "%s of %s@%s%s", miss.What, miss.Path, miss.Version, accepted)
		}
	}
	return w.Flush()
}

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

// printEach prints rows, as tab-separated lines or as JSON.
func printEach[T any](w io.Writer, asJSON bool, rows iter.Seq2[T, error], line func(io.Writer, T) error) error {
	for row, err := range rows {
		if err != nil {
			return err
		}
		if asJSON {
			err = json.NewEncoder(w).Encode(row)
		} else {
			err = line(w, row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// oneBundle opens the bundle that a command was given.
func oneBundle(ctx context.Context, e *env, args []string) (*bundle.Bundle, error) {
	if len(args) != 1 {
		return nil, usagef("want one bundle")
	}
	return openBundle(ctx, e, args[0])
}
