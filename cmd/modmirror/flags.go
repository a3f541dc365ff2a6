package main

import (
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/spf13/pflag"
)

// requireFlag adds the flag that says how many keys must have signed.
func requireFlag(fs *pflag.FlagSet, require *int) {
	fs.IntVar(require, "require", 1, "how `many` of the trusted keys must have signed, each public key counted once")
}

// parseAge parses a duration, which may be in days.
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

// warnAge warns of a bundle that is too old, or of the future. Clocks inside drift, so neither is an error.
func warnAge(log *slog.Logger, m bundle.Manifest, max time.Duration) {
	age := time.Since(m.Created)
	if max > 0 && age > max {
		log.Warn("bundle is old", "name", m.Name, "created", m.Created.UTC().Format(time.RFC3339), "days", int(age.Hours()/24))
	}
	if age < -bundle.MaxDrift {
		log.Warn("bundle is dated in the future: is the clock right? Beside other lines it counts as of the day when it was first seen here", "name", m.Name, "created", m.Created.UTC().Format(time.RFC3339))
	}
}

// Variables of the environment that stand for flags that are repeated.
var flagVariables = map[string]string{
	"config": "MODMIRROR_CONFIG", "store": "MODMIRROR_STORE", "mirror": "MODMIRROR_MIRROR", "state": "MODMIRROR_STATE", "key": "MODMIRROR_KEY",
}

// applyVariables gives flags that were not set the values of their variables.
func applyVariables(command string, fs *pflag.FlagSet) error {
	for name, variable := range flagVariables {
		f := fs.Lookup(name)
		value := os.Getenv(variable)
		// prune takes a store or a mirror directory, and is told which.
		if f == nil || f.Changed || value == "" || command == "prune" && (name == "store" || name == "mirror") {
			continue
		}
		if err := fs.Set(name, value); err != nil {
			return fmt.Errorf("%s: %w", variable, err)
		}
	}
	return nil
}
