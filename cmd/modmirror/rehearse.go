package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/serve"
)

// defaultRehearsal is what --rehearse runs unless it is given a command. It runs no code of
// the modules, so it may use the build cache.
const defaultRehearsal = "go build ./... && go vet ./..."

// rehearsalFlags are GOFLAGS for all steps: -trimpath makes the build cache useful in another folder.
const rehearsalFlags = "-trimpath -buildvcs=false"

// rehearseInside is the hidden command that a rehearsal runs of itself, in a network
// namespace of its own where the machine allows it.
const rehearseInside = "rehearse-inside"

// A rehearsal proves that a bundle is complete: the go command builds the sources from it, behind
// a loopback server, with an empty module cache and with the checksum database on.
type rehearsal struct {
	bundle   string // path
	key      string // that it is signed with for now
	bases    []string
	trusted  []string // keys of the bases
	command  string   // for sh
	sources  *mirror.Job
	closure  *bundle.Contents
	settings goEnv
	tmp      string
	learn    bool   // what is missing is not a failure yet
	output   string // absolute path of the bundle that will be there
}

// A rehearsalPlan is what the process inside is told, as JSON.
type rehearsalPlan struct {
	Bundle      string
	Bases, Keys []string
	Steps       []rehearsalStep
	Command     string // for sh
	Env         []string
	Misses      string // file for what is asked for and not there
}

// A rehearsalStep is what is done in a folder: the command after go mod tidy in a project, after that in a new project that
// requires Module, or alone in a module of a workspace; or the installation of Tool.
type rehearsalStep struct {
	Dir    string
	Module string // module@version
	Tool   string // package@version
	Work   string // path of the go.work
}

// run rehearses every source.
func (r *rehearsal) run(ctx context.Context, e *env) error {
	goCmd, err := exec.LookPath("go")
	if err != nil {
		return &hintError{errors.New("rehearsing: there is no go command here"), "install Go, or leave --rehearse out"}
	}
	plan := rehearsalPlan{Bundle: r.bundle, Bases: r.bases, Keys: append(r.trusted, r.key), Command: r.command, Env: r.environ(goCmd), Misses: r.missesFile()}
	for _, dir := range []string{"home", "gopath", "gocache", "work"} {
		if err := os.Mkdir(filepath.Join(r.tmp, dir), 0o777); err != nil {
			return err
		}
	}
	for i, s := range r.sources.List {
		if s.OnlyThis || s.Workspace != nil {
			continue // nothing can be built of it, or it was built with its workspace
		}
		step := rehearsalStep{Dir: filepath.Join(r.tmp, "work", fmt.Sprint(i))}
		switch {
		case s.Work != nil:
			dirs, err := r.copyWorkspace(step.Dir, s)
			if err != nil {
				return fmt.Errorf("copying %s for the rehearsal: %w", s.Name, err)
			}
			for _, dir := range dirs {
				plan.Steps = append(plan.Steps, rehearsalStep{Dir: dir, Work: filepath.Join(step.Dir, "go.work")})
			}
			continue
		case s.Mod != nil:
			if err := r.copyProject(step.Dir, s); err != nil {
				return fmt.Errorf("copying %s for the rehearsal: %w", s.Name, err)
			}
		default:
			if err := os.Mkdir(step.Dir, 0o777); err != nil {
				return err
			}
			if s.Tool != "" {
				step.Tool = s.Tool + "@" + s.Query.Version
			} else {
				step.Module = s.Query.Path + "@" + r.version(s)
			}
		}
		plan.Steps = append(plan.Steps, step)
	}
	input, err := json.Marshal(plan)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	e.say("rehearsing: go mod tidy, then %s", r.command)
	var out bytes.Buffer
	start := func(isolated bool) error {
		cmd := exec.CommandContext(ctx, self, rehearseInside)
		cmd.Stdin = bytes.NewReader(input)
		cmd.Stdout, cmd.Stderr = &out, &out
		cmd.Env = append(os.Environ(), "TMPDIR="+r.tmp) // so that nothing of it is left
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = 10 * time.Second // for what it started
		if isolated {
			isolate(cmd)
		}
		return cmd.Run()
	}
	where := "without a network"
	stop := e.spin("rehearsing")
	defer stop()
	err = start(true)
	if _, ran := errors.AsType[*exec.ExitError](err); err != nil && !ran {
		where = "in the network of this machine, since it allows no network namespace"
		err = start(false)
	}
	stop()
	// The module cache is read-only; it is ours to remove.
	filepath.WalkDir(filepath.Join(r.tmp, "gopath"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(path, 0o777)
		}
		return nil
	})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		misses := r.misses()
		if !r.learn || len(misses) == 0 {
			e.complain("the rehearsal printed:")
			for line := range strings.Lines(out.String()) {
				e.complain("  %s", oneLine(errors.New(line)))
			}
		}
		if len(misses) > 0 {
			err := &missesError{misses}
			if len(r.closure.Missing) > 0 {
				return &incompleteError{err}
			}
			return err
		}
		return &hintError{errors.New("the rehearsal failed although the bundle has all that was asked for, so no bundle was written"), "the same should fail outside, in a copy without go.sum and with an empty GOMODCACHE"}
	}
	for line := range strings.Lines(out.String()) {
		e.say("  %s", oneLine(errors.New(line)))
	}
	for _, s := range r.sources.List {
		switch {
		case s.Workspace != nil:
		case s.Mod != nil, s.Work != nil:
			e.say("rehearsed %s: it builds from the bundle alone, with an empty module cache, the checksum database on, %s", s.Name, where)
		case s.Tool != "":
			e.say("rehearsed %s: go install makes it from the bundle alone, with an empty module cache, the checksum database on, %s", s.Name, where)
		case !s.OnlyThis:
			e.say("rehearsed %s: a new project loads all its packages from the bundle alone, with an empty module cache, the checksum database on, %s", s.Name, where)
		}
	}
	return nil
}

// A missesError says that a rehearsal failed and that something was asked for that is not in the bundle.
type missesError struct {
	misses []string // GOPROXY paths
}

// Error says how much is missing; what it is was printed.
func (e *missesError) Error() string {
	return fmt.Sprintf("the rehearsal failed for want of %s, so no bundle was written", number(len(e.misses), "file"))
}

// missesFile is where the process inside leaves what was asked for and not there.
func (r *rehearsal) missesFile() string { return filepath.Join(r.tmp, "misses.json") }

// misses returns what the process inside has left.
func (r *rehearsal) misses() (list []string) {
	if data, err := os.ReadFile(r.missesFile()); err == nil {
		json.Unmarshal(data, &list) // ours
	}
	return list
}

// version returns the version that a source's query was resolved to.
func (r *rehearsal) version(s sources.Source) string {
	for _, q := range r.closure.Queries {
		if q.Path == s.Query.Path && q.Query == s.Query.Version {
			return q.Version
		}
	}
	if s.Query.Version == "all" { // the newest will do
		return "latest"
	}
	return s.Query.Version
}

// environ is the whole environment of the go command in a rehearsal.
func (r *rehearsal) environ(goCmd string) []string {
	sumdb, _, _ := strings.Cut(strings.TrimSpace(r.settings.GOSUMDB), " ") // not the URL: it is asked through the proxy
	var private []string
	toolchain := "local"
	for _, v := range r.closure.Versions {
		if v.Path == modpath.Toolchain {
			toolchain = "auto"
		}
		if v.Private && !slices.Contains(private, v.Path) {
			private = append(private, v.Path)
		}
	}
	gocache := filepath.Join(r.tmp, "gocache")
	if r.command == defaultRehearsal && r.settings.GOCACHE != "" {
		gocache = r.settings.GOCACHE
	}
	env := []string{
		"PATH=" + filepath.Dir(goCmd) + string(os.PathListSeparator) + os.Getenv("PATH"),
		"HOME=" + filepath.Join(r.tmp, "home"),
		"GOPATH=" + filepath.Join(r.tmp, "gopath"),
		"GOMODCACHE=" + filepath.Join(r.tmp, "gopath", "pkg", "mod"),
		"GOCACHE=" + gocache,
		"GOSUMDB=" + sumdb,
		"GOTOOLCHAIN=" + toolchain,
		"GONOSUMDB=" + strings.Join(private, ","),
		"GOENV=off", "GOWORK=off", "GONOPROXY=none", "GOPRIVATE=", "GO111MODULE=on",
		"GOFLAGS=-mod=mod " + rehearsalFlags, // -mod=mod lets commands fill in go.sum
	}
	for _, name := range []string{"CC", "CXX", "CGO_ENABLED", "CGO_CFLAGS", "CGO_LDFLAGS", "GOROOT", "GOOS", "GOARCH", "TMPDIR", "TERM", "LANG", "PKG_CONFIG_PATH"} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}

// runRehearseInside is the rehearsal's other process: it serves the bundle on loopback and
// runs the commands against it.
func runRehearseInside(ctx context.Context, e *env, args []string) int {
	if err := rehearse(ctx, e); err != nil {
		fmt.Fprintln(e.stderr, err)
		return exitFailed
	}
	return exitDone
}

func rehearse(ctx context.Context, e *env) error {
	var plan rehearsalPlan
	if err := json.NewDecoder(e.stdin).Decode(&plan); err != nil {
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
		Open: func(ctx context.Context) (*bundle.View, error) {
			return bundle.OpenFiles(ctx, append(plan.Bases, plan.Bundle), trust.NewKeyring(plan.Keys...), bundle.NoState())
		},
		Log:   slog.New(slog.NewTextHandler(e.stderr, nil)),
		Wants: serve.MissFunc(misses.add),
		Ready: func(*bundle.View) { close(ready) },
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
	err = rehearseAll(ctx, e.stderr, &plan, append(plan.Env, "GOPROXY=http://"+l.Addr().String()), &misses)
	stop()
	return cmp.Or(err, <-served)
}

// rehearseAll runs the commands for one source after another.
func rehearseAll(ctx context.Context, out io.Writer, plan *rehearsalPlan, env []string, misses *missList) error {
	for _, step := range plan.Steps {
		misses.take() // of the step before this one
		if err := rehearseOne(ctx, out, step, plan.Command, env); err != nil {
			list := misses.take()
			for _, m := range list {
				fmt.Fprintln(out, "asked for and not in the bundle:", m)
			}
			data, jsonErr := json.Marshal(list)
			return errors.Join(err, jsonErr, os.WriteFile(plan.Misses, data, 0o666))
		}
	}
	return nil
}

// rehearseOne runs the commands of one step.
func rehearseOne(ctx context.Context, out io.Writer, step rehearsalStep, command string, env []string) error {
	if step.Work != "" { // where -mod=mod is an error
		env = append(slices.Clone(env), "GOWORK="+step.Work, "GOFLAGS="+rehearsalFlags)
	}
	run := func(name string, args ...string) (stdout string, err error) {
		cmd := exec.CommandContext(ctx, name, args...)
		cmd.Dir, cmd.Env = step.Dir, env
		cmd.WaitDelay = 5 * time.Second
		var out, diagnostics bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &diagnostics
		if name == "sh" {
			cmd.Stderr = &out // as they come
		}
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("%s%s%s %s: %w", out.String(), diagnostics.String(), name, strings.Join(args, " "), err)
		}
		return out.String(), nil
	}
	if step.Tool != "" {
		_, err := run("go", "install", step.Tool)
		return err
	}
	if step.Module != "" {
		if err := newProject(step.Dir, step.Module, run); err != nil {
			return err
		}
	}
	if step.Work == "" {
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

// newProject makes a project in dir that requires a module and uses all of it: tidy loads every package, and the
// build has the one at the module's root, if that can be imported.
func newProject(dir, module string, run func(name string, args ...string) (string, error)) error {
	if _, err := run("go", "mod", "init", "rehearsal.example/new"); err != nil {
		return err
	}
	if _, err := run("go", "get", module); err != nil {
		return err
	}
	path, _, _ := strings.Cut(module, "@")
	list, err := run("go", "list", "-e", "-f", "{{if and .Name (not .Error)}}{{.Name}} {{.ImportPath}}{{end}}", path+"/...")
	if err != nil {
		return err
	}
	tools := []string{"mod", "edit"}
	root := "package new\n"
	all := "//go:build rehearsal\n\npackage new\n\n" // tidy reads files whatever their tags are
	for line := range strings.Lines(list) {
		name, pkg, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch {
		case name == "main":
			tools = append(tools, "-tool="+pkg)
		case strings.Contains(pkg+"/", "/internal/"), strings.Contains(pkg+"/", "/vendor/"):
		default:
			imported := fmt.Sprintf("import _ %q\n", pkg)
			all += imported
			if pkg == path {
				root += "\n" + imported
			}
		}
	}
	if len(tools) > 2 {
		if _, err := run("go", tools...); err != nil {
			return err
		}
	}
	return errors.Join(os.WriteFile(filepath.Join(dir, "new.go"), []byte(root), 0o666), os.WriteFile(filepath.Join(dir, "all.go"), []byte(all), 0o666))
}

// missList collects what was asked for and not there.
type missList struct {
	mu   sync.Mutex
	list []string
}

func (l *missList) add(r modpath.Request, _ netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := r.String(); !slices.Contains(l.list, s) && len(l.list) < 1000 {
		l.list = append(l.list, s)
	}
}

// take returns the list and begins a new one. A go command asks about every path above a package's
// too: that those have no list or .info is left out when something else is missing.
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
