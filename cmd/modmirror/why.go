package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/review"
)

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
			all, err := review.NewChains(ctx, b.Index)
			if err != nil {
				return err
			}
			chains := [][]string{}
			for v, err := range b.Index.Versions(ctx, path) {
				if err != nil {
					return err
				}
				if version != "" && v.Version != version || version == "" && v.ZipSize == nil {
					continue
				}
				var c []string
				for _, m := range all.Of(module.Version{Path: v.Path, Version: v.Version}) {
					c = append(c, cleanText(m))
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
