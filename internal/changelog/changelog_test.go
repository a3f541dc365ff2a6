package main

import (
	"os"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestUpToDate(t *testing.T) {
	want, err := render(os.DirFS("../../changelog"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("CHANGELOG.md is not up to date: go run ./internal/changelog >CHANGELOG.md\n%s", diff)
	}
}

func TestRender(t *testing.T) {
	tree := func(files map[string]string) fstest.MapFS {
		fsys := make(fstest.MapFS)
		for name, text := range files {
			fsys[name] = &fstest.MapFile{Data: []byte(text)}
		}
		return fsys
	}
	got, err := render(tree(map[string]string{
		"v0.9.0_2026-12-01/a.md":  "Added: a.\n",
		"v0.10.0_2027-01-01/b.md": "Added: b.\n",
		"unreleased/d.md":         "Added: d.\n",
		"unreleased/c.md":         "Added: c.\n\nMore: of c,\nin two lines.\n",
		"unreleased/c-c.md":       "Added: c again.\n",
		"unreleased/e.md":         "Security: e.",
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := head + `
## Unreleased

### Security

- e.

### Added

- c.
  More: of c,
  in two lines.
- c again.
- d.

## v0.10.0 (2027-01-01)

### Added

- b.

## v0.9.0 (2026-12-01)

### Added

- a.
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, text := range map[string]string{
		"unreleased/kind.md": "Improved: a.\n",
		"unreleased/none.md": "a.\n",
		"0.1_2026/a.md":      "Added: a.\n",
		"v0.1.0/a.md":        "Added: a.\n",
	} {
		if got, err := render(tree(map[string]string{name: text})); err == nil {
			t.Errorf("%s %q: got %q, want an error", name, text, got)
		}
	}
}
