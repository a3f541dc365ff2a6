package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/review/provenance"
)

// bundleInfo is what info prints with --json.
type bundleInfo struct {
	Name       string       `json:"name"`
	ID         string       `json:"id"`
	Sequence   int64        `json:"sequence"`
	Created    time.Time    `json:"created"`
	Size       int64        `json:"size"` // bytes
	SignedBy   []string     `json:"signedBy"`
	SumDB      string       `json:"sumdb,omitempty"`     // name of the checksum database
	SumDBSize  int64        `json:"sumdbSize,omitempty"` // records of its tree
	Counts     index.Counts `json:"counts"`
	Vulns      int64        `json:"vulns,omitempty"`      // entries of the vulnerability database
	Retracted  int64        `json:"retracted,omitempty"`  // versions
	Deprecated int64        `json:"deprecated,omitempty"` // modules
	Self       []string     `json:"self,omitempty"`       // platforms of the carried modmirror and Go
	Line       []lineInfo   `json:"line,omitempty"`       // the bundles before a delta, oldest first
	Review     []string     `json:"review,omitempty"`     // paths of review documents

	// Provenance is how it was made, as it says; nil when it says nothing, or for a catalog.
	Provenance *provenance.Statement `json:"provenance,omitempty"`
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

For a store it shows the newest bundle of each line.

Example:
  modmirror info team.tar
`,
		flags: func(fs *pflag.FlagSet) { fs.BoolVar(&asJSON, "json", false, "print JSON") },
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) != 1 {
				return usagef("want one bundle or store")
			}
			lines, closeLines, err := openLines(ctx, e, args[0])
			if err != nil {
				return err
			}
			defer closeLines()
			for i, b := range lines {
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

// readInfo collects the facts about a bundle.
func readInfo(ctx context.Context, e *env, b *bundle.Bundle) (info bundleInfo, err error) {
	m := b.Manifest
	info = bundleInfo{
		Name: m.Name, ID: m.ID(), Sequence: m.Sequence, Created: m.Created, Size: m.Size,
		SignedBy: b.Signers, SumDB: m.DB, SumDBSize: m.Head.N, Counts: m.Counts,
	}
	for _, x := range b.Line() {
		info.Line = append(info.Line, lineInfo{x.Digest, x.Sequence})
	}
	if info.Vulns, err = b.Index.Vulns(ctx); err != nil {
		return info, err
	}
	if info.Retracted, info.Deprecated, err = b.Index.Advised(ctx); err != nil {
		return info, err
	}
	if info.Self, err = b.Index.Bootstraps(ctx); err != nil {
		return info, err
	}
	for f, err := range b.Index.FilesBelow(ctx, modpath.ReviewFolder) {
		if err != nil {
			return info, err
		}
		info.Review = append(info.Review, f.Path)
	}
	if b.HasFiles() {
		info.Provenance, err = readProvenance(ctx, e, b)
	}
	return info, err
}

// showInfo prints the facts about a bundle.
func showInfo(ctx context.Context, e *env, b *bundle.Bundle, asJSON bool) error {
	info, err := readInfo(ctx, e, b)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(e.stdout, info)
	}
	w := tabwriter.NewWriter(e.stdout, 0, 0, 2, ' ', 0)
	line := func(key, format string, args ...any) { fmt.Fprintf(w, key+"\t"+format+"\n", args...) }
	m := b.Manifest
	line("name", "%s", m.Name)
	line("id", "%s", info.ID)
	for _, s := range b.Signers {
		line("signed by", "%s", s)
	}
	line("created", "%s, sequence %d", m.Created.Format(time.RFC3339), m.Sequence)
	if n := len(info.Line); n > 0 {
		line("delta to", "sequence %d, id %.16s; %s before it in the line, and what follows is about all of them",
			info.Line[n-1].Sequence, m.Base, number(n, "bundle"))
	}
	line("size", "%s; %s in the catalog", bytesText(m.Size), number(m.Counts.Files, "file"))
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
		line("advice", "%s retracted, %s deprecated (list has the reasons)", number(info.Retracted, "version"),
			number(info.Deprecated, "module"))
	}
	for _, p := range info.Self {
		line("self", "modmirror and Go for %s; for this modmirror only the signature vouches", p)
	}
	if n := len(info.Review); n > 0 {
		line("review", "%s, such as review/report.html, for tar or modmirror extract", number(n, "document"))
	}
	for _, text := range madeLines(info.Provenance) {
		line("", "%s", text)
	}
	if err := showPrivate(ctx, w, b); err != nil {
		return err
	}
	if err := showMissing(ctx, w, b); err != nil {
		return err
	}
	return w.Flush()
}

// showPrivate prints the modules outside the checksum database, as lines of a table.
func showPrivate(ctx context.Context, w io.Writer, b *bundle.Bundle) error {
	if b.Manifest.Counts.Private == 0 {
		return nil
	}
	fmt.Fprintf(w, "private\t%s outside the checksum database: only the signature vouches for it\n",
		number(b.Manifest.Counts.Private, "version"))
	for path, err := range b.Index.Private(ctx) {
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "\t%s\n", path)
	}
	return nil
}

// showMissing prints the files that could not be had, as lines of a table.
func showMissing(ctx context.Context, w io.Writer, b *bundle.Bundle) error {
	if b.Manifest.Counts.Missing == 0 {
		return nil
	}
	fmt.Fprintf(w, "missing\t%s could not be had\n", number(b.Manifest.Counts.Missing, "file"))
	for m, err := range b.Index.Missing(ctx) {
		if err != nil {
			return err
		}
		accepted := ""
		if m.Allowed {
			accepted = " (missing-ok)"
		}
		fmt.Fprintf(w, "\t%s of %s@%s%s\n", m.What, m.Path, m.Version, accepted)
	}
	return nil
}
