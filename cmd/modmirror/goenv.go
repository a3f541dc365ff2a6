package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/modmirror/modmirror/internal/modpath"
)

// goEnv is the part of the go command's settings that modmirror follows.
type goEnv struct {
	GOPROXY, GOSUMDB, GONOSUMDB, GONOPROXY, GOPRIVATE, GOMODCACHE, GOCACHE, GOAUTH, GOFLAGS, GOENV string

	GOVERSION string // of the go command here, "" without one
}

// goEnvNames are the settings that go env is asked for.
var goEnvNames = []string{"GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "GOMODCACHE", "GOCACHE", "GOAUTH", "GOFLAGS", "GOENV", "GOVERSION"}

// override puts the values of flags in the place of settings, when they are set.
func (g *goEnv) override(goproxy, gosumdb string) {
	g.GOPROXY, g.GOSUMDB = cmp.Or(goproxy, g.GOPROXY), cmp.Or(gosumdb, g.GOSUMDB)
}

// readGoEnv asks the go command, which knows "go env -w" and the defaults. Without one, which only
// means that no executable is found, the environment and the file of "go env -w" are taken, with
// go's own defaults for all but GOPROXY. Everything else is an error: a setting that was lost would
// send the name of a private module to a public proxy.
func readGoEnv(ctx context.Context) (goEnv, error) {
	var g goEnv
	if _, err := exec.LookPath("go"); errors.Is(err, exec.ErrNotFound) {
		return envWithoutGo()
	} else if err != nil {
		return g, fmt.Errorf("finding the go command: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"env", "-json"}, goEnvNames...)...)
	cmd.Dir = filepath.VolumeName(os.TempDir()) + string(filepath.Separator) // where no go.mod makes it switch toolchains
	cmd.Env = append(os.Environ(), "GOWORK=off")                             // nor a go.work
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = errors.New(oneLine(errors.New(string(exit.Stderr))))
	}
	if err == nil {
		err = json.Unmarshal(out, &g)
	}
	if err != nil {
		return g, &hintError{fmt.Errorf("asking go env for its settings: %w", err), "does \"go env\" work here? Without its settings modmirror would not know what is private"}
	}
	return g, g.checkFile()
}

// checkFile returns an error when the file of "go env -w" is there and cannot be read: the go
// command is silent about that, and goes on without.
func (g *goEnv) checkFile() error {
	if g.GOENV == "" || g.GOENV == "off" {
		return nil
	}
	f, err := os.Open(g.GOENV)
	if err == nil {
		return f.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return &hintError{fmt.Errorf("the settings of \"go env -w\" cannot be read: %w", err), "the go command goes on without them in silence; GOENV=off says that there are none"}
}

// envWithoutGo returns the settings where there is no go command.
func envWithoutGo() (g goEnv, err error) {
	saved, err := savedGoEnv()
	if err != nil {
		return g, err
	}
	get := func(name, def string) string { return cmp.Or(os.Getenv(name), saved[name], def) }
	private := get("GOPRIVATE", "")
	return goEnv{
		GOPROXY:   get("GOPROXY", ""), // no default: without go, say where modules come from
		GOSUMDB:   get("GOSUMDB", "sum.golang.org"),
		GOPRIVATE: private,
		GONOSUMDB: get("GONOSUMDB", private),
		GONOPROXY: get("GONOPROXY", private),
		GOAUTH:    get("GOAUTH", ""),
		GOFLAGS:   get("GOFLAGS", ""),
	}, nil
}

// savedGoEnv reads the file of "go env -w": lines NAME=VALUE (cmd/go/internal/cfg/cfg.go
// initEnvCache).
func savedGoEnv() (map[string]string, error) {
	file := os.Getenv("GOENV")
	if file == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil, nil
		}
		file = filepath.Join(dir, "go", "env")
	}
	g := goEnv{GOENV: file}
	if err := g.checkFile(); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil { // it is not there, or off
		return nil, nil
	}
	saved := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && name != "" && name[0] >= 'A' && name[0] <= 'Z' {
			saved[name] = value
		}
	}
	return saved, nil
}

// A badPattern is a pattern in a setting of the go command that matches no module.
type badPattern struct {
	setting, pattern string
	err              error // why
}

// badPatterns returns those of the settings that say which modules are private.
func badPatterns(goprivate, gonoproxy, gonosumdb string) (bad []badPattern) {
	for _, list := range [][2]string{{"GOPRIVATE", goprivate}, {"GONOPROXY", gonoproxy}, {"GONOSUMDB", gonosumdb}} {
		for _, p := range modpath.Patterns(list[1]) {
			if err := modpath.CheckPattern(p); err != nil && p != "none" {
				bad = append(bad, badPattern{list[0], p, err})
			}
		}
	}
	return bad
}

// warnPatterns says which patterns match nothing: the go command is silent about them, and what
// they were to keep private goes to the proxies.
func (g *goEnv) warnPatterns(e *env) {
	said := make(map[string]bool)
	for _, b := range badPatterns(g.GOPRIVATE, g.GONOPROXY, g.GONOSUMDB) {
		if !said[b.pattern] { // GOPRIVATE is the default of the others
			said[b.pattern] = true
			e.complain("%s has %q, which matches no module: %v; what it was to keep private is asked of the proxies", b.setting, b.pattern, b.err)
		}
	}
}

// modFile returns the file that -modfile in GOFLAGS names, "" for none, and the flags of it that
// sync leaves out. Values may be quoted as in cmd/internal/quoted.
func (g *goEnv) modFile() (file string, leftOut []string) {
	for _, f := range splitQuoted(g.GOFLAGS) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(f, "-"), "-"), "=")
		switch name {
		case "modfile":
			file = value
		case "modcacherw", "trimpath", "buildvcs", "v", "x", "p", "count": // which change nothing of what is read
		default:
			leftOut = append(leftOut, f)
		}
	}
	return file, leftOut
}

// splitQuoted splits at blanks that are not between quotes.
func splitQuoted(s string) (fields []string) {
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimSpace(s) {
		if q := s[0]; q == '"' || q == '\'' {
			if i := strings.IndexByte(s[1:], q); i >= 0 {
				fields, s = append(fields, s[1:1+i]), s[2+i:]
				continue
			}
		}
		i := strings.IndexAny(s, " \t\r\n")
		if i < 0 {
			i = len(s)
		}
		fields, s = append(fields, s[:i]), s[i:]
	}
	return fields
}
