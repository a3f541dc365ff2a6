package facts_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/licensecheck"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/modmirror/modmirror/review/facts"
)

const root = "example.com/m@v1.0.0"

// scan returns the facts of files.
func scan(files ...txtar.File) facts.Facts {
	var names []string
	for _, f := range files {
		names = append(names, root+"/"+f.Name)
	}
	s := facts.New(root, names)
	for _, f := range files {
		w := s.File(root+"/"+f.Name, int64(len(f.Data)))
		for data := f.Data; len(data) > 0; { // in pieces, as an inflater writes
			n := min(len(data), 1000)
			w.Write(data[:n])
			data = data[n:]
		}
		w.Close()
	}
	return s.Facts()
}

// TestFacts runs the files in testdata: each lists the facts of its own files in its comment.
func TestFacts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			a, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for i := range a.Files {
				text, err := unquote(a.Files[i].Data)
				if err != nil {
					t.Fatal(err)
				}
				a.Files[i].Data = text
			}
			f := scan(a.Files...)
			got := "license " + f.License + "\n"
			for _, l := range f.Licenses {
				got += fmt.Sprintf("file %s: %s\n", l.File, strings.Join(l.IDs, ", "))
			}
			for _, u := range f.Uses {
				got += fmt.Sprintf("%s %d %s: %s\n", u.Kind, u.Files, u.File, u.Detail)
			}
			var want strings.Builder
			for line := range strings.Lines(string(a.Comment)) {
				if !strings.HasPrefix(line, "#") {
					want.WriteString(line)
				}
			}
			if diff := cmp.Diff(want.String(), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// unquote replaces a file that is one quoted Go string by its content.
func unquote(data []byte) ([]byte, error) {
	if text := strings.TrimSpace(string(data)); strings.HasPrefix(text, `"`) {
		var s string
		_, err := fmt.Sscanf(text, "%q", &s)
		return []byte(s), err
	}
	return data, nil
}

// TestSPDXIdentifiers compares the identifiers of all licenses with the list of SPDX, which the
// library of CycloneDX has.
func TestSPDXIdentifiers(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/CycloneDX/cyclonedx-go").Output()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "schema", "spdx.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Enum []string }
	if err := json.Unmarshal(data, &list); err != nil || len(list.Enum) < 400 {
		t.Fatal(len(list.Enum), err)
	}
	known := make(map[string]bool)
	for _, id := range list.Enum {
		known[id] = true
	}
	for _, l := range licensecheck.BuiltinLicenses() {
		if id := facts.SPDXID(l.ID); !known[id] && !strings.HasPrefix(id, "LicenseRef-") {
			t.Errorf("%s is no SPDX identifier", id)
		} else if known[l.ID] && id != l.ID {
			t.Errorf("%s is an SPDX identifier, and becomes %s", l.ID, id)
		}
	}
}

// TestHostile bounds time for files that are made to cost it.
func TestHostile(t *testing.T) {
	begin := time.Now()
	names := make([]string, 100_000)
	for i := range names {
		names[i] = fmt.Sprintf("%s/LICENSE-%d", root, i)
	}
	s := facts.New(root, names)
	text := []byte(strings.Repeat("Permission is hereby granted, ", 100))
	for _, name := range names {
		w := s.File(name, int64(len(text)))
		w.Write(text)
		w.Close()
	}
	if f := s.Facts(); len(f.Licenses) != 64 || f.License != facts.NoAssertion {
		t.Errorf("%d licenses, %s", len(f.Licenses), f.License)
	}
	for name, data := range map[string]string{
		"a.go": "package a\nimport (" + strings.Repeat("(", 1<<20),
		"b.go": "package b\n" + strings.Repeat("import \"os/exec\"\n", 1<<16),
		"c.go": "//go:build " + strings.Repeat("(", 1<<19) + "\npackage c\n",
		"d.go": "//go:build " + strings.Repeat("!", 1<<19) + "a\npackage d\n",
		"e.go": "package e\n" + strings.Repeat("//go:generate x\n", 1<<16),
		"f.go": strings.Repeat("/*", 1<<20),
	} {
		scan(txtar.File{Name: name, Data: []byte(data)})
	}
	long := "package a\n\nimport \"fmt\"\n" + strings.Repeat("//\n", 2<<20) + "import \"os/exec\"\n"
	if f := scan(txtar.File{Name: "a.go", Data: []byte(long)}); len(f.Uses) != 1 || f.Uses[0].Kind != facts.Unreadable {
		t.Errorf("a long file: %+v", f.Uses)
	}
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %v", took)
	}
}

func FuzzSource(f *testing.F) {
	f.Add([]byte("//go:build ignore && (linux || !cgo)\n\npackage a\n\nimport \"os/exec\"\n//go:linkname a b\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, u := range scan(txtar.File{Name: "a.go", Data: data}).Uses {
			if u.File != "a.go" || u.Files != 1 || len(u.Detail) > 200 {
				t.Errorf("%+v", u)
			}
		}
	})
}

// TestScan compares licenses with those of the scanner for all licenses, for some of licensecheck's
// own texts, each alone and behind another.
func TestScan(t *testing.T) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/licensecheck").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "testdata", "*.t*"))
	if err != nil || len(files) < 500 {
		t.Fatalf("%d texts, %v", len(files), err)
	}
	var before []byte
	for i := 0; i < len(files); i += 40 {
		data, err := os.ReadFile(files[i])
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := bytes.Cut(data, []byte("\n\n")) // what comes before says what is expected
		for _, text := range [][]byte{text, slices.Concat(before, text)} {
			want := facts.License{File: "LICENSE"}
			found := licensecheck.Scan(text)
			want.Coverage = float64(int(found.Percent*10)) / 10
			for _, m := range found.Match {
				if found.Percent >= 75 {
					want.IDs = append(want.IDs, facts.SPDXID(m.ID))
				}
			}
			slices.Sort(want.IDs)
			want.IDs = slices.Compact(want.IDs)
			got := scan(txtar.File{Name: "LICENSE", Data: text}).Licenses[0]
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s\n%s", filepath.Base(files[i]), diff)
			}
		}
		before = text
	}
}

// TestRows has facts go through the form of the index.
func TestRows(t *testing.T) {
	f := facts.Facts{License: "BSD-3-Clause AND MIT", Licenses: []facts.License{
		{File: "LICENSE", IDs: []string{"BSD-3-Clause", "MIT"}, Coverage: 98.5}, {File: "sub/COPYING", Coverage: 12},
	}, Uses: []facts.Use{{Kind: facts.Exec, File: "run.go", Files: 3, Detail: "os/exec"}, {Kind: "later", File: "x", Files: 1}}}
	if diff := cmp.Diff(f, facts.FromRows(f.License, f.Rows())); diff != "" {
		t.Error(diff)
	}
	f = facts.Facts{License: facts.NoAssertion, Licenses: []facts.License{{File: "LICENSE\u202e.txt"}}, Uses: []facts.Use{{Kind: facts.Cgo, File: "a\x1b.go", Files: 1, Detail: "\u200b"}}}
	rows := f.Rows()
	if rows[0].File != "LICENSE⟨U+202E⟩.txt" || rows[1].File != "a⟨U+001B⟩.go" || rows[1].Detail != "⟨U+200B⟩" {
		t.Errorf("%+v", rows)
	}
}

// TestLongNames has names of license files that differ behind the longest name of a row.
func TestLongNames(t *testing.T) {
	long := "LICENSE-" + strings.Repeat("\u3164", 8000) // a letter that is not seen
	f := scan(txtar.File{Name: long + "a", Data: []byte("x")}, txtar.File{Name: long + "b", Data: []byte("y")})
	rows := f.Rows()
	if len(rows) != 2 || rows[0].File == rows[1].File || !f.Valid() {
		t.Errorf("%d rows, valid: %v", len(rows), f.Valid())
	}
}

// TestManyLicenses has more license files in the root than are read.
func TestManyLicenses(t *testing.T) {
	mit, err := os.ReadFile(filepath.Join("..", "..", "LICENSE"))
	if err != nil {
		t.Fatal(err)
	}
	var files []txtar.File
	for i := range 65 {
		files = append(files, txtar.File{Name: fmt.Sprintf("COPYING.%02d", i), Data: mit})
	}
	if f := scan(files[:64]...); f.License == facts.NoAssertion {
		t.Errorf("64 files: %s", f.License)
	}
	if f := scan(files...); f.License != facts.NoAssertion {
		t.Errorf("65 files: %s", f.License)
	}
}
