// Command changelog prints CHANGELOG.md, made from the entries in the folder changelog:
//
//	go run ./internal/changelog >CHANGELOG.md
//
// An entry is a file of its own, so that two changes never conflict. Its name begins with what it
// is about (bundle, serve, store or tools), since entries of one kind are sorted by name. Its text
// begins with its kind, says in one sentence what changes for users, and may give a few sentences
// of detail after that:
//
//	Added: sync carries Go toolchains.
//
//	A list line "toolchain go1.26.8 linux/amd64" names one.
//
// Entries are in changelog/unreleased until a release renames that folder to its version and date,
// such as v0.1.0_2026-12-01.
package main

import (
	"cmp"
	"fmt"
	"io/fs"
	"log"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

const unreleased = "unreleased"

// kinds are the kinds of entries, in the order in which they are printed.
var kinds = []string{"Security", "Changed", "Fixed", "Added"}

const head = `# Changelog

What changes for users. The entries are in [changelog](changelog); this file is made from them by
` + "`go run ./internal/changelog >CHANGELOG.md`" + `.
`

func main() {
	log.SetFlags(0)
	log.SetPrefix("changelog: ")
	text, err := render(os.DirFS("changelog"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(text)
}

// render returns the text of CHANGELOG.md for a folder of releases: the unreleased changes first,
// then the releases, newest first.
func render(fsys fs.FS) (string, error) {
	dirs, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return "", err
	}
	slices.SortFunc(dirs, func(a, b fs.DirEntry) int { return compareReleases(b.Name(), a.Name()) })
	var out strings.Builder
	out.WriteString(head)
	for _, d := range dirs {
		title, err := releaseTitle(d.Name())
		if err != nil {
			return "", err
		}
		entries, err := readEntries(fsys, d.Name())
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "\n## %s\n", title)
		for _, kind := range kinds {
			if len(entries[kind]) > 0 {
				fmt.Fprintf(&out, "\n### %s\n\n%s", kind, strings.Join(entries[kind], ""))
			}
		}
	}
	return out.String(), nil
}

// compareReleases orders names of release folders: by version, with unreleased above all of them.
func compareReleases(a, b string) int {
	rank := func(name string) int {
		if name == unreleased {
			return 1
		}
		return 0
	}
	versionA, _, _ := strings.Cut(a, "_")
	versionB, _, _ := strings.Cut(b, "_")
	return cmp.Or(cmp.Compare(rank(a), rank(b)), semver.Compare(versionA, versionB))
}

// releaseTitle returns the heading of a release folder.
func releaseTitle(name string) (string, error) {
	if name == unreleased {
		return "Unreleased", nil
	}
	version, date, ok := strings.Cut(name, "_")
	if !ok || !semver.IsValid(version) {
		return "", fmt.Errorf("%s: want unreleased, or a version and a date such as v0.1.0_2026-12-01", name)
	}
	return version + " (" + date + ")", nil
}

// readEntries returns the entries of a release as list items, by kind and in the order of their
// file names.
func readEntries(fsys fs.FS, release string) (map[string][]string, error) {
	files, err := fs.ReadDir(fsys, release)
	if err != nil {
		return nil, err
	}
	stem := func(f fs.DirEntry) string { return strings.TrimSuffix(f.Name(), ".md") }
	slices.SortFunc(files, func(a, b fs.DirEntry) int { return cmp.Compare(stem(a), stem(b)) })
	entries := make(map[string][]string)
	for _, f := range files {
		name := path.Join(release, f.Name())
		data, err := fs.ReadFile(fsys, name)
		if err != nil {
			return nil, err
		}
		kind, text, ok := strings.Cut(strings.TrimSpace(string(data)), ": ")
		if !ok || !slices.Contains(kinds, kind) {
			return nil, fmt.Errorf("%s: want text that begins with one of %q and a colon", name, kinds)
		}
		text = strings.ReplaceAll(text, "\n\n", "\n")
		item := "- " + strings.ReplaceAll(text, "\n", "\n  ") + "\n"
		entries[kind] = append(entries[kind], item)
	}
	return entries, nil
}
