package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/internal/goenv"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/serve/web/search"
)

func searchCommand() *command {
	var proxy string
	var asJSON bool
	return &command{
		name:    "search",
		summary: "find packages, symbols and licenses that a server carries (inside)",
		usage: `
Usage: modmirror search [flags] WORD...

Asks a server for the packages that have all words in their path, name, synopsis,
exported symbols or license, as its page /search does: the best first. The last word
may be the beginning of one. Without --proxy it asks the first URL in GOPROXY.

Example:
  modmirror search yaml
  modmirror search --proxy http://goproxy:8080 http.Handler
  modmirror search license:MIT uuid
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&proxy, "proxy", "", "`URL` of the modmirror server")
			fs.BoolVar(&asJSON, "json", false, "print JSON")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) == 0 {
				return usagef("want a word")
			}
			return runSearch(ctx, e, proxy, strings.Join(args, " "), asJSON)
		},
	}
}

// A searched is the answer of a server to a search.
type searched struct {
	Results []search.Result `json:"results"`
	Done    int64           `json:"done"`    // modules that were taken in
	Planned int64           `json:"planned"` // modules to take in
	More    bool            `json:"more"`    // there are more results
}

// runSearch asks a server, "" for the first one in GOPROXY, and prints what it finds.
func runSearch(ctx context.Context, e *env, proxy, query string, asJSON bool) error {
	if proxy == "" {
		var err error
		if proxy, err = firstProxy(ctx); err != nil {
			return err
		}
	}
	base, err := serverURL(proxy)
	if err != nil {
		return err
	}
	client, err := serverClient(ctx, base)
	if err != nil {
		return err
	}
	data, err := client.GetOnce(ctx, base+"/search.json?q="+url.QueryEscape(query))
	if err != nil {
		return hint.Add(fmt.Errorf("asking %s: %w", base, err), "is it a modmirror server with pages? modmirror doctor --proxy URL finds out more")
	}
	var found searched
	if err := json.Unmarshal(data, &found); err != nil {
		return fmt.Errorf("%s: not the answer of a modmirror server: %w", base, err)
	}
	if asJSON {
		return writeJSON(e.stdout, found)
	}
	found.print(e.stdout)
	if found.Done < found.Planned {
		e.sayHint("%d of %d new modules are searched so far; the others follow", found.Done, found.Planned)
	}
	if found.More {
		e.sayHint("there are more: add a word")
	}
	if len(found.Results) == 0 {
		e.say("nothing that %s carries has these words", base)
		return errFailed
	}
	return nil
}

// print prints what was found for people.
func (s *searched) print(w io.Writer) {
	for _, r := range s.Results {
		line := cleanText(r.Path) + "  " + cleanText(r.Version)
		if r.License != "" {
			line += ", " + cleanText(r.License)
		}
		if r.Importers > 0 {
			line += ", imported by " + number(int64(r.Importers), "module")
		}
		fmt.Fprintln(w, line)
		if r.Synopsis != "" {
			fmt.Fprintln(w, "    "+cleanText(r.Synopsis))
		}
		if len(r.Symbols) > 0 {
			fmt.Fprintln(w, "    "+cleanText(strings.Join(r.Symbols, ", ")))
		}
	}
}

// firstProxy returns the first URL in GOPROXY.
func firstProxy(ctx context.Context) (string, error) {
	settings, err := goenv.Read(ctx)
	if err != nil {
		return "", err
	}
	for _, p := range strings.FieldsFunc(settings.GOPROXY, func(r rune) bool { return r == ',' || r == '|' }) {
		if strings.HasPrefix(p, "http://") || strings.HasPrefix(p, "https://") {
			return p, nil
		}
	}
	return "", hint.Add(errors.New("there is no URL in GOPROXY"), "--proxy names the server")
}
