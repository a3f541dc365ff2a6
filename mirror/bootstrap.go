package mirror

import (
	"archive/zip"
	"cmp"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/selftar"
)

// A Self is a platform whose hosts inside have nothing yet: the bundle has a tar for them, with modmirror and Go as they are
// used, so that tar alone unpacks them.
type Self struct {
	Name     string // as messages name it
	Platform string // such as linux/amd64
	File     string // of modmirror for that platform; "" for the one that runs
}

// AddSelf adds a platform; file is the modmirror for it, "" for the one that runs.
func (s *Sources) AddSelf(name, platform, file string) error {
	if platform == "" {
		platform = thisPlatform
	}
	switch {
	case CheckPlatform(platform) != nil:
		return fmt.Errorf("%s: %q is not a platform: want one such as linux/amd64", name, platform)
	case file == "" && platform != thisPlatform:
		return fmt.Errorf("%s: the modmirror here is for %s: name the file of one for %[3]s, as in: self %[3]s modmirror-%[4]s", name, thisPlatform, platform, strings.Replace(platform, "/", "-", 1))
	case slices.ContainsFunc(s.Self, func(have Self) bool { return have.Platform == platform }):
		return fmt.Errorf("%s: a second modmirror for %s", name, platform)
	}
	if file != "" {
		if err := checkSelf(file, platform); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	s.Self = append(s.Self, Self{name, platform, file})
	return nil
}

// checkSelf checks that a file is modmirror for a platform, by what the go command wrote into it.
func checkSelf(file, platform string) error {
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

// selfToolchains sees to it that there is a toolchain for each platform that wants one: the Go that is here, unless the
// sources name another.
func (r *run) selfToolchains(p *plan) error {
	for _, s := range r.src.Self {
		if _, ok := r.src.newestToolchain(s.Platform); ok {
			continue
		}
		before := len(r.src.List)
		goVersion, _, _ := strings.Cut(r.cfg.GoVersion, " ") // an experiment's name may follow
		if goVersion == "" {
			return fmt.Errorf("%s: which Go? Add a line such as: toolchain go1.26.8 %s", s.Name, s.Platform)
		}
		if err := r.src.AddToolchain(s.Name, goVersion, []string{s.Platform}); err != nil {
			return err
		}
		p.wantToolchains(r.src.List[before:])
	}
	return nil
}

// selfs writes the tars. The toolchains are in the mirror directory.
func (r *run) selfs(ctx context.Context) error {
	for _, s := range r.src.Self {
		tool, _ := r.src.newestToolchain(s.Platform)
		if !slices.ContainsFunc(r.out.Versions, func(v Version) bool { return v.Mod == tool && v.Zip != nil }) {
			continue // it is among what is missing
		}
		f, err := r.writeSelf(ctx, s, tool)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		r.out.Selfs = append(r.out.Selfs, f)
	}
	slices.SortFunc(r.out.Selfs, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

// writeSelf writes the tar of a platform.
func (r *run) writeSelf(ctx context.Context, s Self, tool module.Version) (f File, err error) {
	f.Path = modpath.Request{Kind: modpath.Self, Name: strings.Replace(s.Platform, "/", "-", 1)}.String()
	z, err := zip.OpenReader(r.fetch.dir.Path(versionFile(modpath.Zip, tool.Path, tool.Version)))
	if err != nil {
		return f, err
	}
	defer z.Close()
	exe, err := os.Open(cmp.Or(s.File, r.cfg.Executable))
	if err != nil {
		return f, err
	}
	defer exe.Close()
	st, err := exe.Stat()
	if err != nil {
		return f, err
	}
	out, err := r.fetch.dir.create(f.Path)
	if err != nil {
		return f, err
	}
	defer out.Discard()
	sum := sha256.New()
	err = selftar.Write(ctx, io.MultiWriter(out, sum), &z.Reader, tool, exe, st.Size())
	if err == nil {
		f.Size, err = out.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		err = out.Finish()
	}
	if err == nil {
		err = r.fetch.dir.commit(out)
	}
	sum.Sum(f.SHA256[:0])
	return f, err
}

// newestToolchain returns the newest toolchain for a platform among the sources.
func (s *Sources) newestToolchain(platform string) (newest module.Version, ok bool) {
	suffix := "." + strings.Replace(platform, "/", "-", 1)
	goVersion := func(m module.Version) string {
		return strings.TrimSuffix(strings.TrimPrefix(m.Version, "v0.0.1-"), suffix)
	}
	for _, src := range s.List {
		if m := src.Query; m.Path == modpath.Toolchain && strings.HasSuffix(m.Version, suffix) && !src.noZip {
			if !ok || later(goVersion(newest), goVersion(m)) != goVersion(newest) {
				newest, ok = m, true
			}
		}
	}
	return newest, ok
}
