package render

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/doc"
	"go/doc/comment"
	"go/format"
	"go/parser"
	"go/printer"
	"go/token"
	"html"
	"html/template"
	"io"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/modmirror/modmirror/internal/modpath"
)

// Std is the path under which the standard library is shown.
const Std = "std"

// A Text is a doc comment.
type Text struct {
	HTML template.HTML `json:"-"`
	Text string        `json:"text"`
}

// A Decl is a declaration, without the bodies of functions.
type Decl struct {
	HTML  template.HTML `json:"-"`
	Code  string        `json:"code"`
	Doc   Text          `json:"doc"`
	Names []string      `json:"names"` // of constants or variables; else one
	File  string        `json:"file"`
	Line  int           `json:"line"`
}

// A Func is a function or a method.
type Func struct {
	Decl
	Name     string    `json:"name"`
	Recv     string    `json:"recv,omitempty"` // type of the receiver, without a star
	Examples []Example `json:"examples,omitempty"`
}

// Anchor returns the fragment of the function: F, or T.M.
func (f Func) Anchor() string {
	if f.Recv != "" {
		return f.Recv + "." + f.Name
	}
	return f.Name
}

// Line1 returns the declaration on one line, for an index.
func (f Func) Line1() string {
	fields := strings.Fields(f.Code)
	line := strings.Join(fields[:min(len(fields), 200)], " ")
	return short(strings.ReplaceAll(strings.ReplaceAll(line, "( ", "("), ", )", ")"))
}

// A Type is a type, with what belongs to it.
type Type struct {
	Decl
	Name     string    `json:"name"`
	Consts   []Decl    `json:"consts,omitempty"`
	Vars     []Decl    `json:"vars,omitempty"`
	Funcs    []Func    `json:"funcs,omitempty"`
	Methods  []Func    `json:"methods,omitempty"`
	Examples []Example `json:"examples,omitempty"`
}

// An Example is an example from a test file.
type Example struct {
	Name   string `json:"name"` // of what it is for, "" for the package
	Suffix string `json:"suffix,omitempty"`
	Doc    string `json:"doc,omitempty"`
	Code   string `json:"code"`
	Output string `json:"output,omitempty"`
}

// Anchor returns the fragment of the example, as on pkg.go.dev.
func (e Example) Anchor() string {
	a := "example-" + cmp.Or(e.Name, "package")
	if e.Suffix != "" {
		a += "-" + e.Suffix
	}
	return a
}

// A Package is the documentation of a package.
type Package struct {
	Path      string              `json:"path"`
	Name      string              `json:"name"`
	Synopsis  string              `json:"synopsis"`
	Doc       Text                `json:"doc"`
	Platform  string              `json:"platform"`  // GOOS/GOARCH that is shown
	Platforms []string            `json:"platforms"` // those that differ
	Consts    []Decl              `json:"consts,omitempty"`
	Vars      []Decl              `json:"vars,omitempty"`
	Funcs     []Func              `json:"funcs,omitempty"`
	Types     []Type              `json:"types,omitempty"`
	Examples  []Example           `json:"examples,omitempty"`
	Notes     map[string][]string `json:"notes,omitempty"` // by kind, such as BUG
	Files     []string            `json:"files"`           // of the platform
	Imports   []string            `json:"imports"`
	Unread    []string            `json:"unread,omitempty"` // files that are left out, and why
}

// platforms are the platforms that are looked at, the first one by default.
var platforms = []string{
	"linux/amd64", "windows/amd64", "darwin/arm64", "linux/arm64", "freebsd/amd64", "js/wasm",
}

// A reader reads the files of a package for one platform.
type reader struct {
	files map[string]*File
	fset  *token.FileSet
	bad   []string
}

// ErrNoPackage reports that a folder has no Go files for any platform.
var ErrNoPackage = errors.New("there are no Go files in it")

// match returns the names of the files that are of a platform, those of tests too, sorted.
func (r *reader) match(goos, goarch string) (names []string) {
	b := build.Default
	b.GOOS, b.GOARCH, b.CgoEnabled, b.BuildTags = goos, goarch, true, nil
	b.JoinPath = path.Join
	b.OpenFile = func(name string) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(r.files[path.Base(name)].data)), nil
	}
	for _, name := range slices.Sorted(maps.Keys(r.files)) {
		if match, err := b.MatchFile(".", name); match && err == nil {
			names = append(names, name)
		}
	}
	return names
}

// buildable reports whether any of the files belongs to the package itself.
func buildable(names []string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return !strings.HasSuffix(n, "_test.go") })
}

// newReader returns a reader of the files of a folder. It leaves out tests without examples.
func newReader(files []*File) *reader {
	r := &reader{files: make(map[string]*File), fset: token.NewFileSet()}
	for _, f := range files {
		switch {
		case f.Unread != "":
			r.bad = append(r.bad, f.Name+": "+f.Unread)
		case !strings.HasSuffix(f.Name, "_test.go") || bytes.Contains(f.data, []byte("\nfunc Example")):
			r.files[f.Name] = f
		}
	}
	return r
}

// choose returns the platform to show with its files, and those that differ.
func (r *reader) choose(goos, goarch string) (chosen string, names, differ []string) {
	var seen [][]string
	list := platforms
	if want := goos + "/" + goarch; goos != "" && goarch != "" && !slices.Contains(list, want) {
		list = append(slices.Clone(list), want)
	}
	for _, p := range list {
		os, arch, _ := strings.Cut(p, "/")
		files := r.match(os, arch)
		if !buildable(files) {
			continue
		}
		same := slices.ContainsFunc(seen, func(s []string) bool { return slices.Equal(s, files) })
		if !same {
			seen, differ = append(seen, files), append(differ, p)
		}
		if chosen == "" || os == goos && arch == goarch {
			chosen, names = p, files
		}
	}
	return chosen, names, differ
}

// parse parses files, those that are not of tests without the bodies of functions.
func (r *reader) parse(names []string) (files []*ast.File) {
	for _, name := range names {
		test := strings.HasSuffix(name, "_test.go")
		if !test {
			blankBodies(r.files[name].data)
		}
		f, err := parser.ParseFile(r.fset, name, r.files[name].data, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			r.bad = append(r.bad, fmt.Sprintf("%.300v", err))
		}
		if f == nil || !f.Package.IsValid() || f.Name.Name == "_" { // no package clause
			continue
		}
		if !test {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok {
					fn.Body = nil
				}
			}
		}
		files = append(files, f)
	}
	return onePackage(r.fset, files)
}

// onePackage returns the files of the package that has most of them, and its tests.
func onePackage(fset *token.FileSet, files []*ast.File) []*ast.File {
	count := make(map[string]int)
	var most string
	for _, f := range files {
		if name := f.Name.Name; !isTest(fset, f) && name != "documentation" {
			if count[name]++; count[name] > count[most] {
				most = name
			}
		}
	}
	return slices.DeleteFunc(files, func(f *ast.File) bool {
		name := f.Name.Name
		return name != most && (!isTest(fset, f) || name != most+"_test")
	})
}

func isTest(fset *token.FileSet, f *ast.File) bool {
	return strings.HasSuffix(fset.Position(f.Package).Filename, "_test.go")
}

// importPath returns the import path of the folder.
func (c *Context) importPath() string {
	if c.Path == Std {
		return c.Dir
	}
	return path.Join(c.Path, c.Dir)
}

// newPackage returns the documentation of a package.
func newPackage(req *Request) (*Package, error) {
	r := newReader(req.Files)
	chosen, names, differ := r.choose(req.GOOS, req.GOARCH)
	if chosen == "" {
		if r.bad != nil {
			return nil, errors.New(strings.Join(r.bad, "; "))
		}
		return nil, ErrNoPackage
	}
	files := r.parse(names)
	if len(files) == 0 {
		return nil, errors.New(strings.Join(r.bad, "; "))
	}
	imports := importsOf(r.fset, files)
	d, err := docOf(r.fset, files, req.importPath())
	if err != nil {
		return nil, err
	}
	w := newWriter(req, r.fset, d, files)
	p := &Package{
		Path: req.importPath(), Name: d.Name, Synopsis: d.Synopsis(d.Doc), Doc: w.text(d.Doc),
		Platform: chosen, Platforms: differ, Imports: imports, Unread: r.bad,
		Consts: w.values(d.Consts), Vars: w.values(d.Vars), Funcs: w.funcs(d.Funcs), Examples: w.examples(d.Examples),
	}
	for _, t := range d.Types {
		p.Types = append(p.Types, Type{
			Decl: w.decl(t.Decl, t.Doc), Name: t.Name,
			Consts: w.values(t.Consts), Vars: w.values(t.Vars), Funcs: w.funcs(t.Funcs), Methods: w.funcs(t.Methods),
			Examples: w.examples(t.Examples),
		})
	}
	for _, name := range names {
		if !strings.HasSuffix(name, "_test.go") {
			p.Files = append(p.Files, name)
		}
	}
	for kind, notes := range d.Notes {
		for _, n := range notes {
			if p.Notes == nil {
				p.Notes = make(map[string][]string)
			}
			p.Notes[kind] = append(p.Notes[kind], strings.TrimSpace(n.Body))
		}
	}
	return p, nil
}

// docOf is doc.NewFromFiles. The packages builtin and unsafe declare what is not exported, too.
func docOf(fset *token.FileSet, files []*ast.File, importPath string) (*doc.Package, error) {
	var mode doc.Mode
	if importPath == "builtin" {
		mode = doc.AllDecls
	}
	return doc.NewFromFiles(fset, files, importPath, mode)
}

// importsOf returns the sorted import paths of files that are not of tests.
func importsOf(fset *token.FileSet, files []*ast.File) (list []string) {
	for _, f := range files {
		if isTest(fset, f) {
			continue
		}
		for _, spec := range f.Imports {
			list = append(list, strings.Trim(spec.Path.Value, "\"`"))
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// A writer writes the parts of one package.
type writer struct {
	ctx     *Context
	fset    *token.FileSet
	doc     *doc.Package
	parser  *comment.Parser
	printer *comment.Printer
	types   map[string]bool              // names that the package exports, but for methods and fields
	imports map[string]map[string]string // by file: import paths by name
}

func newWriter(req *Request, fset *token.FileSet, d *doc.Package, files []*ast.File) *writer {
	w := &writer{
		ctx: &req.Context, fset: fset, doc: d, parser: d.Parser(), printer: d.Printer(),
		types: make(map[string]bool), imports: make(map[string]map[string]string),
	}
	w.printer.HeadingLevel = 4
	w.printer.DocLinkURL = w.docLink
	w.printer.HeadingID = func(h *comment.Heading) string { return h.DefaultID() }
	for _, f := range files {
		names := make(map[string]string)
		for _, spec := range f.Imports {
			importPath := strings.Trim(spec.Path.Value, "\"`")
			if spec.Name != nil {
				names[spec.Name.Name] = importPath
			} else {
				names[modpath.PackageName(importPath)] = importPath
			}
		}
		w.imports[fset.Position(f.Package).Filename] = names
	}
	declared := func(names []string) {
		for _, n := range names {
			w.types[n] = true
		}
	}
	for _, v := range slices.Concat(d.Consts, d.Vars) {
		declared(v.Names)
	}
	for _, f := range d.Funcs {
		w.types[f.Name] = true
	}
	for _, t := range d.Types {
		w.types[t.Name] = true
		for _, v := range slices.Concat(t.Consts, t.Vars) {
			declared(v.Names)
		}
		for _, f := range t.Funcs {
			w.types[f.Name] = true
		}
	}
	return w
}

// docLink returns the URL of a link in a doc comment. Links to what is not carried lead to a page
// that says how to have it carried.
func (w *writer) docLink(l *comment.DocLink) string {
	name := l.Name
	if l.Recv != "" {
		name = l.Recv + "." + l.Name
	}
	if name != "" {
		name = "#" + name
	}
	if l.ImportPath == "" || l.ImportPath == w.doc.ImportPath {
		return cmp.Or(name, "#")
	}
	return w.ctx.Base + "/" + l.ImportPath + name
}

// text returns a doc comment.
func (w *writer) text(s string) Text {
	if s == "" {
		return Text{}
	}
	return Text{HTML: template.HTML(w.printer.HTML(w.parser.Parse(s))), Text: s}
}

// values returns declarations of constants or variables.
func (w *writer) values(list []*doc.Value) (out []Decl) {
	for _, v := range list {
		d := w.decl(v.Decl, v.Doc)
		d.Names = v.Names
		out = append(out, d)
	}
	return out
}

func (w *writer) funcs(list []*doc.Func) (out []Func) {
	for _, f := range list {
		f.Decl.Body = nil
		out = append(out, Func{
			Decl: w.decl(f.Decl, f.Doc), Name: f.Name, Examples: w.examples(f.Examples),
			Recv: strings.TrimLeft(strings.SplitN(f.Recv, "[", 2)[0], "*"),
		})
	}
	return out
}

// maxCode is the longest declaration in bytes that is shown whole, and with links.
const maxCode = 256 << 10

// decl returns a declaration.
func (w *writer) decl(n ast.Decl, text string) Decl {
	pos := w.fset.Position(n.Pos())
	code := w.print(n)
	if len(code) > maxCode {
		code = cut(code, maxCode)
		return Decl{HTML: template.HTML(html.EscapeString(code)), Code: code, Doc: w.text(text), File: pos.Filename, Line: pos.Line}
	}
	return Decl{HTML: w.link(n, code, pos.Filename), Code: code, Doc: w.text(text), File: pos.Filename, Line: pos.Line}
}

// print prints a node as gofmt would.
func (w *writer) print(n any) string {
	var b strings.Builder
	if err := format.Node(&b, w.fset, n); err != nil {
		return err.Error()
	}
	return b.String()
}

// examples returns examples with their code and output.
func (w *writer) examples(list []*doc.Example) (out []Example) {
	for _, e := range list {
		out = append(out, Example{
			Name:   strings.ReplaceAll(strings.TrimSuffix(strings.TrimSuffix(e.Name, e.Suffix), "_"), "_", "."),
			Suffix: e.Suffix, Doc: e.Doc, Code: w.exampleCode(e), Output: e.Output,
		})
	}
	return out
}

// exampleCode returns the code of an example: a whole file, or the inside of its block.
func (w *writer) exampleCode(e *doc.Example) string {
	if file, whole := e.Code.(*ast.File); whole { // as a CommentedNode it would lose its comments
		return strings.TrimSpace(w.print(file))
	}
	code := strings.TrimSpace(w.print(&printer.CommentedNode{Node: e.Code, Comments: e.Comments}))
	code = strings.TrimSuffix(strings.TrimPrefix(code, "{"), "}")
	code = strings.ReplaceAll(code, "\n\t", "\n")
	if i := outputComment(code); i >= 0 && (e.Output != "" || e.EmptyOutput) {
		code = code[:i]
	}
	return strings.TrimSpace(code)
}

// outputComment returns where the comment with the output of an example begins, -1 for none.
func outputComment(code string) int {
	lower := strings.ToLower(code)
	i := max(strings.LastIndex(lower, "// output:"), strings.LastIndex(lower, "// unordered output:"), strings.LastIndex(lower, "//output:"))
	return i
}
