package mirror

import (
	"context"
	"fmt"
	"go/version"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
)

const thisPlatform = runtime.GOOS + "/" + runtime.GOARCH

var rePlatform = regexp.MustCompile(`^[a-z0-9]+/[a-z0-9]+$`)

// goos and goarch are what Go releases are made for (go tool dist list).
const (
	goos   = " aix android darwin dragonfly freebsd illumos ios js linux netbsd openbsd plan9 solaris wasip1 windows "
	goarch = " 386 amd64 arm arm64 armv6l loong64 mips mips64 mips64le mipsle ppc64 ppc64le riscv64 s390x wasm "
)

// CheckPlatform checks a platform such as linux/amd64.
func CheckPlatform(p string) error {
	sys, arch, _ := strings.Cut(p, "/")
	if !rePlatform.MatchString(p) || !strings.Contains(goos, " "+sys+" ") || !strings.Contains(goarch, " "+arch+" ") {
		return fmt.Errorf("%q is not a platform: want one such as linux/amd64 (go tool dist list has all)", p)
	}
	return nil
}

// AddToolchain adds the toolchain of a Go version, such as go1.26.8 or 1.26.8, for platforms
// such as linux/amd64; for this one when there is none. name is how messages name it.
func (s *Sources) AddToolchain(name, goVersion string, platforms []string) error {
	goVersion = "go" + strings.TrimPrefix(goVersion, "go")
	// A language version such as go1.26 is not one that can be downloaded.
	if !version.IsValid(goVersion) || goVersion == version.Lang(goVersion) && version.Compare(goVersion, "go1.21") >= 0 {
		return fmt.Errorf("%s: %q is not a released Go version: want one such as go1.26.8", name, goVersion)
	}
	if len(platforms) == 0 {
		platforms = []string{thisPlatform}
	}
	whole := make(map[string]bool)
	for _, p := range platforms {
		if err := CheckPlatform(p); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		whole[p] = true
		s.List = append(s.List, Source{Name: name, Alone: true, Query: toolchainModule(goVersion, p)})
	}
	if !whole["linux/amd64"] {
		// go get go@latest asks for this .info whatever the platform is (modfetch/toolchain.go Stat).
		s.List = append(s.List, Source{Name: name, Alone: true, noZip: true, Query: toolchainModule(goVersion, "linux/amd64")})
	}
	return nil
}

// toolchainModule returns the module version that is a toolchain (cmd/go/internal/toolchain/select.go Exec).
func toolchainModule(goVersion, platform string) module.Version {
	return module.Version{Path: modpath.Toolchain, Version: "v0.0.1-" + goVersion + "." + strings.Replace(platform, "/", "-", 1)}
}

// neededToolchain returns the oldest toolchain that can build a module with these go and toolchain lines, "" for none:
// that of its toolchain line, or of its go line when that is newer; "" when every Go since 1.21 will do
// (cmd/go/internal/toolchain/select.go Select).
func neededToolchain(goLine *modfile.Go, toolchainLine *modfile.Toolchain) string {
	const oldest = "go1.21"
	need := oldest
	if goLine != nil {
		v := "go" + goLine.Version
		if v == version.Lang(v) && version.Compare(v, need) >= 0 {
			v += ".0" // go 1.N is satisfied by go1.N.0, the first release
		}
		need = later(need, v)
	}
	if toolchainLine != nil {
		v, _, _ := strings.Cut(toolchainLine.Name, "-") // a suffix names a build of the version
		need = later(need, v)
	}
	if need == oldest {
		return ""
	}
	return need
}

// toolchains adds the toolchains that sources need, if so configured, or notes that one is needed that is
// newer than the Go here. mods are the modules that each source, by its number, was resolved to.
func (r *run) toolchains(ctx context.Context, p *plan, mods map[int][]module.Version) error {
	found := false // a source that needs one
	for i := range r.src.List {
		s := &r.src.List[i]
		need := ""
		switch {
		case s.Mod != nil:
			need = neededToolchain(s.Mod.Go, s.Mod.Toolchain)
		case s.Work != nil:
			need = neededToolchain(s.Work.Go, s.Work.Toolchain)
		}
		if !s.Alone {
			for _, m := range mods[i] {
				mod, err := r.fetch.goMod(ctx, m)
				if isAbsent(err) {
					continue
				}
				if err != nil {
					return err
				}
				if mod.goLine != "" {
					need = later(need, neededToolchain(&modfile.Go{Version: mod.goLine}, nil))
				}
			}
		}
		if need == "" {
			continue
		}
		platforms := r.src.Platforms
		if len(platforms) == 0 {
			platforms = []string{thisPlatform}
		}
		lacking := slices.DeleteFunc(slices.Clone(platforms), func(p string) bool { return r.src.hasToolchain(need, p) })
		switch {
		case len(lacking) == 0:
		case r.src.AutoToolchain:
			before := len(r.src.List)
			if err := r.src.AddToolchain(s.Name+" needs "+need, need, lacking); err != nil {
				return err
			}
			p.wantToolchains(r.src.List[before:])
		case r.cfg.GoVersion != "" && version.Compare(need, r.cfg.GoVersion) > 0:
			for _, platform := range lacking {
				m := toolchainModule(need, platform)
				why := fmt.Sprintf("it needs %s or later, newer than the Go here, %s, and that toolchain was not asked for", need, r.cfg.GoVersion)
				r.out.Missing = append(r.out.Missing, Missing{Mod: m, What: "zip", Reason: why, Asked: why, Chain: []string{s.Name}, Allowed: r.src.MissingOK[m]})
				r.out.Toolchains = append(r.out.Toolchains, fmt.Sprintf("toolchain %s %s", need, platform))
			}
		}
		found = true
	}
	if r.src.AutoToolchain && !found {
		p.notes = append(p.notes, "toolchain auto: no source has a go or toolchain line newer than go1.21, so none is carried")
	}
	return nil
}

// wantToolchains adds toolchains that were added to the sources.
func (p *plan) wantToolchains(list []Source) {
	for _, t := range list {
		p.want(t.Query, !t.noZip, func() []string { return []string{t.Name} })
	}
}

func later(a, b string) string {
	if version.Compare(a, b) < 0 {
		return b
	}
	return a
}

// hasToolchain reports whether the very toolchain is among the sources: a go command asks for that and takes no newer one.
func (s *Sources) hasToolchain(goVersion, platform string) bool {
	want := toolchainModule(goVersion, platform)
	return slices.ContainsFunc(s.List, func(src Source) bool { return src.Query == want && !src.noZip })
}
