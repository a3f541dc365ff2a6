package assemble

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/mod/modfile"

	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/sources"
)

// tidyTimeout bounds how long go mod tidy may run for one go.mod.
const tidyTimeout = time.Minute

// addTidied adds, for each project whose go.mod is not tidy, the project as "go mod tidy" would
// have it. The go command completes such a file itself, inside too, and which versions it takes
// then depends on what is imported, which no go.mod says. It is asked with its module cache and
// without a network. Where the cache is not enough, only a rehearsal can tell, and the run says so.
// With a lock, the lock's go.mod files are added.
//
// It returns the go.mod files that it added, by the sources' names.
func (r *Run) addTidied(ctx context.Context) (map[string]string, error) {
	added := make(map[string]string)
	src := r.o.Sources
	for _, s := range slices.Clone(src.List) {
		if s.Mod == nil {
			continue
		}
		tidied, err := tidied(ctx, src.Lock, s)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			if r.o.Rehearse == nil && s.Workspace == nil {
				r.o.Report.Say("cannot tell whether %s is tidy without what the module cache lacks; "+
					"--rehearse proves that nothing is missing", s.Name)
			}
			continue
		}
		if !requiresMore(tidied, s.Mod) {
			continue
		}
		r.o.Report.Say("%s is not tidy: what \"go mod tidy\" would add is carried too", s.Name)
		s.Mod = tidied
		src.List = append(src.List, s)
		added[s.Name] = string(modfile.Format(tidied.Syntax))
	}
	return added, nil
}

// requiresMore reports whether a go.mod requires a module version that another one does not.
func requiresMore(a, b *modfile.File) bool {
	return slices.ContainsFunc(a.Require, func(x *modfile.Require) bool {
		return !slices.ContainsFunc(b.Require, func(y *modfile.Require) bool { return x.Mod == y.Mod })
	})
}

// tidied returns the go.mod of a project as go mod tidy makes it now, or made it when the lock was
// made.
func tidied(ctx context.Context, lock *mirror.Lock, s sources.Source) (*modfile.File, error) {
	if lock == nil {
		return tidy(ctx, s)
	}
	text, ok := lock.Tidied[s.Name]
	if !ok {
		return s.Mod, nil
	}
	return modfile.Parse("go.mod", []byte(text), nil)
}

// tidy returns the go.mod that "go mod tidy" makes of a project. It does not change the project.
func tidy(ctx context.Context, s sources.Source) (*modfile.File, error) {
	ctx, cancel := context.WithTimeout(ctx, tidyTimeout)
	defer cancel()
	tmp, err := os.MkdirTemp("", "modmirror-tidy-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	file := filepath.Join(tmp, "go.mod")
	if err := os.WriteFile(file, modfile.Format(s.Mod.Syntax), 0o666); err != nil {
		return nil, err
	}
	sum, err := os.ReadFile(s.Sum)
	if err == nil {
		err = os.WriteFile(filepath.Join(tmp, "go.sum"), sum, 0o666)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "mod", "tidy", "-modfile="+file)
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=-mod=mod", "GOWORK=off")
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return modfile.Parse(file, data, nil)
}
