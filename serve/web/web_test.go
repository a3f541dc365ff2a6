package web_test

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/serve"
	"github.com/modmirror/modmirror/serve/web/render"
	"github.com/modmirror/modmirror/serve/web/search"
)

const maxChanges = 128 << 10 // that of the package

// hostile is a text that must not become markup.
const hostile = `<script>alert(1)</script>"'><img src=x onerror=alert(1)>`

// pages is a module whose texts are hostile.
const pages = `
-- go.mod --
module corp.example/pages

go 1.20
-- README.md --
# Pages

[the code](p/p.go) ![logo](logo.svg) <script>alert(1)</script>
-- logo.svg --
<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>
-- p/p.go --
// Package p is HOSTILE.
package p

import "example.com/text"

// Text is HOSTILE.
const Text = ` + "`HOSTILE`" + ` + text.Hello

// T is a type.
type T struct {
	A int ` + "`json:\"HOSTILE\"`" + `
}

// M is a method.
func (t *T) M() {}
-- p/a"b.go --
package p
-- p/p_test.go --
package p

func ExampleT_M() {
	new(T).M()
	// Output: HOSTILE
}
-- p/sub/testdata/x.go --
package x
-- cmd/tool/main.go --
// Tool does it.
package main

func main() {}
-- broken/b.go --
not HOSTILE
-- data.json --
{}
-- a#b%.txt --
odd
-- binary.bin --
` + "\x00\x01" + `
`

// toolchain is a release of Go.
const toolchain = `
-- go.mod --
module golang.org/toolchain
-- src/io/io.go --
// Package io has readers.
package io

// A Reader reads.
type Reader interface{ Read(p []byte) (n int, err error) }
-- src/builtin/builtin.go --
package builtin

// int is a number.
type int int
-- src/net/http/http.go --
package http

import "io"

// Body is a body.
type Body io.Reader
-- bin/go --
no source
`

// A site is a served bundle with pages.
type site struct {
	t   *testing.T
	url string
}

// newSite serves the modules of testbundle and the hostile one, below /go.
func newSite(t *testing.T, set ...func(*serve.Server)) *site {
	t.Helper()
	tb := testbundle.Make(t, "../../testdata/mod", nil)
	text := strings.NewReplacer("a\"b.go", "ab.go", "`HOSTILE`", "`"+strings.ReplaceAll(hostile, "`", "")+"`", "HOSTILE", hostile).Replace(pages)
	tb.Add(t, "corp.example/pages", "v1.0.0", txtar.Parse([]byte(text+"-- a.sql --\n-- old "+hostile+"\n")))
	tb.Add(t, "corp.example/pages", "v1.1.0", txtar.Parse([]byte(text+"-- AAA.md --\n"+strings.Repeat("a\n", maxChanges)+
		"-- a.sql --\n++ new\n-- new/n.go --\npackage n\n")))
	license, err := os.ReadFile("../../LICENSE")
	if err != nil {
		t.Fatal(err)
	}
	tb.Add(t, "corp.example/licensed", "v1.0.0", &txtar.Archive{Files: []txtar.File{
		{Name: "go.mod", Data: []byte("module corp.example/licensed\n")}, {Name: "COPYING", Data: license},
	}})
	tb.Add(t, "golang.org/toolchain", "v0.0.1-go1.99.1.linux-amd64", txtar.Parse([]byte(toolchain)))
	tb.Contents.Requirements = append(tb.Contents.Requirements, index.Requirement{
		Path: "example.com/hello", Version: "v1.1.0", Requires: "example.com/text", Wanted: "v1.0.0",
	})
	tb.Write(t)
	d, err := search.Open(filepath.Join(t.TempDir(), "search.sqlite"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	ready, searched := make(chan struct{}), make(chan struct{})
	s := &serve.Server{
		Open: func(ctx context.Context) (*store.View, error) {
			return store.OpenFiles(ctx, []string{tb.Path}, tb.Trusted, store.NoState())
		},
		Log: slog.New(slog.NewTextHandler(waiter{"all that is carried can be searched", searched}, nil)), Ready: func(*store.View) { close(ready) }, BasePath: "/go",
		Render: func(_ context.Context, in io.Reader, out io.Writer) error { return render.Work(in, out) }, Search: d,
		API: func(_ context.Context, in io.Reader, out io.Writer) error { return review.WorkAPI(in, out) },
	}
	wants, err := serve.OpenWants(filepath.Join(t.TempDir(), "wants.json"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"gone.example/x/@v/v1.2.3.mod", "gone.example/x/@v/v1.2.3.zip", "example.com/text/@v/v1.1.0.zip"} {
		r, err := modpath.Parse(path)
		if err != nil {
			t.Fatal(err)
		}
		wants.Add(r, netip.MustParseAddr("127.0.0.1"))
	}
	s.Wants = wants
	for _, f := range set {
		f(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	<-ready
	out := &site{t, "http://" + l.Addr().String() + "/go"}
	if s.Search == nil {
		return out
	}
	select {
	case <-searched:
	case <-time.After(20 * time.Second):
		t.Fatal("not all is searched")
	}
	return out
}

// A waiter closes a channel when a text is written.
type waiter struct {
	text string
	seen chan struct{}
}

func (w waiter) Write(p []byte) (int, error) {
	if strings.Contains(string(p), w.text) {
		close(w.seen)
	}
	return len(p), nil
}

// get returns the answer to a request, whose headers are name, value pairs.
func (s *site) get(path string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	req, err := http.NewRequest("GET", s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(body)
}

// TestPages expects what each page has.
func TestPages(t *testing.T) {
	s := newSite(t)
	for _, test := range []struct {
		path   string
		status int
		want   []string
	}{
		{"/", 200, []string{"GOPROXY=&#39;" + s.url, "<a href=\"/go/modules\">", "tester&#43;", "standard library of go1.99.1", `action="/go/search"`}},
		{"/modules", 200, []string{`<a href="/go/corp.example/pages">corp.example/pages</a></td><td>v1.1.0</td><td><a href="/go/corp.example/pages?tab=versions">2</a></td>`, `href="/go/std"`}},
		{"/corp.example/pages", 200, []string{">module<", `href="/go/src/corp.example/pages@v1.1.0/p/p.go"`, `src="/go/raw/corp.example/pages@v1.1.0/logo.svg"`,
			`<a href="/go/corp.example/pages/p">p</a>`, `<a href="/go/corp.example/pages/cmd/tool">cmd/tool</a>`, "go get corp.example/pages@v1.1.0", "signature vouches"}},
		{"/corp.example/pages@v1.0.0", 200, []string{`<a href="/go/corp.example/pages@v1.0.0/p">p</a>`, `<a href="/go/corp.example/pages">v1.1.0 is carried</a>`}},
		{"/corp.example/pages/p", 200, []string{">package<", `id="T.M"`, `id="Text"`, `id="example-T.M"`, `<a href="/go/example.com/text">text</a>.<a href="/go/example.com/text#Hello">`,
			`<a href="/go/src/corp.example/pages@v1.1.0/p/p.go#L15">`}},
		{"/corp.example/pages/p@v1.0.0", 200, []string{">package<", `<a href="/go/src/corp.example/pages@v1.0.0/p/p.go#L7">p.go</a>`}},
		{"/corp.example/pages@v1.0.0/p", 200, []string{">package<"}},
		{"/corp.example/pages/cmd/tool", 200, []string{">command<", "Tool does it."}},
		{"/corp.example/pages/cmd", 200, []string{">folder<", `<a href="/go/corp.example/pages/cmd/tool">tool</a>`}},
		{"/corp.example/pages/broken", 200, []string{"its documentation cannot be shown"}},
		{"/corp.example/pages?tab=versions", 200, []string{`<a href="/go/corp.example/pages@v1.0.0">v1.0.0</a>`}},
		{"/example.com/text?tab=versions", 200, []string{`<a href="/go/example.com/text@v1.1.0">v1.1.0</a>`, "go.mod only"}},
		{"/example.com/text?tab=importedby", 200, []string{"example.com/text is imported by 2 carried modules", `<a href="/go/corp.example/pages">`}},
		{"/corp.example/pages?tab=requires", 200, []string{"no other module."}},
		{"/example.com/hello?tab=requires", 200, []string{`<svg class="graph"`, `<a href="/go/example.com/text"><rect x=`, "example.com/text</a> v1.0.0"}},
		{"/corp.example/pages?tab=diff", 200, []string{"What changed from v1.0.0 to v1.1.0", "package corp.example/pages/new: added", "1 changed, 2 added, 0 removed, 0 moved", "<li>AAA.md</li>", "modmirror diff --code OLD.tar NEW.tar corp.example/pages@v1.0.0 v1.1.0",
			`<span class="del">--- old`, `<span class="add">&#43;&#43;&#43; new`, `<span class="add">&#43;package n`, "As before."}},
		{"/corp.example/pages@v1.0.0?tab=diff", 200, []string{"What changed from v1.1.0 to v1.0.0", "incompatible</strong>", "corp.example/pages/new: removed"}},
		{"/corp.example/pages.json?tab=diff&from=v1.0.0", 200, []string{`"change":{"from":"v1.0.0","api":{"changes":[{"package":"corp.example/pages/new","compatible":true`}},
		{"/corp.example/pages?tab=diff&from=v9.0.0", 404, []string{"corp.example/pages@v9.0.0 is not carried"}},
		{"/example.com/hello?tab=diff", 200, []string{"No other version"}}, {"/std?tab=diff", 200, []string{"No other version"}},
		{"/corp.example/licensed?tab=licenses", 200, []string{"<h3>BSD-3-Clause</h3>", `<a href="/go/src/corp.example/licensed@v1.0.0/COPYING">`, "Copyright 2026 The modmirror Authors"}},
		{"/example.com/hello?tab=licenses", 200, []string{"No file with a license"}},
		{"/example.com/hello", 200, []string{`License <a href="/go/example.com/hello?tab=licenses">MIT</a>`, `<a href="/go/src/example.com/hello@v1.1.0/hello.go">hello.go</a>: os/exec`}},
		{"/src/corp.example/pages@v1.1.0/p/p.go", 200, []string{`id="L13"`, `<a href="/go/corp.example/pages@v1.1.0/p#T">T</a>`, `<a href="/go/corp.example/pages@v1.1.0/p#T.M">M</a>`,
			`<a href="/go/src/corp.example/pages@v1.1.0/p/p_test.go">`}},
		{"/src/corp.example/pages@v1.1.0/binary.bin", 200, []string{"that are no text"}},
		{"/modules?sort=License", 200, []string{`aria-sort="ascending"`}}, {"/modules.csv", 200, []string{"Module,Newest carried,Versions,License\n", "corp.example/pages,v1.1.0,2,NONE\n"}},
		{"/licenses", 200, []string{`<td>MIT</td><td><a href="/go/example.com/hello">example.com/hello</a></td><td><a href="/go/example.com/hello@v1.1.0">v1.1.0</a></td>`, "is not known"}},
		{"/licenses.csv", 200, []string{"License,Module,Version\n", "MIT,example.com/hello,v1.1.0\n"}},
		{"/vulns", 404, []string{"no vulnerability database is carried"}},
		{"/wants", 200, []string{"<td>gone.example/x</td><td>v1.2.3</td><td>2</td>", "maybe gone.example/x@v1.2.3", `<td><a href="/go/example.com/text@v1.1.0">example.com/text</a></td>`, "carried since"}},
		{"/wants.csv", 200, []string{",maybe gone.example/x@v1.2.3\n"}},
		{"/std", 200, []string{"Standard library", `<a href="/go/net/http">net/http</a> <span>`}},
		{"/std@go1.99.1", 200, []string{`<a href="/go/net/http@go1.99.1">net/http</a>`}},
		{"/net/http", 200, []string{">package<", `<a href="/go/io">io</a>.<a href="/go/io#Reader">Reader</a>`, `<a href="/go/src/std@go1.99.1/net/http/http.go">`}},
		{"/net/http@go1.99.1", 200, []string{">package<"}}, {"/net", 200, []string{">folder<"}},
		{"/builtin", 200, []string{"int is a number."}},
		{"/src/std@go1.99.1/net/http/http.go", 200, []string{`<a href="/go/net/http@go1.99.1#Body">Body</a>`}},
		{"/src/std@go1.99.1/bin/go", 404, nil}, {"/net/nothing", 404, []string{"net/nothing is not carried"}},
		{"/search?q=io.Reader", 200, []string{`<a href="/go/io#Reader">Reader</a>`}}, {"/io?tab=importedby", 200, []string{"io is imported by 0 carried modules"}},
		{"/search?q=pages+p", 200, []string{`<a href="/go/corp.example/pages/p">corp.example/pages/p</a>`}},
		{"/search?q=corp.example/pages/p", 302, nil},
		{"/search", 200, []string{"license:MIT"}},
		{"/-/style.css", 200, []string{"prefers-color-scheme"}},
		{"/-/icon.svg", 200, []string{"<svg"}},
		{"/favicon.ico", 200, []string{"<svg"}}, {"/openapi.json", 200, []string{`"/src/{path}"`}},
		{"/feed.atom", 200, []string{"<title>test, sequence 7</title>", "<updated>2023-11-14T22:13:20Z</updated>", "urn:sha256:"}},
		{"/opensearch.xml", 200, []string{`/go/search?q={searchTerms}"`}},
		{"/-/unit.html", 404, nil}, {"/-/../site.go", 404, nil},
		{"/nothing.example/at/all", 404, []string{"nothing.example/at/all is not carried", "add this line to the list outside: nothing.example/at/all@latest"}},
		{"/corp.example/pages@v9.0.0", 404, []string{"corp.example/pages@v9.0.0 is not carried", "carried is v1.1.0"}},
		{"/corp.example/pages/none", 404, nil},
		{"/std@go1.2", 404, []string{"go1.2 is not carried"}},
		{"/src/corp.example/pages@v1.1.0/none.go", 404, []string{"no such file"}},
		{"/src/corp.example/pages@v1.1.0/../../secret", 404, nil},
		{"/raw/corp.example/pages@v1.1.0/p/p.go", 404, []string{"only images"}},
		{"/raw//x.png", 404, nil}, {"/src//x", 404, nil}, {"/src//corp.example/pages@v1.1.0/p/p.go", 200, nil}, {"//corp.example/pages", 200, nil}, {"/" + strings.Repeat("a/", 5000), 404, nil},
		{"/example.com/hello/@v/v1.1.0.foo", 404, []string{"not a path of the GOPROXY protocol"}}, {"/sumdb/x/y", 404, []string{"not a path of the GOPROXY protocol"}},
		{"/src/corp.example/pages@v1.1.0/data.json", 200, []string{"{}"}}, {"/src/corp.example/pages@v1.1.0/a%23b%25.txt", 200, []string{"odd"}}, {"/modules.csv.json", 404, nil},
		{"/@@@", 404, nil}, {"//", 404, nil}, {"/%00", 404, nil}, {"/corp.example/pages@", 200, nil}, {"/corp.example/pages@v1.0.0@v1.1.0", 404, nil},
	} {
		resp, body := s.get(test.path)
		if resp.StatusCode != test.status {
			t.Errorf("%s: %d, want %d\n%.300s", test.path, resp.StatusCode, test.status, body)
			continue
		}
		for _, want := range test.want {
			if !strings.Contains(body, want) {
				t.Errorf("%s: no %s in\n%s", test.path, want, body)
			}
		}
	}
	// What the page says is at an address is there.
	link := regexp.MustCompile(`(?:href|src|action)="(/go/[^"#]*)`)
	for _, path := range []string{"/", "/corp.example/pages", "/corp.example/pages@v1.0.0", "/corp.example/pages/p", "/src/corp.example/pages@v1.1.0/p/p.go", "/src/corp.example/pages@v1.1.0/data.json", "/modules", "/licenses"} {
		_, body := s.get(path)
		for _, m := range link.FindAllStringSubmatch(body, -1) {
			if resp, _ := s.get(strings.TrimPrefix(m[1], "/go")); resp.StatusCode != 200 && m[1] != "/go/vulns" {
				t.Errorf("%s has a link to %s: %d", path, m[1], resp.StatusCode)
			}
		}
	}
}

// TestPagesApart has pages on a listener of their own.
func TestPagesApart(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(s *serve.Server) { s.Pages, s.Requests = l, true })
	apart := &site{t, "http://" + l.Addr().String() + "/go"}
	const mod = "/example.com/hello/@v/v1.1.0.mod"
	for _, test := range []struct {
		s      *site
		path   string
		status int
		want   string
	}{
		{s, "/", 200, "a Go module proxy"}, {s, mod, 200, "module example.com/hello"},
		{s, "/corp.example/pages", 404, "not a path of the GOPROXY protocol"}, {s, "/wants", 404, "not a path"},
		{apart, "/", 200, "GOPROXY=&#39;" + s.url + "&#39;"}, {apart, mod, 200, "module example.com/hello"},
		{apart, "/corp.example/pages", 200, ">module<"},
	} {
		resp, body := test.s.get(test.path)
		if resp.StatusCode != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s%s: %d\n%.300s", test.s.url, test.path, resp.StatusCode, body)
		}
	}
	resp, err := http.PostForm(s.url+"/wants", url.Values{"module": {"example.org/x"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 404 {
		t.Errorf("a wish where no pages are: %s", resp.Status)
	}
}

// TestAPIFails has a process that fails for a reason of its own: the next visitor has better luck.
func TestAPIFails(t *testing.T) {
	asked := 0
	s := newSite(t, func(s *serve.Server) {
		s.API = func(_ context.Context, _ io.Reader, out io.Writer) error {
			asked++
			if asked == 3 {
				out.Write(make([]byte, 5<<20))
				return errors.New("killed by a signal")
			}
			return [...]error{errors.New("no processes left"), &render.Error{Why: "too deep"}}[asked-1]
		}
	})
	for i, want := range []string{
		"pages cannot be made now", "Not compared: corp.example/pages@v1.1.0: what it exports cannot be compared: too deep",
		"too deep", "Not compared: more than 4 MiB of differences",
	} {
		status := map[bool]int{true: 503, false: 200}[i == 0]
		path := map[bool]string{true: "@v1.0.0", false: ""}[i == 3]
		if resp, body := s.get("/corp.example/pages" + path + "?tab=diff"); resp.StatusCode != status || !strings.Contains(body, want) {
			t.Errorf("visit %d: %d\n%s", i, resp.StatusCode, body)
		}
	}
}

// TestHostileTexts expects that no text of a module becomes markup, and the headers that bound what a
// page can do.
func TestHostileTexts(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{
		"/", "/modules", "/licenses", "/wants", "/licenses?sort=%22%3E%3Cscript", "/corp.example/pages", "/corp.example/pages/p", "/corp.example/pages/broken", "/src/corp.example/pages@v1.1.0/p/p.go",
		"/search?q=script", "/search?q=" + "%3Cscript%3Ealert(1)%3C/script%3E%22", "/%3Cscript%3Ealert(1)%3C/script%3E", "/corp.example/pages@%3Cscript%3Ealert(1)",
		"/src/corp.example/pages@v1.1.0/%3Cscript%3E", "/corp.example/pages?tab=%3Cscript%3E", "/corp.example/pages?tab=diff", "/corp.example/pages?tab=diff&from=%3Cscript%3E", "/example.com/hello?tab=requires",
		"/corp.example/pages/p?GOOS=%3Cscript%3E&GOARCH=%22onload=alert(1)",
	} {
		resp, body := s.get(path)
		for _, bad := range []string{"<script", "<img src=x", "onerror=\"", " onload="} {
			if strings.Contains(body, bad) {
				t.Errorf("%s: %s in\n%s", path, bad, body)
			}
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
			"X-Content-Type-Options":  "nosniff", "Referrer-Policy": "no-referrer", "Set-Cookie": "", "Content-Type": "text/html; charset=utf-8",
		} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", path, name, got, want)
			}
		}
	}
	resp, _ := s.get("/raw/corp.example/pages@v1.1.0/logo.svg")
	if got := resp.Header.Get("Content-Security-Policy"); resp.Header.Get("Content-Type") != "image/svg+xml" || !strings.Contains(got, "sandbox") {
		t.Errorf("an image: %q", got)
	}
}

// TestJSON expects the content of pages as JSON, by the header or by the name.
func TestJSON(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{"/", "/modules", "/search?q=pages", "/licenses", "/wants", "/corp.example/pages/p", "/src/corp.example/pages@v1.1.0/p/p.go", "/nothing.example/x"} {
		resp, body := s.get(path, "Accept", "application/json")
		if !json.Valid([]byte(body)) || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s", path, body)
		}
	}
	resp, body := s.get("/corp.example/pages/p.json")
	var u struct {
		Path, Version string
		Package       render.Package
	}
	if err := json.Unmarshal([]byte(body), &u); err != nil || u.Path != "corp.example/pages/p" || u.Version != "v1.1.0" || len(u.Package.Types) != 1 ||
		u.Package.Types[0].Methods[0].Examples[0].Code != "new(T).M()" {
		t.Errorf("%d %v\n%s", resp.StatusCode, err, body)
	}
}

// TestCaching expects gzip for those who take it, and 304 for those who have the page.
func TestCaching(t *testing.T) {
	s := newSite(t)
	_, plain := s.get("/corp.example/pages/p", "Accept-Encoding", "identity")
	for range 2 {
		resp, packed := s.get("/corp.example/pages/p", "Accept-Encoding", "br, gzip;q=0.5")
		z, err := gzip.NewReader(strings.NewReader(packed))
		if err != nil || resp.Header.Get("Content-Encoding") != "gzip" {
			t.Fatalf("%v %v", err, resp.Header)
		}
		if unpacked, err := io.ReadAll(z); err != nil || string(unpacked) != plain {
			t.Errorf("%v\n%s", err, unpacked)
		}
		if resp, body := s.get("/corp.example/pages/p", "If-None-Match", resp.Header.Get("ETag")); resp.StatusCode != 304 || body != "" {
			t.Errorf("%d %q", resp.StatusCode, body)
		}
	}
	resp, _ := s.get("/corp.example/pages/p")
	tag := resp.Header.Get("ETag")
	for _, list := range []string{"*", `"x", ` + tag, strings.TrimPrefix(tag, "W/")} {
		if resp, _ := s.get("/corp.example/pages/p", "If-None-Match", list); resp.StatusCode != 304 {
			t.Errorf("If-None-Match: %s: %d", list, resp.StatusCode)
		}
	}
	if resp, _ := s.get("/corp.example/pages/p", "Accept-Encoding", "gzip;q=0.0"); resp.Header.Get("Content-Encoding") != "" {
		t.Error("gzip for somebody who does not take it")
	}
	if resp, _ := s.get("/"); resp.Header.Get("Cache-Control") != "no-store" {
		t.Error("the first page, which has the address that the browser used, may be kept")
	}
}

// TestWithoutPages expects no page, and what a go command asks for.
func TestWithoutPages(t *testing.T) {
	tb := testbundle.Make(t, "../../testdata/mod", nil)
	v, err := store.OpenFiles(t.Context(), []string{tb.Path}, tb.Trusted, store.NoState())
	if err != nil {
		t.Fatal(err)
	}
	defer v.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: serve.NewHandler(v, slog.New(slog.DiscardHandler), nil)}
	go srv.Serve(l)
	defer srv.Close()
	s := &site{t, "http://" + l.Addr().String()}
	if resp, body := s.get("/example.com/hello"); resp.StatusCode != 404 || body != "not a path of the GOPROXY protocol\n" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if resp, _ := s.get("/example.com/hello/@v/list"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

// TestTurns expects that one page is made at a time, that who waits too long is told so, and that
// downloads go on.
func TestTurns(t *testing.T) {
	release, asked := make(chan struct{}), make(chan struct{}, 10)
	s := newSite(t, func(s *serve.Server) {
		s.Render = func(ctx context.Context, in io.Reader, out io.Writer) error {
			return render.Work(&slow{in, asked, release}, out)
		}
		s.Search = nil
	})
	first := make(chan string, 1)
	go func() {
		_, body := s.get("/corp.example/pages/p")
		first <- body
	}()
	<-asked
	start := time.Now()
	if resp, body := s.get("/corp.example/pages/cmd/tool"); resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" || !strings.Contains(body, "try again") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if waited := time.Since(start); waited < 2*time.Second || waited > 9*time.Second {
		t.Errorf("it waited %v", waited)
	}
	if resp, _ := s.get("/example.com/hello/@v/v1.1.0.zip"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	close(release)
	if body := <-first; !strings.Contains(body, `id="T.M"`) {
		t.Errorf("the page that the others waited for:\n%s", body)
	}
	if resp, _ := s.get("/corp.example/pages/cmd/tool"); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
}

// A slow reader says when it is asked, and waits for its release.
type slow struct {
	io.Reader
	asked   chan<- struct{}
	release <-chan struct{}
}

func (s *slow) Read(p []byte) (int, error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-s.release
	return s.Reader.Read(p)
}

// TestAsk expects that the form takes what a list can name, from this site alone, and keeps the reason on
// one line.
func TestAsk(t *testing.T) {
	s := newSite(t, func(s *serve.Server) { s.Requests = true })
	post := func(path, form string, headers ...string) (int, string) {
		req, err := http.NewRequest("POST", s.url+path, strings.NewReader(form))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	for _, test := range []struct {
		form    string
		headers []string
		status  int
	}{
		{"module=new.example/m@v1.0.0&reason=for+<b>%0Aus", []string{"Sec-Fetch-Site", "same-origin"}, 303},
		{"module=%20new.example/n%20", nil, 303},
		{"module=new.example/evil&reason=x", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"module=new.example/evil", []string{"Origin", "https://elsewhere.example"}, 403},
		{"module=nodots", nil, 400}, {"module=", nil, 400}, {"module=new.example/m@%3Cscript%3E", nil, 400}, {"module=new.example/m&reason=" + strings.Repeat("x", 201), nil, 400},
		{"module=new.example/m&reason=" + strings.Repeat("x", 5000), nil, 400}, {"%zz", nil, 400},
	} {
		if status, body := post("/wants", test.form, test.headers...); status != test.status || strings.Contains(body, "<script") {
			t.Errorf("%.80s %q: %d, want %d\n%s", test.form, test.headers, status, test.status, body)
		}
	}
	if status, _ := post("/modules", "module=new.example/m"); status != 405 {
		t.Errorf("a POST elsewhere: %d", status)
	}
	_, body := s.get("/wants")
	for _, want := range []string{`method="post" action="/go/wants"`, "<td>for &lt;b&gt; us</td><td>maybe new.example/m@v1.0.0</td>", "<td>maybe new.example/n@latest</td>"} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	if strings.Contains(body, "evil") {
		t.Error("another site asked for something")
	}
	closed := newSite(t)
	s = closed
	if status, _ := post("/wants", "module=new.example/m"); status != 405 {
		t.Errorf("without --requests: %d", status)
	}
	if _, body := s.get("/wants"); strings.Contains(body, "<form class=\"wish\"") {
		t.Error("there is a form without --requests")
	}
}
