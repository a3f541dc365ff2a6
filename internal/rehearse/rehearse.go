// Package rehearse proves that a bundle is complete: the go command builds the sources from the
// bundle alone, behind a loopback server, with an empty module cache and with the checksum database
// on. It does so in another process, which has no network where the machine allows that: Run starts
// this executable again, with InsideCommand as its only argument, and Inside is what that process
// calls.
package rehearse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/sources"
)

// DefaultCommand is the command that a rehearsal runs when nobody names another one. It runs no
// code of the modules, so it may share the build cache of this machine.
const DefaultCommand = "go build ./... && go vet ./..."

// InsideCommand is the argument with which Run starts its executable again. The executable must
// then call Inside.
const InsideCommand = "rehearse-inside"

// baseFlags are in GOFLAGS for all steps. With -trimpath the build cache of another folder is of
// use.
const baseFlags = "-trimpath -buildvcs=false"

// stopDelay is how long the other process, and what it started, may take to end when ctx is done.
const stopDelay = 10 * time.Second

// Options say what is rehearsed.
type Options struct {
	Bundle  string   // file
	Bases   []string // files of all other bundles of its line
	Keys    []string // public keys that signed the bundles, as in trust.Key.Verifier
	Command string   // for sh

	Sources  *mirror.Job      // what the bundle is for
	Contents *bundle.Contents // what it carries

	GOSUMDB, GOCACHE string // of the go command here

	Dir    string // empty folder for all that the rehearsal writes; the caller removes it
	Output string // absolute path at which the bundle will be; no project's copy contains it
	Learn  bool   // the caller adds what is missing and tries again, so its misses need no diagnostics

	// Say reports what goes on, Complain what went wrong, one line a call. Lines may contain
	// control characters. Spin is called while the other process runs; it returns a function that
	// ends what it shows.
	Say, Complain func(format string, args ...any)
	Spin          func(what string) (stop func())
}

// A MissesError reports a rehearsal that failed and asked for files that the bundle does not have.
type MissesError struct {
	Misses     []string // GOPROXY paths
	Incomplete bool     // the bundle was known to lack something
}

// Error returns how many files are missing. Run has told their names.
func (e *MissesError) Error() string {
	n := len(e.Misses)
	return fmt.Sprintf("the rehearsal failed for want of %d %s, so no bundle was written",
		n, english.PluralWord(n, "file", ""))
}

// Run rehearses every source. It returns a *MissesError when the bundle lacks something.
func Run(ctx context.Context, o Options) error {
	goCmd, err := exec.LookPath("go")
	if err != nil {
		return hint.Add(errors.New("rehearsing: there is no go command here"), "install Go, or leave --rehearse out")
	}
	p, err := o.plan(goCmd)
	if err != nil {
		return err
	}
	o.Say("rehearsing: go mod tidy, then %s", o.Command)
	out, where, err := o.start(ctx, p)
	makeRemovable(o.goPath())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return o.failed(out)
	}
	for line := range strings.Lines(out) {
		o.Say("  %s", strings.TrimSuffix(line, "\n"))
	}
	for _, s := range o.Sources.List {
		if what := proven(s); what != "" {
			o.Say("rehearsed %s: %s from the bundle alone, with an empty module cache, the checksum database on, %s",
				s.Name, what, where)
		}
	}
	return nil
}

// proven returns what the rehearsal of a source has shown, "" for nothing of its own.
func proven(s sources.Source) string {
	switch {
	case s.Workspace != nil:
		return ""
	case s.Mod != nil, s.Work != nil:
		return "it builds"
	case s.Tool != "":
		return "go install makes it"
	case s.OnlyThis:
		return ""
	}
	return "a new project loads all its packages"
}

// start runs the other process to its end and returns its output. where is for the sentence that
// tells of the network it had.
func (o *Options) start(ctx context.Context, p *plan) (out, where string, err error) {
	input, err := json.Marshal(p)
	if err != nil {
		return "", "", err
	}
	self, err := os.Executable()
	if err != nil {
		return "", "", err
	}
	var buf bytes.Buffer
	run := func(isolated bool) error {
		cmd := exec.CommandContext(ctx, self, InsideCommand)
		cmd.Stdin = bytes.NewReader(input)
		cmd.Stdout, cmd.Stderr = &buf, &buf
		cmd.Env = append(os.Environ(), "TMPDIR="+o.Dir) // the caller removes it
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		cmd.WaitDelay = stopDelay
		if isolated {
			isolate(cmd)
		}
		return cmd.Run()
	}
	stop := o.Spin("rehearsing")
	defer stop()
	err = run(true)
	if _, ran := errors.AsType[*exec.ExitError](err); err == nil || ran {
		return buf.String(), "without a network", err
	}
	err = run(false)
	return buf.String(), "in the network of this machine, since it allows no network namespace", err
}

// failed explains why the other process failed, which printed out.
func (o *Options) failed(out string) error {
	misses := readMisses(o.missesFile())
	if !o.Learn || len(misses) == 0 {
		o.Complain("the rehearsal printed:")
		for line := range strings.Lines(out) {
			o.Complain("  %s", strings.TrimSuffix(line, "\n"))
		}
	}
	if len(misses) > 0 {
		return &MissesError{Misses: misses, Incomplete: len(o.Contents.Missing) > 0}
	}
	return hint.Add(
		errors.New("the rehearsal failed although the bundle has all that was asked for, so no bundle was written"),
		"the same should fail outside, in a copy without go.sum and with an empty GOMODCACHE")
}

func (o *Options) goPath() string { return filepath.Join(o.Dir, "gopath") }

// missesFile is where the other process writes what was asked for and is not in the bundle.
func (o *Options) missesFile() string { return filepath.Join(o.Dir, "misses.json") }

// readMisses reads the file that writeMisses wrote. It returns nothing when there is none.
func readMisses(file string) (list []string) {
	if data, err := os.ReadFile(file); err == nil {
		json.Unmarshal(data, &list) // writeMisses wrote it
	}
	return list
}

// makeRemovable makes folders writable: the go command's module cache is read-only.
func makeRemovable(dir string) {
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			os.Chmod(path, 0o777)
		}
		return nil
	})
}

// environ returns the whole environment of the go command in a rehearsal, but for GOPROXY.
func (o *Options) environ(goCmd string) []string {
	// Without the URL behind the name: the go command asks the database through the proxy.
	sumdb, _, _ := strings.Cut(strings.TrimSpace(o.GOSUMDB), " ")
	var private []string
	toolchain := "local"
	for _, v := range o.Contents.Versions {
		if v.Path == modpath.Toolchain {
			toolchain = "auto"
		}
		if v.Private && !slices.Contains(private, v.Path) {
			private = append(private, v.Path)
		}
	}
	goCache := filepath.Join(o.Dir, "gocache")
	if o.Command == DefaultCommand && o.GOCACHE != "" {
		goCache = o.GOCACHE
	}
	env := []string{
		"PATH=" + filepath.Dir(goCmd) + string(os.PathListSeparator) + os.Getenv("PATH"),
		"HOME=" + filepath.Join(o.Dir, "home"),
		"GOPATH=" + o.goPath(),
		"GOMODCACHE=" + filepath.Join(o.goPath(), "pkg", "mod"),
		"GOCACHE=" + goCache,
		"GOSUMDB=" + sumdb,
		"GOTOOLCHAIN=" + toolchain,
		"GONOSUMDB=" + strings.Join(private, ","),
		"GOENV=off", "GOWORK=off", "GONOPROXY=none", "GOPRIVATE=", "GO111MODULE=on",
		"GOFLAGS=-mod=mod " + baseFlags, // -mod=mod lets commands complete go.sum
	}
	for _, name := range []string{
		"CC", "CXX", "CGO_ENABLED", "CGO_CFLAGS", "CGO_LDFLAGS", "GOROOT", "GOOS", "GOARCH",
		"TMPDIR", "TERM", "LANG", "PKG_CONFIG_PATH",
	} {
		if v, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+v)
		}
	}
	return env
}
