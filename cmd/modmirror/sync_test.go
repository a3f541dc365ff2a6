package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/assemble"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/mirror"
)

// TestExplainSync has each error of a sync end with its exit code, and what takes more than a line
// printed before it.
func TestExplainSync(t *testing.T) {
	text := module.Version{Path: "example.com/text", Version: "v1.0.0"}
	missing := []mirror.Missing{{Mod: text, What: "zip"}, {Mod: text, What: "zip", Allowed: true}}
	for name, test := range map[string]struct {
		err  error
		code int
		want string
	}{
		"no error": {nil, exitDone, ""},
		"another":  {errors.New("no luck"), exitFailed, "modmirror: sync: no luck\n"},
		"usage": {hint.Usagef("--base: %s", "no"), exitUsage,
			"modmirror: sync: --base: no\nhint: modmirror sync --help\n"},
		"usage with a hint": {fmt.Errorf("x: %w", hint.Add(hint.Usagef("no folder"), "mkdir -p %s", "d")), exitUsage,
			"modmirror: sync: x: no folder\nhint: mkdir -p d\n"},
		"incomplete": {&assemble.IncompleteError{Missing: missing}, exitIncomplete,
			"modmirror: sync: 1 file could not be had, so no bundle was written\n" +
				"hint: --keep-going writes it without them; a list line \"missing-ok module@version\" accepts one\n"},
		"incomplete and written": {&assemble.IncompleteError{Missing: missing, Written: true}, exitIncomplete, ""},
		"no contents": {hint.Add(&assemble.NoContentsError{Bundle: index.Bundle{Sequence: 7, Digest: "abc"}}, "name it"), exitIncomplete,
			"modmirror: sync: the rehearsal of a delta needs all bundles of its line, but sequence 7, id abc, is not among the bases\n" +
				"hint: name it\n"},
		"denied": {&mirror.DeniedError{Modules: []mirror.Denied{{Mod: text, Line: "example.com/...", Chain: []string{"a", "b"}}}}, exitPolicy,
			"modmirror: sync: example.com/text@v1.0.0 is denied by the line \"deny example.com/...\"\nmodmirror:   wanted by a → b\n"},
		"missed": {&missesError{Misses: []string{"a", "b"}}, exitFailed,
			"modmirror: sync: the rehearsal failed for want of 2 files, so no bundle was written\n" +
				"hint: --learn takes what is missing into the bundle; or add it to a list file, or run go mod tidy\n"},
		"missed what could not be had": {&incompleteError{&missesError{Misses: []string{"a"}, Incomplete: true}}, exitIncomplete,
			"modmirror: sync: the rehearsal failed for want of 1 file, so no bundle was written\n" +
				"hint: --learn takes what is missing into the bundle; or add it to a list file, or run go mod tidy\n"},
	} {
		var stderr bytes.Buffer
		e := &env{stdout: new(output), stderr: &stderr}
		code := e.report(context.Background(), "sync", explainSync(context.Background(), e, test.err))
		if code != test.code || stderr.String() != test.want {
			t.Errorf("%s: %d\n%swant %d\n%s", name, code, stderr.String(), test.code, test.want)
		}
	}
}

func TestCleanLine(t *testing.T) {
	for text, want := range map[string]string{
		"plain": "plain", "  indented\n": "  indented", "two\nlines": "two; lines", "\x1b[2J": oneLine(errors.New("\x1b[2J")), "": "",
	} {
		if got := cleanLine("%s", text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
