package mirror

import (
	"strings"
	"testing"

	"golang.org/x/mod/modfile"

	"github.com/modmirror/modmirror/internal/modpath"
)

// TestNeededToolchain has go and toolchain lines (https://go.dev/doc/toolchain).
func TestNeededToolchain(t *testing.T) {
	for _, tc := range []struct{ goLine, toolchain, want string }{
		{"", "", ""},
		{"1.16", "", ""},
		{"1.20", "go1.20.3", ""},
		{"1.21", "", "go1.21.0"},
		{"1.22", "", "go1.22.0"},
		{"1.22.3", "", "go1.22.3"},
		{"1.22rc1", "", "go1.22rc1"},
		{"1.22.1", "go1.23.4", "go1.23.4"},
		{"1.23.4", "go1.22.1", "go1.23.4"},
		{"1.20", "go1.24.0-custom", "go1.24.0"},
		{"1.20", "default", ""},
	} {
		var g *modfile.Go
		var tool *modfile.Toolchain
		if tc.goLine != "" {
			g = &modfile.Go{Version: tc.goLine}
		}
		if tc.toolchain != "" {
			tool = &modfile.Toolchain{Name: tc.toolchain}
		}
		if got := neededToolchain(g, tool); got != tc.want {
			t.Errorf("go %s, toolchain %s: %q, want %q", tc.goLine, tc.toolchain, got, tc.want)
		}
	}
}

// TestToolchains has a project that needs a newer Go than the one here.
func TestToolchains(t *testing.T) {
	dir := project(t, "module example.com/main\n\ngo 1.99.1\n")
	w := newWorld(t)
	w.cfg.GoVersion = "go1.26.8"
	c, err := w.sync(list(t, "module "+dir, "toolchain auto linux/amd64 darwin/arm64"))
	if err != nil || len(c.Missing) > 0 {
		t.Fatal(c, err)
	}
	want := "golang.org/toolchain@v0.0.1-go1.99.1.darwin-arm64 golang.org/toolchain@v0.0.1-go1.99.1.linux-amd64"
	if got := strings.Join(zips(c), " "); got != want {
		t.Errorf("toolchain auto: %s, want %s", got, want)
	}
	// Without the line the need is reported.
	c, err = w.sync(dir)
	if err != nil || len(c.Missing) != 1 || c.Missing[0].Allowed || len(c.Toolchains) != 1 {
		t.Fatalf("%+v, %v", c, err)
	}
	if line := "toolchain go1.99.1 " + modpath.ThisPlatform; c.Toolchains[0] != line || !strings.Contains(c.Missing[0].Reason, "needs go1.99.1 or later") {
		t.Errorf("%q, missing %+v", c.Toolchains, c.Missing)
	}
	c, err = w.sync(list(t, "example.com/text@v1.0.0", "toolchain auto"))
	if err != nil || len(c.Notes) != 1 || !strings.Contains(c.Notes[0], "toolchain auto: no source") {
		t.Errorf("nothing needs one: notes %q, %v", c.Notes, err)
	}
}
