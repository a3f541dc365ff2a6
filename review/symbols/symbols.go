// Package symbols finds out which known vulnerabilities the code of a project calls. It is
// govulncheck (golang.org/x/vuln/scan) with the carried vulnerability database.
//
// The go command loads the project, with the settings of the caller, and the analysis is about the
// platform and build tags of these.
package symbols

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/vuln/scan"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/review/vulndb"
)

// A Level says how a project uses what is vulnerable.
type Level string

// Levels, from the worst.
const (
	Called   Level = "called"   // a function that is vulnerable may be called
	Imported Level = "imported" // a package with one is part of the build
	Required Level = "required" // its module is required alone
)

var levels = []Level{Called, Imported, Required}

// maxVulns and maxTrace bound what a Project lists.
const (
	maxVulns = 10_000
	maxTrace = 100
)

// A Project lists the known vulnerabilities of what a project requires.
type Project struct {
	Module   string `json:"module"`   // its path
	Go       string `json:"go"`       // version of Go whose standard library was looked at
	Platform string `json:"platform"` // that was looked at: linux/amd64
	Vulns    []Vuln `json:"vulns"`    // by level, id and module
}

// A Vuln is a known vulnerability in a version that a project requires.
type Vuln struct {
	ID      string   `json:"id"`
	Aliases []string `json:"aliases,omitempty"`
	Summary string   `json:"summary"`
	URL     string   `json:"url,omitempty"`
	Module  string   `json:"module"` // or vulndb.Stdlib
	Version string   `json:"version"`
	Fixed   string   `json:"fixed,omitempty"` // a version that is not affected; "" when there is none
	Level   Level    `json:"level"`
	Package string   `json:"package,omitempty"` // that has it
	Trace   []string `json:"trace,omitempty"`   // of calls, from the project's code to what is vulnerable
}

// Count returns how many vulnerabilities have a level.
func (p *Project) Count(l Level) (n int) {
	for i := range p.Vulns {
		if p.Vulns[i].Level == l {
			n++
		}
	}
	return n
}

// ModuleOf returns the path of the module in a folder.
func ModuleOf(dir string) (string, error) {
	file := filepath.Join(dir, "go.mod")
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	path := modfile.ModulePath(data)
	if path == "" {
		return "", fmt.Errorf("%s names no module", file)
	}
	return path, nil
}

// Find analyzes the module in a folder, with all its packages, by the database in the folder db, an
// absolute path: see vulndb.DB.WriteFolder. It takes as much memory as a build of the module, and
// more.
func Find(ctx context.Context, dir, db string) (*Project, error) {
	out := &Project{Vulns: []Vuln{}}
	var err error
	if out.Module, err = ModuleOf(dir); err != nil {
		return nil, err
	}
	if out.Platform, err = platform(ctx, dir); err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	var complaint tail
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	fileURL := url.URL{Scheme: "file", Path: filepath.ToSlash(db)}
	cmd := scan.Command(ctx, "-C", dir, "-db", fileURL.String(), "-format", "json", "./...")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(""), w, &complaint
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() {
		err := cmd.Wait()
		w.Close()
		ended <- err
	}()
	err = out.read(r)
	r.CloseWithError(cmp.Or(err, errors.New("nobody reads it"))) // scan ends when it writes
	if failed := <-ended; failed != nil && err == nil {
		err = fmt.Errorf("%s: %w: %s", dir, failed, complaint.String())
	}
	return out, err
}

// platform returns what the go command builds for in a folder.
func platform(ctx context.Context, dir string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "env", "GOOS", "GOARCH")
	cmd.Dir = dir
	text, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("go env: %s", index.VisibleLine(string(exit.Stderr)))
	}
	return strings.Join(strings.Fields(string(text)), "/"), err
}

// A message is what govulncheck prints, of its protocol v1.0.0, as far as it is read here.
type message struct {
	Config *struct {
		Protocol string `json:"protocol_version"`
		Go       string `json:"go_version"`
		Level    string `json:"scan_level"`
	} `json:"config"`
	OSV *struct {
		ID       string   `json:"id"`
		Aliases  []string `json:"aliases"`
		Summary  string   `json:"summary"`
		Specific struct {
			URL string `json:"url"`
		} `json:"database_specific"`
	} `json:"osv"`
	Finding *finding `json:"finding"`
}

type finding struct {
	OSV   string  `json:"osv"`
	Fixed string  `json:"fixed_version"`
	Trace []frame `json:"trace"` // from what is vulnerable to who calls it
}

type frame struct {
	Module   string `json:"module"`
	Version  string `json:"version"`
	Package  string `json:"package"`
	Function string `json:"function"`
	Receiver string `json:"receiver"`
	Position *struct {
		File string `json:"filename"`
		Line int    `json:"line"`
	} `json:"position"`
}

// String returns the function, and where in the module of the caller the next one is called.
func (f *frame) String() string {
	name := f.Function
	if f.Receiver != "" {
		name = strings.TrimPrefix(f.Receiver, "*") + "." + name
	}
	text := f.Package + "." + name
	if f.Position != nil && f.Position.Line > 0 {
		text += fmt.Sprintf(" (%s:%d)", f.Position.File, f.Position.Line)
	}
	return index.VisibleLine(text)
}

// level returns how the module is used, by the most that a finding says.
func (f *finding) level() Level {
	switch {
	case f.Trace[0].Function != "":
		return Called
	case f.Trace[0].Package != "":
		return Imported
	}
	return Required
}

// read reads what govulncheck prints.
func (p *Project) read(r io.Reader) error {
	type key struct{ id, module string }
	found := make(map[key]*Vuln)
	about := make(map[string]*message)
	for dec := json.NewDecoder(r); ; {
		m := new(message)
		err := dec.Decode(m)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		switch {
		case m.Config != nil:
			if m.Config.Protocol != "v1.0.0" || m.Config.Level != "symbol" {
				return fmt.Errorf("govulncheck speaks protocol %s", m.Config.Protocol)
			}
			p.Go = m.Config.Go
		case m.OSV != nil:
			about[m.OSV.ID] = m
		case m.Finding != nil && len(m.Finding.Trace) > 0:
			f := m.Finding
			k := key{f.OSV, f.Trace[0].Module}
			v := found[k]
			if v == nil {
				if len(found) == maxVulns {
					return fmt.Errorf("more than %d vulnerabilities", maxVulns)
				}
				v = &Vuln{ID: f.OSV, Module: k.module, Version: f.Trace[0].Version, Level: Required}
				found[k] = v
			}
			v.take(f)
		}
	}
	for _, v := range found {
		if m := about[v.ID]; m != nil {
			v.Aliases, v.Summary, v.URL = m.OSV.Aliases, m.OSV.Summary, m.OSV.Specific.URL
		}
		v.clean()
		p.Vulns = append(p.Vulns, *v)
	}
	slices.SortFunc(p.Vulns, func(a, b Vuln) int {
		return cmp.Or(
			cmp.Compare(slices.Index(levels, a.Level), slices.Index(levels, b.Level)),
			strings.Compare(a.ID, b.ID), strings.Compare(a.Module, b.Module),
		)
	})
	return nil
}

// clean makes the texts of the database and of sources such that a terminal can show them, and
// names releases of Go as people do.
func (v *Vuln) clean() {
	for _, s := range []*string{&v.ID, &v.Summary, &v.URL, &v.Module, &v.Version, &v.Fixed, &v.Package} {
		*s = index.VisibleLine(*s)
	}
	for i, a := range v.Aliases {
		v.Aliases[i] = index.VisibleLine(a)
	}
	if v.Module == vulndb.Stdlib {
		v.Version, v.Fixed = vulndb.GoOfSemver(v.Version), vulndb.GoOfSemver(v.Fixed)
	}
}

// String returns the version as people write it: golang.org/x/net@v0.20.0, go1.22.1.
func (v *Vuln) String() string {
	if v.Module == vulndb.Stdlib {
		return "go" + v.Version
	}
	return v.Module + "@" + v.Version
}

// take takes over what a finding says, if it says more than those before: the shortest trace
// counts, and of equal ones the first in the order of its text.
func (v *Vuln) take(f *finding) {
	v.Fixed = cmp.Or(f.Fixed, v.Fixed)
	was, is := slices.Index(levels, v.Level), slices.Index(levels, f.level())
	if is > was {
		return
	}
	var trace []string
	if f.level() == Called {
		for i := range slices.Backward(f.Trace[:min(maxTrace, len(f.Trace))]) {
			trace = append(trace, f.Trace[i].String())
		}
	}
	order := cmp.Or(cmp.Compare(len(v.Trace), len(trace)), slices.Compare(v.Trace, trace))
	if is == was && len(v.Trace) > 0 && order <= 0 {
		return
	}
	v.Level, v.Package, v.Trace = f.level(), f.Trace[0].Package, trace
}

// A tail keeps the last bytes that are written to it.
type tail struct{ data []byte }

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	const most = 2 << 10
	t.data = append(t.data, p...)
	t.data = t.data[max(0, len(t.data)-most):]
	return len(p), nil
}

// String returns them as one line.
func (t *tail) String() string {
	return index.VisibleLine(string(t.data))
}
