package mirror

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/testproxy"
	"github.com/modmirror/modmirror/mirror/sources"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// job returns the job of sources.
func job(t *testing.T, args ...string) *Job {
	t.Helper()
	src, err := sources.Parse(args, strings.NewReader(""))
	if err != nil {
		t.Fatal(err)
	}
	return &Job{Sources: *src}
}

// open opens the mirror directory of a world.
func (w *world) open() *Mirror {
	w.t.Helper()
	m, err := Open(w.t.Context(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { m.Close() })
	return m
}

// list writes a list file and returns its name.
func list(t *testing.T, lines ...string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(name, []byte(strings.Join(lines, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

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

// newYoungWorld returns a world whose checksum database adds records when it is asked for them.
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
	src, err := sources.Parse(args, strings.NewReader(""))
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := Open(context.Background(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	defer m.Close()
	return m.Sync(context.Background(), &Job{Sources: *src})
}

// sameClosure compares closures without the time that they took, what is kept for the next round,
// and what earlier syncs saw.
var sameClosure = gocmp.FilterPath(func(p gocmp.Path) bool {
	return p.String() == "Stats" || p.String() == "newestMods" || p.String() == "Seen"
}, gocmp.Ignore())

// project creates a folder with a go.mod and files.
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

// zips and mods return the versions of a closure with their zip, and those without.
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
	if err := os.WriteFile(filepath.Join(dir, "other.mod"), data, 0o644); err != nil { // the go command may write to it
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
