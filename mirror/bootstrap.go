package mirror

import (
	"archive/zip"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/selftar"
	"github.com/modmirror/modmirror/mirror/modgraph"
	"github.com/modmirror/modmirror/mirror/sources"
)

// bootstrapToolchains adds a toolchain for each bootstrap whose platform has none among the
// sources: that of the Go here.
func (r *run) bootstrapToolchains(c *modgraph.Closure) error {
	for _, b := range r.job.Bootstraps {
		if _, ok := r.job.NewestToolchain(b.Platform); ok {
			continue
		}
		before := len(r.job.List)
		goVersion, _, _ := strings.Cut(r.cfg.GoVersion, " ") // an experiment's name may follow
		if goVersion == "" {
			return fmt.Errorf("%s: which Go? Add a line such as: toolchain go1.26.8 %s", b.Name, b.Platform)
		}
		if err := r.job.AddToolchain(b.Name, goVersion, []string{b.Platform}); err != nil {
			return err
		}
		wantToolchains(c, r.job.List[before:])
	}
	return nil
}

// bootstraps writes the tars of the bootstraps. Their toolchains are in the mirror directory
// already.
func (r *run) bootstraps(ctx context.Context) error {
	for _, b := range r.job.Bootstraps {
		tool, _ := r.job.NewestToolchain(b.Platform)
		if !slices.ContainsFunc(r.out.Versions, func(v Version) bool { return v.Mod == tool && v.Zip != nil }) {
			continue // r.out.Missing has it
		}
		f, err := r.writeBootstrap(ctx, b, tool)
		if err != nil {
			return fmt.Errorf("%s: %w", b.Name, err)
		}
		r.out.Bootstraps = append(r.out.Bootstraps, f)
	}
	slices.SortFunc(r.out.Bootstraps, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	return nil
}

// writeBootstrap writes the tar of a bootstrap with toolchain tool into the mirror directory.
func (r *run) writeBootstrap(ctx context.Context, b sources.Bootstrap, tool module.Version) (f File, err error) {
	f.Path = modpath.Request{Kind: modpath.Self, Name: modpath.PlatformName(b.Platform)}.String()
	z, err := zip.OpenReader(r.fetch.dir.Path(versionFile(modpath.Zip, tool.Path, tool.Version)))
	if err != nil {
		return f, err
	}
	defer z.Close()
	exe, err := os.Open(cmp.Or(b.File, r.cfg.Executable))
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
	err = selftar.Write(ctx, io.MultiWriter(out, sum), &z.Reader, tool, io.NewSectionReader(exe, 0, st.Size()))
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
