package modpath

import (
	"testing"

	"golang.org/x/mod/module"
)

// TestCheckPattern compares CheckPattern with the go command's own matching.
func TestCheckPattern(t *testing.T) {
	const want = "git.corp.example/team/mod"
	for pattern, matches := range map[string]bool{
		"git.corp.example":               true,
		"git.corp.example/":              true,
		"git.corp.example/team":          true,
		"*.corp.example":                 true,
		"git.corp.example/*/mod":         true,
		"git.[a-d]orp.example":           true,
		"*":                              true,
		" git.corp.example":              false,
		"git.corp.example ":              false,
		"git.[corp.example":              false,
		"https://git.corp.example":       false,
		"ssh://git.corp.example":         false,
		"git.corp.example:443":           false,
		"git.corp.example/...":           false,
		"git.corp.example/team/mod@v1":   false,
		"/git.corp.example":              false,
		"corp":                           false,
		"Git.corp.example":               false,
		"git.corp.example;other.example": false,
		`git.corp.example\`:              false,
		"":                               false,
	} {
		if got := module.MatchPrefixPatterns(pattern, want); got != matches {
			t.Errorf("%q: go says %v, the table %v", pattern, got, matches)
		}
		if err := CheckPattern(pattern); (err == nil) != matches {
			t.Errorf("CheckPattern(%q) = %v, want an error: %v", pattern, err, !matches)
		}
	}
}
