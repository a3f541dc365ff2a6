package facts_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
