package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/testproxy"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/sources"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// A world is an upstream, a mirror directory, a folder for bundles, and a key that is trusted.
type world struct {
	*testing.T
	up     *testproxy.Server
	config mirror.Config
	dir    string
	key    *trust.Key
}

func newWorld(t *testing.T) *world {
	t.Helper()
	up, err := testproxy.New("../../testdata/mod")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	w := &world{T: t, up: up, dir: t.TempDir()}
	client, err := upstream.New(up.URL, "off", 8)
	w.must(err)
	db, err := proof.ParseGOSUMDB(up.GOSUMDB)
	w.must(err)
	w.key, err = trust.EphemeralKey("tester")
	w.must(err)
	w.config = mirror.Config{Dir: t.TempDir(), Upstream: client, DB: db, NoSumDB: "corp.example"}
	return w
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

// open opens a bundle, which the key of the world has signed.
func (w *world) open(name string) *bundle.Bundle {
	w.Helper()
	b, err := bundle.Open(context.Background(), w.path(name), trust.NewKeyring(w.key.Verifier), "")
	w.must(err)
	w.Cleanup(func() { b.Close() })
	return b
}

// versions returns what a bundle, with its line, has of modules: path@version.
func (w *world) versions(name string) (list []string) {
	w.Helper()
	for v, err := range w.open(name).Index.Versions(context.Background(), "") {
		w.must(err)
		list = append(list, v.Path+"@"+v.Version)
	}
	slices.Sort(list)
	return list
}

// options returns options that make a bundle of sources, of a fixed time, named output.
func (w *world) options(output string, args ...string) (Options, *recorder) {
	w.Helper()
	src, err := sources.Options{GoWork: "off"}.Parse(args, strings.NewReader(""))
	w.must(err)
	r := new(recorder)
	return Options{
		Sources: &mirror.Job{Sources: *src}, Created: time.Unix(1_700_000_000, 0), Output: w.path(output), Guard: new(Guard), Mirror: w.config, Report: r,
		OpenBase: func(ctx context.Context, file string) (*bundle.Bundle, error) {
			return bundle.Open(ctx, file, trust.NewKeyring(w.key.Verifier), "")
		},
		Keys: func() ([]string, error) { return []string{w.key.Verifier}, nil },
	}, r
}

// make makes what options say.
func (w *world) make(o Options) error {
	w.Helper()
	run, err := New(context.Background(), o)
	if err != nil {
		return err
	}
	defer run.Close()
	return run.Make(context.Background(), w.key)
}

// bundle makes a bundle of sources that must succeed, after change, which may be nil.
func (w *world) bundle(output string, change func(*Options), sources ...string) *recorder {
	w.Helper()
	o, r := w.options(output, sources...)
	if change != nil {
		change(&o)
	}
	w.must(w.make(o))
	return r
}

// A recorder is a Reporter that keeps what it is told.
type recorder struct {
	said, complained []string
	missing          []mirror.Missing
	closure          *mirror.Closure
	written          *Written
	copied           int64
	onMissing        func() // called by Missing: after the sync, before anything is written
}

func (r *recorder) Say(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}
func (r *recorder) Complain(format string, args ...any) {
	r.complained = append(r.complained, fmt.Sprintf(format, args...))
}
func (r *recorder) Syncing() func()          { return func() {} }
func (r *recorder) Synced(c *mirror.Closure) { r.closure = c }
func (r *recorder) Wrote(w *Written)         { r.written = w }
func (r *recorder) Missing(list []mirror.Missing) {
	r.missing = list
	if r.onMissing != nil {
		r.onMissing()
	}
}
func (r *recorder) Writing(int64) (func(int64), func()) {
	return func(n int64) { r.copied += n }, func() {}
}

// has reports whether something was said that contains text.
func (r *recorder) has(text string) bool {
	return slices.ContainsFunc(r.said, func(s string) bool { return strings.Contains(s, text) })
}

// isUsage reports whether err is a usage error that contains text.
func isUsage(err error, text string) bool {
	_, ok := errors.AsType[*hint.UsageError](err)
	return ok && strings.Contains(err.Error(), text)
}

// hasHint reports whether err contains text and has a hint that contains next.
func hasHint(err error, text, next string) bool {
	h, ok := errors.AsType[*hint.Error](err)
	return ok && strings.Contains(err.Error(), text) && strings.Contains(h.Hint, next)
}

func TestMake(t *testing.T) {
	w := newWorld(t)
	r := w.bundle("team.tar", nil, "example.com/text@v1.1.0")
	if got, want := w.versions("team.tar"), []string{"example.com/text@v1.1.0"}; !slices.Equal(got, want) {
		t.Errorf("carried %q, want %q", got, want)
	}
	b := w.open("team.tar")
	if m := b.Manifest; m.Name != "team" || m.Sequence != 1_700_000_000 || m.Created.Unix() != 1_700_000_000 {
		t.Errorf("manifest %+v", m)
	}
	if r.written == nil || r.written.Where != w.path("team.tar") || r.written.Manifest.ID() != b.ID() || r.written.Key != w.key {
		t.Errorf("reported %+v", r.written)
	}
	if r.closure == nil || len(r.missing) > 0 || r.complained != nil {
		t.Errorf("missing %v, complained %q", r.missing, r.complained)
	}
}

// TestMakeIncomplete has an upstream that lacks a zip.
func TestMakeIncomplete(t *testing.T) {
	w := newWorld(t)
	w.up.Override("example.com/text/@v/v1.1.0.zip", testproxy.Status(404, "gone"))
	for _, keepGoing := range []bool{false, true} {
		o, r := w.options("team.tar", "example.com/text@v1.1.0", "example.com/UpperCase@v1.0.0")
		o.KeepGoing = keepGoing
		err := w.make(o)
		incomplete, ok := errors.AsType[*IncompleteError](err)
		if !ok || incomplete.Written != keepGoing || err.Error() != "1 file could not be had" {
			t.Fatalf("keep going %v: %v", keepGoing, err)
		}
		if len(r.missing) != 1 || r.missing[0].Mod.String() != "example.com/text@v1.1.0" || r.missing[0].What != "zip" {
			t.Errorf("missing %+v", r.missing)
		}
		if _, err := os.Stat(w.path("team.tar")); (err == nil) != keepGoing {
			t.Errorf("keep going %v: the bundle: %v", keepGoing, err)
		}
	}
}

func TestPlan(t *testing.T) {
	w := newWorld(t)
	w.bundle("team.tar", nil, "example.com/text@v1.1.0")
	o, _ := w.options("team-2.tar", "example.com/text@v1.1.0", "example.com/UpperCase@v1.0.0")
	o.Bases = []string{w.path("team.tar")}
	run, err := New(context.Background(), o)
	w.must(err)
	defer run.Close()
	p, err := run.Plan(context.Background())
	w.must(err)
	if p.Carried != 1 || p.Fetch != 1 {
		t.Errorf("%d carried, %d to be fetched, want 1 and 1", p.Carried, p.Fetch)
	}
	if _, err := os.Stat(w.path("team-2.tar")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a plan wrote the bundle: %v", err)
	}
}

// TestRehearseBeforeSigning checks the order: draft, rehearse, sign, rename.
func TestRehearseBeforeSigning(t *testing.T) {
	w := newWorld(t)
	var stages []string
	rehearse := func(err error) func(context.Context, Rehearsal) ([]string, error) {
		return func(ctx context.Context, r Rehearsal) ([]string, error) {
			stages = append(stages, "rehearsed")
			if _, err := os.Stat(w.path("team.tar")); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("the bundle is visible while it is rehearsed: %v", err)
			}
			if b, err := bundle.Open(ctx, r.Bundle, trust.NewKeyring(w.key.Verifier), ""); err == nil {
				b.Close()
				t.Error("the bundle has its signature while it is rehearsed")
			}
			b, err1 := bundle.Open(ctx, r.Bundle, trust.NewKeyring(r.Keys...), "")
			w.must(err1)
			b.Close()
			m, err1 := mirror.Open(ctx, w.config) // the run has given the directory back
			w.must(err1)
			w.must(m.Close())
			if r.Output != w.path("team.tar") || len(r.Sources.List) != 1 || len(r.Contents.Versions) != 1 || r.Bases != nil {
				t.Errorf("%+v", r)
			}
			return nil, err
		}
	}
	no := errors.New("it does not build")
	o, r := w.options("team.tar", "example.com/text@v1.1.0")
	o.Rehearse = rehearse(no)
	if err := w.make(o); err != no {
		t.Errorf("%v, want %v", err, no)
	}
	if left, _ := os.ReadDir(w.dir); len(left) > 0 || r.written != nil {
		t.Errorf("a rehearsal that failed left %v", left)
	}
	w.bundle("team.tar", func(o *Options) { o.Rehearse = rehearse(nil) }, "example.com/text@v1.1.0")
	w.open("team.tar")
	if len(stages) != 2 {
		t.Errorf("%q", stages)
	}
}

// TestRehearseBases has the rehearsal of a delta serve all of its line.
func TestRehearseBases(t *testing.T) {
	w := newWorld(t)
	w.bundle("team.tar", nil, "example.com/text@v1.1.0")
	called := false
	w.bundle("team-2.tar", func(o *Options) {
		o.Bases = []string{w.path("team.tar")}
		o.Rehearse = func(_ context.Context, r Rehearsal) ([]string, error) {
			called = true
			if !slices.Equal(r.Bases, o.Bases) || len(r.Keys) != 2 || r.Keys[0] != w.key.Verifier {
				t.Errorf("bases %q, keys %q", r.Bases, r.Keys)
			}
			return nil, nil
		}
	}, "example.com/UpperCase@v1.0.0")
	if !called {
		t.Error("no rehearsal")
	}
}

// TestRehearsePieces writes pieces of a bundle that was rehearsed as one file.
func TestRehearsePieces(t *testing.T) {
	w := newWorld(t)
	r := w.bundle("team.tar", func(o *Options) {
		o.Package.Piece = 64 << 10
		o.Rehearse = func(context.Context, Rehearsal) ([]string, error) { return nil, nil }
	}, "example.com/text@v1.1.0")
	if r.copied != r.written.Manifest.Size || !strings.Contains(r.written.Where, "team.tar.001 and so on, ") {
		t.Errorf("%d bytes copied of %+v", r.copied, r.written)
	}
	w.open("team.tar.001")
	if _, err := os.Stat(w.path("team.tar")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the whole bundle is left: %v", err)
	}
}

func TestLearn(t *testing.T) {
	w := newWorld(t)
	failed := errors.New("the rehearsal failed")
	misses := [][]string{{"example.com/!upper!case/@v/v1.0.0.zip"}, {"example.com/old/@v/v0.1.0.mod"}}
	lock := w.path("lock")
	rounds := 0
	r := w.bundle("team.tar", func(o *Options) {
		o.Learn, o.Lock = true, lock
		o.Rehearse = func(_ context.Context, r Rehearsal) ([]string, error) {
			if len(r.Sources.List) != 1 {
				t.Errorf("the rehearsal is of what was learned too: %+v", r.Sources.List)
			}
			if rounds++; rounds > len(misses) {
				return nil, nil
			}
			return misses[rounds-1], failed
		}
	}, "example.com/text@v1.1.0")
	if rounds != 3 || !r.has("learned example.com/UpperCase@v1.0.0") || !r.has("learned example.com/old@v0.1.0/go.mod") {
		t.Errorf("%d rounds, said %q", rounds, r.said)
	}
	want := []string{"example.com/UpperCase@v1.0.0", "example.com/old@v0.1.0", "example.com/text@v1.1.0"}
	if got := w.versions("team.tar"); !slices.Equal(got, want) {
		t.Errorf("carried %q, want %q", got, want)
	}
	l, err := ReadLock(lock)
	w.must(err)
	if !slices.Equal(l.Learned, slices.Concat(misses...)) {
		t.Errorf("the lock has %q", l.Learned)
	}
}

func TestLearnNothing(t *testing.T) {
	w := newWorld(t)
	failed := errors.New("the rehearsal failed")
	for _, learn := range []bool{false, true} {
		o, r := w.options("team.tar", "example.com/text@v1.1.0")
		o.Learn = learn
		rounds := 0
		o.Rehearse = func(context.Context, Rehearsal) ([]string, error) {
			rounds++
			return []string{"example.com/!upper!case/@v/v1.0.0.zip"}, failed
		}
		err := w.make(o)
		if !errors.Is(err, failed) {
			t.Fatalf("%v, want %v", err, failed)
		}
		complaint := slices.Equal(r.complained, []string{"asked for and not in the bundle: example.com/!upper!case/@v/v1.0.0.zip"})
		switch {
		case !learn && (rounds != 1 || err != failed || r.complained != nil):
			t.Errorf("without --learn: %d rounds, %v, %q", rounds, err, r.complained)
		case learn && (rounds != 2 || !hasHint(err, failed.Error(), "without --learn") || !complaint):
			t.Errorf("with --learn: %d rounds, %v, %q", rounds, err, r.complained)
		}
	}
}

// TestChangedFile changes a zip in the mirror directory after it was verified.
func TestChangedFile(t *testing.T) {
	w := newWorld(t)
	o, r := w.options("team.tar", "example.com/text@v1.1.0")
	var zip string
	r.onMissing = func() {
		zip = filepath.Join(w.config.Dir, filepath.FromSlash(r.closure.Versions[0].Zip.Path))
		data, err := os.ReadFile(zip)
		w.must(err)
		data[len(data)/2] ^= 1
		w.must(os.WriteFile(zip, data, 0o666))
	}
	err := w.make(o)
	if !errors.Is(err, proof.ErrMismatch) || !hasHint(err, "the file changed since it was verified", "run sync again") {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(zip); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if _, err := os.Stat(w.path("team.tar")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a bundle was written: %v", err)
	}
	r.onMissing = nil
	w.bundle("team.tar", nil, "example.com/text@v1.1.0")
}

func TestAddToolchains(t *testing.T) {
	src := new(mirror.Job)
	if err := addToolchains(src, []string{"auto", "go1.26.8"}, []string{"linux/amd64"}); err != nil {
		t.Fatal(err)
	}
	if !src.AutoToolchain || !slices.Equal(src.Platforms, []string{"linux/amd64"}) || len(src.List) != 1 ||
		src.List[0].Query != (module.Version{Path: "golang.org/toolchain", Version: "v0.0.1-go1.26.8.linux-amd64"}) {
		t.Errorf("%+v", src)
	}
	if err := addToolchains(new(mirror.Job), []string{"go1.26"}, nil); !isUsage(err, "not a released Go version") {
		t.Errorf("%v", err)
	}
	if err := addToolchains(new(mirror.Job), []string{"auto"}, []string{"linux"}); !isUsage(err, "--platform: ") {
		t.Errorf("%v", err)
	}
	if err := addToolchains(new(mirror.Job), nil, []string{"linux/amd64"}); !isUsage(err, "--platform says for which platforms") {
		t.Errorf("%v", err)
	}
}

// TestStdout writes a bundle to a stream, which it must not close.
func TestStdout(t *testing.T) {
	w := newWorld(t)
	for _, rehearsed := range []bool{false, true} {
		f, err := os.Create(w.path(fmt.Sprint("out", rehearsed)))
		w.must(err)
		r := w.bundle("", func(o *Options) {
			o.Output, o.Stdout, o.Name = "-", io.Writer(f), "team"
			if rehearsed {
				o.Rehearse = func(context.Context, Rehearsal) ([]string, error) { return nil, nil }
			}
		}, "example.com/text@v1.1.0")
		w.must(f.Close())
		if r.written.Where != "stdout" {
			t.Errorf("wrote %q", r.written.Where)
		}
		w.open(filepath.Base(f.Name()))
	}
}

// contains reports whether the text of err contains text.
func contains(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

// writeFile writes a file and the folders above it.
func writeFile(name, text string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		return err
	}
	return os.WriteFile(name, []byte(text), 0o666)
}
