package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
)

// version returns the version of this binary, "(devel)" when it is not known.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// versionInfo is what version prints with --json.
type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"` // of the source, if it was built in a repository
	Dirty   bool   `json:"dirty,omitempty"`  // the source had changes that were not committed
	Go      string `json:"go"`
	Format  string `json:"format"` // of bundles
	Schema  int    `json:"schema"` // of their index
	SQLite  string `json:"sqlite"`
}

func versionCommand() *command {
	var asJSON bool
	return &command{
		name:    "version",
		summary: "print the version, and what it was built with",
		usage:   "Usage: modmirror version [--json]\n\nExample:\n  modmirror version\n",
		flags:   func(fs *pflag.FlagSet) { fs.BoolVar(&asJSON, "json", false, "print JSON") },
		run: func(_ context.Context, e *env, args []string) error {
			if len(args) > 0 {
				return usagef("version takes no arguments")
			}
			v := readVersion()
			if asJSON {
				return writeJSON(e.stdout, v)
			}
			fmt.Fprintln(e.stdout, "modmirror", v.Version)
			if v.Commit != "" {
				dirty := ""
				if v.Dirty {
					dirty = ", with changes"
				}
				fmt.Fprintf(e.stdout, "commit    %s%s\n", v.Commit, dirty)
			}
			fmt.Fprintf(e.stdout, "go        %s %s/%s\nformat    %s, index schema %d\nsqlite    %s\n", v.Go,
				runtime.GOOS, runtime.GOARCH, v.Format, v.Schema, v.SQLite)
			return nil
		},
	}
}

// readVersion returns what this binary was built of.
func readVersion() versionInfo {
	v := versionInfo{
		Version: version(), Go: runtime.Version(),
		Format: bundle.Format, Schema: index.SchemaVersion, SQLite: index.SQLiteVersion(),
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.modified":
			v.Dirty = s.Value == "true"
		}
	}
	return v
}
