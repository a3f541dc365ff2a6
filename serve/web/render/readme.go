package render

import (
	"bytes"
	"cmp"
	"errors"
	"html"
	"html/template"
	"net/url"
	"path"
	"strings"

	"github.com/microcosm-cc/bluemonday"
	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	goldhtml "github.com/yuin/goldmark/renderer/html"
	nethtml "golang.org/x/net/html"
)

// MaxReadme is the longest README in bytes that is rendered.
const MaxReadme = 512 << 10

// readme returns a README as HTML: Markdown by its name, else as it is. Its links and images lead
// to files of the module, or elsewhere; images from elsewhere become links.
func readme(f *File, ctx *Context) (template.HTML, error) {
	if len(f.data) > MaxReadme {
		return "", errors.New("it is too long to show")
	}
	text := strings.ToValidUTF8(string(f.data), "\ufffd")
	switch strings.ToLower(path.Ext(f.Name)) {
	case ".md", ".markdown":
	default:
		return template.HTML("<pre>" + html.EscapeString(text) + "</pre>"), nil
	}
	md := goldmark.New(
		goldmark.WithExtensions(extension.GFM),
		goldmark.WithParserOptions(parser.WithAutoHeadingID()),
		goldmark.WithRendererOptions(goldhtml.WithUnsafe()), // the policy below decides
	)
	var out bytes.Buffer
	if err := md.Convert([]byte(text), &out); err != nil {
		return "", err
	}
	clean := readmePolicy().SanitizeBytes(out.Bytes())
	return template.HTML(relink(clean, ctx, path.Dir(f.Name))), nil
}

// readmePolicy allows what bluemonday calls user generated content, without sizes and styles.
func readmePolicy() *bluemonday.Policy {
	p := bluemonday.UGCPolicy()
	p.AllowAttrs("align").OnElements("p", "div", "h1", "h2", "h3", "td", "th")
	p.AllowAttrs("width", "height").Matching(bluemonday.NumberOrPercent).OnElements("img")
	return p
}

// relink returns HTML whose headings are two levels lower, with ids of their own, and whose links
// are those of the site.
func relink(clean []byte, ctx *Context, dir string) string {
	var b strings.Builder
	z := nethtml.NewTokenizer(bytes.NewReader(clean))
	for {
		kind := z.Next()
		if kind == nethtml.ErrorToken {
			return b.String()
		}
		t := z.Token()
		if kind == nethtml.TextToken {
			b.WriteString(t.String())
			continue
		}
		t.Data = lower(t.Data)
		if t.Data == "img" {
			relinkImage(&b, &t, ctx, dir)
			continue
		}
		for i, a := range t.Attr {
			switch a.Key {
			case "href":
				t.Attr[i].Val = ctx.link(a.Val, dir, "/src/")
			case "id":
				t.Attr[i].Val = "readme-" + a.Val
			}
		}
		b.WriteString(t.String())
	}
}

// lower returns the name of the element two levels below a heading.
func lower(name string) string {
	if len(name) == 2 && name[0] == 'h' && name[1] >= '1' && name[1] <= '4' {
		return "h" + string(name[1]+2)
	}
	if name == "h5" {
		return "h6"
	}
	return name
}

// relinkImage writes an image of the module, or the text of another.
func relinkImage(b *strings.Builder, t *nethtml.Token, ctx *Context, dir string) {
	var src, alt string
	for _, a := range t.Attr {
		switch a.Key {
		case "src":
			src = a.Val
		case "alt":
			alt = a.Val
		}
	}
	if u, err := url.Parse(src); err != nil || u.Host != "" || u.Scheme != "" {
		b.WriteString(`<span class="image">` + html.EscapeString(cmp.Or(alt, "image")) + "</span>")
		return
	}
	for i, a := range t.Attr {
		if a.Key == "src" {
			t.Attr[i].Val = ctx.link(src, dir, "/raw/")
		}
	}
	b.WriteString(t.String())
}

// link returns the URL of a link in a file of a folder. A relative one leads to a file of the
// module, below the site's folder kind.
func (c *Context) link(target, dir, kind string) string {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "" || u.Host != "" {
		return target
	}
	if u.Path == "" {
		if u.Fragment != "" {
			return "#readme-" + u.Fragment
		}
		return "#"
	}
	at := path.Join("/", dir, u.Path) // not above the module
	if strings.HasPrefix(u.Path, "/") {
		at = path.Clean(u.Path)
	}
	out := url.URL{Path: c.Base + kind + c.Path + "@" + c.Version + at, Fragment: u.Fragment}
	return out.String()
}
