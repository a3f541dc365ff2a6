package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"html/template"
	"net/url"
	"path"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/serve/web/render"
)

// A unit is a folder of a module: its root, a package, or a folder above packages.
type unit struct {
	Path    string `json:"path"` // import path
	Module  string `json:"module"`
	Version string `json:"version"`
	Pinned  bool   `json:"-"` // the URL names the version
	Dir     string `json:"dir,omitempty"`
	Std     bool   `json:"-"`
	Latest  string `json:"latest"` // carried version that is shown first
	Newest  string `json:"newest,omitempty"`
	Tab     string `json:"-"`

	Time       string  `json:"time,omitempty"`
	License    string  `json:"license,omitempty"`
	H1         string  `json:"h1,omitempty"`
	Record     *int64  `json:"record,omitempty"`
	Private    bool    `json:"private,omitempty"`
	Size       *int64  `json:"size"`
	Retracted  *string `json:"retracted,omitempty"`
	Deprecated string  `json:"deprecated,omitempty"`
	Zip        string  `json:"zip"` // path of the zip on this server

	Facts    []index.Fact    `json:"facts,omitempty"`
	Vulns    []review.Vuln   `json:"vulns,omitempty"`
	Versions []versionRow    `json:"versions,omitempty"` // in the tab of that name
	Requires []requirement   `json:"requires,omitempty"`
	Required []requirement   `json:"requiredBy,omitempty"`
	Readme   template.HTML   `json:"-"`
	Note     string          `json:"note,omitempty"` // why there is no documentation
	Package  *render.Package `json:"package,omitempty"`
	Dirs     []dirRow        `json:"dirs,omitempty"`    // folders below with packages
	Modules  []carried       `json:"modules,omitempty"` // modules below

	Importers []module.Version `json:"importers,omitempty"` // modules, in the tab of that name
	Imported  int              `json:"imported,omitempty"`  // how many there are

	Change   *change       `json:"change,omitempty"`   // in the tab "diff"
	Licenses []licenseText `json:"licenses,omitempty"` // in the tab of that name

	links *render.Context
}

// A dirRow is a folder below.
type dirRow struct {
	Dir      string `json:"dir"`
	Synopsis string `json:"synopsis,omitempty"`
}

// A versionRow is a version of a module.
type versionRow struct {
	Version   string  `json:"version"`
	Time      string  `json:"time,omitempty"`
	Size      *int64  `json:"size,omitempty"` // nil when only its go.mod is carried
	Retracted *string `json:"retracted,omitempty"`
	Vulns     int     `json:"vulns,omitempty"`
	Other     bool    `json:"-"` // another one is carried to compare it with
}

// A licenseText is a file with a license.
type licenseText struct {
	File string `json:"file"`
	IDs  string `json:"ids,omitempty"` // of SPDX; "" for a text that is not known
	Text string `json:"text"`
}

// A requirement is a line of a module graph.
type requirement struct {
	Path     string `json:"path"`
	Version  string `json:"version,omitempty"` // "" for a project
	Wanted   string `json:"wanted,omitempty"`
	Indirect bool   `json:"indirect,omitempty"`
	Carried  bool   `json:"-"`
}

// maxRows bounds each list of a page.
const maxRows = 2000

// unit returns the page of a folder.
func (s *Site) unit(v *Visit, name string) (*page, error) {
	ctx := v.Request.Context()
	query := v.Request.URL.Query()
	var t *tree
	defer func() {
		if t != nil {
			t.close()
		}
	}()
	p, err := s.find(ctx, name, func(p *place) (ok bool, err error) {
		if t, err = s.open(ctx, p); err != nil {
			return false, err
		}
		if ok = t.hasFolder(p.rest); !ok {
			t.close()
			t = nil
		}
		return ok, nil
	})
	if err != nil {
		return nil, err
	}
	u, err := s.about(ctx, p)
	if err != nil {
		return nil, err
	}
	links := s.context(p)
	u.links, u.Tab = &links, query.Get("tab")
	title := u.Path
	switch u.Tab {
	case "versions":
		err = s.versions(ctx, u)
	case "requires":
		err = s.requires(ctx, u)
	case "importedby":
		err = s.importers(ctx, u)
	case "licenses":
		err = s.licenseTexts(ctx, u, p)
	case tabDiff:
		err = s.changes(ctx, u, p, query.Get("from"))
	default:
		u.Tab = ""
		if t == nil { // the others need no zip, unless to find the folder
			if t, err = s.open(ctx, p); err != nil {
				return nil, err
			}
		}
		err = s.document(v, u, t, query)
	}
	if err != nil {
		return nil, err
	}
	if u.Package != nil && u.Package.Name != "main" && u.Package.Name != path.Base(u.Path) {
		title = u.Package.Name + " · " + u.Path
	}
	fresh := u.Change != nil && u.Change.late
	return &page{template: "unit.html", title: title, data: u, fresh: fresh}, nil
}

// about returns what is known of a place without its zip.
func (s *Site) about(ctx context.Context, p *place) (*unit, error) {
	x := p.version
	u := &unit{
		Module: p.Path, Version: p.shown, Pinned: p.pinned, Dir: p.rest, Std: p.isStd(), Latest: p.Latest,
		Newest: x.Latest, Time: x.Time, H1: x.H1, Record: x.Record, Private: x.Private, Size: x.ZipSize,
		Retracted: x.Retracted, Deprecated: x.Deprecated,
		Path: path.Join(p.Path, p.rest),
	}
	if u.Std {
		u.Path, u.Newest, u.License = cmp.Or(p.rest, render.Std), "", p.License
	} else if x.License != nil {
		u.License = *x.License
	}
	if u.Newest == u.Latest || u.Newest != "" && semver.Compare(u.Newest, u.Latest) <= 0 {
		u.Newest = ""
	}
	u.Zip = p.zip().String()
	var err error
	if u.Facts, err = s.factRows(ctx, x); err != nil {
		return nil, err
	}
	u.Vulns = s.vulnsOf(p)
	u.Modules = s.catalog.below(p.Path)
	return u, nil
}

// factRows returns what the first line that has facts of a version says.
func (s *Site) factRows(ctx context.Context, x index.Version) ([]index.Fact, error) {
	for _, b := range s.View.Lines {
		if rows, err := b.Index.FactsOf(ctx, x.Path, x.Version); rows != nil || err != nil {
			return rows, err
		}
	}
	return nil, nil
}

// vulnsOf returns the vulnerabilities of a version.
func (s *Site) vulnsOf(p *place) (list []review.Vuln) {
	found := s.Vulns()
	if found == nil {
		return nil
	}
	for _, v := range found.List {
		if v.Module == p.Path && v.Version == p.shown || p.isStd() && v.IsGo() && "go"+v.Version == p.shown {
			list = append(list, v)
		}
	}
	return list
}

// versions adds the versions that are carried.
func (s *Site) versions(ctx context.Context, u *unit) error {
	if u.Std {
		for _, t := range s.catalog.std {
			u.Versions = append(u.Versions, versionRow{Version: t.release})
		}
		return nil
	}
	vulns := make(map[string]int)
	if found := s.Vulns(); found != nil {
		for _, v := range found.List {
			if v.Module == u.Module {
				vulns[v.Version]++
			}
		}
	}
	for x, err := range s.View.Versions(ctx, u.Module) {
		if err != nil {
			return err
		}
		u.Versions = append(u.Versions, versionRow{
			Version: x.Version, Time: x.Time, Size: x.ZipSize, Retracted: x.Retracted, Vulns: vulns[x.Version],
			Other: s.catalog.module(u.Module).Versions > 1,
		})
	}
	slices.SortFunc(u.Versions, func(a, b versionRow) int { return semver.Compare(b.Version, a.Version) })
	u.Versions = u.Versions[:min(len(u.Versions), maxRows)]
	return nil
}

// requires adds what the version requires, and what requires the module.
func (s *Site) requires(ctx context.Context, u *unit) error {
	if u.Std {
		return nil
	}
	type edge struct{ from, fromVersion, to, wanted string }
	seen := make(map[edge]bool)
	for _, b := range s.View.Lines {
		for r, err := range b.Index.RequirementsOf(ctx, u.Module, u.Version) {
			if err != nil {
				return err
			}
			e := edge{to: r.Requires, wanted: r.Wanted}
			if !seen[e] && len(u.Requires) < maxRows {
				seen[e] = true
				u.Requires = append(u.Requires, requirement{
					Path: r.Requires, Version: r.Wanted, Indirect: r.Indirect, Carried: s.catalog.module(r.Requires) != nil,
				})
			}
		}
		for r, err := range b.Index.RequiredBy(ctx, u.Module) {
			if err != nil {
				return err
			}
			e := edge{r.Path, r.Version, "", r.Wanted}
			if !seen[e] && len(u.Required) < maxRows {
				seen[e] = true
				u.Required = append(u.Required, requirement{
					Path: r.Path, Version: r.Version, Wanted: r.Wanted, Indirect: r.Indirect, Carried: s.catalog.module(r.Path) != nil,
				})
			}
		}
	}
	return nil
}

// maxLicense is the longest license in bytes.
const maxLicense = 256 << 10

// maxLicenses is how many of them a page has.
const maxLicenses = 20

// licenseTexts adds the texts of the files in which a license was found.
func (s *Site) licenseTexts(ctx context.Context, u *unit, p *place) error {
	t, err := s.open(ctx, p)
	if err != nil {
		return err
	}
	defer t.close()
	for _, fact := range u.Facts {
		if fact.Kind != index.LicenseFact || t.files[fact.File] == nil {
			continue
		}
		data, err := t.read(ctx, fact.File, maxLicense)
		if errors.Is(err, errTooLong) {
			data, err = []byte("This file is too long to show."), nil
		}
		if err != nil {
			return err
		}
		u.Licenses = append(u.Licenses, licenseText{fact.File, fact.Detail, strings.ToValidUTF8(string(data), "\ufffd")})
		if len(u.Licenses) == maxLicenses {
			break
		}
	}
	return nil
}

// context returns where the texts of a place belong.
func (s *Site) context(p *place) render.Context {
	return render.Context{Base: s.Base, Path: p.Path, Version: p.shown, Dir: p.rest, Carried: s.catalog.paths}
}

// document adds documentation and README.
func (s *Site) document(v *Visit, u *unit, t *tree, query url.Values) error {
	ctx := v.Request.Context()
	if err := s.addFolders(ctx, u, t); err != nil {
		return err
	}
	if err := s.addReadme(v, u, t); err != nil {
		return err
	}
	req := &render.Request{
		Context: s.context(t.place), GOOS: query.Get("GOOS"), GOARCH: query.Get("GOARCH"), Check: t.check(ctx),
	}
	var err error
	a := new(render.Answer)
	if req.Files, _, err = t.sources(u.Dir, true); err == nil && len(req.Files) > 0 {
		a, err = s.do(ctx, req)
	}
	if err != nil {
		if _, ours := errors.AsType[*render.Error](err); !ours {
			return err
		}
		s.Log.Warn("a page cannot be shown", "path", u.Path, "version", u.Version, "err", err)
		u.Note = fmt.Sprintf("its documentation cannot be shown: %.300s", index.VisibleLine(err.Error()))
		return nil
	}
	u.Package = a.Package
	return nil
}

// addReadme adds the README of the folder.
func (s *Site) addReadme(v *Visit, u *unit, t *tree) error {
	if u.Std {
		return nil
	}
	ctx := v.Request.Context()
	name := readmeOf(t.in(u.Dir))
	if name == "" {
		return nil
	}
	f := t.file(path.Join(u.Dir, name), render.MaxReadme)
	if f.Unread != "" {
		return nil
	}
	f.Name = path.Join(u.Dir, name)
	a, err := s.do(ctx, &render.Request{Context: s.context(t.place), Readme: f, Check: t.check(ctx)})
	if _, ours := errors.AsType[*render.Error](err); ours {
		s.Log.Warn("a README cannot be shown", "path", u.Path, "version", u.Version, "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	u.Readme = a.HTML
	return nil
}

// readmeOf returns the README among the names of files, "" for none.
func readmeOf(names []string) string {
	for _, want := range []string{"readme.md", "readme.markdown", "readme", "readme.txt", "readme.rst"} {
		for _, name := range names {
			if strings.ToLower(name) == want {
				return name
			}
		}
	}
	return ""
}

// packages returns the folders below dir that have Go files, relative to it, but for those that
// "./..." leaves out.
func (t *tree) packages(dir string) (list []string) {
	seen := make(map[string]bool)
	for name := range t.files {
		at := folder(name)
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") || seen[at] || at == dir {
			continue
		}
		rel, ok := strings.CutPrefix(at, dir)
		if !ok || dir != "" && !strings.HasPrefix(rel, "/") {
			continue
		}
		rel = strings.TrimPrefix(rel, "/")
		if left := strings.FieldsFunc("/"+rel, func(r rune) bool { return r == '/' }); slices.ContainsFunc(left, leftOut) {
			continue
		}
		seen[at] = true
		list = append(list, rel)
	}
	slices.Sort(list)
	return list[:min(len(list), maxRows)]
}

// leftOut reports whether "./..." leaves out folders of that name.
func leftOut(name string) bool {
	return name == "testdata" || name == "vendor" || name[0] == '_' || name[0] == '.'
}

// sources returns the Go files of a folder, also those of tests if they are wanted.
func (t *tree) sources(dir string, tests bool) (list []*render.File, size int64, err error) {
	for _, name := range t.in(dir) {
		if !strings.HasSuffix(name, ".go") {
			continue
		}
		test := strings.HasSuffix(name, "_test.go")
		f := t.file(path.Join(dir, name), render.MaxFile)
		if test && (!tests || f.Unread != "" || size+f.Size > render.MaxFiles) {
			continue
		}
		if f.Unread == "" {
			size += f.Size
		}
		if size > render.MaxFiles {
			return nil, 0, &render.Error{Why: "this package is too large to show"}
		}
		list = append(list, f)
	}
	return list, size, nil
}

// Name returns the last element of the path that is no major version.
func (u *unit) Name() string {
	prefix, _, ok := module.SplitPathVersion(u.Path)
	if !ok {
		prefix = u.Path
	}
	return path.Base(prefix)
}

// page returns the path of the folder dir of the module on this site.
func (u *unit) page(base, dir string) string {
	switch {
	case u.Std && dir == "" && !u.Pinned:
		return base + "/std"
	case u.Std && dir == "":
		return base + "/std@" + u.Version
	case u.Std && !u.Pinned:
		return base + "/" + dir
	case u.Std:
		return base + "/" + dir + "@" + u.Version
	case !u.Pinned:
		return base + "/" + path.Join(u.Module, dir)
	}
	return base + "/" + path.Join(u.Module+"@"+u.Version, dir)
}

// URL returns the page of the unit in a tab.
func (u *unit) URL(base, tab string) string {
	page := u.page(base, u.Dir)
	if tab != "" {
		page += "?tab=" + tab
	}
	return page
}

// Sub returns the page of a folder below.
func (u *unit) Sub(base, dir string) string { return u.page(base, path.Join(u.Dir, dir)) }

// At returns the page of the same folder in another version.
func (u *unit) At(base, version string) string {
	other := *u
	other.Version, other.Pinned = version, true
	return other.page(base, u.Dir)
}

// OnPlatform returns the page for another platform.
func (u *unit) OnPlatform(base, platform string) string {
	goos, goarch, _ := strings.Cut(platform, "/")
	return u.page(base, u.Dir) + "?GOOS=" + goos + "&GOARCH=" + goarch
}

// Source returns the page of a file of the folder.
func (u *unit) Source(base, file string) string { return u.File(base, path.Join(u.Dir, file)) }

// File returns the page of a file of the module.
func (u *unit) File(base, file string) string {
	return base + "/src/" + escaped(u.Module+"@"+u.Version+"/"+file)
}

// escaped returns a path as URLs have it.
func escaped(path string) string { return (&url.URL{Path: path}).EscapedPath() }

// Linked reports whether the page of an import path may exist.
func (u *unit) Linked(importPath string) bool { return u.links.Carries(importPath) }
