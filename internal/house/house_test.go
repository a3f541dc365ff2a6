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
var leaves = []string{"h1", "hint", "inflate", "modpath", "proof", "retry", "safefile", "selftar"}

// directions has, for each package, the packages of this module that it may import besides leaves.
// A package that is not in the table may import any. To extend it, add a row.
var directions = map[string][]string{
	"mirror":              {"mirror/modgraph", "mirror/sources", "mirror/upstream", "review/facts"},
	"mirror/modgraph":     {},
	"mirror/sources":      {},
	"mirror/upstream":     {},
	"index":               {},
	"bundle":              {"bundle/media", "bundle/trust", "index", "internal/safetree"},
	"bundle/media":        {},
	"bundle/media/object": {"bundle/media", "internal/bucket", "internal/safetree"},
	"bundle/store":        {"bundle", "bundle/media", "bundle/trust", "index"},
	"bundle/trust":        {},
	"review":              {"bundle", "index", "review/facts", "review/vulndb"},
	"review/documents":    {"bundle", "bundle/trust", "review", "review/provenance", "review/report", "review/symbols"},
	"review/facts":        {"index"},
	"review/policy":       {"index", "review", "review/facts", "review/vulndb"},
	"review/provenance":   {"bundle", "bundle/trust", "index"},
	"review/report":       {"bundle", "index", "review", "review/facts", "review/policy", "review/vulndb"},
	"review/symbols":      {"index", "review", "review/vulndb"},
	"review/vulndb":       {},
	"serve":               {"bundle", "bundle/media", "bundle/store", "index", "internal/safetree", "review", "serve/web", "serve/web/render", "serve/web/search"},
	"serve/web":           {"bundle", "bundle/store", "index", "review", "review/facts", "review/vulndb", "serve/web/render", "serve/web/search"},
	"serve/web/render":    {},
	"serve/web/search":    {"serve/web/render"},
	"internal/assemble":   {"bundle", "bundle/media", "bundle/trust", "index", "mirror", "mirror/sources", "review/facts"},
	"internal/bucket":     {"bundle/media"},
	"internal/goenv":      {},
	"internal/safetree":   {"bundle/media"},
	"internal/rehearse":   {"bundle", "bundle/store", "bundle/trust", "internal/goenv", "mirror", "mirror/sources", "serve"},
	"internal/testproxy":  {},
}

// only has, for a package, the packages that may import it. A program that uses no bucket does not
// link the S3 client.
var only = map[string][]string{
	"internal/bucket":            {"bundle/media/object"},
	"bundle/media/object":        {"cmd/modmirror"},
	"github.com/minio/minio-go/": {"internal/bucket"},
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
	for pkg, list := range imports {
		for _, path := range list {
			for of, allowed := range only {
				path = strings.TrimPrefix(path, modmirror)
				if (path == of || strings.HasSuffix(of, "/") && strings.HasPrefix(path, of)) && !slices.Contains(allowed, pkg) {
					t.Errorf("%s imports %s, which only %v may", pkg, path, allowed)
				}
			}
		}
	}
}
