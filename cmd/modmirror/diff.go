package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/review"
)

func diffCommand() *command {
	var asJSON, code, api, withFacts, scan bool
	return &command{
		name:    "diff",
		summary: "show how the modules of two bundles differ",
		usage: `
Usage: modmirror diff [flags] OLD NEW
       modmirror diff --code OLD NEW MODULE[@VERSION] [VERSION]
       modmirror diff --api OLD NEW MODULE[@VERSION] [VERSION]

Prints the modules that only NEW carries whole (+), that only OLD does (-), and those
that both do in different versions (~). Then it prints what is new in the vulnerability
database, and how many versions in each have known vulnerabilities.

--facts adds how licenses change, and what code can do that it could not before.
--code prints the changed source lines of a module, and --api how what it exports
differs, first what breaks code that was written for the old version. Versions are needed
only where a bundle carries several: that of OLD after the module, that of NEW behind it.

Example:
  modmirror diff team-2026-W47.tar team-2026-W48.tar
  modmirror diff --code old.tar new.tar golang.org/x/net | less
`,
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&asJSON, "json", false, "print JSON")
			fs.BoolVar(&withFacts, "facts", false, "add how licenses and abilities differ: see modmirror facts")
			scanFlag(fs, &scan)
			fs.BoolVar(&code, "code", false, "print how the source of one module differs")
			fs.BoolVar(&api, "api", false, "print how what one module exports differs")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			if err := checkDiff(code, api, withFacts, asJSON, len(args)); err != nil {
				return err
			}
			reviewMemory()
			old, err := openBundle(ctx, e, args[0])
			if err != nil {
				return err
			}
			defer old.Close()
			now, err := openBundle(ctx, e, args[1])
			if err != nil {
				return err
			}
			defer now.Close()
			if code || api {
				pair, err := openPair(ctx, old, now, args)
				if err != nil {
					return err
				}
				defer pair.Close()
				if code {
					return diffCode(ctx, e, pair)
				}
				return diffAPI(ctx, e, pair, asJSON)
			}
			d, err := review.DiffBundles(ctx, old, now)
			if err != nil {
				return err
			}
			if err := d.CountAffected(ctx, old, now); ctx.Err() != nil {
				return ctx.Err()
			} else if err != nil {
				e.sayVulns(nil, err)
			}
			if withFacts {
				if err := d.AddFacts(ctx, zipsOf(old, scan), zipsOf(now, scan)); err != nil {
					return err
				}
			}
			if asJSON {
				return writeJSON(e.stdout, d)
			}
			return printDiff(e.stdout, d)
		},
	}
}

// checkDiff checks the flags of diff, and how many arguments there are.
func checkDiff(code, api, withFacts, asJSON bool, args int) error {
	switch {
	case code && (asJSON || withFacts || api):
		return usagef("--code goes alone")
	case api && withFacts:
		return usagef("--api goes with --json alone")
	case (code || api) && args != 3 && args != 4:
		return usagef("want two bundles and a module")
	case !code && !api && args != 2:
		return usagef("want two bundles")
	}
	return nil
}

// printDiff prints the difference of bundles for people.
func printDiff(w io.Writer, d *review.BundleDiff) error {
	for _, m := range d.Modules {
		switch {
		case len(m.Removed) == 0:
			fmt.Fprintf(w, "+ %s %s, %s\n", m.Path, strings.Join(m.Added, " "), bytesText(m.Bytes))
		case len(m.Added) == 0:
			fmt.Fprintf(w, "- %s %s\n", m.Path, strings.Join(m.Removed, " "))
		default:
			fmt.Fprintf(w, "~ %s %s → %s, %s\n", m.Path, strings.Join(m.Removed, " "), strings.Join(m.Added, " "),
				bytesText(m.Bytes))
		}
		for _, version := range slices.SortedFunc(maps.Keys(m.Facts), semver.Compare) {
			if len(m.Added) > 1 {
				fmt.Fprintf(w, "  %s\n", version)
			}
			printFactsDiff(w, m.Facts[version])
		}
	}
	if n, c := len(d.NewVulns), len(d.ChangedVulns); n+c > 0 {
		fmt.Fprintf(w, "vulnerabilities: %d new, %d changed; new: %s\n", n, c,
			strings.Join(d.NewVulns[:min(n, 20)], " "))
	}
	if a := d.Affected; a != nil {
		fmt.Fprintf(w, "versions with known vulnerabilities, by the new database: %d → %d (modmirror vulns names them)\n",
			a[0], a[1])
	}
	verb := "differ"
	if len(d.Modules) == 1 {
		verb = "differs"
	}
	_, err := fmt.Fprintf(w, "%s %s, %s in new zips; %s → %s\n", number(len(d.Modules), "module"), verb,
		bytesText(d.NewBytes), bytesText(d.Sizes[0]), bytesText(d.Sizes[1]))
	return err
}

// printFactsDiff prints how the facts of a module differ.
func printFactsDiff(w io.Writer, d review.FactsDiff) {
	if l := d.License; l != nil && l[0] == "" {
		fmt.Fprintf(w, "    license %s\n", l[1])
	} else if l != nil {
		fmt.Fprintf(w, "    license %s → %s\n", l[0], l[1])
	}
	for _, u := range d.New {
		fmt.Fprintf(w, "    + %s: %s\n", u.Kind, cleanLine("%s %s", u.File, u.Detail))
	}
	for _, kind := range d.Gone {
		fmt.Fprintf(w, "    - %s\n", kind)
	}
}

// A sourcePair has the sources of a module in two bundles.
type sourcePair [2]*review.Sources

// Close closes the sources.
func (p sourcePair) Close() {
	for _, s := range p {
		if s != nil {
			s.Close()
		}
	}
}

// openPair opens the sources of a module in two bundles. args are OLD NEW MODULE[@VERSION]
// [VERSION].
func openPair(ctx context.Context, old, now *bundle.Bundle, args []string) (pair sourcePair, err error) {
	defer func() {
		if err != nil {
			pair.Close()
		}
	}()
	path, oldVersion, _ := strings.Cut(args[2], "@")
	newVersion := ""
	if len(args) == 4 {
		newVersion = args[3]
	}
	cpu := make(h1.Limiter, runtime.GOMAXPROCS(0))
	for i, x := range []struct {
		b             *bundle.Bundle
		name, version string
	}{{old, args[0], oldVersion}, {now, args[1], newVersion}} {
		v, err := oneVersion(ctx, x.b, x.name, path, x.version)
		if err == nil {
			pair[i], err = review.OpenSources(ctx, review.NewCarried(x.b), cpu, v)
		}
		if err != nil {
			return pair, err
		}
	}
	return pair, nil
}

// diffAPI prints how what a module exports differs.
func diffAPI(ctx context.Context, e *env, pair sourcePair, asJSON bool) error {
	d, err := review.DiffAPI(ctx, pair[0], pair[1], apiJob.run)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(e.stdout, d)
	}
	last := ""
	for _, c := range d.Changes {
		title := "compatible: " + c.Package
		if !c.Compatible {
			title = "incompatible: " + c.Package
		}
		if title != last {
			fmt.Fprintln(e.stdout, title)
		}
		last = title
		fmt.Fprintln(e.stdout, "  "+c.Text)
	}
	for _, part := range []struct {
		title string
		list  []string
	}{{"not known", d.Unknown}, {"not read", d.Unread}} {
		if len(part.list) > 0 {
			fmt.Fprintln(e.stdout, part.title+":")
		}
		for _, s := range part.list {
			fmt.Fprintln(e.stdout, "  "+s)
		}
	}
	e.say("%s → %s: %s, %d compatible", pair[0].Mod, pair[1].Mod.Version,
		number(d.Incompatible(), "incompatible change"), len(d.Changes)-d.Incompatible())
	return nil
}

// diffCode prints how the source of a module differs.
func diffCode(ctx context.Context, e *env, pair sourcePair) error {
	d, err := review.DiffCode(ctx, pair[0], pair[1], func(f review.FileDiff) error {
		_, err := io.WriteString(e.stdout, f.Text)
		return err
	})
	if err != nil {
		return err
	}
	e.say("%s → %s: %s changed, %d added, %d removed, %d moved", pair[0].Mod, pair[1].Mod.Version,
		number(d.Changed, "file"), d.Added, d.Removed, d.Moved)
	return nil
}

// oneVersion returns the version of a module that a bundle carries whole, or the given one. name is
// the bundle's, for errors.
func oneVersion(ctx context.Context, b *bundle.Bundle, name, path, version string) (found index.Version, err error) {
	var versions []string
	for v, err := range b.Index.Versions(ctx, path) {
		if err != nil {
			return found, err
		}
		if v.ZipSize != nil && (version == "" || v.Version == version) {
			found = v
			versions = append(versions, v.Version)
		}
	}
	switch {
	case path == "" || len(versions) == 0:
		wanted := path
		if version != "" {
			wanted += "@" + version
		}
		return found, notCarried(wanted, name)
	case len(versions) > 1:
		return found, usagef("%s carries %s of %s: name one, see --help", name, strings.Join(versions, ", "), path)
	}
	return found, nil
}
