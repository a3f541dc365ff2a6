// Package house holds the floor plan: which package may import which. It has a test and no code.
package house

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const modmirror = "github.com/modmirror/modmirror/"

// leaves are packages of internal that any package may import, and that import only each other.
var leaves = []string{"bucket", "h1", "modpath", "proof", "retry", "safefile", "selftar"}

// directions has, for each package, the packages of this module that it may import besides leaves.
// A package that is not in the table may import any. To extend it, add a row.
var directions = map[string][]string{
	"mirror":             {"mirror/modgraph", "mirror/sources", "mirror/upstream"},
	"mirror/modgraph":    {},
	"mirror/sources":     {},
	"mirror/upstream":    {},
	"index":              {},
	"bundle":             {"index"},
	"serve":              {"bundle", "index"},
	"internal/testproxy": {},
}

// pure are packages that ask no network and read no disk, so they must not import these of the
// standard library.
var pure = map[string][]string{
	"mirror/modgraph": {"os", "net", "net/http", "os/exec", "io/ioutil"},
}

// TestDirections compares the imports of each package, as go list says, with the tables.
func TestDirections(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, modmirror+"...").Output()
	if err != nil {
		t.Fatal(err)
	}
	imports := make(map[string][]string)
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		imports[strings.TrimPrefix(f[0], modmirror)] = f[1:]
	}
	for _, leaf := range leaves {
		directions["internal/"+leaf] = nil
	}
	for pkg, allowed := range directions {
		list, ok := imports[pkg]
		if !ok {
			t.Errorf("no package %s: take it out of the table", pkg)
		}
		for _, path := range list {
			path, own := strings.CutPrefix(path, modmirror)
			leaf := strings.TrimPrefix(path, "internal/")
			if own && !slices.Contains(allowed, path) && !(path != leaf && slices.Contains(leaves, leaf)) {
				t.Errorf("%s imports %s, which is not its direction", pkg, path)
			}
		}
	}
	for pkg, forbidden := range pure {
		for _, path := range imports[pkg] {
			if slices.Contains(forbidden, path) {
				t.Errorf("%s imports %s, and has to be pure", pkg, path)
			}
		}
	}
}
