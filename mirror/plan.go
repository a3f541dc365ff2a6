package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/modgraph"
	"github.com/modmirror/modmirror/mirror/sources"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// A Plan says what a Sync would do.
type Plan struct {
	modgraph.Size
	Bytes   int64 // of the zips, as far as their sizes are known
	Fetch   int   // zips that are not in the mirror directory
	ToFetch int64 // bytes of those
	Unknown int   // zips whose sizes the upstream does not say
	Carried int   // zips that an earlier bundle has; they are in none of the other numbers

	Missing    []Missing // what the upstream refuses, as far as it was asked
	Notes      []string  // as in Closure
	Toolchains []string  // as in Closure
}

// Plan returns what Sync would do. It downloads go.mod files and lists only. It leaves out what
// versions without a go.mod import, since that is in their zips. carried reports whether an earlier
// bundle has the zip of a version.
func (m *Mirror) Plan(ctx context.Context, job *Job, carried func(module.Version) (bool, error)) (*Plan, error) {
	r := m.newRun(job)
	defer r.fetch.discard()
	closure, err := r.plan(ctx, r.fetch.goMod)
	if err != nil {
		return nil, err
	}
	plan := new(Plan)
	var total, toFetch atomic.Int64
	var fetch, unknown atomic.Int32
	refused := make(map[*modgraph.Wanted]error)
	var mu sync.Mutex
	eg, egctx := errgroup.WithContext(ctx)
	eg.SetLimit(r.cfg.Parallel)
	list := closure.Versions()
	for _, w := range list {
		if !w.Zip {
			plan.ModOnly++
			eg.Go(func() error {
				_, err := r.fetch.stagedMod(egctx, w.Mod)
				if modgraph.IsAbsent(err) {
					mu.Lock()
					defer mu.Unlock()
					refused[w] = err
				}
				return egctx.Err()
			})
			continue
		}
		if has, err := carried(w.Mod); err != nil {
			eg.Wait()
			return nil, err
		} else if has {
			plan.Carried++
			continue
		}
		plan.Versions++
		rel := versionFile(modpath.Zip, w.Mod.Path, w.Mod.Version)
		if st, err := os.Stat(r.fetch.dir.Path(rel)); err == nil {
			total.Add(st.Size())
			continue
		}
		fetch.Add(1)
		eg.Go(func() error {
			n, err := r.fetch.zipSize(egctx, w.Mod)
			switch {
			case upstream.Refused(err) || modgraph.IsAbsent(err):
				mu.Lock()
				refused[w] = err
				mu.Unlock()
			case err != nil || n < 0:
				unknown.Add(1)
			default:
				total.Add(n)
				toFetch.Add(n)
			}
			return egctx.Err()
		})
	}
	err = eg.Wait()
	for _, w := range list {
		if refusal := refused[w]; refusal != nil {
			what := "zip"
			if modgraph.IsAbsent(refusal) {
				what = "go.mod"
			}
			r.out.Missing = append(r.out.Missing, r.missingOf(w, what, refusal))
		}
	}
	r.explainMissing(ctx)
	plan.Missing, plan.Notes, plan.Toolchains = r.out.Missing, r.out.Notes, r.out.Toolchains
	plan.Bytes, plan.ToFetch = total.Load(), toFetch.Load()
	plan.Fetch, plan.Unknown = int(fetch.Load()), int(unknown.Load())
	return plan, err
}

// A DeniedError lists the modules of a closure that a deny line forbids.
type DeniedError struct{ Modules []Denied }

// A Denied is a module version that a deny line forbids.
type Denied struct {
	Mod   module.Version
	Line  string   // the words after deny
	Chain []string // the requirements that bring the version in, from the source
}

// Error returns the number of modules; callers name them.
func (e *DeniedError) Error() string {
	return fmt.Sprintf("%d of the modules are denied", len(e.Modules))
}

// A group is a list of versions that were asked for, with the names of their sources.
type group struct {
	list  []module.Version
	names map[module.Version]string
}

// add adds m unless the group has it.
func (g *group) add(m module.Version, name string) {
	if g.names[m] == "" {
		g.names[m] = name
		g.list = append(g.list, m)
	}
}

// targets are the versions that the sources were resolved to.
type targets struct {
	projects []module.Version          // build lists of projects that are to be closed
	names    map[module.Version]string // sources of tools and modules
	tools    []module.Version          // modules of commands, which need only their own build list
	modules  []module.Version          // to be closed
	imported group                     // modules that versions without a go.mod import
	optional group                     // modules that may be absent
	resolved map[int][]module.Version  // by the number of a source whose modules the go command inside may build
}

// plan resolves the sources and returns their closure. read returns the go.mod files of versions.
func (r *run) plan(
	ctx context.Context, read func(context.Context, module.Version) (*modgraph.GoMod, error),
) (*modgraph.Closure, error) {
	c := &modgraph.Closure{
		Loader: &modgraph.Loader{Read: read, ReadFile: os.ReadFile},
		Compat: r.cfg.Compat,
		Notes:  slices.Clone(r.job.Notes),
	}
	t, err := r.resolve(ctx, c)
	if err != nil {
		return nil, err
	}
	closing, err := r.close(ctx, c, t)
	if err != nil {
		return nil, err
	}
	if err := r.toolchains(ctx, c, t.resolved); err != nil {
		return nil, err
	}
	if err := r.bootstrapToolchains(c); err != nil {
		return nil, err
	}
	if err := r.deny(c); err != nil {
		return nil, err
	}
	r.note(c)
	if r.cfg.Planned != nil {
		all := c.Size()
		build := modgraph.Size{Versions: all.Versions - closing.Versions, ModOnly: all.ModOnly - closing.ModOnly}
		r.cfg.Planned(build, all)
	}
	return c, nil
}

// resolve adds projects, workspaces and versions that are wanted alone to the closure, and returns
// what the other sources were resolved to.
func (r *run) resolve(ctx context.Context, c *modgraph.Closure) (*targets, error) {
	t := &targets{
		names:    make(map[module.Version]string),
		imported: group{names: make(map[module.Version]string)},
		optional: group{names: make(map[module.Version]string)},
		resolved: make(map[int][]module.Version),
	}
	answers := r.fetch.resolveAll(ctx, r.job.List)
	workspaces := make(map[*modfile.WorkFile]*modgraph.Workspace)
	for i := range r.job.List {
		s, a := &r.job.List[i], answers[i]
		switch {
		case s.Mod != nil || s.Work != nil:
			added, err := addProject(ctx, c, s, workspaces)
			if err != nil {
				return nil, err
			}
			if r.cfg.Closed {
				t.projects = append(t.projects, added...)
			}
			continue
		case a.err != nil:
			if err := r.unresolved(ctx, c, s, a.err); err != nil {
				return nil, err
			}
			continue
		}
		r.out.Queries = append(r.out.Queries, a.queries...)
		if s.Tool != "" && !s.Imported {
			r.tools[i] = a.versions
		}
		if !s.Imported && !s.Optional { // no go command inside need be able to build all that is imported
			t.resolved[i] = a.versions
		}
		for _, m := range a.versions {
			if err := r.addTarget(ctx, c, t, i, m); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// addProject adds a project or a workspace to the closure and returns its build list. workspaces
// has those that were seen before.
func addProject(
	ctx context.Context, c *modgraph.Closure, s *sources.Source, workspaces map[*modfile.WorkFile]*modgraph.Workspace,
) ([]module.Version, error) {
	workspace := func(s *sources.Source) *modgraph.Workspace {
		if s == nil {
			return nil
		}
		w := workspaces[s.Work]
		if w == nil {
			var members []modgraph.Member
			for _, m := range s.Members {
				members = append(members, modgraph.Member(m))
			}
			w = modgraph.NewWorkspace(s.Dir, s.Work, members)
			workspaces[s.Work] = w
		}
		return w
	}
	if s.Work != nil {
		return c.AddWorkspace(ctx, s.Name, workspace(s))
	}
	c.Optional = s.Workspace != nil // a workspace builds without what only its members need
	defer func() { c.Optional = false }()
	return c.AddProject(ctx, modgraph.Project{Name: s.Name, Dir: s.Dir, Mod: s.Mod, Workspace: workspace(s.Workspace)})
}

// unresolved records that a source was not resolved, or returns the error when that ends the sync.
func (r *run) unresolved(ctx context.Context, c *modgraph.Closure, s *sources.Source, err error) error {
	passable := ctx.Err() == nil && !errors.Is(err, proof.ErrMismatch)
	switch {
	case passable && s.Imported:
		// Old files import packages that are gone, and not every package is needed.
		miss := r.missing(s.Query, askedFor(err), []string{s.Name}, err)
		miss.Allowed = true
		r.out.Missing = append(r.out.Missing, miss)
	case passable && s.Optional:
		c.Notes = append(c.Notes, leftOut(s, err))
	case modgraph.IsAbsent(err):
		r.out.Missing = append(r.out.Missing, r.missing(s.Query, askedFor(err), []string{s.Name}, err))
	default:
		return err
	}
	return nil
}

// addTarget adds a version that source i was resolved to.
func (r *run) addTarget(ctx context.Context, c *modgraph.Closure, t *targets, i int, m module.Version) error {
	s := &r.job.List[i]
	if s.Optional {
		if _, err := r.fetch.goMod(ctx, m); err != nil {
			if ctx.Err() != nil || errors.Is(err, proof.ErrMismatch) {
				return err
			}
			c.Notes = append(c.Notes, leftOut(s, err))
			return nil
		}
	}
	switch {
	case s.OnlyThis:
		c.Optional = s.Optional
		c.Want(m, !s.NoZip, s.Name)
		c.Optional = false
	case s.Optional:
		t.resolved[i] = append(t.resolved[i], m)
		t.optional.add(m, s.Name)
	case s.Imported:
		if t.names[m] == "" {
			t.imported.add(m, s.Name)
		}
	default:
		t.names[m] = s.Name
		if s.Tool != "" && !r.cfg.Closed {
			t.tools = append(t.tools, m)
		} else {
			t.modules = append(t.modules, m)
		}
	}
	return nil
}

// close adds the build lists of the targets and, where a new project inside must be able to start
// from any version, of all versions of those. It returns how many versions that second part added.
func (r *run) close(ctx context.Context, c *modgraph.Closure, t *targets) (closing modgraph.Size, err error) {
	closed := func(roots, lists []module.Version, names map[module.Version]string) error {
		before := c.Size()
		err := c.Close(ctx, roots, lists, names)
		after := c.Size()
		closing.Versions += after.Versions - before.Versions
		closing.ModOnly += after.ModOnly - before.ModOnly
		return err
	}
	if _, err := c.AddModules(ctx, t.tools, t.names); err != nil {
		return closing, err
	}
	lists, err := c.AddModules(ctx, t.modules, t.names)
	if err != nil {
		return closing, err
	}
	if err := closed(t.modules, append(lists, t.projects...), t.names); err != nil {
		return closing, err
	}
	if err := r.findNoGoMod(ctx, t.names, false); err != nil {
		return closing, err
	}
	if err := r.findNoGoMod(ctx, t.imported.names, true); err != nil {
		return closing, err
	}
	if err := r.findNoGoMod(ctx, t.optional.names, true); err != nil {
		return closing, err
	}
	c.Optional = true
	defer func() { c.Optional = false }()
	if lists, err = c.AddModules(ctx, t.optional.list, t.optional.names); err != nil {
		return closing, err
	}
	if err := closed(t.optional.list, lists, t.optional.names); err != nil {
		return closing, err
	}
	if lists, err = c.AddModules(ctx, t.imported.list, t.imported.names); err != nil {
		return closing, err
	}
	if r.cfg.Closed {
		err = closed(t.imported.list, lists, t.imported.names)
	}
	return closing, err
}

// deny takes optional versions that a deny line forbids out of the closure. It returns a
// *DeniedError when there are others.
func (r *run) deny(c *modgraph.Closure) error {
	var denied DeniedError
	for _, w := range c.Versions() {
		line := r.job.Denies(w.Mod.Path)
		switch {
		case line == "" || !w.Zip:
		case w.Optional || w.OptionalZip:
			c.Remove(w.Mod)
			c.Notes = append(c.Notes, fmt.Sprintf("%s is not carried, since it is denied: %s",
				w.Mod, strings.Join(w.Chain, " → ")))
		default:
			denied.Modules = append(denied.Modules, Denied{w.Mod, line, w.Chain})
		}
	}
	if denied.Modules != nil {
		return &denied
	}
	return nil
}

// note completes the parts of the result that say how the closure came about: requirements, queries
// and notes.
func (r *run) note(c *modgraph.Closure) {
	r.out.Requirements = c.Requirements()
	slices.SortFunc(r.out.Queries, func(a, b Query) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Query, b.Query))
	})
	r.out.Queries = slices.Compact(r.out.Queries)
	for m := range r.job.MissingOK {
		if !c.Has(m) {
			c.Notes = append(c.Notes, fmt.Sprintf("nothing requires %s, so its missing-ok line changes nothing", m))
		}
	}
	slices.Sort(c.Notes)
	r.out.Notes = slices.Compact(c.Notes)
}
