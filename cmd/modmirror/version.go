package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/spf13/pflag"
)

// version is what this binary says it is.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// versionInfo is what version prints with --json.
type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit,omitempty"` // of the sources, when they were built in a repository
	Dirty   bool   `json:"dirty,omitempty"`  // with changes
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
			v := versionInfo{Version: version(), Go: runtime.Version(), Format: bundle.Format, Schema: index.SchemaVersion, SQLite: index.SQLiteVersion()}
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					switch s.Key {
					case "vcs.revision":
						v.Commit = s.Value
					case "vcs.modified":
						v.Dirty = s.Value == "true"
					}
				}
			}
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
			fmt.Fprintf(e.stdout, "go        %s %s/%s\nformat    %s, index schema %d\nsqlite    %s\n", v.Go, runtime.GOOS, runtime.GOARCH, v.Format, v.Schema, v.SQLite)
			return nil
		},
	}
}
