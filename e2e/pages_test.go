package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// modules are those whose packages are compared with go doc, at versions that this repository does
// not choose anew.
var modules = []string{
	"github.com/spf13/cobra@v1.9.1", "golang.org/x/text@v0.24.0", "golang.org/x/sys@v0.32.0", "github.com/mattn/go-sqlite3@v1.14.24",
	"github.com/gofrs/uuid@v4.4.0+incompatible", "github.com/cenkalti/backoff/v4@v4.3.0", "github.com/google/uuid@v1.6.0",
	"golang.org/x/exp@v0.0.0-20250408133849-7e4ce0ab07d0", "github.com/inconshreveable/mousetrap@v1.1.0", "go.uber.org/zap@v1.27.0",
	"github.com/pkg/errors@v0.9.1", "golang.org/x/tools@v0.32.0", "github.com/prometheus/client_golang@v1.22.0", "golang.org/x/sync@v0.13.0",
}

// older is another version of one of them, to compare.
const older = "golang.org/x/text@v0.23.0"

// packages are compared with what go doc prints: large ones, generic ones, with cgo, of many files
// and platforms, internal ones, commands, of major versions, +incompatible, without a README.
var packages = []string{
	"net/http", "builtin", "unsafe", "iter", "slices", "sync/atomic", "os/user", "syscall", "runtime/cgo", "internal/abi", "cmd/gofmt", "go/ast",
	"encoding/json", "testing", "reflect", "crypto/tls",
	"github.com/spf13/cobra", "github.com/spf13/cobra/doc", "golang.org/x/text/language", "golang.org/x/text/internal/number", "golang.org/x/sys/unix",
	"github.com/mattn/go-sqlite3", "github.com/gofrs/uuid", "github.com/cenkalti/backoff/v4", "github.com/google/uuid", "golang.org/x/exp/constraints",
	"github.com/inconshreveable/mousetrap", "go.uber.org/zap", "github.com/pkg/errors", "golang.org/x/tools/cmd/goimports", "golang.org/x/tools/go/ast/inspector",
	"github.com/prometheus/client_golang/prometheus", "golang.org/x/sync/errgroup",
}

// pages serves the modules and the toolchain that is here, and returns the URL.
func pages(t *testing.T) (m *machine, url string) {
	t.Helper()
	m = newMachine(t)
	// Without the race detector, which serve/web has: this is mostly parsing.
	m.program = filepath.Join(m.dir, "modmirror")
	if out, err := exec.Command("go", "build", "-C", "..", "-o", m.program, "./cmd/modmirror").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	m.env = append(m.env, "GOFLAGS=-mod=mod -modcacherw", "GOTOOLCHAIN=local", "GOMODCACHE="+goEnv("GOMODCACHE"), "GOWORK=off")
	project := filepath.Join(m.dir, "project")
	if err := os.Mkdir(project, 0o777); err != nil {
		t.Fatal(err)
	}
	text := "module example.com/project\n\ngo 1.23\n"
	for _, mod := range modules {
		path, version, _ := strings.Cut(mod, "@")
		text += "require " + path + " " + version + "\n"
	}
	if err := os.WriteFile(filepath.Join(project, "go.mod"), []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	if out, err := m.run(m.program, "sync", "-q", "-o", "pages.tar", "--toolchain", goEnv("GOVERSION"), "project", older); err != nil {
		if strings.Contains(out, "modmirror doctor tells more") {
			t.Skip("the configured GOPROXY does not answer")
		}
		t.Fatal(out)
	}
	m.must("sh", "-c", "modmirror key show >key.pub && modmirror trust add key.pub")
	p, url := m.serve("here", "pages.tar")
	for end := time.Now().Add(4 * time.Minute); !strings.Contains(p.out.String(), "all that is carried can be searched"); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not all is searched")
		}
	}
	return m, url
}

// TestPages looks at the pages of real modules.
func TestPages(t *testing.T) {
	t.Parallel()
	m, url := pages(t)
	t.Run("GoDoc", func(t *testing.T) { besideGoDoc(t, m, url) })
	t.Run("OpenAPI", func(t *testing.T) { described(t, url) })
	t.Run("Browser", func(t *testing.T) { inBrowser(t, url) })
	t.Run("Accessible", func(t *testing.T) { accessible(t, m, url) })
}

// besideGoDoc expects each line that go doc prints of a package, and each example, on its
// page.
func besideGoDoc(t *testing.T, m *machine, url string) {
	godoc := filepath.Join(m.dir, "godoc")
	if out, err := exec.Command("go", "build", "-o", godoc, "./godoc").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := m.run("sh", "-c", "cd project && go mod download"); err != nil {
		t.Fatal(out)
	}
	cmd := exec.Command(godoc, append([]string{url}, packages...)...)
	cmd.Dir, cmd.Env = filepath.Join(m.dir, "project"), m.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	t.Logf("%s", bytes.TrimSpace(out))
}

// described expects that the answers are what the server's OpenAPI file says.
func described(t *testing.T, url string) {
	_, text, _, err := get(url + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	doc := parsed(t, text)
	for path, as := range map[string]string{
		"/": "/", "/search?q=http.Handler": "/search", "/modules": "/modules", "/licenses": "/licenses", "/wants": "/wants", "/net/http": "/{path}",
		"/github.com/spf13/cobra": "/{path}", "/go.uber.org/zap?tab=requires": "/{path}", "/io?tab=importedby": "/{path}", "/golang.org/x/text?tab=versions": "/{path}",
		"/golang.org/x/text?tab=diff": "/{path}", "/github.com/spf13/cobra?tab=licenses": "/{path}",
		"/src/golang.org/x/sync@v0.13.0/errgroup/errgroup.go": "/src/{path}",
	} {
		c := jsonschema.NewCompiler()
		if err := c.AddResource("openapi.json", doc); err != nil {
			t.Fatal(err)
		}
		schema, err := c.Compile("openapi.json#/paths/" + strings.ReplaceAll(as, "/", "~1") + "/get/responses/200/content/application~1json/schema")
		if err != nil {
			t.Fatal(err)
		}
		status, text, _, err := get(url+path, "Accept", "application/json")
		if err != nil || status != 200 {
			t.Fatalf("%s: %d %v", path, status, err)
		}
		if err := schema.Validate(parsed(t, text)); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A browser is Chromium with what it reports.
type browser struct {
	context.Context
	t        *testing.T
	url      string
	problems []string // of the console, and requests that leave the server
}

// newBrowser starts Chromium.
func newBrowser(t *testing.T, url string) *browser {
	t.Helper()
	need(t, "chromium")
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.WindowSize(1280, 900)) // its folder is removed when it has ended
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 3*time.Minute)
	t.Cleanup(cancel)
	b := &browser{Context: ctx, t: t, url: url}
	chromedp.ListenTarget(ctx, func(event any) {
		switch e := event.(type) {
		case *log.EventEntryAdded:
			b.problems = append(b.problems, fmt.Sprintf("%s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL))
		case *runtime.EventConsoleAPICalled, *runtime.EventExceptionThrown:
			b.problems = append(b.problems, fmt.Sprintf("%+v", e))
		case *network.EventRequestWillBeSent:
			if to := e.Request.URL; !strings.HasPrefix(to, url+"/") && to != "about:blank" {
				b.problems = append(b.problems, "a request to "+to)
			}
		}
	})
	b.do(log.Enable(), network.Enable(), runtime.Enable())
	return b
}

// do runs actions that must not fail.
func (b *browser) do(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// see waits for an element and returns its text.
func (b *browser) see(selector string) (text string) {
	b.t.Helper()
	b.do(chromedp.WaitVisible(selector, chromedp.ByQuery), chromedp.Text(selector, &text, chromedp.ByQuery))
	return text
}

// at returns the address without the server.
func (b *browser) at() (path string) {
	b.t.Helper()
	b.do(chromedp.Location(&path))
	return strings.TrimPrefix(path, b.url)
}

// inBrowser does in Chromium what people do, with and without JavaScript: search, open a package,
// follow a symbol to its source and back, copy the settings.
func inBrowser(t *testing.T, url string) {
	for _, script := range []bool{true, false} {
		b := newBrowser(t, url)
		b.do(emulation.SetScriptExecutionDisabled(!script), chromedp.Navigate(url+"/"))
		if text := b.see(".shells pre"); !strings.Contains(text, "GOPROXY='"+url+"'") {
			t.Errorf("settings: %s", text)
		}
		b.do(chromedp.SendKeys("#q", "errgroup\r", chromedp.ByQuery))
		if text := b.see(".results li:first-child h2"); text != "golang.org/x/sync/errgroup" {
			t.Errorf("the first result of errgroup: %s", text)
		}
		b.do(chromedp.Click(".results li:first-child h2 a", chromedp.ByQuery))
		if text := b.see(".unit h1"); !strings.HasPrefix(text, "errgroup") || b.at() != "/golang.org/x/sync/errgroup" {
			t.Errorf("%s at %s", text, b.at())
		}
		b.do(chromedp.Click(`[id="Group.Go"] a`, chromedp.ByQuery))
		b.see(".code")
		at := b.at()
		if !strings.HasPrefix(at, "/src/golang.org/x/sync@v0.13.0/errgroup/errgroup.go#L") {
			t.Errorf("the source of Group.Go is at %s", at)
		}
		b.do(chromedp.Click(`a[href$="#Group.Go"]`, chromedp.ByQuery))
		b.see(".unit h1") // other pages have another h1
		if at := b.at(); at != "/golang.org/x/sync@v0.13.0/errgroup#Group.Go" {
			t.Errorf("back from the source: %s", at)
		}
		b.do(chromedp.Navigate(url + "/net/http#Client.Do"))
		if text := b.see(`[id="Client.Do"]`); !strings.Contains(text, "Do") {
			t.Error(text)
		}
		b.do(chromedp.Click(`[id="example-FileServer"] summary`, chromedp.ByQuery))
		b.see(`[id="example-FileServer"] pre`)
		for _, problem := range b.problems {
			t.Errorf("JavaScript %v: %s", script, problem)
		}
	}
}

// looks are the ways in which the pages are looked at.
var looks = []struct {
	name          string
	width, height int64
	dark, phone   bool
}{
	{"light", 1280, 900, false, false}, {"dark", 1280, 900, true, false}, {"phone", 390, 844, false, true}, {"phone-dark", 390, 844, true, true},
}

// shown are the kinds of pages.
var shown = []struct{ name, path string }{
	{"start", "/"}, {"search", "/search?q=http.Handler"}, {"nothing", "/search?q=zzzz"}, {"modules", "/modules"}, {"licenses", "/licenses"}, {"wants", "/wants"}, {"module", "/github.com/spf13/cobra"},
	{"package", "/net/http"}, {"versions", "/github.com/spf13/cobra?tab=versions"}, {"requires", "/go.uber.org/zap?tab=requires"},
	{"importedby", "/io?tab=importedby"}, {"std", "/std"}, {"source", "/src/golang.org/x/sync@v0.13.0/errgroup/errgroup.go"}, {"missing", "/gone.example/x"},
	{"diff", "/golang.org/x/text?tab=diff"}, {"license", "/github.com/spf13/cobra?tab=licenses"},
}

// accessible expects that axe-core finds nothing serious on any page in any look, that no page
// is wider than a phone, and, with PAGES_SCREENSHOTS set to a folder, leaves pictures there.
func accessible(t *testing.T, m *machine, url string) {
	need(t, "npm")
	m.must("npm", "pack", "--silent", "axe-core@4.14.1")
	m.must("tar", "xzf", "axe-core-4.14.1.tgz", "package/axe.min.js")
	axe, err := os.ReadFile(filepath.Join(m.dir, "package", "axe.min.js"))
	if err != nil {
		t.Fatal(err)
	}
	b := newBrowser(t, url)
	b.do(page.Enable())
	minor, rules := make(map[string]bool), 0
	for _, look := range looks {
		scheme := "light"
		if look.dark {
			scheme = "dark"
		}
		b.do(emulation.SetDeviceMetricsOverride(look.width, look.height, 1, look.phone),
			emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
			}))
		for _, p := range shown {
			var result struct {
				Violations []struct {
					ID, Impact, Help string
					Nodes            []struct{ HTML, FailureSummary string }
				}
				Passes []json.RawMessage
			}
			var wide int64
			b.do(chromedp.Navigate(url+p.path), chromedp.WaitReady("main", chromedp.ByQuery),
				chromedp.Evaluate("document.documentElement.scrollWidth", &wide),
				chromedp.Evaluate(string(axe)+"\n;undefined", nil),
				chromedp.Evaluate("axe.run()", &result, func(p *runtime.EvaluateParams) *runtime.EvaluateParams { return p.WithAwaitPromise(true) }))
			rules += len(result.Passes)
			if wide > look.width {
				t.Errorf("%s, %s: %d pixels wide", p.name, look.name, wide)
			}
			for _, v := range result.Violations {
				if v.Impact != "serious" && v.Impact != "critical" {
					minor[v.ID+": "+v.Help] = true
					continue
				}
				t.Errorf("%s, %s: %s: %s (%d times), first %.300s\n%s", p.name, look.name, v.ID, v.Help, len(v.Nodes), v.Nodes[0].HTML, v.Nodes[0].FailureSummary)
			}
			if dir := os.Getenv("PAGES_SCREENSHOTS"); dir != "" {
				var png []byte
				b.do(chromedp.CaptureScreenshot(&png))
				if err := os.WriteFile(filepath.Join(dir, p.name+"-"+look.name+".png"), png, 0o666); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	t.Logf("axe-core 4.14.1: %d rules passed on %d pages in %d looks; minor: %v", rules, len(shown), len(looks), minor)
	for _, problem := range b.problems {
		if !strings.HasSuffix(problem, "/gone.example/x") { // the page that says that it is not carried
			t.Error(problem)
		}
	}
}
