package web

import (
	"context"
	"errors"
	"net/http"
	"path"
	"strings"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/serve/web/render"
	"github.com/modmirror/modmirror/serve/web/search"
)

const (
	// chunk is how many bytes of sources are read for the search at a time, unless one folder has
	// more.
	chunk = 2 << 20

	// maxImporters is how many modules a page names that import a package.
	maxImporters = 500
)

// Index takes what the view carries into the search, until ctx is done: of each module the version
// that is shown first. Call it once, beside requests.
func (s *Site) Index(ctx context.Context) error {
	if err := s.start(ctx); err != nil {
		return err
	}
	var want []search.Zip
	for _, m := range s.catalog.modules {
		want = append(want, search.Zip{H1: m.h1, Module: m.Path, Version: m.Latest, License: m.License})
	}
	r := &render.Renderer{Work: s.Work}
	defer r.Close()
	read := func(ctx context.Context, z search.Zip, yield func([]render.Entry) error) error {
		return s.entries(ctx, r, z, yield)
	}
	err := s.Search.Update(ctx, want, read, func(z search.Zip, err error) {
		s.Log.Warn("a module is not searched", "module", z.Module, "version", z.Version, "err", err)
	})
	if err == nil {
		s.indexed.Store(true)
	}
	return err
}

// entries yields the packages of a version, some at a time.
func (s *Site) entries(
	ctx context.Context, r *render.Renderer, z search.Zip, yield func([]render.Entry) error,
) error {
	p, err := s.at(ctx, s.catalog.module(z.Module), z.Version, "")
	if err != nil {
		return err
	}
	t, err := s.open(ctx, p)
	if err != nil {
		return err
	}
	defer t.close()
	dirs := t.packages("")
	if len(t.in("")) > 0 {
		dirs = append(dirs, "")
	}
	req := &render.Request{Context: render.Context{Path: p.Path, Version: p.shown}, Check: t.check(ctx)}
	size := int64(0)
	var bad error
	flush := func() error {
		if len(req.Catalog) == 0 {
			return nil
		}
		start := time.Now()
		a, err := r.Do(ctx, req)
		req.Catalog, size = nil, 0
		if s.Busy != nil && s.Busy() {
			select { // others download
			case <-time.After(min(rest*time.Since(start), maxWait)):
			case <-ctx.Done():
			}
		}
		if _, ours := errors.AsType[*render.Error](err); ours { // what else the module has is found
			bad = errors.Join(bad, err)
			return nil
		}
		if err != nil {
			return err
		}
		return yield(a.Catalog)
	}
	for _, dir := range dirs {
		files, of, err := t.sources(dir, false)
		if err != nil {
			bad = errors.Join(bad, err)
			continue
		}
		if size > 0 && size+of > chunk {
			if err := flush(); err != nil {
				return err
			}
		}
		if len(files) > 0 {
			size += of
			req.Catalog = append(req.Catalog, render.Folder{Dir: dir, Files: files})
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return bad
}

// searchPage is the data of the page of results.
type searchPage struct {
	Query   string          `json:"query"`
	Results []search.Result `json:"results"`
	Done    int64           `json:"done"`    // modules that were taken in since the bundles came
	Planned int64           `json:"planned"` // modules to take in
	More    bool            `json:"more"`    // there are more results
}

// find answers a search.
func (s *Site) search(v *Visit) (*page, error) {
	if s.Search == nil {
		return nil, notFound("there is no search here", "serve keeps it in the state folder, which it cannot write to: its log says why")
	}
	ctx := v.Request.Context()
	p := &searchPage{Query: strings.TrimSpace(v.Request.URL.Query().Get("q")), Results: []search.Result{}}
	p.Query = p.Query[:min(len(p.Query), 200)]
	if v.as != "json" && s.names(ctx, p.Query) {
		http.Redirect(v, v.Request, s.Base+"/"+p.Query, http.StatusFound)
		return nil, nil
	}
	list, err := s.Search.Find(ctx, p.Query)
	if err != nil {
		return nil, err
	}
	p.Results = append(p.Results, list...)
	p.More = len(list) == search.MaxResults
	p.Done, p.Planned = s.Search.Progress()
	return &page{template: "search.html", title: p.Query, data: p, fresh: true}, nil
}

// names reports whether a query is the path of a carried module, or of a package that is searched.
func (s *Site) names(ctx context.Context, query string) bool {
	if module.CheckImportPath(query) != nil {
		return false
	}
	if s.catalog.module(query) != nil {
		return true
	}
	ok, err := s.Search.Has(ctx, query)
	return ok && err == nil
}

// importers adds the modules that import the package.
func (s *Site) importers(ctx context.Context, u *unit) (err error) {
	if s.Search == nil {
		return nil
	}
	u.Importers, u.Imported, err = s.Search.Importers(ctx, u.Module, u.Path, maxImporters)
	return err
}

// addFolders adds the folders below with packages, and their synopses as far as they are known.
func (s *Site) addFolders(ctx context.Context, u *unit, t *tree) error {
	synopses := make(map[string]string)
	if s.Search != nil {
		var err error
		if synopses, err = s.Search.Synopses(ctx, u.Module, u.Version); err != nil {
			return err
		}
	}
	for _, dir := range t.packages(u.Dir) {
		importPath := path.Join(u.Path, dir)
		if u.Std {
			importPath = path.Join(u.Dir, dir)
		}
		u.Dirs = append(u.Dirs, dirRow{dir, synopses[importPath]})
	}
	return nil
}
