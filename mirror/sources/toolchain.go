package sources

import (
	"debug/buildinfo"
	"fmt"
	"go/version"
	"slices"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
)

// AddToolchain adds the toolchain of a Go version, such as go1.26.8 or 1.26.8, for platforms such
// as linux/amd64, or for this platform when there are none. Messages name the source by name.
func (s *Sources) AddToolchain(name, goVersion string, platforms []string) error {
	goVersion = "go" + strings.TrimPrefix(goVersion, "go")
	// A language version such as go1.26 cannot be downloaded.
	language := goVersion == version.Lang(goVersion) && version.Compare(goVersion, "go1.21") >= 0
	if language || !version.IsValid(goVersion) {
		return fmt.Errorf("%s: %q is not a released Go version: want one such as go1.26.8", name, goVersion)
	}
	if len(platforms) == 0 {
		platforms = []string{modpath.ThisPlatform}
	}
	for _, p := range platforms {
		if err := modpath.CheckPlatform(p); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.AddVersion(name, modpath.ToolchainVersion(goVersion, p), true)
	}
	if !slices.Contains(platforms, "linux/amd64") {
		// "go get go@latest" asks for this .info file on every platform (modfetch/toolchain.go
		// Stat).
		s.AddVersion(name, modpath.ToolchainVersion(goVersion, "linux/amd64"), false)
	}
	return nil
}

// HasToolchain reports whether the sources name this very toolchain. A newer one does not count,
// since the go command asks for the one that it needs.
func (s *Sources) HasToolchain(goVersion, platform string) bool {
	want := modpath.ToolchainVersion(goVersion, platform)
	return slices.ContainsFunc(s.List, func(src Source) bool { return src.Query == want && !src.NoZip })
}

// NewestToolchain returns the newest toolchain for a platform that the sources name. ok is false
// when they name none.
func (s *Sources) NewestToolchain(platform string) (newest module.Version, ok bool) {
	suffix := "." + modpath.PlatformName(platform)
	goVersion := func(m module.Version) string {
		return strings.TrimSuffix(strings.TrimPrefix(m.Version, "v0.0.1-"), suffix)
	}
	for _, src := range s.List {
		if m := src.Query; m.Path == modpath.Toolchain && strings.HasSuffix(m.Version, suffix) && !src.NoZip {
			if !ok || version.Compare(goVersion(newest), goVersion(m)) < 0 {
				newest, ok = m, true
			}
		}
	}
	return newest, ok
}

// A Bootstrap asks for a tar with modmirror and Go for hosts inside that have neither. Plain tar
// unpacks it.
type Bootstrap struct {
	Name     string // as messages name it
	Platform string // such as linux/amd64
	File     string // modmirror for that platform; "" for the running one
}

// AddBootstrap adds a bootstrap for a platform, or for this one when platform is "". file is the
// modmirror for it, or "" for the running one.
func (s *Sources) AddBootstrap(name, platform, file string) error {
	if platform == "" {
		platform = modpath.ThisPlatform
	}
	switch {
	case modpath.CheckPlatform(platform) != nil:
		return fmt.Errorf("%s: %q is not a platform: want one such as linux/amd64", name, platform)
	case file == "" && platform != modpath.ThisPlatform:
		return fmt.Errorf("%s: the modmirror here is for %s: name the file of one for %[3]s, "+
			"as in: self %[3]s modmirror-%[4]s", name, modpath.ThisPlatform, platform, modpath.PlatformName(platform))
	case slices.ContainsFunc(s.Bootstraps, func(have Bootstrap) bool { return have.Platform == platform }):
		return fmt.Errorf("%s: a second modmirror for %s", name, platform)
	}
	if file != "" {
		if err := checkExecutable(file, platform); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	s.Bootstraps = append(s.Bootstraps, Bootstrap{name, platform, file})
	return nil
}

// checkExecutable checks that a file is modmirror for a platform, by the build information in it.
func checkExecutable(file, platform string) error {
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return fmt.Errorf("not a modmirror: %w", err)
	}
	got := make(map[string]string)
	for _, s := range info.Settings {
		got[s.Key] = s.Value
	}
	if p := got["GOOS"] + "/" + got["GOARCH"]; p != platform {
		return fmt.Errorf("%s is for %s", file, p)
	}
	if strings.TrimSuffix(info.Path, ".test") != "github.com/modmirror/modmirror/cmd/modmirror" {
		return fmt.Errorf("%s is not modmirror, but %s", file, info.Path)
	}
	return nil
}
