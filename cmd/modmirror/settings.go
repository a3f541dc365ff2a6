package main

import (
	"context"
	"errors"

	"github.com/modmirror/modmirror/internal/goenv"
	"github.com/modmirror/modmirror/internal/hint"
)

// readGoEnv reads the settings of the go command here.
func readGoEnv(ctx context.Context) (goenv.Settings, error) {
	settings, err := goenv.Read(ctx)
	return settings, hinted(err)
}

// warnPatterns complains about patterns in the settings that match nothing. The go command ignores
// them in silence, and asks the proxies for the modules that they were to keep private.
func warnPatterns(e *env, s *goenv.Settings) {
	said := make(map[string]bool)
	for _, b := range goenv.BadPatterns(s.GOPRIVATE, s.GONOPROXY, s.GONOSUMDB) {
		if !said[b.Pattern] { // GOPRIVATE is the default of the others
			said[b.Pattern] = true
			e.complain("%s has %q, which matches no module: %v; what it was to keep private is asked of the proxies",
				b.Setting, b.Pattern, b.Err)
		}
	}
}

// hinted turns the errors of package hint into those that report knows. It returns other errors as
// they are.
func hinted(err error) error {
	next, hasHint := errors.AsType[*hint.Error](err)
	if _, usage := errors.AsType[*hint.UsageError](err); usage {
		err = usagef("%v", err)
	}
	if hasHint {
		err = &hintError{err, next.Hint}
	}
	return err
}
