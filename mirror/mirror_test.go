package mirror

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/testproxy"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// A world is an upstream and an empty mirror directory.
type world struct {
	t   *testing.T
	up  *testproxy.Server
	dir string
	cfg Config
}

func newWorld(t *testing.T) *world {
	t.Helper()
	up, err := testproxy.New("../testdata/mod")
	return worldOf(t, up, err)
}

// newYoungWorld is a world whose checksum database takes in what it is asked for.
func newYoungWorld(t *testing.T) *world {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, testproxy.DBName)
	if err != nil {
		t.Fatal(err)
	}
	up, err := testproxy.NewWithKey("../testdata/mod", skey, vkey)
	return worldOf(t, up, err)
}

func worldOf(t *testing.T, up *testproxy.Server, err error) *world {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Close)
	client, err := upstream.New(up.URL, "off", 8)
	if err != nil {
		t.Fatal(err)
	}
	db, err := proof.ParseGOSUMDB(up.GOSUMDB)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return &world{t, up, dir, Config{Dir: dir, Upstream: client, DB: db, NoSumDB: "corp.example"}}
}

// sync syncs sources into the mirror directory.
func (w *world) sync(args ...string) (*Closure, error) {
	w.t.Helper()
	src, err := ParseSources(args, strings.NewReader(""))
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := Open(context.Background(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	defer m.Close()
	return m.Sync(context.Background(), src)
}

// project makes a folder with a go.mod.
func project(t *testing.T, goMod string, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	files = append(files, "go.mod", goMod)
	for i := 0; i < len(files); i += 2 {
		name := filepath.Join(dir, files[i])
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(files[i+1]), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// zips and mods return what a closure carries whole, and of what only the go.mod.
func zips(c *Closure) (list []string) {
	for _, v := range c.Versions {
		if v.Zip != nil {
			list = append(list, v.Mod.String())
		}
	}
	return list
}

func mods(c *Closure) (list []string) {
	for _, v := range c.Versions {
		if v.Zip == nil {
			list = append(list, v.Mod.String())
		}
	}
	return list
}

const head = "module example.com/main\n\ngo 1.20\n\n"

var goMods = []struct{ name, goMod string }{
	{"leaf", head + "require example.com/text v1.0.0\n"},
	{"pruned", head + "require example.com/hello v1.1.0\n"},
	{"root outbid", head + "require (\n\texample.com/promote v1.0.0\n\texample.com/text v1.0.0\n)\n"},
	{"unpruned dependency", head + "require example.com/unpruned v1.0.0\n"},
	{"unpruned main", "module example.com/main\n\ngo 1.16\n\nrequire (\n\texample.com/hello v1.1.0\n\texample.com/unpruned v1.0.0\n)\n"},
	{"no go line", "module example.com/main\n\nrequire example.com/hello v1.1.0\n"},
	{"go 1.17", "module example.com/main\n\ngo 1.17\n\nrequire example.com/hello v1.1.0\n"},
	{"replace by module", head + "require (\n\texample.com/hello v1.1.0\n\texample.com/text v1.1.0\n)\n\nreplace example.com/text => example.com/fork v1.0.1\n"},
	{"replace one version", head + "require (\n\texample.com/hello v1.0.0\n\texample.com/text v1.0.0\n)\n\nreplace example.com/text v1.1.0 => example.com/fork v1.0.1\n"},
	{"replace by folder", head + "require example.com/hello v1.1.0\n\nreplace example.com/hello => ./local\n"},
	{"exclude", head + "require (\n\texample.com/promote v1.0.0\n\texample.com/text v1.0.0\n)\n\nexclude example.com/text v1.1.0\n"},
	{"no go.mod and upper case and incompatible", head + "require (\n\texample.com/UpperCase v1.0.0\n\texample.com/incompat v2.0.0+incompatible\n\texample.com/old v0.1.0\n)\n"},
	{"pseudo-version", head + "require example.com/tip v0.0.0-20200102030405-0123456789ab\n"},
	{"an older main", "module example.com/text\n\ngo 1.16\n\nrequire example.com/hello v1.1.0\n"},
	{"an older pruned main", "module example.com/text\n\ngo 1.20\n\nrequire example.com/unpruned v1.0.0\n"},
}

// TestBuildListIsGos compares the zips of a closure with "go list -m all" of the real go command.
func TestBuildListIsGos(t *testing.T) {
	for _, tc := range goMods {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			dir := project(t, tc.goMod, "local/go.mod", "module example.com/hello\n\ngo 1.20\n\nrequire example.com/deep v1.0.0\n")
			c, err := w.sync(dir)
			if err != nil {
				t.Fatal(err)
			}
			if diff := gocmp.Diff(w.goList(dir), zips(c)); diff != "" {
				t.Errorf("zips (-go list -m all +closure):\n%s", diff)
			}
			// And go needs nothing else to say so: the same from the mirror directory alone.
			if diff := gocmp.Diff(w.goList(dir), w.goListFrom(dir, "file://"+w.dir)); diff != "" {
				t.Errorf("go list -m all (-upstream +mirror directory):\n%s", diff)
			}
		})
	}
}

func (w *world) goList(dir string) []string { return w.goListFrom(dir, w.up.URL) }

// goFrom runs the go command in dir with an empty module cache and a proxy, and returns its stdout.
func (w *world) goFrom(dir, proxy string, args ...string) (stdout []byte, err error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	gopath := w.t.TempDir()
	work := "off"
	if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
		work = "auto"
	}
	cmd.Env = append(os.Environ(), "GOPROXY="+proxy, "GOSUMDB="+w.up.GOSUMDB, "GONOSUMDB=corp.example", "GONOPROXY=none", "GOPRIVATE=",
		"GOPATH="+gopath, "GOMODCACHE="+filepath.Join(gopath, "mod"), "GOFLAGS=-modcacherw", "GOWORK="+work, "GOENV=off", "GOTOOLCHAIN=local")
	stdout, err = cmd.Output()
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("go %s from %s: %w\n%s", args[0], proxy, err, e.Stderr)
	}
	return stdout, err
}

func (w *world) goListFrom(dir, proxy string) []string {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "other.mod"), data, 0o644); err != nil { // go may write to it
		w.t.Fatal(err)
	}
	os.Remove(filepath.Join(dir, "other.sum"))
	out, err := w.goFrom(dir, proxy, "list", "-m", "-mod=mod", "-modfile=other.mod", "-json=Path,Version,Main,Replace", "all")
	if err != nil {
		w.t.Fatal(err)
	}
	var list []string
	for dec := json.NewDecoder(strings.NewReader(string(out))); dec.More(); {
		var m struct {
			Path, Version string
			Main          bool
			Replace       *struct{ Path, Version string }
		}
		if err := dec.Decode(&m); err != nil {
			w.t.Fatal(err)
		}
		if m.Replace != nil {
			m.Path, m.Version = m.Replace.Path, m.Replace.Version
		}
		if !m.Main && m.Version != "" {
			list = append(list, m.Path+"@"+m.Version)
		}
	}
	slices.Sort(list)
	return list
}

func TestWrittenButNotSelectedVersionsAreCarried(t *testing.T) {
	w := newWorld(t)
	c, err := w.sync(project(t, head+"require (\n\texample.com/promote v1.0.0\n\texample.com/text v1.0.0\n)\n"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff([]string{"example.com/text@v1.0.0"}, mods(c)); diff != "" {
		t.Errorf("only the go.mod (-want +got):\n%s", diff)
	}
}

func TestClosedClosure(t *testing.T) {
	w := newWorld(t)
	c, err := w.sync("example.com/hello@v1.1.0")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"example.com/check@v1.0.0", "example.com/diff@v1.0.0", "example.com/hello@v1.1.0", "example.com/text@v1.1.0"}
	if diff := gocmp.Diff(want, zips(c)); diff != "" {
		t.Errorf("zips (-want +got):\n%s", diff)
	}
	// In the build closure of a project that outbids text, the closed one also has what promote alone would take.
	dir := project(t, head+"require (\n\texample.com/hello v1.0.0\n\texample.com/text v1.1.0\n)\n")
	w.cfg.Closed = true
	if c, err = w.sync(dir); err != nil {
		t.Fatal(err)
	}
	want = []string{"example.com/hello@v1.0.0", "example.com/text@v1.0.0", "example.com/text@v1.1.0"}
	if diff := gocmp.Diff(want, zips(c)); diff != "" {
		t.Errorf("closed zips (-want +got):\n%s", diff)
	}
}

func TestLatest(t *testing.T) {
	w := newWorld(t)
	for path, want := range map[string]string{
		"example.com/text":     "v1.1.0",              // not the prerelease
		"example.com/hello":    "v1.1.0",              // 1.2.0 retracts itself
		"example.com/incompat": "v2.0.0+incompatible", // since 1.0.0 has no go.mod
	} {
		c, err := w.sync(path + "@latest")
		if err != nil {
			t.Error(err)
			continue
		}
		if got := c.Queries; len(got) != 1 || got[0].Version != want {
			t.Errorf("%s@latest = %v, want %s", path, got, want)
		}
	}
	// @latest is asked only when the list has nothing.
	w.up.Override("example.com/tip/@latest", func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(rw, `{"Version":"v0.0.0-20200102030405-0123456789ab","Time":"2020-01-02T03:04:05Z"}`)
	})
	c, err := w.sync("example.com/tip@latest")
	if err != nil || len(zips(c)) != 1 {
		t.Errorf("tip@latest: %v", err)
	}
	w.up.Override("example.com/tip/@latest", nil)
	w.up.Override("example.com/tip/@v/list", func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(rw, "v0.0.0-20200102030405-0123456789ab\nnot-a-version\nv2.0.0\nv1\n../../evil")
	})
	if c, err = w.sync("example.com/tip@latest"); err != nil || len(zips(c)) != 1 {
		t.Errorf("tip@latest from a list with a pseudo-version and illegal ones: %v", err)
	}
}

func TestRetractedAndDeprecated(t *testing.T) {
	w := newWorld(t)
	c, err := w.sync("example.com/hello@v1.0.0", "example.com/hello@v1.2.0")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, v := range c.Versions {
		if v.Mod.Path == "example.com/hello" {
			got[v.Mod.Version] = fmt.Sprint(v.Retracted, " ", v.Reason, " ", v.Deprecated)
		}
	}
	want := map[string]string{
		"v1.0.0": "true said the wrong thing use example.com/hello/v2.",
		"v1.2.0": "true published too early use example.com/hello/v2.",
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRefusedIsMissing(t *testing.T) {
	for _, tc := range []struct{ path, what string }{
		{"example.com/text/@v/v1.1.0.zip", "zip"},
		{"example.com/text/@v/v1.1.0.info", "info"},
		{"example.com/text/@v/v1.1.0.mod", "go.mod"},
		{"sumdb/" + testproxy.DBName + "/lookup/example.com/text@v1.1.0", "record"},
	} {
		for _, status := range []int{403, 404, 410} {
			t.Run(fmt.Sprint(tc.what, status), func(t *testing.T) {
				w := newWorld(t)
				w.up.Override(tc.path, testproxy.Status(status, "not for you"))
				dir := project(t, head+"require example.com/hello v1.1.0\n")
				c, err := w.sync(dir)
				if err != nil {
					t.Fatal(err)
				}
				if len(c.Missing) != 1 {
					t.Fatalf("missing: %+v, want one", c.Missing)
				}
				m := c.Missing[0]
				chain := strings.Join(m.Chain, " → ")
				wantChain := dir + " → example.com/main → example.com/hello@v1.1.0 → example.com/text@v1.1.0"
				if m.What != tc.what || m.Status != status || !strings.Contains(m.Reason, "not for you") || chain != wantChain {
					t.Errorf("got %+v\nwant %s, %d, chain %s", m, tc.what, status, wantChain)
				}
				for _, v := range c.Versions {
					if v.Mod.Path == "example.com/text" && v.Zip != nil {
						t.Error("the version is carried whole although a file of it is missing")
					}
				}
			})
		}
	}
}

// TestMismatch has an upstream that answers with the wrong bytes.
func TestMismatch(t *testing.T) {
	const text = "example.com/text/@v/v1.1.0"
	lookup := "sumdb/" + testproxy.DBName + "/lookup/example.com/text@v1.1.0"
	dir := project(t, head+"require example.com/hello v1.1.0\n")
	for name, spoil := range map[string]func(*testing.T, *testproxy.Server){
		"zip of another version": func(t *testing.T, s *testproxy.Server) {
			s.Override(text+".zip", copyOf(t, s, "example.com/text/@v/v1.0.0.zip"))
		},
		"not a zip": func(t *testing.T, s *testproxy.Server) { s.Override(text+".zip", content("hello")) },
		"other go.mod": func(t *testing.T, s *testproxy.Server) {
			s.Override(text+".mod", content("module example.com/text\n\ngo 1.19\n"))
		},
		"info of another version": func(t *testing.T, s *testproxy.Server) { s.Override(text+".info", content(`{"Version":"v1.0.0"}`)) },
		"record of another version": func(t *testing.T, s *testproxy.Server) {
			s.Override(lookup, copyOf(t, s, strings.Replace(lookup, "v1.1.0", "v1.0.0", 1)))
		},
		"record with another hash": func(t *testing.T, s *testproxy.Server) {
			good, err := s.Get(lookup)
			if err != nil {
				t.Fatal(err)
			}
			lines := strings.SplitAfter(string(good), "\n")
			lines[1] = "example.com/text v1.1.0 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n"
			s.Override(lookup, content(strings.Join(lines, "")))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			spoil(t, w.up)
			_, err := w.sync(dir)
			if !errors.Is(err, proof.ErrMismatch) || !strings.Contains(err.Error(), "example.com/text") {
				t.Errorf("got %v, want a mismatch that names example.com/text", err)
			}
			for _, f := range []string{".zip", ".mod", ".info"} {
				if strings.Contains(name, "record") || strings.HasPrefix(name, map[string]string{".zip": "zip", ".mod": "other", ".info": "info"}[f]) {
					if _, err := os.Stat(filepath.Join(w.dir, text+f)); err == nil {
						t.Errorf("%s is in the mirror directory", text+f)
					}
				}
			}
		})
	}
}

func TestGoSumMismatch(t *testing.T) {
	w := newWorld(t)
	dir := project(t, head+"require example.com/text v1.1.0\n", "go.sum", "example.com/text v1.1.0 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
	if _, err := w.sync(dir); !errors.Is(err, proof.ErrMismatch) || !strings.Contains(err.Error(), "go.sum says") {
		t.Errorf("got %v, want a mismatch with go.sum", err)
	}
	// A private module rests on go.sum alone, and goes to quarantine when that disagrees.
	dir = project(t, head+"require corp.example/secret v1.0.0\n", "go.sum", "corp.example/secret v1.0.0 h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
	if _, err := w.sync(dir); !errors.Is(err, proof.ErrMismatch) {
		t.Errorf("private: got %v, want a mismatch with go.sum", err)
	}
	if q, err := filepath.Glob(w.dir + "/quarantine/*.reason"); err != nil || len(q) != 1 {
		t.Errorf("quarantine holds %q, %v", q, err)
	}
}

// TestManyHeads: every answer of the test database carries the head of its time. The largest is taken.
func TestManyHeads(t *testing.T) {
	w := newYoungWorld(t)
	c, err := w.sync(project(t, head+"require (\n\texample.com/hello v1.1.0\n\texample.com/unpruned v1.0.0\n)\n"))
	if err != nil {
		t.Fatal(err)
	}
	w.checkHead(c, int64(len(c.Versions))+1) // and hello v1.2.0, which is asked for what it says of others
}

// TestStaleLatest has a record that is new since the upstream's cached /latest.
func TestStaleLatest(t *testing.T) {
	w := newYoungWorld(t)
	if _, err := w.up.Get("sumdb/" + testproxy.DBName + "/lookup/example.com/old@v0.1.0"); err != nil {
		t.Fatal(err)
	}
	stale, err := w.up.Get("sumdb/" + testproxy.DBName + "/latest")
	if err != nil {
		t.Fatal(err)
	}
	w.up.Override("sumdb/"+testproxy.DBName+"/latest", content(string(stale)))
	c, err := w.sync(project(t, head+"require example.com/text v1.1.0\n"))
	if err != nil {
		t.Fatal(err)
	}
	w.checkHead(c, 2)
}

// checkHead checks that all records are below a head of that many.
func (w *world) checkHead(c *Closure, size int64) {
	w.t.Helper()
	if c.Head.N != size {
		w.t.Errorf("head is of %d records, want the largest seen, %d", c.Head.N, size)
	}
	for _, v := range c.Versions {
		if v.Record == nil || v.Record.ID >= c.Head.N {
			w.t.Errorf("%s: record %+v is not below the head", v.Mod, v.Record)
		}
	}
}

// TestForkedDatabase meets a database whose key signs a second history.
func TestForkedDatabase(t *testing.T) {
	w := newYoungWorld(t)
	if _, err := w.sync(project(t, head+"require example.com/hello v1.1.0\n")); err != nil {
		t.Fatal(err)
	}
	fork, err := testproxy.NewWithKey("../testdata/mod", w.up.SignerKey, w.up.GOSUMDB)
	if err != nil {
		t.Fatal(err)
	}
	defer fork.Close()
	for _, m := range []string{"old@v0.1.0", "deep@v1.0.0", "middle@v1.0.0", "fork@v1.0.1", "text@v1.0.0", "UpperCase@v1.0.0"} {
		m = strings.Replace(strings.Replace(m, "U", "!u", 1), "C", "!c", 1)
		if _, err := fork.Get("sumdb/" + testproxy.DBName + "/lookup/example.com/" + m); err != nil {
			t.Fatal(err)
		}
	}
	if w.cfg.Upstream, err = upstream.New(fork.URL, "off", 8); err != nil {
		t.Fatal(err)
	}
	if _, err := w.sync(project(t, head+"require example.com/unpruned v1.0.0\n")); !errors.Is(err, proof.ErrMismatch) {
		t.Errorf("got %v, want a mismatch", err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "example.com/unpruned/@v/v1.0.0.zip")); err == nil {
		t.Error("a zip of the fork is in the mirror directory")
	}
}

func TestWarmSyncAsksForNothing(t *testing.T) {
	w := newWorld(t)
	dir := project(t, head+"require example.com/hello v1.1.0\n")
	first, err := w.sync(dir)
	if err != nil {
		t.Fatal(err)
	}
	before := w.up.Asked("example.com/text/@v/v1.1.0.zip")
	second, err := w.sync(dir)
	if err != nil {
		t.Fatal(err)
	}
	if after := w.up.Asked("example.com/text/@v/v1.1.0.zip"); after != before || before != 1 {
		t.Errorf("zip asked for %d times, then %d, want 1", before, after)
	}
	opts := gocmp.FilterPath(func(p gocmp.Path) bool { return p.String() == "Stats" || p.String() == "newestMods" }, gocmp.Ignore())
	if diff := gocmp.Diff(first, second, opts); diff != "" {
		t.Errorf("closure (-cold +warm):\n%s", diff)
	}
}

// TestDamagedMirrorHeals damages files of the mirror directory: what can be fetched again is.
func TestDamagedMirrorHeals(t *testing.T) {
	w := newWorld(t)
	dir := project(t, head+"require example.com/hello v1.1.0\n")
	first, err := w.sync(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, rel := range []string{
		first.Tiles[0],
		"sumdb/" + testproxy.DBName + "/lookup/example.com/text@v1.1.0",
		"example.com/text/@v/v1.1.0.hashes",
		"example.com/text/@v/v1.1.0.info",
		"example.com/text/@v/v1.1.0.mod",
	} {
		name := filepath.Join(w.dir, rel)
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		clear(data[len(data)/2:])
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	second, err := w.sync(dir)
	if err != nil {
		t.Fatal(err)
	}
	opts := gocmp.FilterPath(func(p gocmp.Path) bool { return p.String() == "Stats" || p.String() == "newestMods" }, gocmp.Ignore())
	if diff := gocmp.Diff(first, second, opts); diff != "" {
		t.Errorf("closure (-before +after):\n%s", diff)
	}
}

func TestModCacheSavesDownloads(t *testing.T) {
	w := newWorld(t)
	dir := project(t, head+"require example.com/text v1.1.0\n")
	cache := t.TempDir()
	cmd := exec.Command("go", "mod", "download", "example.com/text@v1.1.0")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOPROXY="+w.up.URL, "GOSUMDB="+w.up.GOSUMDB, "GOPATH="+t.TempDir(), "GOMODCACHE="+cache, "GOFLAGS=-modcacherw", "GOENV=off", "GONOSUMDB=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	w.cfg.ModCache = cache
	zip := "example.com/text/@v/v1.1.0.zip"
	n := w.up.Asked(zip)
	c, err := w.sync(dir)
	if err != nil || c.Stats.Reused != 1 || w.up.Asked(zip) != n {
		t.Errorf("%v; reused %d, asked again %d times", err, c.Stats.Reused, w.up.Asked(zip)-n)
	}
	// What is damaged in the cache is fetched instead.
	if err := os.WriteFile(filepath.Join(cache, "cache/download", zip), []byte("PK damaged"), 0o644); err != nil {
		t.Fatal(err)
	}
	w2 := newWorld(t)
	w2.cfg.ModCache = cache
	if c, err := w2.sync(dir); err != nil || c.Stats.Reused != 0 {
		t.Errorf("damaged cache: %v", err)
	}
}

func TestWrongModulePath(t *testing.T) {
	w := newWorld(t)
	_, err := w.sync(project(t, head+"require example.com/wrongpath v1.0.0\n"))
	if err == nil || !strings.Contains(err.Error(), "declares its path as example.com/rightpath") {
		t.Errorf("got %v", err)
	}
}

func TestLeftOverTempFilesAreRemoved(t *testing.T) {
	w := newWorld(t)
	left := filepath.Join(w.dir, "tmp", ".modmirror-tmp-X")
	os.MkdirAll(filepath.Dir(left), 0o755)
	if err := os.WriteFile(left, []byte("half"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := w.sync("example.com/text@v1.1.0"); err != nil {
		t.Fatal(err)
	}
	if list, _ := os.ReadDir(filepath.Dir(left)); len(list) != 0 {
		t.Errorf("tmp holds %v", list)
	}
}

func content(s string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s) }
}

func copyOf(t *testing.T, s *testproxy.Server, path string) func(http.ResponseWriter, *http.Request) {
	t.Helper()
	data, err := s.Get(path)
	if err != nil {
		t.Fatal(err)
	}
	return content(string(data))
}

func TestGoAtLeast(t *testing.T) {
	for v, want := range map[string]bool{"1.17": true, "1.16": false, "1.9": false, "1.21.3": true, "1.22rc1": true, "1.17beta1": false, "1.17rc1": false, "1.18rc1": true, "2": true} {
		if got := goAtLeast(v, "1.17"); got != want {
			t.Errorf("goAtLeast(%q) = %v", v, got)
		}
	}
}

// add adds a module to the upstream: path@version, its go.mod below the module line, and files.
func (w *world) add(mod, goMod string, files ...string) {
	w.t.Helper()
	path, version, _ := strings.Cut(mod, "@")
	a := &txtar.Archive{Files: []txtar.File{{Name: "go.mod", Data: []byte("module " + path + "\n\n" + goMod)}}}
	for i := 0; i < len(files); i += 2 {
		a.Files = append(a.Files, txtar.File{Name: files[i], Data: []byte(files[i+1])})
	}
	if err := w.up.Add(path, version, a); err != nil {
		w.t.Fatal(err)
	}
}

// TestGo117 has a project whose tidy asks, for the sake of go 1.16, for a zip that no build needs: the unpruned
// graph selects a newer version of a module whose path is the beginning of an imported one.
func TestGo117(t *testing.T) {
	w := newWorld(t)
	w.add("example.com/p@v1.0.0", "go 1.17\n", "p.go", "package p\n")
	w.add("example.com/p@v1.2.0", "go 1.17\n", "p.go", "package p\n")
	w.add("example.com/p/sub@v1.0.0", "go 1.17\n\nrequire example.com/far v1.0.0\n", "sub.go", "package sub\n")
	w.add("example.com/far@v1.0.0", "go 1.17\n\nrequire example.com/p v1.2.0\n", "far.go", "package far\n")
	w.add("example.com/near@v1.0.0", "go 1.17\n\nrequire (\n\texample.com/p v1.0.0\n\texample.com/p/sub v1.0.0\n)\n", "near.go", "package near\n\nimport _ \"example.com/p/sub\"\n")
	w.tidiesOffline(project(t, "module example.com/main\n\ngo 1.17\n\nrequire example.com/near v1.0.0\n\nrequire example.com/p/sub v1.0.0 // indirect\n",
		"main.go", "package main\n\nimport _ \"example.com/near\"\n\nfunc main() {}\n"))
}

// tidiesOffline syncs a project, and has go tidy and build it from the mirror directory alone.
func (w *world) tidiesOffline(dir string) {
	w.t.Helper()
	if _, err := w.sync(dir); err != nil {
		w.t.Fatal(err)
	}
	w.up.Close() // only the mirror directory is left
	for _, args := range [][]string{{"mod", "tidy"}, {"build", "./..."}, {"mod", "graph"}, {"mod", "why", "-m", "all"}, {"mod", "verify"}} {
		if out, err := w.goFrom(dir, "file://"+w.dir, args...); err != nil {
			w.t.Errorf("go %v: %v\n%s", args, err, out)
		}
	}
}

// TestOddGoModOfALeaf: a go.mod that nothing reads need not be one that can be read.
func TestOddGoModOfALeaf(t *testing.T) {
	w := newWorld(t)
	w.add("example.com/a@v1.0.0", "go 1.20\n\nrequire example.com/leaf v1.0.0\n\nrequire example.com/otherpath v1.0.0 // indirect\n", "a.go", "package a\n")
	w.add("example.com/leaf@v1.0.0", "require (\n", "leaf.go", "package leaf\n")
	if err := w.up.Add("example.com/otherpath", "v1.0.0", &txtar.Archive{Files: []txtar.File{{Name: "go.mod", Data: []byte("module example.com/OtherPath\n")}}}); err != nil {
		t.Fatal(err)
	}
	c, err := w.sync(project(t, head+"require example.com/a v1.0.0\n"))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"example.com/a@v1.0.0", "example.com/leaf@v1.0.0", "example.com/otherpath@v1.0.0"}; !slices.Equal(zips(c), want) {
		t.Errorf("zips %v, want %v", zips(c), want)
	}
	// Closed, no project can start from them, and that is said.
	c, err = w.sync("example.com/a@v1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Notes) != 2 || !strings.Contains(c.Notes[0], "no new project can start from example.com/leaf@v1.0.0") {
		t.Errorf("notes %q", c.Notes)
	}
	if _, err = w.sync("example.com/leaf@v1.0.0"); err == nil || !strings.Contains(err.Error(), "leaf@v1.0.0/go.mod:4: syntax error") {
		t.Errorf("asked for by name: %v", err)
	}
}

// TestClosedFork closes a project over a fork that keeps the path of what it replaces.
func TestClosedFork(t *testing.T) {
	w := newWorld(t)
	w.cfg.Closed = true
	if err := w.up.Add("example.com/forked", "v1.5.0", &txtar.Archive{Files: []txtar.File{{Name: "go.mod", Data: []byte("module example.com/text\n\ngo 1.20\n")}}}); err != nil {
		t.Fatal(err)
	}
	c, err := w.sync(project(t, head+"require example.com/hello v1.1.0\n\nreplace example.com/text => example.com/forked v1.5.0\n"))
	if err != nil || !slices.Contains(zips(c), "example.com/forked@v1.5.0") {
		t.Errorf("%v", err)
	}
}

func TestOldHashOfMadeUpGoMod(t *testing.T) {
	w := newWorld(t)
	if _, err := w.sync(project(t, head+"require example.com/text v1.1.0\n", "go.sum", "example.com/text v1.1.0/go.mod "+emptyGoModH1+"\n")); err != nil {
		t.Error(err)
	}
}

// TestPoisonedModCache: neither a go.mod nor a zip of the module cache is believed against the checksum database.
func TestPoisonedModCache(t *testing.T) {
	w := newWorld(t)
	dir := project(t, head+"require example.com/hello v1.1.0\n")
	cache := t.TempDir()
	down := filepath.Join(cache, "cache", "download", "example.com")
	for name, data := range map[string]string{
		"hello/@v/v1.1.0.mod": "module example.com/hello\n",
		"text/@v/v1.1.0.mod":  "module example.com/text\n\ngo 1.0\n",
		"text/@v/v1.1.0.info": "{}",
	} {
		os.MkdirAll(filepath.Dir(filepath.Join(down, name)), 0o755)
		if err := os.WriteFile(filepath.Join(down, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// A zip of another version, under a .ziphash that agrees with it.
	zip, err := w.up.Get("example.com/text/@v/v1.0.0.zip")
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(down, "text/@v/v1.1.0.zip"), zip, 0o644)
	w.cfg.ModCache = cache
	c, err := w.sync(dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"example.com/check@v1.0.0", "example.com/diff@v1.0.0", "example.com/hello@v1.1.0", "example.com/text@v1.1.0"}; !slices.Equal(zips(c), want) {
		t.Errorf("zips %v, want %v", zips(c), want)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "quarantine")); err == nil {
		t.Error("something is in quarantine")
	}
}

// TestDamagedZip: what is not a zip, or one whose content does not inflate, does not verify.
func TestDamagedZip(t *testing.T) {
	for _, change := range []func([]byte) []byte{
		func([]byte) []byte { return []byte("hello") },
		func(b []byte) []byte { b[len(b)/3] ^= 0x55; return b },
		func(b []byte) []byte { return b[:len(b)-10] },
	} {
		w := newWorld(t)
		path := "example.com/text/@v/v1.1.0.zip"
		zip, err := w.up.Get(path)
		if err != nil {
			t.Fatal(err)
		}
		w.up.Override(path, content(string(change(zip))))
		if _, err := w.sync("example.com/text@v1.1.0"); !errors.Is(err, proof.ErrMismatch) {
			t.Errorf("got %v, want a mismatch", err)
		}
		if list, _ := os.ReadDir(filepath.Join(w.dir, "quarantine")); len(list) != 2 {
			t.Errorf("quarantine holds %v", list)
		}
	}
}

// TestLongDirectory: a zip that is all directory is refused before it is read into memory, by whom
// it is of and why.
func TestLongDirectory(t *testing.T) {
	w := newWorld(t)
	path := "example.com/text/@v/v1.1.0.zip"
	zip, err := w.up.Get(path)
	if err != nil {
		t.Fatal(err)
	}
	at, end := bytes.Index(zip, []byte("PK\x01\x02")), bytes.LastIndex(zip, []byte("PK\x05\x06"))
	directory, record := zip[at:end], bytes.Clone(zip[end:])
	entries, n := binary.LittleEndian.Uint16(record[10:]), 3*h1.MaxDirectory/len(directory)
	for _, i := range []int{8, 10} {
		binary.LittleEndian.PutUint16(record[i:], uint16(n*int(entries)))
	}
	binary.LittleEndian.PutUint32(record[12:], uint32(n*len(directory)))
	long := slices.Concat(zip[:at], bytes.Repeat(directory, n), record)
	w.up.Override(path, content(string(long)))
	_, err = w.sync("example.com/text@v1.1.0")
	if !errors.Is(err, proof.ErrMismatch) || !strings.Contains(err.Error(), "example.com/text@v1.1.0: not a module zip: its directory has more than") {
		t.Errorf("got %v", err)
	}
}

// TestModOfAnotherModule: a go.mod that graph loading cannot use is held against the checksum database first.
func TestModOfAnotherModule(t *testing.T) {
	for _, text := range []string{"module example.com/other\n", "require ("} {
		w := newWorld(t)
		w.up.Override("example.com/text/@v/v1.1.0.mod", content(text))
		if _, err := w.sync(project(t, head+"require example.com/text v1.1.0\n")); !errors.Is(err, proof.ErrMismatch) {
			t.Errorf("got %v, want a mismatch", err)
		}
	}
}

func TestOnly(t *testing.T) {
	w := newWorld(t)
	list := filepath.Join(t.TempDir(), "again.txt")
	os.WriteFile(list, []byte("# To be carried again\nonly example.com/hello@v1.1.0\n"), 0o644)
	c, err := w.sync(list)
	if want := []string{"example.com/hello@v1.1.0"}; err != nil || !slices.Equal(zips(c), want) || len(c.Versions) != 1 {
		t.Errorf("%v, %v", c.Versions, err)
	}
}

// TestChainOfAPromotedRoot: the version that is missing was named by another module, not by the project.
func TestChainOfAPromotedRoot(t *testing.T) {
	w := newWorld(t)
	w.up.Override("example.com/text/@v/v1.1.0.zip", testproxy.Status(404, "gone"))
	c, err := w.sync(project(t, head+"require (\n\texample.com/promote v1.0.0\n\texample.com/text v1.0.0\n)\n"))
	if err != nil || len(c.Missing) != 1 {
		t.Fatal(c, err)
	}
	if got := strings.Join(c.Missing[0].Chain[1:], " "); got != "example.com/main example.com/promote@v1.0.0 example.com/text@v1.1.0" {
		t.Errorf("chain %s", got)
	}
}

// TestLargeGoMod: a go.mod of megabytes is carried like any other when no graph reads it, and not parsed when one does.
func TestLargeGoMod(t *testing.T) {
	w := newWorld(t)
	comments := strings.Repeat("// "+strings.Repeat("x", 97)+"\n", 20_000)
	w.add("example.com/large@v1.0.0", comments+"\ngo 1.20\n", "a.go", "package a\n")
	w.add("example.com/endless@v1.0.0", strings.Repeat("//\n", 2*maxLines), "a.go", "package a\n")
	w.add("example.com/a@v1.0.0", "go 1.20\n\nrequire example.com/endless v1.0.0\n", "a.go", "package a\n")
	c, err := w.sync(project(t, head+"require (\n\texample.com/a v1.0.0\n\texample.com/large v1.0.0\n)\n"))
	if want := []string{"example.com/a@v1.0.0", "example.com/endless@v1.0.0", "example.com/large@v1.0.0"}; err != nil || !slices.Equal(zips(c), want) {
		t.Fatal(err)
	}
	for _, v := range c.Versions {
		data, err := os.ReadFile(filepath.Join(w.dir, v.GoMod.Path))
		if err != nil || int64(len(data)) != v.GoMod.Size {
			t.Errorf("%s: %d bytes, want %d (%v)", v.Mod, len(data), v.GoMod.Size, err)
		}
	}
	if _, err := w.sync("example.com/endless@v1.0.0"); err == nil || !strings.Contains(err.Error(), "lines, more than the limit") {
		t.Errorf("got %v", err)
	}
}

// TestManyMissing: a go.mod that requires more than exists ends the sync, and goroutines do not
// pile up meanwhile.
func TestManyMissing(t *testing.T) {
	w := newWorld(t)
	w.cfg.NoSumDB = "example.com"
	var mod strings.Builder
	mod.WriteString("go 1.20\n\nrequire (\n")
	for i := range maxMissing + 1000 {
		fmt.Fprintf(&mod, "\texample.com/gone%d v1.0.0\n", i)
	}
	mod.WriteString(")\n")
	w.add("example.com/greedy@v1.0.0", mod.String(), "a.go", "package a\n")
	stop, most := make(chan struct{}), make(chan int)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				most <- n
				return
			case <-time.After(time.Millisecond):
				n = max(n, runtime.NumGoroutine())
			}
		}
	}()
	_, err := w.sync("example.com/greedy@v1.0.0")
	close(stop)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("more than %d versions cannot be had", maxMissing)) {
		t.Errorf("got %v", err)
	}
	if n := <-most; n > 5*waiting {
		t.Errorf("%d goroutines", n)
	}
}

// TestLongList: a list of versions that is longer than any is refused.
func TestLongList(t *testing.T) {
	w := newWorld(t)
	for _, n := range []int{maxList - 6, maxList + 6} {
		w.up.Override("example.com/text/@v/list", func(rw http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(rw, strings.Repeat("v1.0.0\n", n/7))
		})
		_, err := w.sync("example.com/text@latest")
		if long := n > maxList; (err != nil) != long || long && !strings.Contains(err.Error(), "longer than the limit") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// TestQueriesAreGos resolves queries and has the go command do the same.
func TestQueriesAreGos(t *testing.T) {
	w := newWorld(t)
	main := func(version string) {
		w.up.Override("example.com/tip/@v/"+version+".info", content(`{"Version":"v0.0.0-20200102030405-0123456789ab","Time":"2020-01-02T03:04:05Z"}`))
	}
	main("main")
	main("0123456")
	for _, v := range []string{"v1.0.0", "v1.0.5", "v1.2.0-pre", "v1.2.0", "v1.3.0-beta", "v1.9.0"} {
		goMod := "go 1.20\n"
		if v == "v1.9.0" {
			goMod += "\nretract [v1.9.0, v1.9.1]\n"
		}
		w.add("example.com/many@"+v, goMod, "m.go", "package many\n")
	}
	for _, v := range []string{"v1.0.0", "v2.0.0+incompatible", "v3.0.0-rc.1+incompatible"} { // without a go.mod
		if err := w.up.Add("example.com/inc", v, &txtar.Archive{Files: []txtar.File{{Name: "i.go", Data: []byte("package inc\n")}}}); err != nil {
			t.Fatal(err)
		}
	}
	w.add("example.com/pre@v1.0.0-rc.1", "go 1.20\n", "p.go", "package pre\n")
	if err := w.up.Add("example.com/pre", "v2.0.0+incompatible", &txtar.Archive{Files: []txtar.File{{Name: "p.go", Data: []byte("package pre\n")}}}); err != nil {
		t.Fatal(err)
	}
	dir := project(t, head)
	for _, q := range []string{
		"inc@latest", "inc@<v4.0.0", "inc@>v1.0.0", "inc@v3", "inc@<v2.0.0", "pre@latest", "pre@v2", "pre@>=v1.0.0", "pre@<v3.0.0",
		"text@latest", "text@upgrade", "text@v1", "text@v1.0", "text@v1.2", "text@>=v1.0.1", "text@>v1.0.0", "text@<v1.1.0", "text@<=v1.1.0", "text@<v1", "text@v1.1.0",
		"many@latest", "many@v1", "many@v1.2", "many@v1.3", "many@>v1.0.0", "many@>=v1.2.0", "many@<v1.2.0", "many@<=v1.9.0", "many@>v1.3.0", "many@>=v1.9.0", "many@v1.9.0", "many@<v1.0.0", "many@v2",
		"many@>v1", "many@<=v1.2", "many@<x", "incompat@latest", "incompat@v2", "incompat@v2.0.0+incompatible", "tip@main", "tip@0123456", "tip@latest", "tip@nosuch", "hello@latest", "old@>=v0.0.1",
	} {
		want := ""
		out, goErr := w.goFrom(dir, w.up.URL, "list", "-m", "-f", "{{.Path}}@{{.Version}}", "example.com/"+q)
		if goErr == nil {
			want = strings.TrimSpace(string(out))
		}
		got := ""
		src, err := ParseSources([]string{"example.com/" + q}, strings.NewReader(""))
		if err == nil {
			m, err1 := Open(context.Background(), w.cfg)
			if err1 != nil {
				t.Fatal(err1)
			}
			var c *Closure
			if c, err = m.Sync(context.Background(), src); err == nil && len(c.Missing) > 0 {
				err = errors.New(c.Missing[0].Reason)
			} else if err == nil {
				for _, z := range zips(c) {
					if path, _, _ := strings.Cut("example.com/"+q, "@"); strings.HasPrefix(z, path+"@") {
						got = z
					}
				}
			}
			m.Close()
		}
		if got != want {
			t.Errorf("%s is %q (%v); go says %q (%v)", q, got, err, want, goErr)
		}
	}
	c, err := w.sync("example.com/many@all")
	if want := "[example.com/many@v1.0.0 example.com/many@v1.0.5 example.com/many@v1.2.0 example.com/many@v1.9.0]"; err != nil || fmt.Sprint(zips(c)) != want {
		t.Errorf("all: %v, %v", zips(c), err)
	}
	if _, err := ParseSources([]string{"example.com/text@patch"}, strings.NewReader("")); err == nil || !strings.Contains(err.Error(), "patch needs a version") {
		t.Errorf("patch: %v", err)
	}
}

// TestWorkspaceIsGos compares the closure of workspaces with what go commands do in them, from the upstream and from the mirror directory.
func TestWorkspaceIsGos(t *testing.T) {
	mod := func(path, rest string) string { return "module " + path + "\n\ngo 1.20\n\n" + rest }
	uses := func(pkgs ...string) string {
		text := "package x\n\n"
		for _, p := range pkgs {
			text += "import _ \"" + p + "\"\n"
		}
		return text
	}
	for _, tc := range []struct {
		name  string
		files []string
	}{
		{"two", []string{"a/go.mod", mod("example.com/wa", "require example.com/text v1.0.0\n"), "a/a.go", uses("example.com/text"),
			"b/go.mod", mod("example.com/wb", "require (\n\texample.com/UpperCase v1.0.0\n\texample.com/wa v0.0.0\n)\n\nreplace example.com/wa => ../a\n"), "b/b.go", uses("example.com/wa", "example.com/UpperCase")}},
		{"outbid", []string{"a/go.mod", mod("example.com/wa", "require example.com/outbid v1.0.0\n"), "a/a.go", uses("example.com/outbid"),
			"b/go.mod", mod("example.com/wb", "require example.com/outbid v1.1.0\n"), "b/b.go", uses("example.com/outbid")}},
		{"outbid deeper", []string{"a/go.mod", mod("example.com/wa", "require example.com/near v1.0.0\n"), "a/a.go", uses("example.com/near"),
			"b/go.mod", mod("example.com/wb", "require (\n\texample.com/near v1.1.0\n\texample.com/outbid v1.2.0\n)\n"), "b/b.go", uses("example.com/near", "example.com/outbid")}},
		{"unpruned", []string{"a/go.mod", "module example.com/wa\n\ngo 1.16\n\nrequire example.com/hello v1.1.0\n", "a/a.go", uses("example.com/hello"),
			"b/go.mod", mod("example.com/wb", "require example.com/unpruned v1.0.0\n"), "b/b.go", uses("example.com/unpruned")}},
		{"replace", []string{"go.work", "go 1.20\n\nuse (\n\t./a\n\t./b\n)\n\nreplace example.com/text => example.com/fork v1.0.1\n",
			"a/go.mod", mod("example.com/wa", "require example.com/text v1.1.0\n\nreplace example.com/text v1.1.0 => ./local\n"), "a/a.go", uses("example.com/text"),
			"a/local/go.mod", "module example.com/text\n",
			"b/go.mod", mod("example.com/wb", "require example.com/hello v1.1.0\n\nexclude example.com/check v1.0.0\n"), "b/b.go", uses("example.com/hello")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.add("example.com/outbid@v1.0.0", "go 1.20\n", "o.go", "package outbid\n")
			w.add("example.com/outbid@v1.1.0", "go 1.20\n\nrequire example.com/middle v1.0.0\n", "o.go", "package outbid\n\nimport _ \"example.com/middle\"\n")
			w.add("example.com/outbid@v1.2.0", "go 1.20\n\nrequire example.com/promote v1.0.0\n", "o.go", "package outbid\n\nimport _ \"example.com/promote\"\n")
			w.add("example.com/near@v1.0.0", "go 1.20\n\nrequire example.com/outbid v1.0.0\n", "n.go", "package near\n\nimport _ \"example.com/outbid\"\n")
			w.add("example.com/near@v1.1.0", "go 1.20\n\nrequire example.com/outbid v1.1.0\n", "n.go", "package near\n\nimport _ \"example.com/outbid\"\n")
			dir := t.TempDir()
			write := func(name, text string) {
				name = filepath.Join(dir, name)
				os.MkdirAll(filepath.Dir(name), 0o755)
				if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			write("go.work", "go 1.20\n\nuse (\n\t./a\n\t./b\n)\n")
			for i := 0; i < len(tc.files); i += 2 {
				write(tc.files[i], tc.files[i+1])
			}
			c, err := w.sync(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range c.Missing {
				t.Errorf("missing %s of %s: %s", m.What, m.Mod, m.Reason)
			}
			for _, args := range [][]string{{"list", "-m", "all"}, {"mod", "graph"}, {"list", "-deps", "-f", "{{with .Module}}{{.Path}}@{{.Version}}{{end}}", "./a/...", "./b/..."}, {"mod", "why", "-m", "all"}, {"mod", "download", "-json"}} {
				online, err := w.goFrom(dir, w.up.URL, args...)
				if err != nil {
					t.Fatalf("online: %v", err)
				}
				offline, err := w.goFrom(dir, "file://"+w.dir, args...)
				if err != nil {
					t.Fatalf("offline: %v", err)
				}
				if args[1] == "download" { // prints the folders of the cache
					continue
				}
				if diff := gocmp.Diff(string(online), string(offline)); diff != "" {
					t.Errorf("go %v (-online +offline):\n%s", args, diff)
				}
			}
		})
	}
}

// TestNamesThatAreNone: somebody's go.mod may require what no module can be. It is missing like what an upstream refuses.
func TestNamesThatAreNone(t *testing.T) {
	w := newWorld(t)
	w.add("example.com/odd@v1.0.0", "go 1.20\n\nrequire (\n\tcommon v0.0.0\n\t\"a b/c\" v0.0.0\n\texample.com/text v1.0.0-"+strings.Repeat("a", 2500)+"\n)\n\nreplace common => ../common\n", "o.go", "package odd\n")
	dir := project(t, head+"require example.com/odd v1.0.0\n")
	for range 2 {
		c, err := w.sync(dir)
		if err != nil {
			t.Fatal(err)
		}
		var missing []string
		for _, m := range c.Missing {
			missing = append(missing, m.Mod.Path+" "+m.What)
		}
		if want := []string{"a b/c go.mod", "common go.mod", "example.com/text go.mod"}; !slices.Equal(missing, want) {
			t.Errorf("missing %q, want %q", missing, want)
		}
	}
	list := filepath.Join(t.TempDir(), "list")
	os.WriteFile(list, []byte("module "+dir+"\nmissing-ok common@v0.0.0\n"), 0o644)
	c, err := w.sync(list)
	if err != nil || !slices.ContainsFunc(c.Missing, func(m Missing) bool { return m.Mod.Path == "common" && m.Allowed }) {
		t.Errorf("missing-ok: %v, %+v", err, c)
	}
}

func TestEmptyGoMod(t *testing.T) {
	w := newWorld(t)
	if err := w.up.Add("example.com/empty", "v1.0.0", &txtar.Archive{Files: []txtar.File{{Name: "go.mod"}, {Name: "e.go", Data: []byte("package empty\n")}}}); err != nil {
		t.Fatal(err)
	}
	w.add("example.com/a@v1.0.0", "go 1.20\n\nrequire example.com/empty v1.0.0\n", "a.go", "package a\n")
	if _, err := w.sync(project(t, head+"require example.com/a v1.0.0\n")); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(filepath.Join(w.dir, "example.com/empty/@v/v1.0.0.mod")); err != nil || st.Size() != 0 {
		t.Error(st, err)
	}
}

func TestTheSameQueryTwice(t *testing.T) {
	w := newWorld(t)
	c, err := w.sync("example.com/none@latest", "example.com/text@latest", "example.com/none@latest", "example.com/text@latest")
	if err != nil || len(c.Missing) != 1 || len(c.Queries) != 1 {
		t.Errorf("%v, missing %v, queries %v", err, c.Missing, c.Queries)
	}
}

// TestToolBesideAModule: the longest path that is a module need not have the command.
func TestToolBesideAModule(t *testing.T) {
	w := newWorld(t)
	w.add("example.com/t@v1.1.0", "go 1.20\n\nrequire example.com/text v1.0.0\n", "cmd/foo/main.go", "package main\n\nimport _ \"example.com/text\"\n\nfunc main() {}\n")
	w.add("example.com/t/cmd@v0.1.0", "go 1.20\n", "bar/main.go", "package main\n\nfunc main() {}\n")
	for _, q := range []string{"latest", "v1", "v1.1.0"} {
		list := filepath.Join(t.TempDir(), "list")
		os.WriteFile(list, []byte("tool example.com/t/cmd/foo@"+q+"\n"), 0o644)
		w.dir = t.TempDir()
		w.cfg.Dir = w.dir
		if _, err := w.sync(list); err != nil {
			t.Fatal(err)
		}
		bin := t.TempDir()
		t.Setenv("GOBIN", bin)
		if _, err := w.goFrom(t.TempDir(), "file://"+w.dir, "install", "example.com/t/cmd/foo@"+q); err != nil {
			t.Errorf("%s: %v", q, err)
		}
	}
}

// TestSameChains: what brings a module in does not depend on chance.
func TestSameChains(t *testing.T) {
	w := newWorld(t)
	dir := project(t, "module example.com/main\n\ngo 1.16\n\nrequire (\n\texample.com/hello v1.1.0\n\texample.com/promote v1.0.0\n\texample.com/text v1.0.0\n)\n\nreplace example.com/text => example.com/absent v1.0.0\n")
	var first []Missing
	for i := range 20 {
		c, err := w.sync(dir)
		if err != nil {
			t.Fatal(err)
		}
		for j := range c.Missing {
			c.Missing[j].Reason = ""
		}
		if i == 0 {
			first = c.Missing
		}
		if diff := gocmp.Diff(first, c.Missing); diff != "" {
			t.Fatal(diff)
		}
	}
}

// TestPruneKeepsProofs: of what is kept the proofs are kept too, however old they are.
func TestPruneKeepsProofs(t *testing.T) {
	w := newWorld(t)
	c, err := w.sync("example.com/hello@v1.1.0")
	if err != nil {
		t.Fatal(err)
	}
	keep := make(map[module.Version]bool)
	for _, v := range c.Versions {
		keep[v.Mod] = true
	}
	old := time.Now().Add(-100 * 24 * time.Hour)
	err = filepath.WalkDir(w.dir, func(name string, _ fs.DirEntry, err error) error {
		return cmp.Or(err, os.Chtimes(name, old, old))
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := Open(t.Context(), w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Prune(t.Context(), 90*24*time.Hour, keep, false)
	m.Close()
	if err != nil || len(p.Versions) > 0 {
		t.Fatal(p, err)
	}
	dir := project(t, "module x\n\ngo 1.20\n\nrequire example.com/hello v1.1.0\n", "x.go", "package x\n")
	if out, err := w.goFrom(dir, "file://"+w.dir, "mod", "download", "example.com/hello@v1.1.0"); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
