package main

import (
	"errors"
	"testing"
)

// TestOneLine: what an upstream or a bundle says on a terminal does not steer it.
func TestOneLine(t *testing.T) {
	for text, want := range map[string]string{
		"a\nb\n":                "a; b",
		"a\tb":                  "a b",
		"\x1b[2J\x1b[31mred":    "[2J[31mred",
		"x\u202egpj.exe\u2066y": "xgpj.exey",
		"a\x00b\x7fc\u009bd":    "abcd",
		"not \xff UTF-8":        "not \ufffd UTF-8",
	} {
		if got := oneLine(errors.New(text)); got != want {
			t.Errorf("%q is %q, want %q", text, got, want)
		}
	}
}
