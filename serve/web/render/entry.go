package render

import (
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	// maxSynopsis is the longest synopsis in bytes.
	maxSynopsis = 500

	// maxSymbols bounds the names of one package in bytes, and maxImports its imports.
	maxSymbols = 2 << 20
	maxImports = 2000
)

// docLink matches a link in a doc comment. The package that knows its names is not made here.
var docLink = regexp.MustCompile(`\[(\*?[\pL_][\pL\pN_./]*)\]`)

// catalog returns the packages of folders, without documentation.
func catalog(req *Request) (list []Entry) {
	for _, folder := range req.Catalog {
		if e, ok := newEntry(&req.Context, folder); ok {
			list = append(list, e)
		}
	}
	return list
}

// newEntry returns the package of a folder. ok is false for none. Only one syntax tree is in memory
// at a time.
func newEntry(ctx *Context, folder Folder) (e Entry, ok bool) {
	defer func() {
		if recover() != nil { // a library, at sources of anybody
			ok = false
		}
	}()
	r := newReader(folder.Files)
	_, names, _ := r.choose("", "")
	var heads []*ast.File // up to their imports
	at := make(map[*ast.File]*File)
	for _, name := range names {
		f, _ := parser.ParseFile(r.fset, name, r.files[name].data, parser.ImportsOnly|parser.ParseComments)
		if f != nil && f.Package.IsValid() && !isTest(r.fset, f) {
			heads = append(heads, f)
			at[f] = r.files[name]
		}
	}
	heads = onePackage(r.fset, heads)
	if len(heads) == 0 {
		return e, false
	}
	c := *ctx
	c.Dir = folder.Dir
	e = Entry{Dir: folder.Dir, Name: heads[0].Name.Name, Imports: importsOf(r.fset, heads)}
	all := c.importPath() == "builtin" // see docOf
	for _, f := range heads {
		if f.Doc != nil && e.Synopsis == "" {
			e.Synopsis = docLink.ReplaceAllString(new(doc.Package).Synopsis(f.Doc.Text()), "$1")
		}
		data := at[f].data
		blankBodies(data)
		tree, _ := parser.ParseFile(token.NewFileSet(), "", data, parser.SkipObjectResolution)
		if tree == nil {
			continue
		}
		for _, name := range declared(tree) {
			if all || !slices.ContainsFunc(name.names, func(s string) bool { return !ast.IsExported(s) }) {
				e.Symbols = append(e.Symbols, strings.Join(name.names, "."))
			}
		}
	}
	slices.Sort(e.Symbols)
	e.Symbols = slices.Compact(e.Symbols)
	size := 0
	for i, s := range e.Symbols {
		if size += len(s) + 1; size > maxSymbols {
			e.Symbols = e.Symbols[:i]
			break
		}
	}
	e.Imports = e.Imports[:min(len(e.Imports), maxImports)]
	e.Synopsis = cut(e.Synopsis, maxSynopsis)
	return e, true
}

// A declaration is a name that a file declares: F, or T and M for a method.
type declaration struct {
	names []string
	ident *ast.Ident
}

// anchor returns the fragment of the declaration on the page of its package.
func (d *declaration) anchor() string { return strings.Join(d.names, ".") }

// declared returns what a file declares at its top level.
func declared(f *ast.File) (list []declaration) {
	add := func(id *ast.Ident, recv string) {
		d := declaration{names: []string{id.Name}, ident: id}
		if recv != "" {
			d.names = []string{recv, id.Name}
		}
		list = append(list, d)
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			add(d.Name, receiver(d))
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				switch spec := spec.(type) {
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						add(name, "")
					}
				case *ast.TypeSpec:
					add(spec.Name, "")
				}
			}
		}
	}
	return list
}

// receiver returns T for a method of T or *T, "" for a function.
func receiver(d *ast.FuncDecl) (name string) {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return ""
	}
	ast.Inspect(d.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name
		}
		return name == ""
	})
	return name
}

// Page returns the path of the folder's page: module@version/dir, or of a package of the standard
// library package@version.
func (c *Context) Page() string {
	switch {
	case c.Path == Std && c.Version != "":
		return c.Dir + "@" + c.Version
	case c.Version == "":
		return c.importPath()
	}
	return path.Join(c.Path+"@"+c.Version, c.Dir)
}
