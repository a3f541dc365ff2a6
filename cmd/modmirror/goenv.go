package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// goEnv is the part of the go command's settings that modmirror follows.
type goEnv struct {
	GOPROXY, GOSUMDB, GONOSUMDB, GONOPROXY, GOMODCACHE, GOCACHE, GOAUTH string

	GOVERSION string // of the go command here, "" without one
}

// override puts the values of flags in the place of settings, when they are set.
func (g *goEnv) override(goproxy, gosumdb string) {
	g.GOPROXY, g.GOSUMDB = cmp.Or(goproxy, g.GOPROXY), cmp.Or(gosumdb, g.GOSUMDB)
}

// readGoEnv asks the go command, which knows "go env -w" and the defaults. Without
// one the environment is taken, with go's own defaults for all but GOPROXY.
func readGoEnv(ctx context.Context) (goEnv, error) {
	var g goEnv
	cmd := exec.CommandContext(ctx, "go", "env", "-json", "GOPROXY", "GOSUMDB", "GONOSUMDB", "GONOPROXY", "GOMODCACHE", "GOCACHE", "GOAUTH", "GOVERSION")
	cmd.Dir = os.TempDir() // a go.mod here must not make it switch toolchains
	out, err := cmd.Output()
	if err == nil {
		err = json.Unmarshal(out, &g)
		return g, err
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return g, fmt.Errorf("go env: %s", oneLine(errors.New(string(exit.Stderr))))
	}
	get := func(name, def string) string {
		if v := os.Getenv(name); v != "" {
			return v
		}
		return def
	}
	private := os.Getenv("GOPRIVATE")
	return goEnv{
		GOPROXY:   os.Getenv("GOPROXY"), // no default: without go, say where modules come from
		GOSUMDB:   get("GOSUMDB", "sum.golang.org"),
		GONOSUMDB: get("GONOSUMDB", private),
		GONOPROXY: get("GONOPROXY", private),
		GOAUTH:    os.Getenv("GOAUTH"),
	}, nil
}
