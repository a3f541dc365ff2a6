package render

import (
	"context"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"html/template"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// inside is a Worker in this process.
func inside(_ context.Context, in io.Reader, out io.Writer) error { return Work(in, out) }

// file returns a file with a content.
func file(name, content string) *File {
	return &File{Name: name, Size: int64(len(content)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(content)), nil
	}}
}

// do has a request answered in this process.
func do(t *testing.T, req *Request) *Answer {
	t.Helper()
	r := &Renderer{Work: inside}
	defer r.Close()
	a, err := r.Do(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

var at = Context{Base: "/go", Path: "example.com/m", Version: "v1.0.0", Dir: "p", Carried: []string{"example.com/m", "example.com/other", Std}}

const sample = `// Package p is for [Pair], [io.Reader] and <b>.
//
// # Heading
//
// See [example.com/other/q.Thing].
package p

import (
	"io"
	yaml "example.com/other/yaml"
	"gone.example/x"
)

// Sizes.
const (
	Small = iota // not large
	Large
	hidden
)

// Pair has two.
type Pair[K comparable, V any] struct {
	Key   K // first
	Value V
	other yaml.Node
}

// NewPair makes a [Pair].
func NewPair[K comparable, V any](k K, v V) *Pair[K, V] { return &Pair[K, V]{Key: k, Value: v} }

// Write writes. Deprecated: do not.
func (p *Pair[K, V]) Write(w io.Writer, n yaml.Node, x x.Gone, Key string) (Large int, err error) { return 0, nil }

// An Eater eats.
type Eater interface {
	// Eat eats Large things.
	Eat(n int) error
	io.Reader
}

func unexported() {}
`

func TestPackage(t *testing.T) {
	p := do(t, &Request{Context: at, Files: []*File{
		file("p.go", sample), file("p_windows.go", "package p\n\n// Window is for one system.\nfunc Window() {}\n"),
		file("ignored.go", "//go:build ignore\n\npackage main\n"),
		file("p_test.go", "package p\n\nimport \"testing\"\n\nfunc TestNot(t *testing.T) {}\n"),
		file("example_test.go", "package p_test\n\nfunc ExampleNewPair_second() {\n\t// a comment\n\tprintln(1)\n\t// Output: one\n}\n"),
	}}).Package
	if p.Name != "p" || p.Path != "example.com/m/p" || p.Synopsis != "Package p is for Pair, io.Reader and <b>." ||
		p.Platform != "linux/amd64" || !slices.Equal(p.Platforms, []string{"linux/amd64", "windows/amd64"}) ||
		!slices.Equal(p.Files, []string{"p.go"}) || !slices.Equal(p.Imports, []string{"example.com/other/yaml", "gone.example/x", "io"}) {
		t.Errorf("%+v", p)
	}
	contains := func(where string, text any, wants ...string) {
		t.Helper()
		s := ""
		switch text := text.(type) {
		case template.HTML:
			s = string(text)
		case string:
			s = text
		}
		for _, want := range wants {
			if !strings.Contains(s, want) {
				t.Errorf("%s: no %s in\n%s", where, want, s)
			}
		}
	}
	contains("doc", p.Doc.HTML, `<a href="#Pair">Pair</a>`, `<a href="/go/io#Reader">io.Reader</a>`, "&lt;b&gt;", `id="hdr-Heading"`,
		`<a href="/go/example.com/other/q#Thing">`)
	contains("constants", p.Consts[0].HTML, `<span id="Small">Small</span>`, `<span class="c">// not large</span>`)
	if strings.Contains(p.Consts[0].Code, "hidden") {
		t.Error("an unexported constant is shown")
	}
	eater, pair := p.Types[0], p.Types[1]
	contains("interface", eater.HTML, `<span id="Eater.Eat">Eat</span>`, `<a href="/go/io">io</a>.<a href="/go/io#Reader">Reader</a>`)
	contains("struct", pair.HTML, `<span id="Pair.Key">Key</span>`, "contains filtered or unexported fields", "<span class=\"c\">// first</span>")
	contains("function", pair.Funcs[0].HTML, `(k K, v V) *<a href="#Pair">Pair</a>[K, V]`)
	write := pair.Methods[0]
	contains("method", write.HTML, `w <a href="/go/io">io</a>.<a href="/go/io#Writer">Writer</a>`,
		`n <a href="/go/example.com/other/yaml">yaml</a>.<a href="/go/example.com/other/yaml#Node">Node</a>`,
		"x x.Gone", "Key <a href=\"/go/builtin#string\">string</a>", "(Large <a")
	if write.Recv != "Pair" || write.Anchor() != "Pair.Write" || write.File != "p.go" || write.Line != 32 {
		t.Errorf("%+v", write)
	}
	if line := write.Line1(); strings.Contains(line, "\n") || !strings.HasPrefix(line, "func (p *Pair[K, V]) Write(w io.Writer") {
		t.Error(line)
	}
	e := pair.Funcs[0].Examples
	if len(e) != 1 || e[0].Name != "NewPair" || e[0].Suffix != "second" || e[0].Anchor() != "example-NewPair-second" ||
		e[0].Code != "// a comment\nprintln(1)" || e[0].Output != "one\n" {
		t.Errorf("%+v", e)
	}

	p = do(t, &Request{Context: at, GOOS: "windows", GOARCH: "amd64", Files: []*File{
		file("p.go", "package p\n"), file("p_windows.go", "package p\n\n// Window is for one system.\nfunc Window() {}\n"),
	}}).Package
	if p.Platform != "windows/amd64" || len(p.Funcs) != 1 {
		t.Errorf("%+v", p)
	}
}

// TestWholeFileExample expects the comments of an example that is a whole file: go/format loses
// those of a printer.CommentedNode.
func TestWholeFileExample(t *testing.T) {
	p := do(t, &Request{Context: at, Files: []*File{
		file("p.go", "package p\n\nfunc F() {}\n"),
		file("example_test.go", "package p_test\n\nimport (\n\t\"fmt\"\n)\n\ntype T int\n\nfunc ExampleF() {\n\tfmt.Println(1) // why\n}\n"),
	}}).Package
	if e := p.Funcs[0].Examples; len(e) != 1 || !strings.Contains(e[0].Code, "// why") || !strings.Contains(e[0].Code, "type T int") {
		t.Errorf("%+v", e)
	}
}

func TestErrors(t *testing.T) {
	r := &Renderer{Work: inside}
	defer r.Close()
	for _, test := range []struct {
		name string
		req  *Request
		want string
	}{
		{"no files", &Request{Context: at}, "there are no Go files in it"},
		{"no Go", &Request{Context: at, Files: []*File{file("p.go", "not Go")}}, "p.go:1:1: expected 'package', found not"},
		{"too long", &Request{Context: at, Files: []*File{{Name: "p.go", Size: 1, Unread: "too long"}}}, "p.go: too long"},
		{"README", &Request{Context: at, Readme: file("README.md", strings.Repeat("a", MaxReadme+1))}, "it is too long to show"},
	} {
		_, err := r.Do(t.Context(), test.req)
		var ours *Error
		if !errors.As(err, &ours) || err.Error() != test.want {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	// A file that is broken for the parser is named, and the rest shown.
	a, err := r.Do(t.Context(), &Request{Context: at, Files: []*File{
		file("a.go", "package p\n\nfunc A() {}\n"), file("b.go", "package p\n\nfunc B( {\n"),
	}})
	if err != nil || len(a.Package.Unread) != 1 || !strings.Contains(a.Package.Unread[0], "b.go:3") || a.Package.Funcs[0].Name != "A" {
		t.Errorf("%+v %v", a, err)
	}
}

// TestRenderer looks at processes that end, hang, and get files that fail.
func TestRenderer(t *testing.T) {
	ok := &Request{Context: at, Files: []*File{file("p.go", "package p\n")}}
	started := 0
	r := &Renderer{Work: func(ctx context.Context, in io.Reader, out io.Writer) error {
		if started++; started == 1 {
			return errors.New("the parser fails")
		}
		return Work(in, out)
	}}
	if _, err := r.Do(t.Context(), ok); err == nil || err.Error() != "the parser fails" {
		t.Errorf("of a process that ends: %v", err)
	}
	for range 2 {
		if _, err := r.Do(t.Context(), ok); err != nil || started != 2 {
			t.Errorf("%v, %d processes", err, started)
		}
	}
	torn, changed := errors.New("torn"), errors.New("changed")
	bad := &Request{Context: at, Files: []*File{{Name: "p.go", Size: 9, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("pack"), failing{torn})), nil
	}}}}
	if _, err := r.Do(t.Context(), bad); err != torn {
		t.Errorf("of a file that cannot be read: %v", err)
	}
	short := &Request{Context: at, Files: []*File{{Name: "p.go", Size: 99, Open: ok.Files[0].Open}}}
	if _, err := r.Do(t.Context(), short); err != io.ErrUnexpectedEOF {
		t.Errorf("of a file that is short: %v", err)
	}
	other := &Request{Context: at, Files: ok.Files, Check: func() error { return changed }}
	if _, err := r.Do(t.Context(), other); err != changed {
		t.Errorf("of a zip that changed: %v", err)
	}
	if _, err := r.Do(t.Context(), ok); err != nil || started != 5 {
		t.Errorf("%v, %d processes", err, started)
	}
	r.Close()
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestSlow has a process that takes too long, and one that nobody asks any more.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := 0
		r := &Renderer{Work: func(ctx context.Context, in io.Reader, out io.Writer) error {
			<-ctx.Done()
			ended++
			return ctx.Err()
		}}
		start := time.Now()
		_, err := r.Do(t.Context(), &Request{})
		if err == nil || err.Error() != "it takes more than 10s to show" || time.Since(start) != maxTime || ended != 1 {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		r.Work = func(ctx context.Context, in io.Reader, out io.Writer) error {
			defer func() { ended++ }()
			return Work(in, out)
		}
		if _, err := r.Do(t.Context(), &Request{Readme: file("README", "x")}); err != nil {
			t.Error(err)
		}
		time.Sleep(idle + time.Second)
		synctest.Wait()
		if ended != 2 {
			t.Error("an idle process goes on")
		}
	})
}

// TestBlankBodies compares the declarations of all files of packages of the standard library with
// and without bodies.
func TestBlankBodies(t *testing.T) {
	out, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := strings.TrimSpace(string(out))
	names := 0
	for _, pkg := range []string{"net/http", "go/parser", "runtime", "reflect", "encoding/json", "sync/atomic", "text/template"} {
		list, err := filepath.Glob(filepath.Join(root, "src", pkg, "*.go"))
		if err != nil || len(list) == 0 {
			t.Skip("no sources of the standard library here")
		}
		for _, name := range list {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			want := lines(t, name, data)
			blankBodies(data)
			if got := lines(t, name, data); !slices.Equal(got, want) {
				t.Errorf("%s: %d declarations, want %d", name, len(got), len(want))
			}
			names += len(want)
		}
	}
	if names < 5000 {
		t.Errorf("%d declarations were compared", names)
	}
	for in, want := range map[string]string{
		"package p\nfunc F() { a() }\n":                                     "package p\nfunc F() {     }\n",
		"package p\nfunc F(x struct{ A int }) interface{ M() } { a() }\n":   "package p\nfunc F(x struct{ A int }) interface{ M() } {     }\n",
		"package p\nfunc F[T interface{ ~int }](a [2]struct{}) { { x } }\n": "package p\nfunc F[T interface{ ~int }](a [2]struct{}) {       }\n",
		"package p\nvar F = func() { a() }\n":                               "package p\nvar F = func() { a() }\n",
		"package p\nfunc F()\nvar X = T{1}\n":                               "package p\nfunc F()\nvar X = T{1}\n",
		"package p\nfunc F() {\n\ta(\"}\")\n}\ntype T struct{ A int }\n":    "package p\nfunc F() {\n       \n}\ntype T struct{ A int }\n",
		"package p\nfunc F() { {\n":                                         "package p\nfunc F() { {\n",
	} {
		data := []byte(in)
		if blankBodies(data); string(data) != want {
			t.Errorf("%q: %q, want %q", in, data, want)
		}
	}
}

// lines returns what a file declares, with lines.
func lines(t *testing.T, name string, data []byte) (list []string) {
	t.Helper()
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, data, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range declared(f) {
		list = append(list, fset.Position(d.ident.Pos()).String()+d.anchor())
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
			list = append(list, fset.Position(fn.Body.End()).String())
		}
	}
	return list
}

func TestCatalog(t *testing.T) {
	got := do(t, &Request{Context: at, Catalog: []Folder{
		{Dir: "p", Files: []*File{file("p.go", sample), file("p_test.go", "package p\n\nfunc ExampleX() {}\n")}},
		{Dir: "empty", Files: []*File{file("x.go", "//go:build ignore\n\npackage x\n")}},
	}}).Catalog
	want := []string{"Eater", "Large", "NewPair", "Pair", "Pair.Write", "Small"}
	if len(got) != 1 || got[0].Dir != "p" || got[0].Name != "p" || !strings.HasPrefix(got[0].Synopsis, "Package p is for Pair") ||
		!slices.Equal(got[0].Symbols, want) || !slices.Equal(got[0].Imports, []string{"example.com/other/yaml", "gone.example/x", "io"}) {
		t.Errorf("%+v", got)
	}
}

func TestSource(t *testing.T) {
	got := do(t, &Request{Context: at, Source: file("p.go", "package p\n\n// <script>\n/* two\nlines */\nfunc F() string { return `a\nb` }\n\nfunc (T) M() {}\n")}).Source.Lines
	want := []template.HTML{
		`<span class="k">package</span> p`, "", `<span class="c">// &lt;script&gt;</span>`, `<span class="c">/* two</span>`, `<span class="c">lines */</span>`,
		`<span class="k">func</span> <a href="/go/example.com/m@v1.0.0/p#F">F</a>() string { <span class="k">return</span> <span class="s">` + "`a</span>",
		`<span class="s">b` + "`</span> }", "", `<span class="k">func</span> (T) <a href="/go/example.com/m@v1.0.0/p#T.M">M</a>() {}`, "",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want\n%q", got, want)
	}
	got = do(t, &Request{Context: at, Source: file("a.txt", "<a>\r\n"+strings.Repeat("x", maxLine+1))}).Source.Lines
	if len(got) != 2 || got[0] != "&lt;a&gt;" || !strings.HasSuffix(string(got[1]), "x…") || len(got[1]) != maxLine+len("…") {
		t.Errorf("%q", got)
	}
}

// TestReadme expects that no text of a README runs, loads or frames anything.
func TestReadme(t *testing.T) {
	in := at
	in.Dir = ""
	got := string(do(t, &Request{Context: in, Readme: file("README.md", `# Title & more

[relative](docs/a.md#x) [root](/b.md) [up](../../c.md) [out](https://example.org/) [here](#title--more) [bad](javascript:alert(1))
![own](img/a.png) ![theirs](https://example.org/badge.svg)
<script>alert(1)</script><img src=x onerror=alert(1)><iframe src="https://example.org"></iframe><p align="center" style="position:fixed">text</p>
<form action="https://example.org"><input name=q></form><a href="data:text/html,x">data</a><base href="https://example.org/">

| a | b |
|---|---|
| 1 | 2 |
`)}).HTML)
	for _, want := range []string{
		`<h3 id="readme-title--more">Title &amp; more</h3>`, `href="/go/src/example.com/m@v1.0.0/docs/a.md#x"`, `href="/go/src/example.com/m@v1.0.0/b.md"`,
		`href="/go/src/example.com/m@v1.0.0/c.md"`, `href="https://example.org/"`, `href="#readme-title--more"`,
		`src="/go/raw/example.com/m@v1.0.0/img/a.png"`, `<span class="image">theirs</span>`, `<p align="center">text</p>`, "<td>1</td>",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	for _, bad := range []string{"<script", "alert", "onerror", "<iframe", "javascript:", "style=", "<form", "<input", "data:", "<base", `src="https:`} {
		if strings.Contains(got, bad) {
			t.Errorf("%s in\n%s", bad, got)
		}
	}
	if got := do(t, &Request{Context: in, Readme: file("README.txt", "<b>")}).HTML; got != "<pre>&lt;b&gt;</pre>" {
		t.Error(got)
	}
}

// TestProcessEnded expects that a process that has ended between two requests is replaced, and that
// its failure is not taken for one of the texts.
func TestProcessEnded(t *testing.T) {
	ok := &Request{Context: at, Files: []*File{file("p.go", "package p\n")}}
	r := &Renderer{Work: func(_ context.Context, in io.Reader, out io.Writer) error {
		return newConn(in, out).serve()
	}}
	defer r.Close()
	for range 3 {
		if _, err := r.Do(t.Context(), ok); err != nil {
			t.Fatal(err)
		}
	}
	r.Close()
	r.Work = func(context.Context, io.Reader, io.Writer) error { return errors.New("no process") }
	_, err := r.Do(t.Context(), ok)
	if _, failed := errors.AsType[*WorkerError](err); !failed || err.Error() != "no process" {
		t.Errorf("%v", err)
	}
	r.Work = func(context.Context, io.Reader, io.Writer) error { return &Error{"the parser needs more than 512 MiB"} }
	_, err = r.Do(t.Context(), ok)
	if _, ours := errors.AsType[*Error](err); !ours {
		t.Errorf("%v", err)
	}
}

// TestLimits expects that long texts are cut, and that this is said.
func TestLimits(t *testing.T) {
	got := do(t, &Request{Context: at, Source: file("a.txt", strings.Repeat("\n", maxLines+5))}).Source
	if len(got.Lines) != maxLines || !got.Cut {
		t.Errorf("%d lines, cut %v", len(got.Lines), got.Cut)
	}
	var symbols strings.Builder
	symbols.WriteString("// Package p " + strings.Repeat("long ", 1000) + "\npackage p\n")
	for i := range 60_000 {
		symbols.WriteString("\nvar A" + strings.Repeat("x", 50) + strconv.Itoa(i) + " int")
	}
	e := do(t, &Request{Context: at, Catalog: []Folder{{Dir: "p", Files: []*File{file("p.go", symbols.String())}}}}).Catalog[0]
	if n := len(strings.Join(e.Symbols, " ")); n > maxSymbols || n < maxSymbols/2 || len(e.Synopsis) > maxSynopsis+len("…") {
		t.Errorf("%d bytes of symbols, %d of the synopsis", n, len(e.Synopsis))
	}
	p := do(t, &Request{Context: at, Files: []*File{file("p.go", "package p\n\nfunc F("+strings.Repeat("int, ", 100_000)+"int) {}\n")}}).Package
	if f := p.Funcs[0]; len(f.Code) > maxCode+len("…") || len(f.Line1()) > maxLine+len("…") || strings.Contains(string(f.HTML), "<a") {
		t.Errorf("%d bytes of code, %d on a line", len(f.Code), len(f.Line1()))
	}
}
