package assemble

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/sources"
)

// parseMod parses a go.mod.
func parseMod(t *testing.T, text string) *modfile.File {
	t.Helper()
	f, err := modfile.Parse("go.mod", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestCannotTell has a project whose go.mod only a network could complete: a rehearsal finds out.
func TestCannotTell(t *testing.T) {
	w := newWorld(t)
	project := t.TempDir()
	w.must(writeFile(filepath.Join(project, "go.mod"), "module m.example\n\ngo 1.20\n"))
	w.must(writeFile(filepath.Join(project, "m.go"), "package m\n\nimport _ \"example.com/text\"\n"))
	t.Setenv("GOMODCACHE", t.TempDir())
	r := w.bundle("team.tar", nil, project)
	if !r.has("cannot tell whether " + project + " is tidy without what the module cache lacks; --rehearse proves") {
		t.Errorf("said %q", r.said)
	}
	r = w.bundle("proven.tar", func(o *Options) {
		o.Rehearse = func(context.Context, Rehearsal) ([]string, error) { return nil, nil }
	}, project)
	if r.has("is tidy") {
		t.Errorf("with a rehearsal, said %q", r.said)
	}
}

// TestTidied adds what go mod tidy would, and pins it in the lock.
func TestTidied(t *testing.T) {
	w := newWorld(t)
	project := t.TempDir()
	mod := "module m.example\n\ngo 1.20\n\nreplace local.example => ./local\n"
	for name, text := range map[string]string{
		"go.mod": mod, "m.go": "package m\n\nimport _ \"local.example\"\n",
		"local/go.mod": "module local.example\n\ngo 1.20\n", "local/l.go": "package local\n",
	} {
		w.must(writeFile(filepath.Join(project, name), text))
	}
	o, r := w.options("team.tar", project, "example.com/text@v1.1.0")
	o.Lock = w.path("lock")
	w.must(w.make(o))
	if !r.has(project + ` is not tidy: what "go mod tidy" would add is carried too`) {
		t.Errorf("said %q", r.said)
	}
	if data, err := os.ReadFile(filepath.Join(project, "go.mod")); err != nil || string(data) != mod {
		t.Errorf("the project changed: %q, %v", data, err)
	}
	l, err := ReadLock(o.Lock)
	w.must(err)
	if text := l.Tidied[project]; !strings.Contains(text, "require local.example v0.0.0-") {
		t.Errorf("the lock has %q", l.Tidied)
	}
	// The lock counts, and not what the go command says now.
	t.Setenv("PATH", t.TempDir())
	s := sources.Source{Name: project, Mod: parseMod(t, mod)}
	got, err := tidied(context.Background(), l, s)
	w.must(err)
	if !requiresMore(got, s.Mod) {
		t.Errorf("with the lock: %s", modfile.Format(got.Syntax))
	}
	s.Name = "another"
	if got, err := tidied(context.Background(), l, s); err != nil || got != s.Mod {
		t.Errorf("a project that was tidy: %v, %v", got, err)
	}
	if _, err := tidied(context.Background(), nil, s); err == nil {
		t.Error("without a go command and a lock")
	}
}

func TestTidyCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r := &Run{o: Options{Report: new(recorder), Sources: &mirror.Job{Sources: sources.Sources{List: []sources.Source{{Mod: parseMod(t, "module m\n")}}}}}}
	r.tidying = r.beginTidying(ctx)
	defer r.tidying.stop()
	if _, err := r.addTidied(ctx); err != context.Canceled {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestRequiresMore(t *testing.T) {
	mods := []string{
		"module m\n", "module m\nrequire a.example v1.0.0\n", "module m\nrequire a.example v1.0.1\n",
		"module m\nrequire (\n\ta.example v1.0.0 // indirect\n\tb.example v1.0.0\n)\n",
	}
	want := [][]bool{
		{false, false, false, false},
		{true, false, true, false},
		{true, true, false, true},
		{true, true, true, false},
	}
	for i := range mods {
		var got []bool
		for j := range mods {
			got = append(got, requiresMore(parseMod(t, mods[i]), parseMod(t, mods[j])))
		}
		if !slices.Equal(got, want[i]) {
			t.Errorf("%q requires more than the others: %v, want %v", mods[i], got, want[i])
		}
	}
}
