package mirror

import (
	"context"
	"fmt"
	"go/version"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/mirror/modgraph"
	"github.com/modmirror/modmirror/mirror/sources"
)

// neededToolchain returns the oldest toolchain that can build a module with these go and toolchain
// lines, or "" when every Go since 1.21 can (cmd/go/internal/toolchain/select.go Select).
func neededToolchain(goLine *modfile.Go, toolchainLine *modfile.Toolchain) string {
	const oldest = "go1.21"
	need := oldest
	if goLine != nil {
		v := "go" + goLine.Version
		if v == version.Lang(v) && version.Compare(v, need) >= 0 {
			v += ".0" // the line go 1.N wants go1.N.0, the first release, or later
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

// later returns the later of two Go versions.
func later(a, b string) string {
	if version.Compare(a, b) < 0 {
		return b
	}
	return a
}

// toolchains adds the toolchains that the sources need when the job wants that. Otherwise it
// records needed toolchains that are newer than the Go here as missing. mods has the versions that
// each source was resolved to, by the source's number.
func (r *run) toolchains(ctx context.Context, c *modgraph.Closure, mods map[int][]module.Version) error {
	found := false // a source that needs a toolchain
	for i := range r.job.List {
		s := &r.job.List[i]
		need, err := r.needs(ctx, s, mods[i])
		if err != nil {
			return err
		}
		if need == "" {
			continue
		}
		found = true
		platforms := r.job.Platforms
		if len(platforms) == 0 {
			platforms = []string{modpath.ThisPlatform}
		}
		lacking := slices.DeleteFunc(slices.Clone(platforms), func(p string) bool {
			return r.job.HasToolchain(need, p)
		})
		switch {
		case len(lacking) == 0:
		case r.job.AutoToolchain:
			before := len(r.job.List)
			if err := r.job.AddToolchain(s.Name+" needs "+need, need, lacking); err != nil {
				return err
			}
			wantToolchains(c, r.job.List[before:])
		case r.cfg.GoVersion != "" && version.Compare(need, r.cfg.GoVersion) > 0:
			for _, platform := range lacking {
				m := modpath.ToolchainVersion(need, platform)
				why := fmt.Errorf("it needs %s or later, newer than the Go here, %s, and that toolchain was not asked for",
					need, r.cfg.GoVersion)
				r.out.Missing = append(r.out.Missing, r.missing(m, "zip", []string{s.Name}, why))
				r.out.Toolchains = append(r.out.Toolchains, fmt.Sprintf("toolchain %s %s", need, platform))
			}
		}
	}
	if r.job.AutoToolchain && !found {
		c.Notes = append(c.Notes, "toolchain auto: no source has a go or toolchain line "+
			"newer than go1.21, so none is carried")
	}
	return nil
}

// needs returns the oldest toolchain that can build a source and the versions that it was resolved
// to, or "" when every Go since 1.21 can.
func (r *run) needs(ctx context.Context, s *sources.Source, mods []module.Version) (need string, err error) {
	switch {
	case s.Mod != nil:
		need = neededToolchain(s.Mod.Go, s.Mod.Toolchain)
	case s.Work != nil:
		need = neededToolchain(s.Work.Go, s.Work.Toolchain)
	}
	if s.OnlyThis {
		return need, nil
	}
	for _, m := range mods {
		mod, err := r.fetch.goMod(ctx, m)
		if modgraph.IsAbsent(err) {
			continue
		}
		if err != nil {
			return "", err
		}
		if mod.Go != "" {
			need = later(need, neededToolchain(&modfile.Go{Version: mod.Go}, nil))
		}
	}
	return need, nil
}

// wantToolchains adds sources that AddToolchain appended to the closure.
func wantToolchains(c *modgraph.Closure, list []sources.Source) {
	for _, t := range list {
		c.Want(t.Query, !t.NoZip, t.Name)
	}
}
