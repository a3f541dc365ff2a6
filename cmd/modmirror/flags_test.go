package main

import (
	"errors"
	"testing"
	"time"

	"github.com/modmirror/modmirror/internal/hint"
	"github.com/spf13/pflag"
)

func TestParseAge(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"": 0, "30d": 30 * day, "1d": day, "36h": 36 * time.Hour, "90m": 90 * time.Minute,
		"0d": -1, "-1d": -1, "100000d": -1, "d": -1, "30": -1, "0h": -1, "-1h": -1, "1.5d": -1, "30 d": -1,
	} {
		got, err := parseAge(text)
		_, usage := errors.AsType[*hint.UsageError](err)
		if want < 0 {
			if !usage {
				t.Errorf("%q: %v, %v, want a usage error", text, got, err)
			}
		} else if got != want || err != nil {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
}

// TestApplyVariables sets flags by their variables: the command line goes before them, and prune
// does not take its store from one.
func TestApplyVariables(t *testing.T) {
	t.Setenv("MODMIRROR_STORE", "from-variable")
	for _, tt := range []struct {
		command string
		args    []string
		want    string
	}{
		{"import", nil, "from-variable"},
		{"import", []string{"--store", "from-flag"}, "from-flag"},
		{"import", []string{"--store", ""}, ""},
		{"prune", nil, ""},
	} {
		fs := pflag.NewFlagSet(tt.command, pflag.ContinueOnError)
		store := fs.String("store", "", "")
		if err := fs.Parse(tt.args); err != nil {
			t.Fatal(err)
		}
		if err := applyVariables(tt.command, fs); err != nil || *store != tt.want {
			t.Errorf("%s %v: %q, %v, want %q", tt.command, tt.args, *store, err, tt.want)
		}
	}
	t.Setenv("MODMIRROR_STATE", "x")
	fs := pflag.NewFlagSet("import", pflag.ContinueOnError)
	fs.Int("state", 0, "")
	if err := applyVariables("import", fs); err == nil {
		t.Error("a value of another type was taken")
	}
}
