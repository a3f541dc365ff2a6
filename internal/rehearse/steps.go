package rehearse

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/goenv"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/mirror/sources"
	"github.com/modmirror/modmirror/serve"
)

// maxMisses bounds the list of misses.
const maxMisses = 1000

// A plan is what the other process reads from stdin, as JSON.
type plan struct {
	Bundle      string
	Bases, Keys []string
	Steps       []step
	Command     string   // for sh
	Env         []string // of the commands, without GOPROXY
	Misses      string   // file for what is asked for and is not in the bundle
}

// A step is what happens in one folder. Of Module, Tool and Work at most one is set. Without any,
// Dir holds a copy of a project: go mod tidy runs there, then the command.
type step struct {
	Dir    string
	Module string // module@version: a new project requires it, go mod tidy runs, then the command
	Tool   string // package@version: go install runs alone
	Work   string // path of a go.work of which Dir is a module: the command runs alone
}

// plan makes the folders of the rehearsal, with copies of the projects, and returns what the other
// process does in them.
func (o *Options) plan(goCmd string) (*plan, error) {
	for _, dir := range []string{"home", "gopath", "gocache", "work"} {
		if err := os.Mkdir(filepath.Join(o.Dir, dir), 0o777); err != nil {
			return nil, err
		}
	}
	// Both places of os.UserConfigDir, which has one a system.
	for _, config := range []string{".config", "Library/Application Support"} {
		if err := goenv.NoTelemetry(filepath.Join(o.Dir, "home", config)); err != nil {
			return nil, err
		}
	}
	p := &plan{
		Bundle: o.Bundle, Bases: o.Bases, Keys: o.Keys, Command: o.Command, Env: o.environ(goCmd), Misses: o.missesFile(),
	}
	for i, s := range o.Sources.List {
		if s.OnlyThis || s.Workspace != nil {
			continue // the go command cannot build the former, and builds the latter with its workspace
		}
		steps, err := o.steps(filepath.Join(o.Dir, "work", fmt.Sprint(i)), s)
		if err != nil {
			return nil, err
		}
		p.Steps = append(p.Steps, steps...)
	}
	return p, nil
}

// steps returns the steps for a source, whose folder dir it makes.
func (o *Options) steps(dir string, s sources.Source) ([]step, error) {
	switch {
	case s.Work != nil:
		modules, err := o.copyWorkspace(dir, s)
		if err != nil {
			return nil, fmt.Errorf("copying %s for the rehearsal: %w", s.Name, err)
		}
		var steps []step
		for _, m := range modules {
			steps = append(steps, step{Dir: m, Work: filepath.Join(dir, "go.work")})
		}
		return steps, nil
	case s.Mod != nil:
		if err := o.copyProject(dir, s); err != nil {
			return nil, fmt.Errorf("copying %s for the rehearsal: %w", s.Name, err)
		}
		return []step{{Dir: dir}}, nil
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		return nil, err
	}
	if s.Tool != "" {
		return []step{{Dir: dir, Tool: s.Tool + "@" + s.Query.Version}}, nil
	}
	return []step{{Dir: dir, Module: s.Query.Path + "@" + o.version(s)}}, nil
}

// version returns the version that a source's query was resolved to.
func (o *Options) version(s sources.Source) string {
	for _, q := range o.Contents.Queries {
		if q.Path == s.Query.Path && q.Query == s.Query.Version {
			return q.Version
		}
	}
	if s.Query.Version == "all" { // the newest stands for all
		return "latest"
	}
	return s.Query.Version
}

// Inside is the other process of a rehearsal: it serves the bundle on loopback and runs the
// commands against it, whose output goes to out. It reads what to do from in.
func Inside(ctx context.Context, in io.Reader, out io.Writer) error {
	var p plan
	if err := json.NewDecoder(in).Decode(&p); err != nil {
		return err
	}
	if err := loopbackUp(); err != nil {
		return fmt.Errorf("bringing loopback up: %w", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var misses missList
	ready := make(chan struct{})
	s := &serve.Server{
		Open: func(ctx context.Context) (*store.View, error) {
			return store.OpenFiles(ctx, append(p.Bases, p.Bundle), trust.NewKeyring(p.Keys...), store.NoState())
		},
		Log:   slog.New(slog.NewTextHandler(out, nil)),
		Wants: serve.MissFunc(misses.add),
		Ready: func(*store.View) { close(ready) },
	}
	ctx, stop := context.WithCancel(ctx)
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, l) }()
	select {
	case err := <-served:
		stop()
		return err
	case <-ready:
	}
	p.Env = append(p.Env, "GOPROXY=http://"+l.Addr().String())
	err = p.run(ctx, out, &misses)
	stop()
	return cmp.Or(err, <-served)
}

// run does one step after another, until one fails.
func (p *plan) run(ctx context.Context, out io.Writer, misses *missList) error {
	for _, s := range p.Steps {
		misses.take() // the step before this one needed none of them
		if err := s.run(ctx, out, p.Command, p.Env); err != nil {
			return errors.Join(err, writeMisses(p.Misses, out, misses.take()))
		}
	}
	return nil
}

// writeMisses prints the misses of a step that failed, and writes them to the file for Run.
func writeMisses(file string, out io.Writer, list []string) error {
	for _, m := range list {
		fmt.Fprintln(out, "asked for and not in the bundle:", m)
	}
	data, err := json.Marshal(list)
	return errors.Join(err, os.WriteFile(file, data, 0o666))
}

// A runner runs a command in the folder of a step and returns what it printed.
type runner func(name string, args ...string) (stdout string, err error)

// run runs the commands of a step and writes the output of the person's command to out.
func (s *step) run(ctx context.Context, out io.Writer, command string, env []string) error {
	if s.Work != "" { // go refuses -mod=mod in a workspace
		env = append(slices.Clone(env), "GOWORK="+s.Work, "GOFLAGS="+baseFlags)
	}
	run := s.runner(ctx, env)
	if s.Tool != "" {
		_, err := run("go", "install", s.Tool)
		return err
	}
	if s.Module != "" {
		if err := newProject(s.Dir, s.Module, run); err != nil {
			return err
		}
	}
	if s.Work == "" {
		if _, err := run("go", "mod", "tidy"); err != nil {
			return err
		}
	}
	text, err := run("sh", "-c", command)
	if err != nil {
		return err
	}
	_, err = io.WriteString(out, text)
	return err
}

// runner returns a runner whose errors contain all that the command printed.
func (s *step) runner(ctx context.Context, env []string) runner {
	return func(name string, args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir, cmd.Env = s.Dir, env
		cmd.WaitDelay = 5 * time.Second
		var out, diagnostics bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &diagnostics
		if name == "sh" {
			cmd.Stderr = &out // in the order in which both were written
		}
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("%s%s%s %s: %w", out.String(), diagnostics.String(), name, strings.Join(args, " "), err)
		}
		return out.String(), nil
	}
}

// A missList collects what clients asked for and the bundle does not have. Its methods are safe for
// concurrent use.
type missList struct {
	mu   sync.Mutex
	list []string
}

// add adds a request, once.
func (l *missList) add(r modpath.Request, _ netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := r.String(); !slices.Contains(l.list, s) && len(l.list) < maxMisses {
		l.list = append(l.list, s)
	}
}

// take returns the list and begins a new one. To find the module of a package, a go command asks
// for the list and .info of every path above it: these are left out when something else is missing
// too.
func (l *missList) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.list
	l.list = nil
	files := slices.DeleteFunc(slices.Clone(list), func(s string) bool {
		return strings.HasSuffix(s, ".info") || strings.HasSuffix(s, "/list") || strings.HasSuffix(s, "/@latest")
	})
	if len(files) > 0 {
		return files
	}
	return list
}
