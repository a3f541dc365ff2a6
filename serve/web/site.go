// Package web shows what bundles carry to people: packages with their documentation and sources,
// modules with what is known of them, and the settings of clients. Its URLs are those of
// pkg.go.dev.
//
// Every text of a module is hostile. Sources and READMEs become HTML in another process (package
// render), html/template escapes the rest, and a Content-Security-Policy allows own styles and
// images alone: no script, no form to elsewhere, no request that leaves the server.
package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/serve/web/render"
	"github.com/modmirror/modmirror/serve/web/search"
)

// A Zip is the zip of a version, all of which was compared with the index.
type Zip interface {
	io.ReaderAt
	// Check returns nil when all bytes that were read are still those that were compared.
	Check(ctx context.Context) error
	Close()
}

// A Site shows a view. Set the fields before the first request. It is safe for concurrent use.
type Site struct {
	Base  string // path of the site, "" or /prefix
	View  *store.View
	Zip   func(ctx context.Context, f store.Ref) (Zip, error) // compares a zip, and opens it
	Vulns func() *review.Vulns                                // nil while they are not known, and when no database is carried
	Work  render.Worker
	API   review.APIWorker // compares what versions export; nil for not at all
	Log   *slog.Logger

	Busy  func() bool   // others download; nil for never
	Wants func() []Want // what was asked for and is missing; nil when that is not remembered

	// Ask records what somebody wants, and why; nil when the server takes no wishes. Its errors are
	// for that person.
	Ask func(path, query, reason string, r *http.Request) error

	// Search finds packages; nil for no search. Several sites, one after another, may share it.
	Search *search.DB

	starting sync.Mutex              // held while the catalog is read
	started  atomic.Pointer[catalog] // nil until it was read
	catalog  *catalog                // after start

	quick    turns // of pages
	slow     turns // of those that compare two versions, which takes seconds
	renderer render.Renderer
	pages    pages
	indexed  atomic.Bool // Search has all that the view has
}

// A Visit is a request for a page.
type Visit struct {
	http.ResponseWriter
	Request *http.Request
	URL     string // of the site, as the client sees it, without a slash at the end
	Start   func() (Start, error)

	as string // form of the answer: json, csv, or "" for people
}

// Start is what the first page shows besides what the view has.
type Start struct {
	Shells []Shell  `json:"settings"`
	VulnDB bool     `json:"vulndb"`
	Inside []string `json:"inside"` // patterns of modules that clients get elsewhere
	Report string   `json:"report,omitempty"`
}

// A Shell has the settings of a client for one shell.
type Shell struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// policy is the Content-Security-Policy of pages.
const policy = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

//go:embed templates/*.html templates/*.css templates/*.svg templates/openapi.json
var files embed.FS

// templates returns the templates, parsed when the first page is made: other commands need none.
var templates = sync.OnceValue(func() *template.Template {
	return template.Must(template.New("").Funcs(template.FuncMap{
		"size": size, "day": day, "dict": dict, "plural": plural,
		"inc": func(i int) int { return i + 1 }, "dec": func(i int64) int64 { return i - 1 },
	}).ParseFS(files, "templates/*.html"))
})

// An httpError is an answer that is not a page: a status, and what a person should know.
type httpError struct {
	status int
	title  string
	lines  []string
}

func (e *httpError) Error() string { return e.title }

// notFound returns an error for something that is not carried.
func notFound(title string, lines ...string) error {
	return &httpError{http.StatusNotFound, title, lines}
}

// A page is what a handler returns: data for a template, and for JSON.
type page struct {
	template string // name of the template
	title    string
	data     any
	table    *table
	file     []byte // instead of a template: an image, of fileType
	fileType string
	fresh    bool // depends on more than the view and the URL
}

// ServeVisit answers a request for a page. The error was not answered yet: it is about the bundle,
// or the storage.
func (s *Site) ServeVisit(v *Visit) error {
	if err := s.start(v.Request.Context()); err != nil {
		return err
	}
	path := v.Request.URL.Path
	if v.Request.Method == http.MethodPost {
		return s.answered(v, s.ask(v))
	}
	switch path {
	case "/feed.atom":
		return s.feed(v)
	case "/opensearch.xml":
		return s.openSearch(v)
	case "/favicon.ico":
		path = "/-/icon.svg"
	case "/openapi.json":
		path = "/-/openapi.json"
	}
	if s.asset(v, path) {
		return nil
	}
	as := ""
	if accept := v.Request.Header.Get("Accept"); strings.Contains(accept, "application/json") && !strings.Contains(accept, "text/html") {
		as = "json"
	}
	name, ext := cutLast(path, ".")
	if (ext == "json" || ext == "csv") && !strings.HasPrefix(path, "/src/") && !strings.HasPrefix(path, "/raw/") && !s.carriesPath(path) {
		path, as = name, ext
	}
	v.as = as
	key, query := path+" as "+as, v.Request.URL.Query()
	for _, name := range []string{"q", "tab", "from", "sort", "GOOS", "GOARCH"} { // those that a page depends on
		key += fmt.Sprintf(" %q", query.Get(name))
	}
	if s.Vulns() != nil { // before, pages lack them
		key += " with vulnerabilities"
	}
	if e := s.pages.get(key); e != nil {
		e.serve(v)
		return nil
	}
	e, p, err := s.make(v, path, as)
	if err != nil || e == nil {
		return s.answered(v, err)
	}
	if !p.fresh && (s.Search == nil || s.indexed.Load()) {
		s.pages.put(key, e)
	}
	e.serve(v)
	return nil
}

// make makes the page at a path. It returns nil when the page was answered.
func (s *Site) make(v *Visit, path, as string) (*entry, *page, error) {
	turns := &s.quick
	if v.Request.URL.Query().Get("tab") == tabDiff && strings.Contains(path, ".") && !strings.HasPrefix(path, "/src/") {
		turns = &s.slow // a module, which has a dot
	}
	done, err := turns.take(v.Request.Context(), s.Busy)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	p, err := s.page(v, path)
	if err != nil || p == nil {
		return nil, nil, err
	}
	e, err := s.render(v, p, as)
	return e, p, err
}

// start reads the catalog, until that succeeds once.
func (s *Site) start(ctx context.Context) error {
	if s.started.Load() != nil {
		return nil
	}
	s.starting.Lock()
	defer s.starting.Unlock()
	if s.started.Load() != nil {
		return nil
	}
	c, err := readCatalog(context.WithoutCancel(ctx), s.View)
	if err != nil {
		return err
	}
	s.catalog, s.renderer.Work = &c, s.Work
	s.quick = turns{max: maxRest, slot: make(chan struct{}, 1)}
	s.slow = turns{max: maxSlowRest, slot: make(chan struct{}, 1)}
	s.started.Store(&c)
	return nil
}

// page returns the page at a path, nil when it was answered.
func (s *Site) page(v *Visit, path string) (*page, error) {
	switch {
	case path == "/":
		return s.first(v)
	case path == "/search":
		return s.search(v)
	case path == "/modules":
		return s.modules(v)
	case path == "/licenses":
		return s.licenses(v.Request.Context(), v)
	case path == "/vulns":
		return s.vulns(v)
	case path == "/wants":
		return s.wants(v.Request.Context(), v)
	case strings.HasPrefix(path, "/src/"):
		return s.source(v, strings.TrimPrefix(path, "/src/"))
	case strings.HasPrefix(path, "/raw/"):
		return s.raw(v, strings.TrimPrefix(path, "/raw/"))
	}
	return s.unit(v, strings.Trim(path, "/"))
}

// cutLast is strings.Cut around the last sep.
func cutLast(s, sep string) (before, after string) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):]
	}
	return s, ""
}

// A layout is what the templates get.
type layout struct {
	Base, Title, Query, Names string
	Data                      any
	Table                     *table
}

// lines returns the names of the lines, for titles.
func (s *Site) lines() string {
	var names []string
	for _, b := range s.View.Lines {
		names = append(names, b.Manifest.Name)
	}
	return strings.Join(names, ", ")
}

// render returns a page as an entry for the cache: as "" for people, or as json or csv.
func (s *Site) render(v *Visit, p *page, as string) (*entry, error) {
	var buf bytes.Buffer
	var contentType string
	switch {
	case p.file != nil:
		return &entry{contentType: p.fileType, etag: tag(p.file), plain: p.file}, nil
	case as == "json":
		contentType = "application/json"
		enc := json.NewEncoder(&buf)
		enc.SetEscapeHTML(false)
		if err := enc.Encode(p.data); err != nil {
			return nil, err
		}
	case as == "csv" && p.table != nil:
		contentType = "text/csv; charset=utf-8"
		data, err := p.table.csv()
		if err != nil {
			return nil, err
		}
		buf.Write(data)
	default:
		contentType = "text/html; charset=utf-8"
		l := layout{s.Base, p.title, v.Request.URL.Query().Get("q"), s.lines(), p.data, p.table}
		if err := templates().ExecuteTemplate(&bounded{v.Request.Context(), &buf}, p.template, l); err != nil {
			return nil, err
		}
	}
	return newEntry(contentType, buf.Bytes(), p.fresh)
}

// maxPage is the longest page in bytes.
const maxPage = 24 << 20

// A bounded writer fails when its context ends, or after maxPage bytes.
type bounded struct {
	ctx context.Context
	buf *bytes.Buffer
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > maxPage {
		return 0, notFound(fmt.Sprintf("this page would have more than %d MiB", maxPage>>20))
	}
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.buf.Write(p)
}

// answered answers with an error page if err is for people, and returns other errors.
func (s *Site) answered(v *Visit, err error) error {
	bad, ok := errors.AsType[*httpError](err)
	if !ok { // nil, too
		return err
	}
	var buf bytes.Buffer
	h := v.Header()
	if v.as == "json" {
		h.Set("Content-Type", "application/json")
		json.NewEncoder(&buf).Encode(map[string]any{"error": bad.title, "hints": bad.lines})
	} else {
		h.Set("Content-Type", "text/html; charset=utf-8")
		l := layout{s.Base, bad.title, "", s.lines(), map[string]any{"Title": bad.title, "Lines": bad.lines}, nil}
		if err := templates().ExecuteTemplate(&buf, "error.html", l); err != nil {
			return err
		}
	}
	secure(h)
	h.Set("Cache-Control", "no-store")
	if bad.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "5")
	}
	v.WriteHeader(bad.status)
	v.Write(buf.Bytes())
	return nil
}

// secure sets the headers that bound what a page can do.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
}

const (
	// maxWait is how long a page waits for its turn.
	maxWait = 3 * time.Second

	// rest is how long no page is made after one, as a multiple of the time that it took, while
	// others download, and maxRest how long at most; maxSlowRest of those that compare versions.
	// Making one page after another would take a fifth from them.
	rest        = 12
	maxRest     = 2 * time.Second
	maxSlowRest = time.Minute
)

// do has texts of modules rendered. An *httpError is about the process that does that, a
// *render.Error about the texts.
func (s *Site) do(ctx context.Context, req *render.Request) (*render.Answer, error) {
	a, err := s.renderer.Do(ctx, req)
	if _, failed := errors.AsType[*render.WorkerError](err); failed {
		return nil, s.unable(err)
	}
	return a, err
}

// unable logs that a process that makes pages fails, and returns an *httpError.
func (s *Site) unable(err error) error {
	s.Log.Error("the process that makes pages fails", "err", err)
	return &httpError{http.StatusServiceUnavailable, "pages cannot be made now", []string{"the log of the server says why"}}
}

// turns let one page of a kind be made at a time.
type turns struct {
	max  time.Duration // see maxRest
	slot chan struct{} // held while a page is made
	made time.Time     // when one was; slot guards it
	rest time.Duration // how long none is made after it; slot guards it
}

// take waits until a page may be made. busy says whether others download; nil for never. The caller
// calls done when the page is made. The error is an *httpError when it takes too long.
func (t *turns) take(ctx context.Context, busy func() bool) (done func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, maxWait, &httpError{
		http.StatusServiceUnavailable, "busy", []string{"other pages are being made: try again in a moment"},
	})
	defer cancel()
	select {
	case t.slot <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if busy != nil && busy() {
		select {
		case <-time.After(t.rest - time.Since(t.made)):
		case <-ctx.Done():
			<-t.slot
			return nil, context.Cause(ctx)
		}
	}
	start := time.Now()
	return func() {
		t.made = time.Now()
		t.rest = min(rest*t.made.Sub(start), t.max)
		<-t.slot
	}, nil
}

// asset answers with a file of the site itself, and reports whether path is one.
func (s *Site) asset(v *Visit, path string) bool {
	name, ok := strings.CutPrefix(path, "/-/")
	if !ok || strings.Contains(name, "/") || strings.HasSuffix(name, ".html") {
		return false
	}
	data, err := files.ReadFile("templates/" + name)
	if err != nil {
		return false
	}
	types := map[string]string{"css": "text/css; charset=utf-8", "svg": "image/svg+xml", "json": "application/json"}
	_, ext, _ := strings.Cut(name, ".")
	h := v.Header()
	h.Set("Content-Type", types[ext])
	secure(h)
	h.Set("Cache-Control", "public, max-age=3600")
	http.ServeContent(v, v.Request, "", time.Time{}, bytes.NewReader(data))
	return true
}

// size returns a number of bytes for people.
func size(n any) string {
	var f float64
	switch n := n.(type) {
	case int64:
		f = float64(n)
	case *int64:
		if n == nil {
			return ""
		}
		f = float64(*n)
	}
	for _, unit := range []string{"B", "KB", "MB"} {
		if f < 1000 {
			return fmt.Sprintf("%.3g %s", f, unit)
		}
		f /= 1000
	}
	return fmt.Sprintf("%.3g GB", f)
}

// day returns the date of a time in RFC 3339, or of a time.Time.
func day(t any) string {
	switch t := t.(type) {
	case string:
		return t[:min(len(t), len(time.DateOnly))]
	case time.Time:
		return t.UTC().Format(time.DateOnly)
	}
	return ""
}

// dict returns a map of pairs, for templates that call others.
func dict(pairs ...any) map[string]any {
	m := make(map[string]any)
	for i := 0; i+1 < len(pairs); i += 2 {
		m[pairs[i].(string)] = pairs[i+1]
	}
	return m
}

// An entry is a page as it is sent.
type entry struct {
	contentType, etag string
	zipped            []byte // gzip; nil for an image
	plain             []byte // an image
	fresh             bool
}

// newEntry compresses a page.
func newEntry(contentType string, data []byte, fresh bool) (*entry, error) {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	if _, err := z.Write(data); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	return &entry{contentType: contentType, etag: tag(data), zipped: buf.Bytes(), fresh: fresh}, nil
}

// serve sends the page.
func (e *entry) serve(v *Visit) {
	h := v.Header()
	secure(h)
	h.Set("Content-Type", e.contentType)
	h.Set("ETag", e.etag)
	h.Set("Cache-Control", map[bool]string{true: "no-store", false: "no-cache"}[e.fresh])
	if e.plain != nil {
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; sandbox")
		http.ServeContent(v, v.Request, "", time.Time{}, bytes.NewReader(e.plain))
		return
	}
	h.Set("Vary", "Accept, Accept-Encoding")
	switch {
	case hasTag(v.Request.Header.Get("If-None-Match"), e.etag):
		v.WriteHeader(http.StatusNotModified)
	case acceptsGzip(v.Request):
		h.Set("Content-Encoding", "gzip")
		h.Set("Content-Length", fmt.Sprint(len(e.zipped)))
		if v.Request.Method != http.MethodHead {
			v.Write(e.zipped)
		}
	case v.Request.Method == http.MethodHead:
	default:
		if z, err := gzip.NewReader(bytes.NewReader(e.zipped)); err == nil {
			io.Copy(v, z)
		}
	}
}

// hasTag reports whether an If-None-Match has a weak ETag (RFC 9110, section 13.1.2).
func hasTag(list, etag string) bool {
	for t := range strings.SplitSeq(list, ",") {
		if t = strings.TrimSpace(t); t == "*" || strings.TrimPrefix(t, "W/") == strings.TrimPrefix(etag, "W/") {
			return true
		}
	}
	return false
}

// acceptsGzip reports whether a client takes gzip.
func acceptsGzip(r *http.Request) bool {
	for part := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		coding, q, _ := strings.Cut(strings.TrimSpace(part), ";")
		if coding == "gzip" {
			weight, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(q), "q="), 64)
			return err != nil || weight > 0
		}
	}
	return false
}
