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
	"sync"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/modpath"
)

// Inside says which modules are had in the network inside and not from bundles: those of its own
// Git servers, and what a second proxy has. Clients are told in /settings.json. Its methods are
// safe for concurrent use; the fields are set before.
type Inside struct {
	Patterns string   // as in GOPRIVATE, separated by commas
	File     string   // more of them, one a line or separated by commas, with # for comments; read again when it changes
	Also     []string // URLs of proxies that clients ask for what is not carried

	mu     sync.Mutex
	looked time.Time
	stamp  string // of the file when it was read
	list   string // of both
}

// insideInterval is how often the file is looked at.
const insideInterval = time.Second

// Open reads the patterns. One that matches nothing, and a URL that is none, is an error.
func (i *Inside) Open() error {
	for _, u := range i.Also {
		if err := CheckURL(u); err != nil {
			return err
		}
	}
	list, err := i.read()
	i.list = list
	return err
}

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

// notInURL is what the URL of a server does not need and a shell, or GOPROXY, would take for
// something else.
var notInURL = regexp.MustCompile(`[^A-Za-z0-9:/._~%@\[\]-]`)

// CheckURL checks the URL of a proxy that goes into the settings of clients.
func CheckURL(s string) error {
	if u, err := url.Parse(s); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || notInURL.MatchString(s) {
		return fmt.Errorf("%q is not the URL of a server: want http://HOST:PORT", s)
	}
	return nil
}

// notInPattern is what a pattern of module paths does not need and a shell would take for
// something else.
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

// List returns the patterns, separated by commas, "" for none. After a change of the file that
// cannot be read, or that covers a public module of v, it is the list of before.
func (i *Inside) List(ctx context.Context, v *bundle.View, log *slog.Logger) string {
	if i == nil {
		return ""
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.File == "" || time.Since(i.looked) < insideInterval {
		return i.list
	}
	i.looked = time.Now()
	stamp := ""
	if st, err := os.Stat(i.File); err == nil {
		stamp = fmt.Sprint(st.Size(), st.ModTime().UnixNano())
	}
	if stamp == i.stamp {
		return i.list
	}
	i.stamp = stamp
	list, err := i.read()
	if err == nil {
		err = covered(context.WithoutCancel(ctx), v, list)
	}
	if err != nil {
		log.Error("the list of modules of the network inside stays as it was", "err", err)
	} else {
		i.list = list
	}
	return i.list
}

// covers reports whether a module is of the network inside.
func (i *Inside) covers(ctx context.Context, v *bundle.View, log *slog.Logger, path string) bool {
	return i != nil && module.MatchPrefixPatterns(i.List(ctx, v, log), path)
}

// A CoveredError says that a pattern of the network inside covers a public module that is carried:
// clients would look for it elsewhere, and without the checksum database.
type CoveredError struct{ Path string }

// Error names the module.
func (e *CoveredError) Error() string {
	return fmt.Sprintf("the patterns of the network inside cover %s, a public module that is carried: clients would fetch it elsewhere, unchecked", e.Path)
}

// Check returns a *CoveredError when the patterns cover a public module of a view that is to be
// served.
func (i *Inside) Check(ctx context.Context, v *bundle.View) error {
	i.mu.Lock()
	list := i.list
	i.mu.Unlock()
	return covered(ctx, v, list)
}

// covered returns a *CoveredError when patterns cover a public module of a view.
func covered(ctx context.Context, v *bundle.View, list string) error {
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
