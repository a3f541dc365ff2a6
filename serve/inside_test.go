package serve

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// TestInsideFile changes the file of patterns: a list that covers a public module of the bundle,
// and one that cannot be read, leave the list of before.
func TestInsideFile(t *testing.T) {
	tb := testbundle.Make(t, "../testdata/mod", nil)
	v, err := store.OpenFiles(ctx, []string{tb.Path}, tb.Trusted, store.NoState())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	file := filepath.Join(t.TempDir(), "inside")
	synctest.Test(t, func(t *testing.T) {
		i := &Inside{Patterns: "git.corp.example", File: file}
		if err := i.Open(); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("Open without the file: %v", err)
		}
		for _, step := range []struct{ text, want string }{
			{"# ours\n*.corp.example # all\n", "git.corp.example,*.corp.example"},
			{"example.com/hello\n", "git.corp.example,*.corp.example"},
			{"x[\n", "git.corp.example,*.corp.example"},
			{"a.example,b.example\n", "git.corp.example,a.example,b.example"},
		} {
			if err := os.WriteFile(file, []byte(step.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if step.text[0] == '#' {
				if err := i.Open(); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(recheck)
			if got := i.List(t.Context(), v, slog.New(slog.DiscardHandler)); got != step.want {
				t.Errorf("after %q: %s, want %s", step.text, got, step.want)
			}
		}
		if !i.covers(t.Context(), v, slog.New(slog.DiscardHandler), "a.example/x") {
			t.Error("a.example/x is not covered")
		}
	})
	if list := (*Inside)(nil).List(ctx, v, nil); list != "" {
		t.Errorf("no Inside lists %q", list)
	}
}

// TestInsideIsChecked has patterns and URLs that cannot go into the settings of clients.
func TestInsideIsChecked(t *testing.T) {
	tb := testbundle.Make(t, "../testdata/mod", nil)
	v, err := store.OpenFiles(ctx, []string{tb.Path}, tb.Trusted, store.NoState())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	for _, test := range []struct {
		inside *Inside
		ok     bool
	}{
		{&Inside{Patterns: "git.corp.example,*.forge.example", Also: []string{"http://forge.example:8080/go"}}, true},
		{&Inside{Patterns: "corp.example/$(id)"}, false},
		{&Inside{Patterns: "x["}, false},
		{&Inside{Also: []string{"forge.example"}}, false},
		{&Inside{Also: []string{"https://forge.example/'"}}, false},
	} {
		if err := test.inside.Open(); (err == nil) != test.ok {
			t.Errorf("%q, %q: %v", test.inside.Patterns, test.inside.Also, err)
		}
	}
	for patterns, bad := range map[string]string{"corp.example": "", "corp.example,example.com/h*": "example.com/hello"} {
		i := &Inside{Patterns: patterns}
		if err := i.Open(); err != nil {
			t.Fatal(err)
		}
		err := i.Check(ctx, v)
		if covered, is := errors.AsType[*CoveredError](err); is != (bad != "") || is && covered.Path != bad {
			t.Errorf("%s: %v, want %q to be covered", patterns, err, bad)
		}
	}
}
