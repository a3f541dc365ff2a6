package serve

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/serve/web"
)

// notInHost matches characters that no host has although a Host header may have them: people copy
// the settings of the page into a shell.
var notInHost = regexp.MustCompile(`[^A-Za-z0-9:._\[\]-]`)

// openZip compares a zip with the index, and opens it for a page.
func (h *handler) openZip(ctx context.Context, f store.Ref) (web.Zip, error) {
	src, err := h.large[f.In].open(ctx, f.File)
	if err != nil {
		return nil, err
	}
	if err := src.verify(ctx); err != nil {
		src.close()
		return nil, err
	}
	return pageZip{readerAt{ctx, src}}, nil
}

// A pageZip is the open zip of a page.
type pageZip struct{ readerAt }

// Check implements web.Zip.
func (z pageZip) Check(ctx context.Context) error { return z.src.check(ctx) }

// Close implements web.Zip.
func (z pageZip) Close() { z.src.close() }

// index takes what the view carries into the search.
func (h *handler) index(ctx context.Context) {
	start := time.Now()
	if err := h.site.Index(ctx); err != nil {
		if ctx.Err() == nil {
			h.log.Warn("not all that is carried can be searched", "why", err)
		}
		return
	}
	_, planned := h.site.Search.Progress()
	h.log.Info("all that is carried can be searched", "new", planned, "ms", time.Since(start).Milliseconds())
}

// page answers with a page for people.
func (h *handler) page(x *exchange) error {
	x.kind = kindPage
	h.visits.Add(1)
	defer h.visits.Add(-1)
	url := h.url(x)
	return h.site.ServeVisit(&web.Visit{
		ResponseWriter: x, Request: x.req, URL: url,
		Start: func() (web.Start, error) { return h.start(x.req.Context(), h.modulesURL(x)) },
	})
}

// wanted returns what lists the wants for a page, nil when they are not kept.
func (s *Server) wanted() func() []web.Want {
	w, ok := s.Wants.(*Wants)
	if !ok {
		return nil
	}
	return func() (list []web.Want) {
		for _, x := range w.List() {
			if x.Size > 0 { // a tree of the checksum database
				continue
			}
			line, _, _ := strings.Cut(x.line(), " #")
			list = append(list, web.Want{Line: line, Path: x.Path, Query: x.Query, Count: x.Count, First: x.First, Last: x.Last, Reason: x.Reason})
		}
		return list
	}
}

// url returns the URL of the server as the client of an exchange sees it.
func (s *Server) url(x *exchange) string {
	return x.origin().scheme + "://" + notInHost.ReplaceAllString(x.origin().host, "") + s.BasePath
}

// modulesURL returns the URL of the server for go commands: not that of the listener for pages,
// which has few connections. Behind a reverse proxy there is but one that is known.
func (s *Server) modulesURL(x *exchange) string {
	url := s.url(x)
	host, _, err := net.SplitHostPort(x.origin().host)
	if s.Pages == nil || len(s.Proxies) > 0 || err != nil {
		return url
	}
	_, port, err := net.SplitHostPort(s.conns[0].Addr().String())
	if err != nil {
		return url
	}
	return strings.Replace(url, x.origin().host, net.JoinHostPort(host, port), 1)
}

// start returns what the first page shows of the server at a URL.
func (h *handler) start(ctx context.Context, url string) (web.Start, error) {
	settings, err := h.clientSettings(ctx)
	if err != nil {
		return web.Start{}, err
	}
	out := web.Start{VulnDB: settings.VulnDB, Inside: settings.Inside}
	for _, sh := range Shells {
		commands, _ := ShellText(sh.Name, settings.Vars(url, sh.Name == "go"))
		out.Shells = append(out.Shells, web.Shell{Name: sh.Title, Text: commands})
	}
	report := modpath.ReviewFile(modpath.ReportHTML)
	_, ok, err := h.view.File(ctx, report)
	if ok {
		out.Report = report
	}
	return out, err
}

// settings answers with /settings.json.
func (h *handler) settings(x *exchange) error {
	s, err := h.clientSettings(x.req.Context())
	if err != nil {
		return err
	}
	x.Header().Set("Content-Type", "application/json")
	x.Header().Set("Cache-Control", "no-store")
	return json.NewEncoder(x).Encode(s)
}

// maxPrivate is how many private module paths the client settings name.
const maxPrivate = 1000

// Settings is the content of /settings.json: what a client needs to know besides the URL of a
// server.
type Settings struct {
	Bundle  string   `json:"bundle"`  // names of the lines
	Created string   `json:"created"` // when the newest bundle was made, RFC 3339
	SumDB   string   `json:"sumdb"`   // name of the checksum database, "" for none
	Private []string `json:"private"` // carried modules outside the checksum database, the first 1,000
	VulnDB  bool     `json:"vulndb"`  // the vulnerability database is served, below /vulndb
	Inside  []string `json:"inside"`  // patterns of modules of the network inside, which are not served here
	Also    []string `json:"also"`    // URLs of proxies that have those; none when they are fetched directly
}

// clientSettings returns the settings for clients of this view.
func (h *handler) clientSettings(ctx context.Context) (Settings, error) {
	s := Settings{
		Inside: []string{}, Also: []string{}, Private: []string{}, SumDB: h.sumDB(),
		Created: h.view.Lines[0].Manifest.Created.UTC().Format(time.RFC3339),
	}
	var names []string
	for _, b := range h.view.Lines {
		names = append(names, b.Manifest.Name)
	}
	s.Bundle = strings.Join(names, ", ")
	seen := make(map[string]bool)
	for path, err := range h.view.Private(ctx) {
		if err != nil {
			return s, err
		}
		if seen[path] {
			continue
		}
		seen[path] = true
		if s.Private = append(s.Private, path); len(s.Private) == maxPrivate {
			break
		}
	}
	if h.inside != nil {
		s.Inside = append(s.Inside, modpath.Patterns(h.inside.List(ctx, h.view, h.log))...)
		s.Also = append(s.Also, h.inside.Also...)
	}
	n, err := h.view.Vulns(ctx)
	s.VulnDB = n > 0
	return s, err
}

// A Var is a setting of the go command.
type Var struct{ Name, Value string }

// Vars returns the settings for a client of the server at a URL. GOVULNDB, which gopls reads, is
// not among those that go env -w knows.
//
// clean says that GOPRIVATE is empty on the client. Then GONOPROXY, whose default it is, can be
// empty too. Else GONOPROXY is "none": an empty environment variable does not override "go env -w".
// With any GONOPROXY "go get -u=patch" and "go get PACKAGE@patch" fail since go 1.16, whatever the
// proxies have (findings/gonoproxy-patch.sh).
func (s *Settings) Vars(url string, clean bool) []Var {
	noProxy := "none"
	if clean {
		noProxy = ""
	}
	if len(s.Inside) > 0 && len(s.Also) == 0 {
		noProxy = strings.Join(s.Inside, ",")
	}
	vars := []Var{
		{"GOPROXY", strings.Join(append([]string{url}, s.Also...), ",")}, // without "direct": there is no network for it
		{"GONOPROXY", noProxy},
		{"GOPRIVATE", ""},
		{"GONOSUMDB", strings.Join(s.NoSumDB(), ",")},
	}
	if s.SumDB == "sum.golang.org" {
		vars = append(vars, Var{"GOSUMDB", s.SumDB})
	}
	if s.VulnDB {
		vars = append(vars, Var{"GOVULNDB", url + "/vulndb"})
	}
	return vars
}

// NoSumDB returns the patterns of modules that no checksum database vouches for: those of the
// network inside, and the private ones that are carried.
func (s *Settings) NoSumDB() []string { return slices.Concat(s.Inside, s.Private) }

// Shells lists the forms that ShellText prints, with their names for people.
var Shells = []struct{ Name, Title string }{
	{"sh", "sh, bash, zsh"},
	{"powershell", "PowerShell"},
	{"go", "For good, with go env -w"},
	{"file", "CI and containers, as a file of variables"},
}

// ShellText returns the commands that make settings in a shell, which Shells names. ok is false for
// any other shell.
func ShellText(shell string, vars []Var) (text string, ok bool) {
	var b strings.Builder
	switch shell {
	case "sh":
		for _, v := range vars {
			fmt.Fprintf(&b, "export %s='%s'\n", v.Name, v.Value)
		}
	case "powershell":
		for _, v := range vars {
			fmt.Fprintf(&b, "$env:%s = '%s'\n", v.Name, v.Value)
		}
	case "file":
		for _, v := range vars {
			fmt.Fprintf(&b, "%s=%s\n", v.Name, v.Value)
		}
	case "go":
		b.WriteString("go env -w")
		for _, v := range vars {
			if v.Name != "GOVULNDB" {
				fmt.Fprintf(&b, " '%s=%s'", v.Name, v.Value)
			}
		}
		b.WriteString("\n")
	default:
		return "", false
	}
	return b.String(), true
}
