package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// needs are the files and folders that serve reads and writes after restrict. "" and "-" are none.
type needs struct{ read, write []string }

// inStores returns args and the links in those that are folders: bundles of a store may be
// elsewhere.
func inStores(args []string) []string {
	all := slices.Clone(args)
	for _, dir := range args {
		entries, _ := os.ReadDir(dir)
		for _, f := range entries {
			if f.Type()&fs.ModeSymlink != 0 {
				all = append(all, filepath.Join(dir, f.Name()))
			}
		}
	}
	return all
}
