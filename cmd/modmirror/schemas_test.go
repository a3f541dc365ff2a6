package main

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/modmirror/modmirror/internal/testproxy"
	"github.com/modmirror/modmirror/serve"
)

// TestOldSchemas takes bundles with older versions of the schema, made by older modmirrors, through
// every command that reads one, and makes deltas to them: these have the newest version, and carry
// the line on.
func TestOldSchemas(t *testing.T) {
	for version := 1; version < index.SchemaVersion; version++ {
		t.Run(fmt.Sprint(version), func(t *testing.T) { testOldSchema(t, version) })
	}
}

func testOldSchema(t *testing.T, version int) {
	const from = "../../index/testdata/schema1"
	made := fmt.Sprintf("../../index/testdata/schema%d", version)
	keys, err := os.ReadFile(filepath.Join(from, "sumdb.key"))
	if err != nil {
		t.Fatal(err)
	}
	skey, vkey, _ := strings.Cut(strings.TrimSpace(string(keys)), "\n")
	up, err := testproxy.NewWithKey(filepath.Join(from, "mod"), skey, vkey)
	if err != nil {
		t.Fatal(err)
	}
	defer up.Close()
	for _, m := range []module.Version{
		{Path: "example.com/one", Version: "v1.0.0"},
		{Path: "example.com/one", Version: "v1.1.0"},
		{Path: "example.com/two", Version: "v1.0.0"},
	} {
		if err := up.Record(m); err != nil {
			t.Fatal(err)
		}
	}
	m := newMachine(t, "GONOSUMDB=", "GONOPROXY=none", "GOPRIVATE=", "GOFLAGS=-modcacherw", "GOTOOLCHAIN=local",
		"GOPROXY="+up.URL, "GOSUMDB="+up.GOSUMDB, "SOURCE_DATE_EPOCH=1700604800")
	dir := m.dir
	m.env = append(m.env, "XDG_CACHE_HOME="+dir+"/cache", "GOPATH="+dir+"/go", "GOMODCACHE="+dir+"/go/pkg/mod")
	run := func(want string, args ...string) string {
		t.Helper()
		out, code := m.run(args...)
		if code != 0 || !strings.Contains(out, want) {
			t.Fatalf("modmirror %s: exit code %d; want %q in\n%s", strings.Join(args, " "), code, want, out)
		}
		return strings.TrimSpace(out)
	}
	key, err := os.ReadFile(filepath.Join(made, "team.pub"))
	if err != nil {
		t.Fatal(err)
	}
	testbundle.WriteFile(t, filepath.Join(dir, "team-1.tar"), testbundle.Gunzip(t, filepath.Join(made, "team.tar.gz")))
	if v := userVersion(t, filepath.Join(dir, "team-1.tar")); v != version {
		t.Fatalf("the bundle has version %d of the schema", v)
	}
	run("", "trust", "add", strings.TrimSpace(string(key)))
	run("", "key", "new", "--name", "tester")
	public := run("tester+", "key", "show")
	run("", "trust", "add", public)

	run("", "verify", "--deep", "team-1.tar")
	run("sequence 1700", "info", "team-1.tar")
	run("example.com/one\tv1.0.0", "list", "team-1.tar")
	run(`"path":"example.com/one"`, "list", "--json", "team-1.tar")
	run("example.com/one@v1.0.0", "why", "team-1.tar", "example.com/one")
	run("example.com/one\tv1.0.0\tNONE", "facts", "team-1.tar")
	run("NONE", "report", "team-1.tar")
	run("example.com/one", "sbom", "--licenses", "team-1.tar")
	run("", "extract", "-d", "tree", "team-1.tar")
	run("", "extract", "--catalog", "-d", "media", "team-1.tar")

	run("", "sync", "--name", "team", "-o", "team-2.tar", "--base", "team-1.tar", "example.com/two@v1.0.0", "example.com/one@v1.1.0")
	run("", "sync", "--name", "team", "-o", "again.tar", "--base", "media/team.manifest", "--mirror", "mirror2",
		"example.com/two@v1.0.0", "example.com/one@v1.1.0")
	delta, again := filepath.Join(dir, "team-2.tar"), filepath.Join(dir, "again.tar")
	if v := userVersion(t, delta); v != index.SchemaVersion {
		t.Errorf("the delta has version %d of the schema", v)
	}
	one, err1 := os.ReadFile(delta)
	two, err2 := os.ReadFile(again)
	if err1 != nil || err2 != nil || !bytes.Equal(one, two) {
		t.Errorf("the deltas to the bundle and to its catalog differ (%v, %v)", err1, err2)
	}
	run("delta to", "info", "team-2.tar")
	run("example.com/one\tv1.0.0", "list", "team-2.tar")
	run("example.com/two\tv1.0.0", "list", "team-2.tar")
	run("example.com/two", "diff", "team-1.tar", "team-2.tar")
	run("", "verify", "--deep", "team-1.tar", "team-2.tar")
	run("", "import", "--store", "store", "team-1.tar")
	run("", "import", "--store", "store", "team-2.tar")
	run("", "verify", "--deep", "store")
	run("", "sync", "--name", "team", "-o", "team-3.tar", "--base", "team-2.tar,team-1.tar", "--full", "example.com/two@v1.0.0")
	run("", "verify", "--deep", "team-3.tar")

	// A go command gets modules of both bundles from one server, and their proofs.
	v, err := store.OpenFiles(t.Context(), []string{filepath.Join(dir, "team-1.tar"), delta},
		trust.NewKeyring(strings.TrimSpace(string(key)), public), store.NoState())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	srv := httptest.NewServer(serve.NewHandler(v, slog.New(slog.DiscardHandler), nil))
	defer srv.Close()
	cmd := exec.Command("go", "mod", "download", "-json", "example.com/one@v1.0.0", "example.com/one@v1.1.0", "example.com/two@v1.0.0")
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "GOENV=off", "GOFLAGS=-modcacherw", "GOPATH="+cmd.Dir, "GOMODCACHE="+cmd.Dir+"/mod",
		"GOPROXY="+srv.URL, "GOSUMDB="+up.GOSUMDB, "GONOSUMDB=", "GONOPROXY=none", "GOPRIVATE=", "GOTOOLCHAIN=local")
	out, err := cmd.CombinedOutput()
	if err != nil || strings.Count(string(out), `"GoModSum"`) != 3 {
		t.Errorf("go mod download: %v\n%s", err, out)
	}
}

// userVersion returns the version of the schema in a bundle's index, which begins behind the
// manifest.
func userVersion(t *testing.T, file string) int {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	const indexAt = 512 + 16<<10 + 512
	return int(data[indexAt+63])
}
