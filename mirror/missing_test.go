package mirror

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/modmirror/modmirror/internal/testproxy"
)

// TestNear has versions that do not exist, and what may be meant by them.
func TestNear(t *testing.T) {
	w := newWorld(t)
	w.add("example.com/major/v2@v2.1.0", "go 1.20\n", "m.go", "package major\n")
	w.up.Override("example.com/tagless/@v/list", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Write([]byte("v0.0.0-20200102030405-0123456789ab\n"))
	})
	for arg, want := range map[string]string{
		"example.com/text@v1.0.1":    "did you mean example.com/text@v1.1.0?",
		"example.com/text@1.1.0":     "did you mean example.com/text@v1.1.0? Versions begin with v",
		"example.com/text@1.0.9":     "did you mean example.com/text@v1.1.0? Versions begin with v",
		"example.com/text@main":      "it has versions: example.com/text@latest, or one of them",
		"example.com/tagless@main":   "it has no tags; its newest commit is example.com/tagless@v0.0.0-20200102030405-0123456789ab",
		"example.com/major@v2.1.0":   "did you mean example.com/major/v2@v2.1.0?",
		"example.com/text/sub@v1":    "is that a package of the module example.com/text? Name the module, or a command with a line: tool example.com/text/sub@v1",
		"elsewhere.example/x@latest": "",
	} {
		c, err := w.sync(arg)
		if err != nil || len(c.Missing) != 1 || !c.Missing[0].Named || c.Missing[0].Near != want {
			t.Errorf("%s: %+v, %v, want %s", arg, c, err, want)
		}
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

// TestManyMissing checks that a go.mod with too many requirements that do not exist ends the sync,
// and that goroutines do not pile up.
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

// TestNamesThatAreNone has a go.mod that requires names that no module can have. They are missing
// like files that an upstream refuses.
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

// TestChainOfAPromotedRoot checks that the chain of a missing version begins with the module that
// named it, not with the project.
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

// TestSameChains checks that chains do not depend on chance.
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
