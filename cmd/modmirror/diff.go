package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/facts"
)

// A moduleDiff is a module of which two bundles carry different versions.
type moduleDiff struct {
	Path    string   `json:"path"`
	Added   []string `json:"added,omitempty"` // versions
	Removed []string `json:"removed,omitempty"`
	Bytes   int64    `json:"bytes,omitempty"` // of the added zips

	// Facts has, with --facts, for each added version how its facts differ from those of the next
	// lower version in the old bundle, or of the lowest there. Versions whose facts do not are left
	// out.
	Facts map[string]review.FactsDiff `json:"facts,omitempty"`
}

// A bundleDiff is what diff prints with --json.
type bundleDiff struct {
	Modules      []moduleDiff `json:"modules"`
	NewBytes     int64        `json:"newBytes"`           // of zips that only the new bundle has
	Sizes        [2]int64     `json:"sizes"`              // of the two bundles, in bytes
	NewVulns     []string     `json:"newVulns,omitempty"` // entries of the vulnerability database
	ChangedVulns []string     `json:"changedVulns,omitempty"`

	// Affected counts the versions with known vulnerabilities in the two bundles, by the database in
	// the new one; null without one.
	Affected *[2]int `json:"affected,omitempty"`
}

func diffCommand() *command {
	var asJSON, code, withFacts bool
	return &command{
		name:    "diff",
		summary: "show how the modules of two bundles differ",
		usage: `
Usage: modmirror diff [flags] OLD NEW
       modmirror diff --code OLD NEW MODULE[@VERSION] [VERSION]

Prints the modules that only NEW carries whole (+), that only OLD does (-), and those
that both do in different versions (~). Then it prints what is new in the vulnerability
database, and how many versions in each have known vulnerabilities.

--facts adds how licenses change, and what code can do that it could not before.
--code prints the changed source lines of a module. Versions are needed only where a
bundle carries several: that of OLD after the module, that of NEW behind it.

Example:
  modmirror diff team-2026-W47.tar team-2026-W48.tar
  modmirror diff --code old.tar new.tar golang.org/x/net | less
`,
		flags: func(fs *pflag.FlagSet) {
			fs.BoolVar(&asJSON, "json", false, "print JSON")
			fs.BoolVar(&withFacts, "facts", false, "read the zips of what is new: see modmirror facts")
			fs.BoolVar(&code, "code", false, "print how the source of one module differs")
		},
		run: func(ctx context.Context, e *env, args []string) error {
			switch {
			case code && (asJSON || withFacts):
				return usagef("--code goes alone")
			case code && len(args) != 3 && len(args) != 4:
				return usagef("want two bundles and a module")
			case !code && len(args) != 2:
				return usagef("want two bundles")
			}
			debug.SetMemoryLimit(syncHeap)
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
			if code {
				return diffCode(ctx, e, old, now, args)
			}
			d, err := diff(ctx, old, now)
			if err != nil {
				return err
			}
			if d.Affected, err = affectedIn(ctx, old, now); ctx.Err() != nil {
				return ctx.Err()
			} else if err != nil {
				e.sayVulns(nil, err)
			}
			if withFacts {
				if err := d.addFacts(ctx, old, now); err != nil {
					return err
				}
			}
			if asJSON {
				return writeJSON(e.stdout, d)
			}
			return d.print(e.stdout)
		},
	}
}

// print prints the difference for people.
func (d *bundleDiff) print(w io.Writer) error {
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

// addFacts adds how the facts of added versions differ from those of versions in the old bundle.
func (d *bundleDiff) addFacts(ctx context.Context, old, now *bundle.Bundle) error {
	type pair struct{ path, version string }
	before, after := make(map[pair]pair), make(map[pair]facts.Facts)
	bases := make(map[pair]facts.Facts)
	for _, m := range d.Modules {
		if len(m.Added) == 0 {
			continue
		}
		var versions []string // in the old bundle
		for v, err := range old.Index.Versions(ctx, m.Path) {
			if err != nil {
				return err
			}
			if v.ZipSize != nil {
				versions = append(versions, v.Version)
			}
		}
		slices.SortFunc(versions, semver.Compare)
		for _, added := range m.Added {
			after[pair{m.Path, added}] = facts.Facts{}
			i, _ := slices.BinarySearchFunc(versions, added, semver.Compare)
			if len(versions) > 0 {
				base := pair{m.Path, versions[max(i-1, 0)]}
				before[pair{m.Path, added}], bases[base] = base, facts.Facts{}
			}
		}
	}
	for b, into := range map[*bundle.Bundle]map[pair]facts.Facts{old: bases, now: after} {
		wanted := func(v index.Version) bool { _, ok := into[pair{v.Path, v.Version}]; return ok }
		err := review.ReadFacts(ctx, review.NewCarried(b), wanted, func(f review.VersionFacts) error {
			into[pair{f.Path, f.Version}] = f.Facts
			return nil
		})
		if err != nil {
			return err
		}
	}
	for i := range d.Modules {
		m := &d.Modules[i]
		for _, added := range m.Added {
			now := after[pair{m.Path, added}]
			if now.License == "" { // a toolchain, which is not read
				continue
			}
			var was *facts.Facts
			if base, ok := before[pair{m.Path, added}]; ok {
				f := bases[base]
				was = &f
			}
			if diff := review.DiffFacts(was, now); !diff.Empty() {
				if m.Facts == nil {
					m.Facts = make(map[string]review.FactsDiff)
				}
				m.Facts[added] = diff
			}
		}
	}
	return nil
}

// diffCode prints how the source of a module differs. args are OLD NEW MODULE[@VERSION] [VERSION].
func diffCode(ctx context.Context, e *env, old, now *bundle.Bundle, args []string) error {
	path, oldVersion, _ := strings.Cut(args[2], "@")
	newVersion := ""
	if len(args) == 4 {
		newVersion = args[3]
	}
	cpu := make(h1.Limiter, runtime.GOMAXPROCS(0))
	var pair [2]*review.Sources
	for i, x := range []struct {
		b             *bundle.Bundle
		name, version string
	}{{old, args[0], oldVersion}, {now, args[1], newVersion}} {
		v, err := oneVersion(ctx, x.b, x.name, path, x.version)
		if err != nil {
			return err
		}
		if pair[i], err = review.OpenSources(ctx, x.b, cpu, v); err != nil {
			return err
		}
		defer pair[i].Close()
	}
	d, err := review.DiffCode(e.stdout, pair[0], pair[1])
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

// diff compares two bundles. It reads both catalogs side by side, so its memory does not grow with
// them.
func diff(ctx context.Context, old, now *bundle.Bundle) (*bundleDiff, error) {
	d := &bundleDiff{Modules: []moduleDiff{}, Sizes: [2]int64{old.Manifest.Size, now.Manifest.Size}}
	of := func(path string) *moduleDiff {
		if n := len(d.Modules); n == 0 || d.Modules[n-1].Path != path {
			d.Modules = append(d.Modules, moduleDiff{Path: path})
		}
		return &d.Modules[len(d.Modules)-1]
	}
	compare := func(a, b index.Version) int {
		return slices.Compare([]string{a.Path, a.Version}, []string{b.Path, b.Version})
	}
	err := merge(wholeVersions(ctx, old), wholeVersions(ctx, now), compare, func(a, b *index.Version) {
		switch {
		case b == nil:
			m := of(a.Path)
			m.Removed = append(m.Removed, a.Version)
		case a == nil:
			m := of(b.Path)
			m.Added = append(m.Added, b.Version)
			m.Bytes += *b.ZipSize
			d.NewBytes += *b.ZipSize
		}
	})
	if err != nil {
		return nil, err
	}
	const prefix = "vulndb/ID/"
	vulns := func(b *bundle.Bundle) iter.Seq2[index.File, error] { return b.Index.FilesBelow(ctx, prefix) }
	byPath := func(a, b index.File) int { return strings.Compare(a.Path, b.Path) }
	err = merge(vulns(old), vulns(now), byPath, func(a, b *index.File) {
		if b == nil {
			return
		}
		id := strings.TrimSuffix(strings.TrimPrefix(b.Path, prefix), ".json")
		switch {
		case a == nil:
			d.NewVulns = append(d.NewVulns, id)
		case a.SHA256 != b.SHA256:
			d.ChangedVulns = append(d.ChangedVulns, id)
		}
	})
	return d, err
}

// affectedIn counts the versions in two bundles that have vulnerabilities by the database in the new
// one. It returns nil without one.
func affectedIn(ctx context.Context, old, now *bundle.Bundle) (*[2]int, error) {
	db, err := review.Database(ctx, now)
	if db == nil || err != nil {
		return nil, err
	}
	var n [2]int
	for i, b := range []*bundle.Bundle{old, now} {
		found, err := review.FindVulns(ctx, review.Catalogs(b), db)
		if err != nil {
			return nil, err
		}
		n[i] = found.Affected
	}
	return &n, nil
}

// merge merges two sorted sequences. It calls each once for equal elements, and with nil in the
// place of an element that one sequence lacks.
func merge[T any](old, now iter.Seq2[T, error], compare func(a, b T) int, each func(a, b *T)) error {
	nextOld, stopOld := iter.Pull2(old)
	defer stopOld()
	nextNow, stopNow := iter.Pull2(now)
	defer stopNow()
	a, errA, okA := nextOld()
	b, errB, okB := nextNow()
	for okA || okB {
		if okA && errA != nil {
			return errA
		}
		if okB && errB != nil {
			return errB
		}
		c := 0
		switch {
		case !okB:
			c = -1
		case !okA:
			c = 1
		default:
			c = compare(a, b)
		}
		x, y := a, b
		switch {
		case c < 0:
			each(&x, nil)
		case c > 0:
			each(nil, &y)
		default:
			each(&x, &y)
		}
		if c <= 0 {
			a, errA, okA = nextOld()
		}
		if c >= 0 {
			b, errB, okB = nextNow()
		}
	}
	return nil
}
