package main

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
)

// tidyTimeout bounds what may be spent on finding out whether a go.mod is tidy.
const tidyTimeout = time.Minute

// addTidied adds, for each project whose go.mod is not tidy, the project as "go mod tidy" would have it. The
// go command completes such a file itself, inside too, and which versions it takes then depends on what is
// imported, which no go.mod says. It is asked with what its module cache has and no network; when
// that is not enough, nobody knows before a rehearsal, and that is said.
//
// With a lock it is what the lock has. It returns the go.mod files that were added, by the sources' names.
func addTidied(ctx context.Context, e *env, src *mirror.Job, rehearsed bool) (map[string]string, error) {
	added := make(map[string]string)
	for _, s := range slices.Clone(src.List) {
		if s.Mod == nil {
			continue
		}
		tidied, err := tidied(ctx, src.Lock, s)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			if !rehearsed && s.Workspace == nil {
				e.say("cannot tell whether %s is tidy without what the module cache lacks; --rehearse proves that nothing is missing", s.Name)
			}
			continue
		}
		for _, r := range tidied.Require {
			if !slices.ContainsFunc(s.Mod.Require, func(have *modfile.Require) bool { return have.Mod == r.Mod }) {
				e.say("%s is not tidy: what \"go mod tidy\" would add is carried too", s.Name)
				s.Mod = tidied
				src.List = append(src.List, s)
				added[s.Name] = string(modfile.Format(tidied.Syntax))
				break
			}
		}
	}
	return added, nil
}

// tidied returns the go.mod of a project as go mod tidy has it, or had it when the lock was made.
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

// tidy returns the go.mod that "go mod tidy" makes of a project, which stays as it is.
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
	if err := copyFile(filepath.Join(tmp, "go.sum"), s.Sum); err != nil && !errors.Is(err, fs.ErrNotExist) {
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
