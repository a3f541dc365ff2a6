package main

import (
	"github.com/modmirror/modmirror/internal/goenv"
)

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
