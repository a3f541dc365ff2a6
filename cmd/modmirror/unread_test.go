package main

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestImportUnread refuses a bundle whose index has a license that the zip does not have:
// the zip counts.
func TestImportUnread(t *testing.T) {
	tb := testbundle.Make(t, "../../testdata/mod", nil)
	m := newMachine(t, "GOSUMDB="+tb.GOSUMDB)
	m.trust(t, tb.Key.Verifier)
	policy := "license allow MIT\n"
	for _, mod := range testbundle.Modules {
		if mod != testbundle.Claimed {
			policy += "except license " + mod.Path + " until 2999-01-01 because \"ours\"\n"
		}
	}
	testbundle.WriteFile(t, filepath.Join(m.dir, "policy.txt"), []byte(policy))
	if out, code := m.run("facts", tb.Path); code != 0 || !strings.Contains(out, "example.com/hello\tv1.1.0\tMIT\texec\n") {
		t.Fatalf("facts: %d\n%s", code, out)
	}
	for _, args := range [][]string{
		{"policy", tb.Path, "policy.txt"}, {"import", "--store", "store", "--policy", "policy.txt", tb.Path},
		{"report", "--policy", "policy.txt", tb.Path},
	} {
		out, code := m.run(args...)
		one := strings.Contains(out, "1 violation in") || strings.Contains(out, "1 thing is against the policy")
		if (code != exitPolicy) != (args[0] == "report") || !one || !strings.Contains(out, "it has no license file (NONE)") {
			t.Errorf("%s: %d\n%s", args[0], code, out)
		}
	}
}

// TestImportUnreadBefore lets in a version that can start programs, after one whose index says so
// while its zip cannot: it is new.
func TestImportUnreadBefore(t *testing.T) {
	files := func(text string) *txtar.Archive {
		return txtar.Parse([]byte("-- go.mod --\nmodule example.com/a\n" + text))
	}
	first := testbundle.Make(t, "../../testdata/mod", testbundle.WithoutLarge)
	first.Add(t, "example.com/a", "v1.0.0", files("-- a.go --\npackage a\n"))
	for i := range first.Contents.Versions {
		if v := &first.Contents.Versions[i]; v.Path == "example.com/a" {
			v.Facts = []index.Fact{{Kind: "exec", File: "a.go", Files: 1, Detail: "os/exec"}}
		}
	}
	first.Write(t)
	second := first.Variant(t, func(c *bundle.Contents) { c.Sequence = 8 })
	second.Add(t, "example.com/a", "v1.1.0", files("-- a.go --\npackage a\n\nimport _ \"os/exec\"\n"))
	second.Write(t)
	m := newMachine(t, "GOSUMDB="+first.GOSUMDB)
	m.trust(t, first.Key.Verifier)
	if first.Key.Verifier != second.Key.Verifier {
		m.trust(t, second.Key.Verifier)
	}
	testbundle.WriteFile(t, filepath.Join(m.dir, "policy.txt"), []byte("new exec no\n"))
	if out, code := m.run("import", "--store", "store", first.Path); code != 0 {
		t.Fatal(out)
	}
	out, code := m.run("import", "--store", "store", "--policy", "policy.txt", second.Path)
	if code != exitPolicy || !strings.Contains(out, "now exec, in a.go (os/exec)") {
		t.Errorf("import: %d\n%s", code, out)
	}
}
