package mirror

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/modmirror/modmirror/mirror/sources"
)

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
	// @latest is asked only when the list is empty.
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

// TestQueriesAreGos resolves queries and compares with the go command here.
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
		src, err := sources.Parse([]string{"example.com/" + q}, strings.NewReader(""))
		if err == nil {
			m, err1 := Open(context.Background(), w.cfg)
			if err1 != nil {
				t.Fatal(err1)
			}
			var c *Closure
			if c, err = m.Sync(context.Background(), &Job{Sources: *src}); err == nil && len(c.Missing) > 0 {
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
	if _, err := sources.Parse([]string{"example.com/text@patch"}, strings.NewReader("")); err == nil || !strings.Contains(err.Error(), "patch needs a version") {
		t.Errorf("patch: %v", err)
	}
}

// TestLongList checks the limit of a list's length.
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

func TestTheSameQueryTwice(t *testing.T) {
	w := newWorld(t)
	c, err := w.sync("example.com/none@latest", "example.com/text@latest", "example.com/none@latest", "example.com/text@latest")
	if err != nil || len(c.Missing) != 1 || len(c.Queries) != 1 {
		t.Errorf("%v, missing %v, queries %v", err, c.Missing, c.Queries)
	}
}

// TestToolBesideAModule has a command whose longest module path does not contain it.
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
