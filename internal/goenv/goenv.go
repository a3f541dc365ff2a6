// Package goenv reads the settings of the go command on this machine.
package goenv

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

	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/modpath"
)

// Settings are the settings of the go command that modmirror follows.
type Settings struct {
	GOPROXY, GOSUMDB, GONOSUMDB, GONOPROXY, GOPRIVATE, GOMODCACHE, GOCACHE, GOAUTH, GOFLAGS, GOENV string

	GOVERSION string // of the go command here, "" without one
}

// names are the settings that Read asks go env for.
var names = []string{
	"GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOPRIVATE", "GOMODCACHE", "GOCACHE", "GOAUTH", "GOFLAGS", "GOENV",
	"GOVERSION",
}

// Override replaces GOPROXY and GOSUMDB by the arguments that are not empty.
func (s *Settings) Override(goproxy, gosumdb string) {
	s.GOPROXY, s.GOSUMDB = cmp.Or(goproxy, s.GOPROXY), cmp.Or(gosumdb, s.GOSUMDB)
}

// Read asks the go command, which knows "go env -w" and the defaults. Only when PATH has no go
// command does it read the environment and the file of "go env -w" instead, with go's own defaults
// for all but GOPROXY. Every other failure is an error: a lost setting would send the name of a
// private module to a public proxy.
func Read(ctx context.Context) (Settings, error) {
	var s Settings
	if _, err := exec.LookPath("go"); errors.Is(err, exec.ErrNotFound) {
		return withoutGo()
	} else if err != nil {
		return s, fmt.Errorf("finding the go command: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"env", "-json"}, names...)...)
	// In the root folder no go.mod makes go switch toolchains. GOWORK=off keeps a go.work from it.
	cmd.Dir = filepath.VolumeName(os.TempDir()) + string(filepath.Separator)
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		err = errors.New(strings.TrimSpace(string(exit.Stderr)))
	}
	if err == nil {
		err = json.Unmarshal(out, &s)
	}
	if err != nil {
		return s, hint.Add(fmt.Errorf("asking go env for its settings: %w", err),
			"does \"go env\" work here? Without its settings modmirror would not know what is private")
	}
	return s, s.checkFile()
}

// checkFile returns an error when the file of "go env -w" exists and cannot be read. The go command
// ignores that in silence.
func (s *Settings) checkFile() error {
	if s.GOENV == "" || s.GOENV == "off" {
		return nil
	}
	f, err := os.Open(s.GOENV)
	if err == nil {
		return f.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return hint.Add(fmt.Errorf("the settings of \"go env -w\" cannot be read: %w", err),
		"the go command goes on without them in silence; GOENV=off says that there are none")
}

// withoutGo returns the settings of a machine without a go command.
func withoutGo() (s Settings, err error) {
	saved, err := readSaved()
	if err != nil {
		return s, err
	}
	get := func(name, def string) string { return cmp.Or(os.Getenv(name), saved[name], def) }
	private := get("GOPRIVATE", "")
	return Settings{
		GOPROXY:   get("GOPROXY", ""), // no default: without go, the person must say where modules come from
		GOSUMDB:   get("GOSUMDB", "sum.golang.org"),
		GOPRIVATE: private,
		GONOSUMDB: get("GONOSUMDB", private),
		GONOPROXY: get("GONOPROXY", private),
		GOAUTH:    get("GOAUTH", ""),
		GOFLAGS:   get("GOFLAGS", ""),
	}, nil
}

// readSaved reads the file of "go env -w": lines NAME=VALUE (cmd/go/internal/cfg/cfg.go
// initEnvCache).
func readSaved() (map[string]string, error) {
	file := os.Getenv("GOENV")
	if file == "" {
		dir, err := os.UserConfigDir()
		if err != nil {
			return nil, nil
		}
		file = filepath.Join(dir, "go", "env")
	}
	s := Settings{GOENV: file}
	if err := s.checkFile(); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil { // checkFile has told all errors but "no such file", and GOENV=off
		return nil, nil
	}
	saved := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if ok && name != "" && name[0] >= 'A' && name[0] <= 'Z' {
			saved[name] = value
		}
	}
	return saved, nil
}

// A BadPattern is a pattern in a setting of the go command that matches no module.
type BadPattern struct {
	Setting, Pattern string
	Err              error // why it matches none
}

// BadPatterns returns the patterns that match no module in the settings that name private modules.
func BadPatterns(goprivate, gonoproxy, gonosumdb string) (bad []BadPattern) {
	for _, list := range [][2]string{{"GOPRIVATE", goprivate}, {"GONOPROXY", gonoproxy}, {"GONOSUMDB", gonosumdb}} {
		for _, p := range modpath.Patterns(list[1]) {
			if err := modpath.CheckPattern(p); err != nil && p != "none" {
				bad = append(bad, BadPattern{list[0], p, err})
			}
		}
	}
	return bad
}

// ModFile returns the file that -modfile in GOFLAGS names, "" for none. Flags that change which
// modules or packages a go command reads, and that modmirror does not follow, are in leftOut.
func (s *Settings) ModFile() (file string, leftOut []string) {
	for _, f := range splitQuoted(s.GOFLAGS) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(f, "-"), "-"), "=")
		switch name {
		case "modfile":
			file = value
		case "modcacherw", "trimpath", "buildvcs", "v", "x", "p", "count": // they change nothing of what is read
		default:
			leftOut = append(leftOut, f)
		}
	}
	return file, leftOut
}

// splitQuoted splits at blanks outside of quotes, as cmd/internal/quoted does.
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

// NoTelemetry makes the go command count nothing where os.UserConfigDir is config. In a new folder
// it would start a process that writes there and outlives it (golang.org/x/telemetry/start.go
// startChild), so that the folder cannot always be removed.
func NoTelemetry(config string) error {
	dir := filepath.Join(config, "go", "telemetry")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "mode"), []byte("off\n"), 0o666)
}
