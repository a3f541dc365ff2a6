package serve

import (
	"context"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/modmirror/modmirror/internal/modpath"
)

//go:embed landing.html
var files embed.FS

var landingPage = template.Must(template.ParseFS(files, "landing.html"))

// notInHost is what a Host header may have in it although no host has: the page is there to be copied from.
var notInHost = regexp.MustCompile(`[^A-Za-z0-9:._\[\]-]`)

// landing shows what is served and how to use it.
func (h *handler) landing(w *exchange, base string) error {
	settings, err := h.clientSettings(w.req.Context())
	if err != nil {
		return err
	}
	url := w.origin().scheme + "://" + notInHost.ReplaceAllString(w.origin().host, "") + base
	type shell struct{ Name, Text string }
	var shells []shell
	for _, sh := range Shells {
		commands, _ := ShellText(sh.Name, settings.Vars(url, sh.Name == "go"))
		shells = append(shells, shell{sh.Title, commands})
	}
	var page strings.Builder
	err = landingPage.Execute(&page, map[string]any{
		"URL":    url,
		"Shells": shells,
		"Inside": strings.Join(settings.Inside, ", "),
		"Names":  settings.Bundle,
		"Lines":  h.view.Lines,
		"VulnDB": settings.VulnDB,
	})
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprint(w, page.String())
	return nil
}

// Settings is what a client needs to know besides the URL, as /settings.json has it.
type Settings struct {
	Bundle  string   `json:"bundle"`
	Created string   `json:"created"` // RFC 3339
	SumDB   string   `json:"sumdb"`   // name of the checksum database, "" for none
	Private []string `json:"private"` // modules outside of it
	VulnDB  bool     `json:"vulndb"`  // the vulnerability database is served, below /vulndb
	Inside  []string `json:"inside"`  // patterns of modules of the network inside, which are not here
	Also    []string `json:"also"`    // URLs of proxies that have those; none when they are fetched directly
}

// maxPrivate is how many private module paths the client settings name.
const maxPrivate = 1000

func (h *handler) clientSettings(ctx context.Context) (Settings, error) {
	s := Settings{Inside: []string{}, Also: []string{}, Created: h.view.Lines[0].Manifest.Created.UTC().Format(time.RFC3339), SumDB: h.sumDB(), Private: []string{}}
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

// settings answers with what "modmirror env" needs to know.
func (h *handler) settings(w *exchange) error {
	s, err := h.clientSettings(w.req.Context())
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	return json.NewEncoder(w).Encode(s)
}

// A Var is a setting of the go command.
type Var struct{ Name, Value string }

// Vars returns the settings of a client of the server at a URL. GOVULNDB, which gopls reads, is not
// among those that go env -w knows.
//
// clean says that GOPRIVATE is empty on the client, so that GONOPROXY, whose default it is, can be
// too. Else GONOPROXY is none: an empty variable of the environment does not count against "go env
// -w". With any GONOPROXY "go get -u=patch" and "go get PACKAGE@patch" fail since go 1.16, whatever
// the proxies have (findings/gonoproxy-patch.sh).
func (s *Settings) Vars(url string, clean bool) []Var {
	noProxy := "none"
	if clean {
		noProxy = ""
	}
	if len(s.Inside) > 0 && len(s.Also) == 0 {
		noProxy = strings.Join(s.Inside, ",")
	}
	vars := []Var{
		{"GOPROXY", strings.Join(append([]string{url}, s.Also...), ",")}, // without "direct", which would go to a network that is not there
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

// Shells are the forms in which settings are printed, with their names for people.
var Shells = []struct{ Name, Title string }{
	{"sh", "sh, bash, zsh"},
	{"powershell", "PowerShell"},
	{"go", "For good, with go env -w"},
}

// ShellText returns commands that make settings in a form of Shells; ok is false for another one.
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
