package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/goenv"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/upstream"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/vulndb"
)

// An outdatedModule is a module of which there is news since a bundle was made.
type outdatedModule struct {
	Module     string   `json:"module"`
	Version    string   `json:"version"`              // the highest that is carried
	Newest     string   `json:"newest"`               // that the upstream has; perhaps the same
	Fixes      []string `json:"fixes,omitempty"`      // vulnerabilities of Version that Newest does not have
	Retracted  *string  `json:"retracted,omitempty"`  // reason, when Version was retracted since
	Deprecated string   `json:"deprecated,omitempty"` // message, when the module was deprecated since
	Unread     bool     `json:"unread,omitempty"`     // the go.mod of Newest cannot be had: retractions are not known
}

// outdatedFlags are the flags of outdated.
type outdatedFlags struct {
	mirror, goproxy, db string
	parallel            int
	asJSON              bool
}

func outdatedCommand() *command {
	f := new(outdatedFlags)
	return &command{
		name:    "outdated",
		summary: "show what is newer upstream than in a bundle (outside)",
		usage: `
Usage: modmirror outdated [flags] BUNDLE

Asks the proxies of "go env GOPROXY" for the newest version of each module that a bundle
carries, and prints those of which there is news: a newer version, what vulnerabilities
it does not have by the database in the bundle or --db, and whether the highest carried
version was retracted, or the module deprecated, since the bundle was made.

A new major version is another module, and is not looked for. Nothing proves what an
upstream says here; sync does, before it carries a version.

Example:
  modmirror outdated team.tar
`,
		flags: func(fs *pflag.FlagSet) {
			fs.StringVar(&f.db, "db", "",
				"look for fixes in the vulnerability database in this `folder, bundle or store` instead")
			upstreamFlags(fs, &f.mirror, &f.goproxy, &f.parallel)
			fs.BoolVar(&f.asJSON, "json", false, "print a JSON object for each module")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if err := checkParallel(f.parallel); err != nil {
				return err
			}
			return outdated(ctx, e, f, args)
		},
	}
}

// outdated prints what is newer than in a bundle.
func outdated(ctx context.Context, e *env, f *outdatedFlags, args []string) error {
	b, err := oneBundle(ctx, e, args)
	if err != nil {
		return err
	}
	defer b.Close()
	highest, paths, err := highestVersions(ctx, b.Index)
	if err != nil {
		return err
	}
	var db *vulndb.DB
	if f.db != "" {
		others, closeOthers, err := openOthers(ctx, e, f.db)
		if err != nil {
			return err
		}
		defer closeOthers()
		if db, err = openVulnDB(ctx, f.db, f.db, others); err != nil {
			return err
		}
	} else if db, err = review.Database(ctx, b); err != nil {
		e.sayVulns(nil, err)
	} else if db == nil {
		e.say("%s carries no vulnerability database: what newer versions fix is not known without --db", args[0])
	}
	newest, err := f.ask(ctx, e, paths)
	if err != nil {
		return err
	}
	silent, news := 0, 0
	for _, path := range paths {
		n, ok := newest[path]
		if !ok {
			silent++
			continue
		}
		m, err := outdatedOf(ctx, highest[path], n, db)
		if err != nil {
			return err
		}
		if m == nil {
			continue
		}
		news++
		if err := m.print(e.stdout, f.asJSON); err != nil {
			return err
		}
	}
	e.say("there is news of %d of %s; the upstream says nothing of %d", news, number(len(paths), "module"), silent)
	if silent == len(paths) && silent > 0 {
		return hint.Add(errors.New("the upstream answers for no module"), "modmirror doctor says why")
	}
	return nil
}

// highestVersions returns the highest version of each module that is carried whole, and the paths in
// their order. It leaves out toolchains.
func highestVersions(
	ctx context.Context, x *index.Index,
) (highest map[string]index.Version, paths []string, err error) {
	highest = make(map[string]index.Version)
	for v, err := range review.WholeVersions(ctx, x) {
		if err != nil {
			return nil, nil, err
		}
		h, ok := highest[v.Path]
		if review.GoRelease(v) != "" {
			continue
		}
		if !ok {
			paths = append(paths, v.Path)
		}
		if !ok || semver.Compare(v.Version, h.Version) > 0 {
			highest[v.Path] = v
		}
	}
	return highest, paths, nil
}

// ask asks the upstream for the newest versions.
func (f *outdatedFlags) ask(ctx context.Context, e *env, paths []string) (map[string]mirror.Newest, error) {
	settings, err := goenv.Read(ctx)
	if err != nil {
		return nil, err
	}
	settings.Override(f.goproxy, "")
	up, err := upstream.New(settings.GOPROXY, settings.GOAUTH, f.parallel)
	if err != nil {
		return nil, &hint.Error{Err: err, Hint: proxiesHint}
	}
	m, err := mirror.Open(ctx, mirror.Config{
		Dir: f.mirror, Upstream: up, NoProxy: settings.GONOPROXY, Parallel: f.parallel,
		Waiting: e.waiting("the mirror directory " + f.mirror),
	})
	if err != nil {
		return nil, err
	}
	defer m.Close()
	bar := e.newBar(int64(len(paths)), "asking for newest versions", false)
	defer bar.done()
	return m.Newest(ctx, paths, func() { bar.add(1) })
}

// outdatedOf returns the news of a module, nil for none.
func outdatedOf(ctx context.Context, v index.Version, n mirror.Newest, db *vulndb.DB) (*outdatedModule, error) {
	m := &outdatedModule{Module: v.Path, Version: v.Version, Newest: n.Version, Unread: n.Unread}
	newer := semver.Compare(n.Version, v.Version) > 0
	if reason, is := n.Retracted(v.Version); is && v.Retracted == nil {
		reason = cleanText(reason)
		m.Retracted = &reason
	}
	if n.Deprecated != "" && v.Deprecated == "" {
		m.Deprecated = cleanText(n.Deprecated)
	}
	if newer && db != nil {
		for entry, err := range db.Entries(ctx, v.Path) {
			if err != nil {
				return nil, err
			}
			if entry.Affects(v.Path, v.Version) && !entry.Affects(v.Path, n.Version) {
				m.Fixes = append(m.Fixes, entry.ID)
			}
		}
		slices.Sort(m.Fixes)
	}
	if !newer && m.Retracted == nil && m.Deprecated == "" {
		return nil, nil
	}
	return m, nil
}

// print prints the news of a module.
func (m *outdatedModule) print(w io.Writer, asJSON bool) error {
	if asJSON {
		return writeJSON(w, m)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", m.Module, m.Version)
	if semver.Compare(m.Newest, m.Version) > 0 {
		fmt.Fprintf(&b, " → %s", m.Newest)
	}
	if len(m.Fixes) > 0 {
		fmt.Fprintf(&b, ", without %s", someOf(m.Fixes, 5))
	}
	if m.Retracted != nil {
		fmt.Fprintf(&b, "; %s is retracted now", m.Version)
		if *m.Retracted != "" {
			fmt.Fprintf(&b, ": %s", *m.Retracted)
		}
	}
	if m.Unread {
		b.WriteString("; its go.mod cannot be had")
	}
	if m.Deprecated != "" {
		fmt.Fprintf(&b, "; deprecated now: %s", m.Deprecated)
	}
	_, err := fmt.Fprintln(w, b.String())
	return err
}
