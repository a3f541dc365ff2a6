package rehearse

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/sources"
)

// TestMain lets Run start the test executable as the other process.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == InsideCommand {
		if err := Inside(context.Background(), os.Stdin, os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// A recorder keeps the lines of a run.
type recorder struct{ said, complained []string }

// options returns options that report to the recorder.
func (r *recorder) options(t *testing.T) Options {
	add := func(list *[]string) func(string, ...any) {
		return func(format string, args ...any) { *list = append(*list, fmt.Sprintf(format, args...)) }
	}
	return Options{
		Command: "true", Dir: t.TempDir(), Sources: new(mirror.Job), Contents: new(bundle.Contents),
		Say: add(&r.said), Complain: add(&r.complained), Spin: func(string) func() { return func() {} },
	}
}

// skipUnlessIsolated skips a test where the machine allows no network namespace.
func skipUnlessIsolated(t *testing.T) {
	t.Helper()
	cmd := exec.Command("true")
	isolate(cmd)
	if err := cmd.Run(); err != nil {
		t.Skipf("no network namespace here: %v", err)
	}
}

// rehearseText rehearses a new project that uses a version of example.com/text, of which v1.1.0 is
// in the bundle and v1.0.0 is not.
func rehearseText(t *testing.T, version string, change func(*Options)) (*recorder, error) {
	t.Helper()
	skipUnlessIsolated(t)
	tb := testbundle.Make(t, "../../testdata/mod", nil)
	var r recorder
	o := r.options(t)
	o.Bundle, o.Keys, o.Contents = tb.Path, []string{tb.Key.Verifier}, tb.Contents
	o.GOSUMDB, o.Command = "off", DefaultCommand // the scripts of the command rehearse with a database
	o.Sources.List = []sources.Source{{Name: "text", Query: module.Version{Path: "example.com/text", Version: version}}}
	if change != nil {
		change(&o)
	}
	err := Run(context.Background(), o)
	if counts, _ := filepath.Glob(filepath.Join(o.Dir, "home", "*", "go", "telemetry", "local")); counts != nil {
		t.Errorf("%v: a process of the go command may still write there", counts)
	}
	if err := os.RemoveAll(o.Dir); err != nil {
		t.Errorf("the rehearsal left files that cannot be removed: %v", err)
	}
	return &r, err
}

func TestRun(t *testing.T) {
	r, err := rehearseText(t, "v1.1.0", func(o *Options) {
		// Only loopback: two header lines, and one interface.
		o.Command = `go build ./... && test $(wc -l </proc/net/dev) = 3 && echo built`
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(r.complained, "\n"))
	}
	first := "rehearsing: go mod tidy, then go build ./... && test $(wc -l </proc/net/dev) = 3 && echo built"
	last := "rehearsed text: a new project loads all its packages from the bundle alone, with an empty module cache, " +
		"the checksum database on, without a network"
	if n := len(r.said); n < 3 || r.said[0] != first || !slices.Contains(r.said, "  built") || r.said[n-1] != last || r.complained != nil {
		t.Errorf("said %q, want %q, the output, and %q; complained %q", r.said, first, last, r.complained)
	}
}

func TestRunMisses(t *testing.T) {
	for _, learn := range []bool{false, true} {
		r, err := rehearseText(t, "v1.0.0", func(o *Options) { o.Learn = learn })
		misses, ok := errors.AsType[*MissesError](err)
		if !ok {
			t.Fatalf("%v\n%s", err, strings.Join(r.complained, "\n"))
		}
		if want := []string{"example.com/text/@v/v1.0.0.zip"}; !slices.Equal(misses.Misses, want) {
			t.Errorf("misses %q, want %q", misses.Misses, want)
		}
		if !misses.Incomplete { // the bundle of the test has a row of what is missing
			t.Error("the bundle is incomplete, and the error does not say so")
		}
		if text := "the rehearsal failed for want of 1 file, so no bundle was written"; err.Error() != text {
			t.Errorf("%q, want %q", err, text)
		}
		if printed := len(r.complained) > 0 && r.complained[0] == "the rehearsal printed:"; printed == learn {
			t.Errorf("learn %v: complained %q", learn, r.complained)
		}
	}
}

func TestRunCommandFails(t *testing.T) {
	project := t.TempDir()
	write(t, project, "go.mod", "module m.example\n\ngo 1.20\n", "m.go", "package m\n")
	r, err := rehearseText(t, "v1.1.0", func(o *Options) {
		src, err := sources.Options{GoWork: "off"}.Parse([]string{project}, strings.NewReader(""))
		if err != nil {
			t.Fatal(err)
		}
		o.Sources, o.Command = &mirror.Job{Sources: *src}, "echo no luck; false"
	})
	want := "the rehearsal failed although the bundle has all that was asked for, so no bundle was written"
	if _, ok := errors.AsType[*hint.Error](err); !ok || err.Error() != want {
		t.Errorf("%v, want %q with a hint", err, want)
	}
	if !slices.Contains(r.complained, "  no luck") {
		t.Errorf("complained %q, without the output of the command", r.complained)
	}
}

func TestRunWithoutGo(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	o := new(recorder).options(t)
	if err := Run(context.Background(), o); err == nil || err.Error() != "rehearsing: there is no go command here" {
		t.Errorf("%v", err)
	}
}

func TestRunCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Run(ctx, new(recorder).options(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestEnviron(t *testing.T) {
	o := new(recorder).options(t)
	o.GOSUMDB, o.GOCACHE, o.Command = "db.example+1234+key https://db.example", "/cache", DefaultCommand
	o.Contents.Versions = []bundle.Version{
		{Version: index.Version{Path: "corp.example/a", Private: true}}, {Version: index.Version{Path: "corp.example/a", Private: true}},
		{Version: index.Version{Path: "corp.example/b", Private: true}}, {Version: index.Version{Path: "example.com/c"}},
	}
	value := func(name string) string {
		for _, v := range slices.Backward(o.environ("/go/bin/go")) {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return "not set"
	}
	for name, want := range map[string]string{
		"GOSUMDB": "db.example+1234+key", "GOCACHE": "/cache", "GOTOOLCHAIN": "local",
		"GONOSUMDB": "corp.example/a,corp.example/b", "GOFLAGS": "-mod=mod -trimpath -buildvcs=false",
		"HOME": filepath.Join(o.Dir, "home"), "GOENV": "off", "GOPROXY": "not set", "SSH_AUTH_SOCK": "not set",
	} {
		if got := value(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	o.Command = "go test ./..." // code of the modules runs, which could change the cache
	o.Contents.Versions = []bundle.Version{{Version: index.Version{Path: modpath.Toolchain}}}
	if got := value("GOCACHE"); got != filepath.Join(o.Dir, "gocache") {
		t.Errorf("GOCACHE is %q", got)
	}
	if got := value("GOTOOLCHAIN"); got != "auto" {
		t.Errorf("GOTOOLCHAIN is %q with a toolchain in the bundle", got)
	}
}

func TestPlan(t *testing.T) {
	o := new(recorder).options(t)
	dir := t.TempDir()
	mod, err := modfile.Parse("go.mod", []byte("module m.example\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	query := func(path, version string) module.Version { return module.Version{Path: path, Version: version} }
	o.Contents.Queries = []index.Query{{Path: "a.example", Query: "latest", Version: "v1.2.3"}}
	o.Sources.List = []sources.Source{
		{Name: "alone", OnlyThis: true, Query: query("x.example", "v1.0.0")},
		{Name: "project", Dir: dir, Mod: mod},
		{Name: "member", Dir: dir, Mod: mod, Workspace: new(sources.Source)},
		{Name: "tool", Tool: "t.example/cmd", Query: query("t.example/cmd", "v2")},
		{Name: "resolved", Query: query("a.example", "latest")},
		{Name: "all", Query: query("b.example", "all")},
		{Name: "version", Query: query("c.example", "v0.1.0")},
	}
	p, err := o.plan("go")
	if err != nil {
		t.Fatal(err)
	}
	work := func(i int) string { return filepath.Join(o.Dir, "work", fmt.Sprint(i)) }
	want := []step{
		{Dir: work(1)},
		{Dir: work(3), Tool: "t.example/cmd@v2"},
		{Dir: work(4), Module: "a.example@v1.2.3"},
		{Dir: work(5), Module: "b.example@latest"},
		{Dir: work(6), Module: "c.example@v0.1.0"},
	}
	if !slices.Equal(p.Steps, want) {
		t.Errorf("steps %+v, want %+v", p.Steps, want)
	}
	for _, s := range p.Steps {
		if st, err := os.Stat(s.Dir); err != nil || !st.IsDir() {
			t.Errorf("%s: %v", s.Dir, err)
		}
	}
	if p.Misses != o.missesFile() || p.Command != o.Command {
		t.Errorf("%+v", p)
	}
}

func TestProven(t *testing.T) {
	for _, test := range []struct {
		source sources.Source
		want   string
	}{
		{sources.Source{Mod: new(modfile.File)}, "it builds"},
		{sources.Source{Work: new(modfile.WorkFile)}, "it builds"},
		{sources.Source{Mod: new(modfile.File), Workspace: new(sources.Source)}, ""},
		{sources.Source{Tool: "t"}, "go install makes it"},
		{sources.Source{OnlyThis: true}, ""},
		{sources.Source{}, "a new project loads all its packages"},
	} {
		if got := proven(test.source); got != test.want {
			t.Errorf("%+v: %q, want %q", test.source, got, test.want)
		}
	}
}

func TestMissList(t *testing.T) {
	request := func(s string) modpath.Request {
		r, err := modpath.Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	lists := []string{"example.com/@v/list", "example.com/a/@latest", "example.com/a/@v/v1.0.0.info"}
	for _, test := range []struct{ asked, want []string }{
		{nil, nil},
		{lists, lists},
		{append(slices.Clone(lists), "example.com/a/@v/v1.0.0.zip"), []string{"example.com/a/@v/v1.0.0.zip"}},
		{[]string{"example.com/a/@v/v1.0.0.mod", "example.com/a/@v/v1.0.0.mod"}, []string{"example.com/a/@v/v1.0.0.mod"}},
	} {
		var l missList
		for _, s := range test.asked {
			l.add(request(s), netip.Addr{})
		}
		if got := l.take(); !slices.Equal(got, test.want) {
			t.Errorf("asked for %q: %q, want %q", test.asked, got, test.want)
		}
		if got := l.take(); got != nil {
			t.Errorf("taken again: %q", got)
		}
	}
	var l missList
	for i := range maxMisses + 10 {
		l.add(request(fmt.Sprintf("example.com/a/@v/v1.0.%d.zip", i)), netip.Addr{})
	}
	if got := len(l.take()); got != maxMisses {
		t.Errorf("%d misses, want at most %d", got, maxMisses)
	}
}

func TestWriteMisses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "misses.json")
	if got := readMisses(file); got != nil {
		t.Errorf("no file: %q", got)
	}
	var out strings.Builder
	list := []string{"a/@v/v1.0.0.zip", "b/@v/v1.0.0.mod"}
	if err := writeMisses(file, &out, list); err != nil {
		t.Fatal(err)
	}
	if got := readMisses(file); !slices.Equal(got, list) {
		t.Errorf("%q, want %q", got, list)
	}
	if want := "asked for and not in the bundle: a/@v/v1.0.0.zip\nasked for and not in the bundle: b/@v/v1.0.0.mod\n"; out.String() != want {
		t.Errorf("printed %q, want %q", out.String(), want)
	}
}
