package sources

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/proof"
)

// A GoSum holds the hashes of a go.sum file. The zero GoSum has none.
type GoSum struct {
	file   string
	hashes map[module.Version][]string // for the hash of a go.mod file, "/go.mod" follows the version
}

// emptyGoModH1 is the hash that old go commands wrote for a go.mod that a proxy made up. The go
// command ignores such lines (modfetch/fetch.go emptyGoModHash).
const emptyGoModH1 = "h1:G7mAYYxgmS0lVkHyy2hEOLQCFB0DlQFTMLWggykrydY="

// goSum reads a go.sum file. A file that does not exist is empty.
func (s *Sources) goSum(file string) (GoSum, error) {
	data, err := os.ReadFile(file)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return GoSum{}, err
	}
	s.Files = append(s.Files, file)
	if !missing {
		s.read(file, sha256.Sum256(data))
	}
	return parseGoSum(file, data)
}

// parseGoSum parses a go.sum file. As for the go command (modfetch/fetch.go readGoSum), a line that
// does not have three fields is an error.
func parseGoSum(file string, data []byte) (GoSum, error) {
	g := GoSum{file: file, hashes: make(map[module.Version][]string)}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) != 3 {
			return g, fmt.Errorf("%s:%d: malformed go.sum line: %d fields, want 3", file, n, len(f))
		}
		if strings.HasPrefix(f[2], "h1:") && f[2] != emptyGoModH1 { // the go command ignores other algorithms
			m := module.Version{Path: f[0], Version: f[1]}
			g.hashes[m] = append(g.hashes[m], f[2])
		}
	}
	return g, nil
}

// Check returns an error that wraps proof.ErrMismatch when go.sum has hashes for m and h1 is none
// of them. For the hash of a go.mod file, m.Version ends in "/go.mod".
func (g GoSum) Check(m module.Version, h1 string) error {
	want := g.hashes[m]
	for _, w := range want {
		if w == h1 {
			return nil
		}
	}
	if len(want) == 0 {
		return nil
	}
	return fmt.Errorf("%s %s is %s, but %s says %s: %w", m.Path, m.Version, h1, g.file, want[0], proof.ErrMismatch)
}
