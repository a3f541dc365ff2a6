package mirror

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/testproxy"
)

// TestDamagedMirrorHeals damages files of the mirror directory. A sync fetches them again.
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
	if diff := gocmp.Diff(first, second, sameClosure); diff != "" {
		t.Errorf("closure (-before +after):\n%s", diff)
	}
}

// TestPoisonedModCache checks that neither a go.mod nor a zip of the module cache counts against
// the checksum database.
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
	// This is the zip of another version, with a .ziphash that agrees with it.
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

// TestLargeGoMod checks that a go.mod of megabytes is carried when no graph reads it, and not
// parsed when one does.
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

// FuzzParseInfo checks that an accepted .info file has a canonical version.
func FuzzParseInfo(f *testing.F) {
	f.Add([]byte(`{"Version":"v1.0.0","Time":"2020-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"Version":"v1.0.0","Time":"9999-12-31T23:59:59Z","Origin":{"VCS":"git"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if i, err := parseInfo(data, ""); err == nil && module.CanonicalVersion(i.Version) != i.Version {
			t.Errorf("accepted %q", i.Version)
		}
	})
}

func TestParseInfoRefuses(t *testing.T) {
	for _, data := range []string{
		"", "null", "[]", "<html>", `{"Version":""}`, `{"Version":"main"}`, `{"Version":"v1"}`, `{"Version":"v1.0.1"}`,
		`{"Version":"v1.0.0","Time":"yesterday"}`, `{"Version":"v1.0.0","Time":"1960-01-01T00:00:00Z"}`,
	} {
		if i, err := parseInfo([]byte(data), "v1.0.0"); err == nil {
			t.Errorf("%s: accepted as %+v", data, i)
		}
	}
}
