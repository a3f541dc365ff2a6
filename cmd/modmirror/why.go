package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
)

// A chain is a list of module versions from a source to a version. Each requires the next one.
type chain []string

func whyCommand() *command {
	var asJSON bool
	return &command{
		name:    "why",
		summary: "show what brings a module into a bundle",
		usage: `
Usage: modmirror why [flags] BUNDLE MODULE[@VERSION]

Prints a shortest chain of requirements to each version of the module that is carried
whole, from a project or from a version that was asked for. With VERSION it prints the
chain to that version, even if only its go.mod is carried.

Example:
  modmirror why team.tar golang.org/x/text
`,
		flags: func(fs *pflag.FlagSet) { fs.BoolVar(&asJSON, "json", false, "print JSON") },
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) != 2 {
				return usagef("want a bundle and a module")
			}
			path, version, _ := strings.Cut(args[1], "@")
			if err := module.CheckImportPath(path); err != nil {
				return usagef("%v", err)
			}
			b, err := openBundle(ctx, e, args[0])
			if err != nil {
				return err
			}
			defer b.Close()
			chains := []chain{}
			for v, err := range b.Index.Versions(ctx, path) {
				if err != nil {
					return err
				}
				if version != "" && v.Version != version || version == "" && v.ZipSize == nil {
					continue
				}
				c, err := why(ctx, b, module.Version{Path: v.Path, Version: v.Version})
				if err != nil {
					return err
				}
				chains = append(chains, c)
			}
			if len(chains) == 0 {
				return notCarried(args[1], args[0])
			}
			if asJSON {
				return writeJSON(e.stdout, chains)
			}
			for _, c := range chains {
				fmt.Fprintln(e.stdout, strings.Join(c, " → "))
			}
			return nil
		},
	}
}

// why returns a shortest chain to m. It searches backwards, reading all requirements of the bundle
// once for each step, so that it keeps only the versions on the way in memory.
func why(ctx context.Context, b *bundle.Bundle, m module.Version) (chain, error) {
	next := map[module.Version]module.Version{} // the next version in the chain of a version
	level := map[module.Version]bool{m: true}
	var far []module.Version // reached last, and required by nothing
	for len(level) > 0 {
		before := make(map[module.Version]bool)
		required := make(map[module.Version]bool)
		var projects []module.Version
		for r, err := range b.Index.Requirements(ctx) {
			if err != nil {
				return nil, err
			}
			to, from := module.Version{Path: r.Requires, Version: r.Wanted}, module.Version{Path: r.Path,
				Version: r.Version}
			if !level[to] {
				continue
			}
			required[to] = true
			if _, seen := next[from]; seen || from == m {
				continue
			}
			next[from] = to
			before[from] = true
			if from.Version == "" {
				projects = append(projects, from)
			}
		}
		for v := range level {
			if !required[v] {
				far = append(far, v)
			}
		}
		if projects != nil {
			far = projects
		}
		if far != nil {
			break
		}
		level = before
	}
	if far == nil { // a cycle, and m was asked for by name
		far = []module.Version{m}
	}
	start := slices.MinFunc(far, func(a, b module.Version) int { return strings.Compare(a.String(), b.String()) })
	var c chain
	for v := start; ; v = next[v] {
		c = append(c, cleanText(v.String()))
		if v == m {
			return c, nil
		}
	}
}
