package main

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestHelpFits reads the help of every command: it fits a terminal of 80 columns and has an
// example.
func TestHelpFits(t *testing.T) {
	e := &env{}
	for _, c := range commands() {
		text := helpText(c, flagSet(e, c))
		for line := range strings.Lines(text) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > helpWidth {
				t.Errorf("%s: a line of %d columns:\n%s", c.name, n, line)
			}
		}
		for _, want := range []string{"Usage: modmirror " + c.name, "\nExample:\n", "\nFlags:\n", "--quiet"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: its help lacks %q", c.name, want)
			}
		}
		if strings.Contains(text, "true|false") {
			t.Errorf("%s: its help has values of booleans", c.name)
		}
	}
}

func TestWrap(t *testing.T) {
	if got, want := wrap("one two  three\nfour", 9, "  "), "  one two\n  three\n  four\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
