package review_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/review"
)

// into returns a function that adds the lines of files to w.
func into(w *strings.Builder) func(review.FileDiff) error {
	return func(f review.FileDiff) error {
		w.WriteString(f.Text)
		return nil
	}
}

// TestDiffCode has each way in which a file can differ, between two versions in one bundle.
func TestDiffCode(t *testing.T) {
	large := strings.Repeat("x\n", 1<<20)
	b, pair := openPair(t, &txtar.Archive{Files: []txtar.File{
		{Name: "go.mod", Data: []byte("module example.com/a\n")},
		{Name: "same.go", Data: []byte("package a\n")},
		{Name: "changed.go", Data: []byte("package a\n\nvar a = 1\n")},
		{Name: "moved.go", Data: []byte("package a\n\nvar b = 1\n")},
		{Name: "removed.go", Data: []byte("package a\n\nvar c = 1\n")},
		{Name: "data.bin", Data: []byte("\x00\x01")},
		{Name: "large.txt", Data: []byte(large)},
		{Name: "empty", Data: nil},
	}}, &txtar.Archive{Files: []txtar.File{
		{Name: "go.mod", Data: []byte("module example.com/a\n")},
		{Name: "same.go", Data: []byte("package a\n")},
		{Name: "changed.go", Data: []byte("package a\n\nvar a = 2 // \u202e\x1b[31m\n")},
		{Name: "sub/moved.go", Data: []byte("package a\n\nvar b = 1\n")},
		{Name: "added.go", Data: []byte("package a\n\nvar d = 1\n")},
		{Name: "data.bin", Data: []byte("\x00\x02")},
		{Name: "large.txt", Data: []byte(large + "x\n")},
	}})
	var out strings.Builder
	d, err := review.DiffCode(t.Context(), pair[0], pair[1], into(&out))
	if err != nil {
		t.Fatal(err)
	}
	const want = `diff /dev/null example.com/a@v1.1.0/added.go
--- /dev/null
+++ example.com/a@v1.1.0/added.go
@@ -0,0 +1,3 @@
+package a
+
+var d = 1
diff example.com/a@v1.0.0/changed.go example.com/a@v1.1.0/changed.go
--- example.com/a@v1.0.0/changed.go
+++ example.com/a@v1.1.0/changed.go
@@ -1,3 +1,3 @@
 package a
 
-var a = 1
+var a = 2 // ⟨U+202E⟩⟨U+001B⟩[31m
data.bin: 2 → 2 bytes, not text or larger than 1 MiB
empty: empty, on one side alone
large.txt: 2097152 → 2097154 bytes, not text or larger than 1 MiB
diff example.com/a@v1.0.0/removed.go /dev/null
--- example.com/a@v1.0.0/removed.go
+++ /dev/null
@@ -1,3 +0,0 @@
-package a
-
-var c = 1
moved moved.go to sub/moved.go
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
	if (d != review.CodeDiff{Added: 1, Removed: 2, Changed: 3, Moved: 1}) {
		t.Errorf("%+v", d)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = review.ReadFacts(ctx, review.NewCarried(b), nil, func(f review.VersionFacts) error {
		if f.Path == "example.com/tip" { // the last one: no work fails
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("facts, interrupted: %v", err)
	}
	bad := index.Version{Path: "example.com/a", Version: "v1.0.0", H1: "h1:other"}
	if _, err := review.OpenSources(t.Context(), review.NewCarried(b), make(h1.Limiter, 2), bad); err == nil {
		t.Error("a zip with another h1 was opened")
	}
}
