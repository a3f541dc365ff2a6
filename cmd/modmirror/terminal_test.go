package main

import (
	"errors"
	"testing"
)

// TestOneLine checks that text from an upstream or a bundle cannot steer a terminal.
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

func TestNumber(t *testing.T) {
	for n, want := range map[int]string{0: "0 entries", 1: "1 entry", 2: "2 entries", 12345: "12345 entries"} {
		if got := number(n, "entry"); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
	if got := number(int64(2), "file"); got != "2 files" {
		t.Errorf("2 is %q", got)
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 3 << 19: "1.5 MiB", 9 << 28: "2.25 GiB", 4_700_000_000: "4.38 GiB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d is %q, want %q", n, got, want)
		}
	}
}
