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

// A tidying asks "go mod tidy" what it would add to projects whose go.mod is not tidy. The go
// command completes such a file itself, inside too, and which versions it takes then depends on
// what is imported, which no go.mod says. It is asked with its module cache and without a network.
// Where the cache is not enough, only a rehearsal can tell, and the run says so. With a lock, the
// lock's go.mod files count.
type tidying struct {
	cancel   context.CancelFunc
	done     chan struct{} // closed when projects is complete
	projects []tidyProject
}

// A tidyProject is a project and its go.mod as go mod tidy makes it.
type tidyProject struct {
	sources.Source
	tidied *modfile.File
	err    error
}

// beginTidying begins to ask about the projects among the sources, beside what the run does next.
func (r *Run) beginTidying(ctx context.Context) *tidying {
	ctx, cancel := context.WithCancel(ctx)
	t := &tidying{cancel: cancel, done: make(chan struct{})}
	lock := r.o.Sources.Lock
	for _, s := range r.o.Sources.List {
		if s.Mod != nil {
			t.projects = append(t.projects, tidyProject{Source: s})
		}
	}
	go func() {
		defer close(t.done)
		for i := range t.projects {
			p := &t.projects[i]
			p.tidied, p.err = tidied(ctx, lock, p.Source)
		}
	}()
	return t
}

// stop ends the asking.
func (t *tidying) stop() {
	t.cancel()
	<-t.done
}

// addTidied adds the projects that the tidying found not to be tidy, as go mod tidy would have
// them, and reports whether there are any. It does so once.
func (r *Run) addTidied(ctx context.Context) (bool, error) {
	if r.tidied != nil {
		return false, nil
	}
	<-r.tidying.done
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	r.tidied = make(map[string]string)
	for _, p := range r.tidying.projects {
		if p.err != nil {
			if r.o.Rehearse == nil && p.Workspace == nil {
				r.o.Report.Say("cannot tell whether %s is tidy without what the module cache lacks; "+
					"--rehearse proves that nothing is missing", p.Name)
			}
			continue
		}
		if !requiresMore(p.tidied, p.Mod) {
			continue
		}
		r.o.Report.Say("%s is not tidy: what \"go mod tidy\" would add is carried too", p.Name)
		s := p.Source
		s.Mod = p.tidied
		r.o.Sources.List = append(r.o.Sources.List, s)
		r.tidied[s.Name] = string(modfile.Format(p.tidied.Syntax))
	}
	return len(r.tidied) > 0, nil
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
