package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/adrg/xdg"
	"github.com/spf13/pflag"

	"github.com/modmirror/modmirror/mirror"
)

// oneKey is the value of --require for one of the trusted keys, whatever its role.
const oneKey = "1"

// requireFlag adds the flag for who must have signed a bundle.
func requireFlag(fs *pflag.FlagSet, require *string) {
	fs.StringVar(require, "require", oneKey,
		"how `many` of the trusted keys must have signed, or of which roles: maker:1,approver:1 (each public key counts once)")
}

// upstreamFlags adds the flags for where modules come from, and are kept.
func upstreamFlags(fs *pflag.FlagSet, dir, goproxy *string, parallel *int) {
	fs.StringVar(dir, "mirror", filepath.Join(xdg.CacheHome, "modmirror"),
		"mirror directory: a `folder` kept between runs")
	fs.StringVar(goproxy, "goproxy", "", "`list` of proxies instead of go env GOPROXY")
	fs.IntVar(parallel, "parallel", mirror.DefaultParallel, "requests in flight")
}

// checkParallel checks the value of --parallel.
func checkParallel(n int) error {
	if n < 1 {
		return usagef("--parallel %d: want 1 or more", n)
	}
	return nil
}

// stateFlag adds the flag for the state directory.
func stateFlag(fs *pflag.FlagSet, state *string) {
	fs.StringVar(state, "state", stateDir(), "`folder` for what was verified and seen before")
}

// maxAgeFlag adds the flag for the age from which warnAge warns. parseAge parses its value.
func maxAgeFlag(fs *pflag.FlagSet, maxAge *string) {
	fs.StringVar(maxAge, "max-age", "", "warn of bundles older than this `time`, such as 30d or 36h")
}

// parseAge parses a duration such as 30d or 36h. The empty text is 0.
func parseAge(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.Atoi(days); err == nil && n > 0 && n < 100_000 {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	} else if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return d, nil
	}
	return 0, usagef("%q is no time: want days or hours, such as 30d or 36h", text)
}

// flagVariables are the environment variables that set flags, by the flag's name.
var flagVariables = map[string]string{
	"config": "MODMIRROR_CONFIG", "store": "MODMIRROR_STORE", "mirror": "MODMIRROR_MIRROR",
	"state": "MODMIRROR_STATE", "key": "MODMIRROR_KEY",
}

// applyVariables sets flags from their variables, except those that the command line has set.
// prune must be told its store or mirror directory on the command line.
func applyVariables(command string, fs *pflag.FlagSet) error {
	for name, variable := range flagVariables {
		f := fs.Lookup(name)
		value := os.Getenv(variable)
		if f == nil || f.Changed || value == "" || command == "prune" && (name == "store" || name == "mirror") {
			continue
		}
		if err := fs.Set(name, value); err != nil {
			return fmt.Errorf("%s: %w", variable, err)
		}
	}
	return nil
}
