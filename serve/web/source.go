package web

import (
	"bytes"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/modmirror/modmirror/serve/web/render"
)

// sourcePage is the data of a page of a file.
type sourcePage struct {
	Path    string         `json:"path"` // in the module
	Module  string         `json:"module"`
	Version string         `json:"version"`
	Package string         `json:"package"` // path of the page of its folder
	Size    int            `json:"size"`
	Text    string         `json:"text"`
	Source  *render.Source `json:"-"`
	Names   []string       `json:"files"` // of the folder
}

// maxSource is the longest file in bytes that has a page.
const maxSource = 1 << 20

// fileAt opens the zip of the file that a path MODULE@VERSION/FILE names. The caller closes the
// tree.
func (s *Site) fileAt(v *Visit, name string) (t *tree, err error) {
	p, err := s.find(v.Request.Context(), name, nil)
	if err != nil {
		return nil, err
	}
	if t, err = s.open(v.Request.Context(), p); err != nil {
		return nil, err
	}
	if t.files[p.rest] == nil {
		t.close()
		return nil, notFound("there is no such file in " + p.Path + "@" + p.shown)
	}
	return t, nil
}

// source returns the page of a file.
func (s *Site) source(v *Visit, name string) (*page, error) {
	ctx := v.Request.Context()
	t, err := s.fileAt(v, name)
	if err != nil {
		return nil, err
	}
	defer t.close()
	p := t.place
	file := p.rest
	data, err := t.read(ctx, file, maxSource)
	if errors.Is(err, errTooLong) {
		return nil, notFound("this file is too long to show", "it is in the zip: "+p.version.Path+"@"+p.version.Version)
	}
	if err != nil {
		return nil, err
	}
	c := s.context(p)
	c.Dir = folder(file)
	out := &sourcePage{
		Path: file, Module: p.Path, Version: p.shown, Size: len(data), Package: c.Page(), Names: t.in(c.Dir),
	}
	if bytes.IndexByte(data[:min(len(data), 8000)], 0) >= 0 {
		return &page{template: "source.html", title: file, data: out}, nil // no text
	}
	f := t.file(file, maxSource)
	f.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil } // it was read
	a, err := s.do(ctx, &render.Request{Context: c, Source: f, Check: t.check(ctx)})
	if err != nil {
		return nil, err
	}
	out.Source, out.Text = a.Source, strings.ToValidUTF8(string(data), "\ufffd")
	return &page{template: "source.html", title: file + " · " + p.Path, data: out}, nil
}

// images are the types of the files that raw answers with.
var images = map[string]string{
	".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".gif": "image/gif", ".svg": "image/svg+xml",
	".webp": "image/webp", ".ico": "image/x-icon",
}

// maxImage is the longest image in bytes.
const maxImage = 4 << 20

// raw returns an image of a module.
func (s *Site) raw(v *Visit, name string) (*page, error) {
	contentType := images[strings.ToLower(path.Ext(name))]
	if contentType == "" {
		return nil, notFound("only images have a page of this kind")
	}
	t, err := s.fileAt(v, name)
	if err != nil {
		return nil, err
	}
	defer t.close()
	data, err := t.read(v.Request.Context(), t.place.rest, maxImage)
	if errors.Is(err, errTooLong) {
		return nil, notFound("this image is too long to show")
	}
	if err != nil {
		return nil, err
	}
	return &page{file: data, fileType: contentType}, nil
}

// Below returns the path of another file of the folder, for a URL.
func (p *sourcePage) Below(name string) string { return escaped(path.Join(folder(p.Path), name)) }

// Bytes returns the size for a template.
func (p *sourcePage) Bytes() int64 { return int64(p.Size) }
