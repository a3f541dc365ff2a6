package main

import (
	"context"
	"errors"
	"slices"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/review"
)

// Values of --format.
const (
	formatCycloneDX = "cyclonedx"
	formatSPDX      = "spdx"
)

func sbomCommand() *command {
	var format, source string
	var licenses bool
	return &command{
		name:    "sbom",
		summary: "print a bill of materials of a bundle",
		usage: `
Usage: modmirror sbom [flags] BUNDLE

Prints what a bundle carries with its zip as a bill of materials: package URL, SHA-256
of the zip, h1, record in the checksum database, and what requires what. The same
bundle makes the same bytes.

--source restricts it to what the module graph of one project selects. Licenses are
those of the index; for bundles of older modmirrors --licenses reads the zips.

Example:
  modmirror sbom team.tar >team.cdx.json
  modmirror sbom --format spdx --source example.com/app team.tar
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&format, "format", formatCycloneDX, "`cyclonedx` (1.6, JSON) or spdx (2.3, JSON)")
			fs.BoolVar(&licenses, "licenses", false, "read the zips where the index has no licenses")
			fs.StringVar(&source, "source", "", "module `path` of a project that the bundle was made for (default all that is carried)")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if !slices.Contains([]string{formatCycloneDX, formatSPDX}, format) {
				return usagef("--format %s: want %s or %s", format, formatCycloneDX, formatSPDX)
			}
			b, err := oneBundle(ctx, e, args)
			if err != nil {
				return err
			}
			defer b.Close()
			inv, err := review.NewInventory(ctx, review.Signed(b), source)
			if _, unknown := errors.AsType[*review.NoSourceError](err); unknown {
				return hint.Add(err, "modmirror list --tree %s shows the projects at its margin", args[0])
			}
			if err != nil {
				return err
			}
			for _, m := range inv.Absent {
				e.say("%s requires %s, which the bundle does not carry under that name: it is missing, or replaced in go.mod",
					source, m)
			}
			if licenses {
				reviewMemory()
				if err := inv.ReadLicenses(ctx); err != nil {
					return err
				}
			}
			if format == formatSPDX {
				return inv.WriteSPDX(e.stdout)
			}
			return inv.WriteCycloneDX(e.stdout)
		},
	}
}
