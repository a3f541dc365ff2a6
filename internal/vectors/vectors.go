// Package vectors reads and makes the vectors in testdata/vectors: what can go wrong, and what must
// happen.
//
// A vector is a small text file. Its header says which row of the list of threats it is of, what it
// is, and what must happen; what follows makes the input, or names the test that does:
//
//	row: T13
//	what: a file's header has the type of a GNU long name
//	expect: tar
//	bundle:
//	set header:example.com/text/@v/v1.1.0.mod+156 "L"
//	checksum header:example.com/text/@v/v1.1.0.mod
//
// Rows are those of docs/threats.md's list: T tar, I index, S signatures and state, Z module zips,
// D checksum database, U upstream, F faults, W what reviews found, R requests. expect is the class
// of the refusal, or ok:
//
//	tar         the file is not the tar that the manifest and the index say
//	signature   the note is not signed by whom it should
//	manifest    the signed text is not canonical or impossible
//	index       index.sqlite is not what it should be, or not the one that is signed
//	zip         a module's zip breaks the rules of module zips, or does not have its h1
//	sumdb       the checksum database does not say so
//	rollback    it is older than what was seen
//	incomplete  something that is needed is not there
//	upstream    the upstream does not answer as one
//	io          the machine fails: the old state or the new one is there, and an error
//	ok          it is accepted, and the rest goes on
package vectors

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A Vector is one of the files.
type Vector struct {
	Name   string // of the file, without .txt
	Row    string // such as T13
	What   string
	Expect string   // a class
	Kind   string   // "bundle", "zip", "request" or "test"
	Recipe []string // the lines that make the input, or name the tests
	Need   int      // signatures that are required, from the header require; 1 when it has none
	Trust  []string // the names of the keys that are trusted, from the header trust
	Heavy  bool     // it takes seconds: with $EVERY_BYTE only, as CI has it, and by the command only
	Note   string   // what else a reader should know
}

// Classes are what a vector may expect.
var Classes = []string{"tar", "signature", "manifest", "index", "zip", "sumdb", "rollback", "incomplete", "upstream", "io", "ok"}

// Rows are how many rows there are of each letter: 116 of the list of threats, W from reviews, and
// R requests.
var Rows = map[byte]int{'T': 18, 'I': 20, 'S': 20, 'Z': 14, 'D': 16, 'U': 18, 'F': 10, 'W': 16, 'R': 30}

// Read reads all vectors in a folder.
func Read(dir string) (all []*Vector, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		v, err := read(file)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	return all, nil
}

func read(file string) (*Vector, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	v := &Vector{Name: strings.TrimSuffix(filepath.Base(file), ".txt"), Need: 1, Trust: []string{"tester"}}
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line := sc.Text()
		if v.Kind != "" {
			v.Recipe = append(v.Recipe, line)
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		switch {
		case ok && key == "row":
			v.Row = value
		case ok && key == "what":
			v.What = value
		case ok && key == "note":
			v.Note = value
		case ok && key == "expect" && slices.Contains(Classes, value):
			v.Expect = value
		case ok && key == "heavy" && value == "yes":
			v.Heavy = true
		case ok && key == "trust":
			v.Trust = strings.Fields(value)
		case ok && key == "require":
			if _, err := fmt.Sscan(value, &v.Need); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, n, err)
			}
		case ok && value == "" && slices.Contains([]string{"bundle", "zip", "request", "test"}, key):
			v.Kind = key
		default:
			return nil, fmt.Errorf("%s:%d: not a line of a vector's header: %q", file, n, line)
		}
	}
	if v.Row == "" || v.What == "" || v.Expect == "" || len(v.Recipe) == 0 {
		return nil, fmt.Errorf("%s: a row, what it is, what must happen or how it is made is missing", file)
	}
	return v, sc.Err()
}
