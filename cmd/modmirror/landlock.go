package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// needs are the files and folders that serve reads and writes while it serves.
type needs struct{ read, write []string }

// inStores returns files and folders with what is in the folders: they may be links to elsewhere.
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
