package modpath

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"

	"golang.org/x/mod/module"
)

// ThisPlatform is the platform of this process.
const ThisPlatform = runtime.GOOS + "/" + runtime.GOARCH

var rePlatform = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+$`)

// The systems and architectures for which there are Go releases (go tool dist list).
const (
	goos   = " aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris wasip1 windows "
	goarch = " 386 amd64 arm arm64 armv6l loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm "
)

// CheckPlatform checks that p is a platform as GOOS/GOARCH, such as linux/amd64.
func CheckPlatform(p string) error {
	sys, arch, _ := strings.Cut(p, "/")
	if !rePlatform.MatchString(p) || !strings.Contains(goos, " "+sys+" ") || !strings.Contains(goarch, " "+arch+" ") {
		return fmt.Errorf("%q is not a platform: want one such as linux/amd64 (go tool dist list has all)", p)
	}
	return nil
}

// PlatformName returns a platform such as linux/amd64 as names of files and toolchains spell it:
// linux-amd64. It is the Name of a Request of kind Self.
func PlatformName(p string) string { return strings.Replace(p, "/", "-", 1) }

// PlatformOf is the inverse of PlatformName.
func PlatformOf(name string) string { return strings.Replace(name, "-", "/", 1) }

// ToolchainVersion returns the module version of the toolchain of a Go version, such as go1.26.8,
// for a platform (cmd/go/internal/toolchain/select.go Exec).
func ToolchainVersion(goVersion, platform string) module.Version {
	return module.Version{Path: Toolchain, Version: "v0.0.1-" + goVersion + "." + PlatformName(platform)}
}
