package render

import (
	"go/scanner"
	"go/token"
)

// blankBodies replaces the bodies of functions in a Go file by spaces, but for their braces and
// line breaks. Documentation needs none, and most of a syntax tree would be that of bodies. What
// does not look like Go stays as it is.
func blankBodies(src []byte) {
	var s scanner.Scanner
	fset := token.NewFileSet()
	f := fset.AddFile("", fset.Base(), len(src))
	s.Init(f, src, func(token.Position, string) {}, 0)
	b := bodies{before: token.SEMICOLON}
	for {
		pos, tok, _ := s.Scan()
		if tok == token.EOF {
			break
		}
		b.token(tok, f.Offset(pos))
	}
	if b.inBody {
		return // unbalanced: the parser says so
	}
	for _, span := range b.spans {
		for i := span[0]; i < span[1]; i++ {
			if src[i] != '\n' {
				src[i] = ' '
			}
		}
	}
}

// bodies finds the bodies of functions at the top level of a file, token by token.
type bodies struct {
	spans       [][2]int    // of the bodies, within their braces
	before      token.Token // the last one
	inSignature bool        // of a function at the top level
	inBody      bool        // of such a function
	braces      int         // that are open
	nested      int         // parentheses and brackets that are open
}

// token takes a token at an offset.
func (b *bodies) token(tok token.Token, at int) {
	top := b.braces == 0 && b.nested == 0
	switch tok {
	case token.FUNC:
		b.inSignature = b.inSignature || top && b.before == token.SEMICOLON
	case token.LPAREN, token.LBRACK:
		b.nested++
	case token.RPAREN, token.RBRACK:
		b.nested--
	case token.LBRACE:
		if b.inSignature && top && b.before != token.STRUCT && b.before != token.INTERFACE {
			b.inSignature, b.inBody = false, true
			b.spans = append(b.spans, [2]int{at + 1, at + 1})
		}
		b.braces++
	case token.RBRACE:
		if b.braces--; b.braces == 0 && b.inBody {
			b.spans[len(b.spans)-1][1] = at
			b.inBody, b.nested = false, 0
		}
	case token.SEMICOLON:
		b.inSignature = b.inSignature && !top
	}
	b.before = tok
}
