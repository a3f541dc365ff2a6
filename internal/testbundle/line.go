package testbundle

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/modmirror/modmirror/bundle"
)

// Line makes a bundle and a delta that follows it. root is the folder of the repository. The first
// one has Modules and example.com/lib v1.0.0, under the license in the repository. The delta has
// v1.1.0, which can start programs, and example.com/fresh v1.0.0, which has assembly and no license.
func Line(t testing.TB, root string) (old, now *bundle.Bundle) {
	t.Helper()
	license := "-- LICENSE --\n" + string(Read(t, filepath.Join(root, "LICENSE")))
	files := func(text string) *txtar.Archive { return txtar.Parse([]byte(text)) }
	open := func(b *TB) *bundle.Bundle {
		opened, err := bundle.Open(t.Context(), b.Path, b.Trusted, "")
		check(t, err)
		t.Cleanup(func() { opened.Close() })
		return opened
	}
	first := Make(t, filepath.Join(root, "testdata", "mod"), nil)
	first.Add(t, "example.com/lib", "v1.0.0", files(license+"-- lib.go --\npackage lib\n"))
	first.Write(t)
	old = open(first)
	second := first.Variant(t, func(c *bundle.Contents) { c.Base, c.Sequence = old, 8 })
	second.Add(t, "example.com/lib", "v1.1.0",
		files(license+"-- lib.go --\npackage lib\n\nimport \"os/exec\"\n\nvar _ = exec.Command\n"))
	second.Add(t, "example.com/fresh", "v1.0.0", files("-- asm.s --\n-- fresh.go --\npackage fresh\n"))
	second.Write(t)
	now = open(second)
	now.Attach(old)
	return old, now
}
