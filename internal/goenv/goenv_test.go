package goenv

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestModFile reads GOFLAGS as the go command does.
func TestModFile(t *testing.T) {
	for flags, want := range map[string]string{
		"":                                  "",
		"-mod=mod":                          "",
		"-modfile=a.mod":                    "a.mod",
		"--modfile=a.mod -tags=x":           "a.mod",
		"'-modfile=with blank.mod' -v":      "with blank.mod",
		`-trimpath "-modfile=b.mod"`:        "b.mod",
		"-modfile=first.mod -modfile=b.mod": "b.mod",
	} {
		g := Settings{GOFLAGS: flags}
		if file, _ := g.ModFile(); file != want {
			t.Errorf("%q: %q, want %q", flags, file, want)
		}
	}
	if _, left := (&Settings{GOFLAGS: "-modcacherw -tags=a,b -mod=vendor -overlay=o.json"}).ModFile(); strings.Join(left, " ") != "-tags=a,b -mod=vendor -overlay=o.json" {
		t.Errorf("left out: %q", left)
	}
}

func TestOverride(t *testing.T) {
	s := Settings{GOPROXY: "p", GOSUMDB: "d"}
	s.Override("", "")
	if s.GOPROXY != "p" || s.GOSUMDB != "d" {
		t.Errorf("empty flags changed %+v", s)
	}
	s.Override("https://proxy.example", "off")
	if s.GOPROXY != "https://proxy.example" || s.GOSUMDB != "off" {
		t.Errorf("flags did not change %+v", s)
	}
}

func TestBadPatterns(t *testing.T) {
	bad := BadPatterns("corp.example/*,[", "none", "[")
	if len(bad) != 2 || bad[0].Setting != "GOPRIVATE" || bad[0].Pattern != "[" || bad[0].Err == nil || bad[1].Setting != "GONOSUMDB" {
		t.Errorf("%+v", bad)
	}
	if bad := BadPatterns("corp.example", "none", "a.example,b.example/*"); bad != nil {
		t.Errorf("%+v", bad)
	}
}

// TestWithoutGo reads the environment and the file of go env -w where PATH has no go command.
func TestWithoutGo(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "env")
	if err := os.WriteFile(file, []byte("GOPROXY=https://saved.example\nGOPRIVATE=corp.example\n# GOSUMDB=off\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		t.Setenv(name, "")
	}
	t.Setenv("PATH", dir)
	t.Setenv("GOENV", file)
	t.Setenv("GONOPROXY", "other.example")
	got, err := Read(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	want := Settings{GOPROXY: "https://saved.example", GOSUMDB: "sum.golang.org", GOPRIVATE: "corp.example",
		GONOSUMDB: "corp.example", GONOPROXY: "other.example"}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	t.Setenv("GOENV", filepath.Join(dir, "missing"))
	if got, err = Read(context.Background()); err != nil || got.GOPROXY != "" {
		t.Errorf("without a file: %+v, %v", got, err)
	}
	t.Setenv("GOENV", filepath.Join(file, "below-a-file"))
	if _, err = Read(context.Background()); err == nil || !strings.Contains(err.Error(), "cannot be read") {
		t.Errorf("a file that cannot be opened: %v", err)
	}
}
