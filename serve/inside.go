package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/modpath"
)

// Inside names the modules that clients fetch within their own network instead of from bundles:
// from its Git servers, or from a second proxy. /settings.json tells clients of them. Set the
// fields before Open. The methods are safe for concurrent use.
type Inside struct {
	Patterns string // as in GOPRIVATE, separated by commas

	// File has more patterns, one a line or separated by commas, with # for comments. It is read
	// again when it changes. "" for none.
	File string

	Also []string // URLs of proxies that clients ask for what is not carried

	list watched[string] // the patterns of both, separated by commas
}

// Open reads the patterns. It returns an error for a pattern that matches nothing, and for an entry
// of Also that is not a URL.
func (i *Inside) Open() error {
	for _, u := range i.Also {
		if err := CheckURL(u); err != nil {
			return err
		}
	}
	if i.File != "" {
		i.list.files = []string{i.File}
	}
	_, err := i.list.get(slog.Default(), i.read)
	return err
}

// read returns the patterns of both, separated by commas.
func (i *Inside) read() (string, error) {
	text := i.Patterns
	if i.File != "" {
		data, err := os.ReadFile(i.File)
		if err != nil {
			return "", err
		}
		for line := range strings.Lines(string(data)) {
			line, _, _ = strings.Cut(line, "#")
			text += "," + strings.TrimSpace(line)
		}
	}
	list := modpath.Patterns(text)
	for _, p := range list {
		if err := CheckInside(p); err != nil {
			return "", err
		}
	}
	return strings.Join(list, ","), nil
}

// List returns the patterns, separated by commas, "" for none. A changed file that cannot be read,
// or that covers a public module of v, is logged and leaves the list as it was.
func (i *Inside) List(ctx context.Context, v *store.View, log *slog.Logger) string {
	if i == nil {
		return ""
	}
	list, _ := i.list.get(log, func() (string, error) { // Open has read it before
		list, err := i.read()
		if err == nil {
			err = covered(context.WithoutCancel(ctx), v, list)
		}
		return list, err
	})
	return list
}

// covers reports whether clients fetch a module within their own network.
func (i *Inside) covers(ctx context.Context, v *store.View, log *slog.Logger, path string) bool {
	return i != nil && module.MatchPrefixPatterns(i.List(ctx, v, log), path)
}

// Check returns a *CoveredError when the patterns cover a public module of v, which is to be
// served.
func (i *Inside) Check(ctx context.Context, v *store.View) error {
	return covered(ctx, v, i.list.last())
}

// covered returns a *CoveredError when patterns, separated by commas, cover a public module of v.
func covered(ctx context.Context, v *store.View, list string) error {
	if list == "" {
		return nil
	}
	for path, err := range v.Public(ctx) {
		if err != nil {
			return err
		}
		if module.MatchPrefixPatterns(list, path) {
			return &CoveredError{path}
		}
	}
	return nil
}

// A CoveredError says that a pattern of an Inside covers a public module that is carried: clients
// would fetch it elsewhere, and without the checksum database.
type CoveredError struct{ Path string }

// Error names the module.
func (e *CoveredError) Error() string {
	return fmt.Sprintf("the patterns of the network inside cover %s, a public module that is carried: "+
		"clients would fetch it elsewhere, unchecked", e.Path)
}

// notInURL matches characters that the URL of a server does not need and that a shell, or GOPROXY,
// would take for something else.
var notInURL = regexp.MustCompile(`[^A-Za-z0-9:/._~%@\[\]-]`)

// CheckURL checks the URL of a proxy that goes into the settings of clients.
func CheckURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || notInURL.MatchString(s) {
		return fmt.Errorf("%q is not the URL of a server: want http://HOST:PORT", s)
	}
	return nil
}

// notInPattern matches characters that a pattern of module paths does not need and that a shell
// would take for something else.
var notInPattern = regexp.MustCompile(`[^A-Za-z0-9/._~*?\[\]^-]`)

// CheckInside checks a pattern that goes into the settings of clients.
func CheckInside(p string) error {
	err := modpath.CheckPattern(p)
	if err == nil && notInPattern.MatchString(p) {
		err = errors.New("it has a character that no path has, and shells read it")
	}
	if err != nil {
		return fmt.Errorf("pattern %q matches no module: %w", p, err)
	}
	return nil
}
