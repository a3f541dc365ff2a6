package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
)

// directs bounds the go commands that run at once. Each may run git and wait for a server.
const directs = 8

// directTimeout bounds one question. A large repository can be cloned in that time.
const directTimeout = 10 * time.Minute

// A Direct gets modules from the places that their paths name, by running the go command, which
// knows version control and import paths. Like a Client it answers paths of the GOPROXY protocol.
// It is for modules that the user calls private (GOPRIVATE, GONOPROXY): the go command runs with
// all of the user's settings and credentials.
//
// A Direct is safe for concurrent use.
type Direct struct {
	cache string // a GOMODCACHE for such modules alone
	slots chan struct{}

	mu   sync.Mutex
	asks map[string]*ask // by module@query, or by path for lists; guarded by mu
}

// An ask is a go command in progress or done.
type ask struct {
	once     sync.Once
	answer   directAnswer
	versions []string
	err      error
}

// A directAnswer is the output of go mod download -json.
type directAnswer struct {
	Version, Error   string
	Info, GoMod, Zip string // file names
}

// NewDirect returns a Direct that keeps its files in folder cache, which it creates when needed.
func NewDirect(cache string) *Direct {
	return &Direct{cache: cache, slots: make(chan struct{}, directs), asks: make(map[string]*ask)}
}

// Get returns the body at path, at most limit bytes of it (MaxSmall when limit is 0).
func (d *Direct) Get(ctx context.Context, path string, limit int64) ([]byte, error) {
	if limit == 0 {
		limit = MaxSmall
	}
	r, err := modpath.Parse(path)
	if err != nil {
		return nil, err
	}
	if r.Kind == modpath.List {
		versions, err := d.list(ctx, r.Path)
		return []byte(strings.Join(append(versions, ""), "\n")), err
	}
	name, err := d.file(ctx, r)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = &Error{URL: "direct:" + path, Err: fmt.Errorf("longer than the limit of %d bytes", limit)}
	}
	if err == nil && (r.Kind == modpath.Info || r.Kind == modpath.Latest) {
		data, err = plainInfo(data)
	}
	return data, err
}

// GetFrom is like Get and also returns a name for the place that answered.
func (d *Direct) GetFrom(ctx context.Context, path string, limit int64) ([]byte, string, error) {
	data, err := d.Get(ctx, path, limit)
	return data, "direct:" + path, err
}

// plainInfo removes from a .info file the parts that depend on the query that was asked first, and
// credentials.
func plainInfo(data []byte) ([]byte, error) {
	var info struct {
		Version string
		Time    time.Time
		Origin  *struct {
			VCS    string `json:",omitempty"`
			URL    string `json:",omitempty"`
			Subdir string `json:",omitempty"`
			Hash   string `json:",omitempty"`
		} `json:",omitempty"`
	}
	if err := json.Unmarshal(data, &info); err != nil {
		return nil, err
	}
	if info.Origin != nil {
		info.Origin.URL = Redact(info.Origin.URL)
	}
	return json.Marshal(info)
}

// Download writes the body at path, at most limit bytes of it, to f at its current offset. It calls
// progress, unless that is nil, with the number of bytes.
func (d *Direct) Download(ctx context.Context, path string, f *os.File, limit int64, progress func(n int64)) error {
	r, err := modpath.Parse(path)
	if err != nil {
		return err
	}
	name, err := d.file(ctx, r)
	if err != nil {
		return err
	}
	src, err := os.Open(name)
	if err != nil {
		return err
	}
	defer src.Close()
	n, err := io.Copy(f, io.LimitReader(src, limit+1))
	if err == nil && n > limit {
		err = &Error{URL: "direct:" + path, Err: fmt.Errorf("longer than the limit of %d bytes", limit)}
	}
	if progress != nil {
		progress(n)
	}
	return err
}

// file returns the name of the file for a request.
func (d *Direct) file(ctx context.Context, r modpath.Request) (string, error) {
	query := r.Version
	if r.Kind == modpath.Latest {
		query = "latest"
	}
	key := r.Path + "@" + query
	a := d.ask(key)
	a.once.Do(func() {
		defer d.forget(ctx, key)
		out, err := d.run(ctx, r, "mod", "download", "-json", "--", r.Path+"@"+query)
		if len(out) > 0 && json.Unmarshal(out, &a.answer) == nil && a.answer.Error != "" {
			err = d.failed(r, a.answer.Error)
		}
		a.err = err
	})
	// A version whose zip cannot be made may have the other files, which a module graph needs.
	name := map[modpath.Kind]string{
		modpath.Info: a.answer.Info, modpath.Latest: a.answer.Info, modpath.Mod: a.answer.GoMod, modpath.Zip: a.answer.Zip,
	}[r.Kind]
	if name == "" && a.err == nil {
		return "", fmt.Errorf("go mod download %s@%s returned no %s", r.Path, query, r.Kind)
	}
	if name == "" {
		return "", a.err
	}
	return name, nil
}

// list returns the versions of a module, also retracted ones.
func (d *Direct) list(ctx context.Context, path string) ([]string, error) {
	r := modpath.Request{Kind: modpath.List, Path: path}
	a := d.ask(path)
	a.once.Do(func() {
		defer d.forget(ctx, path)
		var out []byte
		const format = `{{range .Versions}}{{.}}{{"\n"}}{{end}}`
		out, a.err = d.run(ctx, r, "list", "-m", "-versions", "-retracted", "-f", format, "--", path)
		if a.err == nil {
			a.versions = strings.Fields(string(out))
		}
	})
	return a.versions, a.err
}

func (d *Direct) ask(key string) *ask {
	d.mu.Lock()
	defer d.mu.Unlock()
	a := d.asks[key]
	if a == nil {
		a = new(ask)
		d.asks[key] = a
	}
	return a
}

// forget drops the result of a question that failed because ctx ended.
func (d *Direct) forget(ctx context.Context, key string) {
	if ctx.Err() != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.asks, key)
	}
}

// run runs the go command outside of any module, without the checksum database: callers verify the
// files like all others.
func (d *Direct) run(ctx context.Context, r modpath.Request, args ...string) ([]byte, error) {
	select {
	case d.slots <- struct{}{}:
		defer func() { <-d.slots }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	cache, err := filepath.Abs(d.cache)
	if err != nil {
		return nil, err
	}
	if err := module.CheckPath(r.Path); err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "cache") // it has no go.mod, and no go.mod above it
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	asked, cancel := context.WithTimeout(ctx, directTimeout)
	defer cancel()
	cmd := exec.CommandContext(asked, "go", args...)
	endGroup(cmd)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOMODCACHE="+cache, "GOPROXY=direct", "GOSUMDB=off",
		"GOFLAGS=-modcacherw", "GOWORK=off", "GO111MODULE=on", "GOTOOLCHAIN=local",
		"LC_ALL=C", "GIT_HTTP_LOW_SPEED_LIMIT=1000", "GIT_HTTP_LOW_SPEED_TIME=60") // bytes per second, for one minute
	out, err := cmd.Output()
	exit, failed := errors.AsType[*exec.ExitError](err)
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case asked.Err() != nil:
		return nil, &Error{URL: "direct:" + r.String(), Err: fmt.Errorf("no answer in %v", directTimeout)}
	case errors.Is(err, exec.ErrNotFound):
		return nil, fmt.Errorf("%s is to be fetched directly, which needs the go command: %w", r.Path, err)
	case failed:
		return out, d.failed(r, string(exit.Stderr))
	}
	return out, err
}

// reFinal matches messages of the go command and git that mean that a module or a version does not
// exist. All other messages mean trouble: a server that is down must not make a module missing.
var reFinal = regexp.MustCompile(`(?i)unknown revision|no matching versions|missing \S*go\.mod at revision|does not contain package|` +
	`repository '?\S*'? ?(does )?not (found|exist)|repository not found|does not appear to be a git repository|: 404 not found|: 410 gone|no go-import meta tags|malformed module path|` +
	`but does not contain|invalid pseudo-version|go\.mod has .*module path|go\.mod has post-v\d+ module path`)

// reNoVCS matches the name of a program that the go command did not find.
var reNoVCS = regexp.MustCompile(`exec: "([a-z]+)": executable file not found`)

// noVCS returns the version control program that is not installed, if that made the go command
// fail, and else "". The go command does not always say so: for a path that names its version
// control, like host/repo.git, it says "no secure protocol found".
func noVCS(path, text string) string {
	if m := reNoVCS.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	if !strings.Contains(text, "no secure protocol found") {
		return ""
	}
	name := "git"
	for _, vcs := range []string{"hg", "svn", "bzr", "fossil"} {
		if strings.Contains(path+"/", "."+vcs+"/") {
			name = vcs
		}
	}
	if _, err := exec.LookPath(name); !errors.Is(err, exec.ErrNotFound) {
		return ""
	}
	return name
}

// A NoVCSError says that a version control program is not installed.
type NoVCSError struct{ Name string }

// Error names the program.
func (e *NoVCSError) Error() string {
	return e.Name + " is not installed, and what is fetched directly needs it"
}

// failed returns the error for a message of the go command.
func (d *Direct) failed(r modpath.Request, text string) error {
	if name := noVCS(r.Path, text); name != "" {
		return &Error{URL: "direct:" + r.String(), Err: &NoVCSError{name}}
	}
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(strings.TrimPrefix(line, "go: "))
		if line != "" && !strings.HasPrefix(line, "downloading ") && len(lines) < 8 {
			lines = append(lines, line)
		}
	}
	text = printable(strings.Join(lines, "; "))
	text = text[:min(len(text), maxText)]
	e := &Error{URL: "direct:" + r.String(), Text: text}
	said := strings.NewReplacer(r.Path, "", "@"+r.Version, "").Replace(text) // names may contain anything
	// The go command calls a failure of git an invalid version too.
	badVersion := strings.Contains(said, "invalid version") && !strings.Contains(said, "exit status")
	if e.Status = 404; !badVersion && !reFinal.MatchString(said) {
		e.Status, e.Err, e.Text = 0, errors.New(text), ""
	}
	return e
}
