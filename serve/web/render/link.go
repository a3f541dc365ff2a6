package render

import (
	"go/ast"
	"go/scanner"
	"go/token"
	"html"
	"html/template"
	"iter"
	"slices"
	"strings"
)

// A mark is what an identifier gets: a link, or an anchor.
type mark struct{ href, id string }

// link returns the code of a declaration as HTML: names link to where they are declared, and what
// it declares has an anchor.
func (w *writer) link(n ast.Decl, code, file string) template.HTML {
	marks := w.marks(n, w.imports[file])
	if idents := countIdents(code); idents != len(marks) {
		marks = nil // the printer wrote other names than the tree has: better none than wrong ones
	}
	var b strings.Builder
	at, i := 0, 0
	for t := range tokens(code) {
		if t.tok != token.COMMENT && (t.tok != token.IDENT || marks == nil) {
			continue
		}
		b.WriteString(html.EscapeString(code[at:t.from]))
		text := html.EscapeString(code[t.from:t.to])
		at = t.to
		if t.tok == token.COMMENT {
			b.WriteString(`<span class="c">` + text + "</span>")
			continue
		}
		m := marks[i]
		i++
		switch {
		case m.href != "":
			b.WriteString(`<a href="` + html.EscapeString(m.href) + `">` + text + "</a>")
		case m.id != "":
			b.WriteString(`<span id="` + html.EscapeString(m.id) + `">` + text + "</span>")
		default:
			b.WriteString(text)
		}
	}
	b.WriteString(html.EscapeString(code[at:]))
	return template.HTML(b.String())
}

// A span is a token of code[from:to].
type span struct {
	from, to int
	tok      token.Token
}

// tokens returns the tokens of code, but for operators.
func tokens(code string) iter.Seq[span] {
	return func(yield func(span) bool) {
		fset := token.NewFileSet()
		f := fset.AddFile("", fset.Base(), len(code))
		var s scanner.Scanner
		s.Init(f, []byte(code), func(token.Position, string) {}, scanner.ScanComments)
		for {
			pos, tok, lit := s.Scan()
			if tok == token.EOF {
				return
			}
			from := f.Offset(pos)
			to := min(from+max(len(lit), 1), len(code))
			if tok == token.SEMICOLON || tok.IsOperator() {
				continue
			}
			if !yield(span{from, to, tok}) {
				return
			}
		}
	}
}

func countIdents(code string) (n int) {
	for t := range tokens(code) {
		if t.tok == token.IDENT {
			n++
		}
	}
	return n
}

// marks returns the marks of the identifiers of a declaration, in the order in which they are
// printed.
func (w *writer) marks(n ast.Decl, imports map[string]string) (list []mark) {
	known := make(map[*ast.Ident]mark)
	w.anchors(n, known)
	params := typeParams(n)
	ast.Inspect(n, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CommentGroup:
			return false
		case *ast.Field:
			for _, name := range n.Names {
				if _, ok := known[name]; !ok {
					known[name] = mark{}
				}
			}
		case *ast.KeyValueExpr:
			if key, ok := n.Key.(*ast.Ident); ok {
				known[key] = mark{}
			}
		case *ast.SelectorExpr:
			w.selector(n, imports, known)
		case *ast.Ident:
			m, ok := known[n]
			if !ok && !params[n.Name] {
				m = w.name(n.Name)
			}
			list = append(list, m)
		}
		return true
	})
	return list
}

// anchors marks what a declaration declares.
func (w *writer) anchors(n ast.Decl, known map[*ast.Ident]mark) {
	switch n := n.(type) {
	case *ast.FuncDecl:
		known[n.Name] = mark{} // its heading has the anchor
	case *ast.GenDecl:
		for _, spec := range n.Specs {
			switch spec := spec.(type) {
			case *ast.ValueSpec:
				for _, name := range spec.Names {
					known[name] = mark{id: name.Name}
				}
			case *ast.TypeSpec:
				known[spec.Name] = mark{}
				for _, name := range members(spec) {
					known[name] = mark{id: spec.Name.Name + "." + name.Name}
				}
			}
		}
	}
}

// members returns the names of the fields of a struct, or of the methods of an interface.
func members(spec *ast.TypeSpec) (names []*ast.Ident) {
	var list *ast.FieldList
	switch t := spec.Type.(type) {
	case *ast.StructType:
		list = t.Fields
	case *ast.InterfaceType:
		list = t.Methods
	}
	if list == nil {
		return nil
	}
	for _, f := range list.List {
		names = append(names, f.Names...)
	}
	return names
}

// typeParams returns the names of the type parameters of a declaration.
func typeParams(n ast.Decl) map[string]bool {
	names := make(map[string]bool)
	add := func(list *ast.FieldList) {
		if list == nil {
			return
		}
		for _, f := range list.List {
			for _, name := range f.Names {
				names[name.Name] = true
			}
		}
	}
	switch n := n.(type) {
	case *ast.FuncDecl:
		add(n.Type.TypeParams)
		if n.Recv != nil {
			for _, f := range n.Recv.List {
				ast.Inspect(f.Type, func(n ast.Node) bool {
					if x, ok := n.(*ast.IndexExpr); ok {
						markParams(names, x.Index)
					} else if x, ok := n.(*ast.IndexListExpr); ok {
						markParams(names, x.Indices...)
					}
					return true
				})
			}
		}
	case *ast.GenDecl:
		for _, spec := range n.Specs {
			if t, ok := spec.(*ast.TypeSpec); ok {
				add(t.TypeParams)
			}
		}
	}
	return names
}

func markParams(names map[string]bool, list ...ast.Expr) {
	for _, e := range list {
		if id, ok := e.(*ast.Ident); ok {
			names[id.Name] = true
		}
	}
}

// selector marks the two names of package.Name.
func (w *writer) selector(n *ast.SelectorExpr, imports map[string]string, known map[*ast.Ident]mark) {
	known[n.Sel] = mark{}
	x, ok := n.X.(*ast.Ident)
	if !ok {
		return
	}
	importPath, ok := imports[x.Name]
	if !ok || !w.ctx.Carries(importPath) {
		known[x] = mark{}
		return
	}
	known[x] = mark{href: w.ctx.Base + "/" + importPath}
	known[n.Sel] = mark{href: w.ctx.Base + "/" + importPath + "#" + n.Sel.Name}
}

// name marks a name that stands alone: of the package, or a predeclared one.
func (w *writer) name(name string) mark {
	switch {
	case w.types[name]:
		return mark{href: "#" + name}
	case predeclared[name] && w.ctx.Carries("builtin"):
		return mark{href: w.ctx.Base + "/builtin#" + name}
	}
	return mark{}
}

// predeclared are the names of the package builtin that declarations have.
var predeclared = map[string]bool{
	"any": true, "bool": true, "byte": true, "comparable": true, "complex128": true, "complex64": true,
	"error": true, "float32": true, "float64": true, "int": true, "int16": true, "int32": true,
	"int64": true, "int8": true, "rune": true, "string": true, "uint": true, "uint16": true,
	"uint32": true, "uint64": true, "uint8": true, "uintptr": true,
}

// Carries reports whether a package may be carried: one of its prefixes is a carried module.
func (c *Context) Carries(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	if !strings.Contains(first, ".") {
		importPath = Std
	}
	for {
		if _, ok := slices.BinarySearch(c.Carried, importPath); ok {
			return true
		}
		i := strings.LastIndexByte(importPath, '/')
		if i < 0 {
			return false
		}
		importPath = importPath[:i]
	}
}
