package web

import (
	"archive/zip"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/serve/web/render"
)

// A place is a folder, or a file, of a carried version.
type place struct {
	carried
	version index.Version // of golang.org/toolchain for the standard library
	shown   string        // the version in URLs: v1.2.3, go1.26.1
	rest    string        // path in the module, without slashes at its ends
	pinned  bool          // the URL names the version
}

// isStd reports whether the place is in the standard library.
func (p *place) isStd() bool { return p.Path == render.Std }

// zip returns the request for the zip of the place.
func (p *place) zip() modpath.Request {
	return modpath.Request{Kind: modpath.Zip, Path: p.version.Path, Version: p.version.Version}
}

// find returns the place that a path of the site names: PATH, PATH@VERSION, MODULE@VERSION/PATH. A
// path without "@" is in the longest module that is a prefix of it and has it as a folder; has says
// that of a place, nil for always. The error is an *httpError when nothing is found.
func (s *Site) find(ctx context.Context, name string, has func(*place) (bool, error)) (*place, error) {
	if len(name) > modpath.MaxLength {
		return nil, notFound("no module has a path that long")
	}
	before, after, pinned := strings.Cut(name, "@")
	version, rest, _ := strings.Cut(after, "/")
	for _, c := range s.candidates(before, strings.Trim(path.Join("/", before, rest), "/")) {
		p, err := s.at(ctx, c.module, version, c.rest)
		if err != nil {
			return nil, err
		}
		p.pinned = pinned
		if p.rest == "" || has == nil {
			return p, nil
		}
		if ok, err := has(p); ok || err != nil {
			return p, err
		}
	}
	return nil, s.missing(before)
}

// A candidate is a module in which a folder may be.
type candidate struct {
	module *carried
	rest   string
}

// candidates returns the carried modules that are prefixes of the path before, the longest first,
// and the standard library. full is the path with what comes behind its version.
func (s *Site) candidates(before, full string) (list []candidate) {
	for prefix := strings.Trim(before, "/"); prefix != "" && prefix != "."; prefix = path.Dir(prefix) {
		if m := s.catalog.module(prefix); m != nil {
			list = append(list, candidate{m, strings.Trim(strings.TrimPrefix(full, prefix), "/")})
		}
	}
	first, _, _ := strings.Cut(before, "/")
	if m := s.catalog.module(render.Std); m != nil && first != "" && first != render.Std && !strings.Contains(first, ".") {
		list = append(list, candidate{m, full})
	}
	return list
}

// at returns the place in a version of a module; "" for the one that is shown first.
func (s *Site) at(ctx context.Context, m *carried, version, rest string) (*place, error) {
	p := &place{carried: *m, shown: cmp.Or(version, m.Latest), rest: rest}
	if version == "latest" {
		p.shown = m.Latest
	}
	mod := module.Version{Path: m.Path, Version: p.shown}
	if p.isStd() {
		i := slices.IndexFunc(s.catalog.std, func(t toolchain) bool { return t.release == p.shown })
		if i < 0 {
			return nil, notFound(p.shown+" is not carried", "to have it carried, add this line to the list outside: "+p.shown)
		}
		mod = module.Version{Path: modpath.Toolchain, Version: s.catalog.std[i].version}
	}
	x, ok, err := s.View.Lookup(ctx, mod.Path, mod.Version)
	if err != nil {
		return nil, err
	}
	if !ok || x.ZipSize == nil {
		lines := []string{"carried is " + m.Latest}
		if modpath.CheckRevision(p.shown) == nil {
			lines = append(lines, fmt.Sprintf("to have it carried, add this line to the list outside: %s@%s", m.Path, p.shown))
		}
		return nil, notFound(fmt.Sprintf("%s@%.100s is not carried", m.Path, p.shown), lines...)
	}
	p.version = x
	return p, nil
}

// missing returns the error for a path below which nothing is carried.
func (s *Site) missing(name string) error {
	lines := []string{}
	if s.catalog.module(render.Std) == nil && !strings.Contains(strings.Split(name, "/")[0], ".") {
		lines = append(lines, "the standard library is shown from a toolchain: add a line such as go1.26.8 to the list outside")
	} else if modpath.CanBeModule(name) && module.CheckImportPath(name) == nil {
		lines = append(lines, "to have it carried, add this line to the list outside: "+name+"@latest")
	}
	return notFound(fmt.Sprintf("%.200s is not carried", name), lines...)
}

// carriesPath reports whether a path of a URL is below a carried module.
func (s *Site) carriesPath(path string) bool {
	return s.catalog.module(strings.Trim(path, "/")) != nil
}

// A tree is the open zip of a version.
type tree struct {
	place *place
	zip   Zip
	arch  *h1.Archive
	files map[string]*zip.File // by name in the module; those of src/ of a toolchain
}

// open opens the zip of a place. The caller closes it.
func (s *Site) open(ctx context.Context, p *place) (*tree, error) {
	req := p.zip()
	f, ok, err := s.View.File(ctx, req.String())
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%s: %w", req, fs.ErrNotExist)
	}
	z, err := s.Zip(ctx, f)
	if err != nil {
		return nil, err
	}
	t := &tree{place: p, zip: z, files: make(map[string]*zip.File)}
	if t.arch, err = h1.Open(ctx, z, f.Size); err != nil {
		z.Close()
		return nil, fmt.Errorf("%s: %w", req, err)
	}
	prefix := p.version.Path + "@" + p.version.Version + "/"
	if p.isStd() {
		prefix += "src/"
	}
	for _, f := range t.arch.File {
		if name, ok := strings.CutPrefix(f.Name, prefix); ok {
			t.files[name] = f
		}
	}
	return t, nil
}

func (t *tree) close() {
	t.arch.Close()
	t.zip.Close()
}

// hasFolder reports whether there are files in or below a folder.
func (t *tree) hasFolder(dir string) bool {
	if dir == "" {
		return len(t.files) > 0
	}
	for name := range t.files {
		if strings.HasPrefix(name, dir) && len(name) > len(dir) && name[len(dir)] == '/' {
			return true
		}
	}
	return false
}

// in returns the sorted names of the files in a folder.
func (t *tree) in(dir string) (names []string) {
	for name := range t.files {
		if folder(name) == dir {
			names = append(names, path.Base(name))
		}
	}
	slices.Sort(names)
	return names
}

// folder returns the folder of a file, "" for the root.
func folder(name string) string {
	if i := strings.LastIndexByte(name, '/'); i >= 0 {
		return name[:i]
	}
	return ""
}

// errTooLong reports that a file is longer than what is shown.
var errTooLong = errors.New("too long to show")

// file returns a file for a Request. One that is longer than limit bytes is not read.
func (t *tree) file(name string, limit int64) *render.File {
	f := t.files[name]
	out := &render.File{Name: path.Base(name), Size: int64(f.UncompressedSize64), Open: f.Open}
	if f.UncompressedSize64 > uint64(limit) {
		out.Unread = errTooLong.Error()
	}
	return out
}

// check returns the Check of a Request with files of the tree.
func (t *tree) check(ctx context.Context) func() error {
	return func() error { return t.zip.Check(ctx) }
}

// read returns the content of a file.
func (t *tree) read(ctx context.Context, name string, limit int64) ([]byte, error) {
	f := t.files[name]
	if f == nil {
		return nil, fs.ErrNotExist
	}
	if f.UncompressedSize64 > uint64(limit) {
		return nil, errTooLong
	}
	r, err := f.Open()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, limit))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name, err)
	}
	return data, t.zip.Check(ctx)
}
