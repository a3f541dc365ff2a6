package render

import (
	"go/parser"
	"go/token"
	"html"
	"html/template"
	"path"
	"strings"
	"unicode/utf8"
)

// A Source is a file to look at.
type Source struct {
	Lines []template.HTML // without their line breaks
	Cut   bool            // the file has more
}

const (
	// maxLine is the longest line in bytes that is shown whole.
	maxLine = 4 << 10

	// maxLines is how many lines of a file are shown.
	maxLines = 40_000
)

// highlight returns a file by lines. In a Go file keywords, strings and comments are marked, and
// the names that it declares link to their documentation.
func highlight(f *File, ctx *Context) *Source {
	if path.Ext(f.Name) != ".go" || !utf8.Valid(f.data) {
		return cutLines(plainLines(strings.ToValidUTF8(string(f.data), "\ufffd")))
	}
	code := string(f.data)
	declared := declarations(f, ctx)
	s := new(Source)
	var line strings.Builder
	write := func(text, before, after string) { // before and after are around each line of text
		for i, part := range strings.Split(text, "\n") {
			if i > 0 {
				s.Lines = append(s.Lines, template.HTML(line.String()))
				line.Reset()
			}
			if part = strings.TrimSuffix(part, "\r"); part != "" {
				line.WriteString(before + html.EscapeString(short(part)) + after)
			}
		}
	}
	at := 0
	for t := range tokens(code) {
		class := ""
		switch {
		case t.tok == token.COMMENT:
			class = "c"
		case t.tok == token.STRING, t.tok == token.CHAR:
			class = "s"
		case t.tok.IsKeyword():
			class = "k"
		case declared[t.from] == "":
			continue
		}
		write(code[at:t.from], "", "")
		if class != "" {
			write(code[t.from:t.to], `<span class="`+class+`">`, "</span>")
		} else {
			write(code[t.from:t.to], `<a href="`+html.EscapeString(declared[t.from])+`">`, "</a>")
		}
		at = t.to
	}
	write(code[at:], "", "")
	return cutLines(append(s.Lines, template.HTML(line.String())))
}

// cutLines returns the first lines.
func cutLines(lines []template.HTML) *Source {
	return &Source{lines[:min(len(lines), maxLines)], len(lines) > maxLines}
}

// plainLines returns the lines of a text.
func plainLines(text string) (lines []template.HTML) {
	for line := range strings.Lines(text) {
		lines = append(lines, template.HTML(html.EscapeString(short(strings.TrimRight(line, "\r\n")))))
	}
	return lines
}

func short(line string) string { return cut(line, maxLine) }

// cut returns a text of at most n bytes and a mark where it goes on.
func cut(text string, n int) string {
	if len(text) > n {
		return strings.ToValidUTF8(text[:n], "") + "…"
	}
	return text
}

// declarations returns the URLs of the documentation of what a file exports, by the offset of the
// name in bytes.
func declarations(f *File, ctx *Context) map[int]string {
	urls := make(map[int]string)
	fset := token.NewFileSet()
	tree, _ := parser.ParseFile(fset, f.Name, f.data, parser.SkipObjectResolution)
	if tree == nil || strings.HasSuffix(f.Name, "_test.go") {
		return urls
	}
	page := ctx.Base + "/" + ctx.Page()
	for _, d := range declared(tree) {
		if d.ident.IsExported() {
			urls[fset.Position(d.ident.Pos()).Offset] = page + "#" + d.anchor()
		}
	}
	return urls
}
