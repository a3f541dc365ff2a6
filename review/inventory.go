package review

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/review/facts"
)

// An Inventory lists the versions that a bundle or its draft carries with their zip, and what
// requires what among them.
type Inventory struct {
	Subject    Subject
	Source     string // path of the project that the inventory is about; "" for all that is carried
	Complete   bool   // nothing of the closure is missing, and Absent is empty
	Components []Component
	Direct     []int // places in Components of what the source requires, or of what nothing requires

	// Absent lists what the source requires and the bundle does not carry under that name: it is
	// missing, or go.mod replaces it by another module or a folder. The index does not say which.
	Absent []module.Version
}

// A Component is a version of an Inventory.
type Component struct {
	index.Version
	SHA256   [32]byte // of the zip
	Requires []int    // places in Inventory.Components, ascending
}

// PURL returns the package URL of the component.
func (c *Component) PURL() string { return PURL(c.Path, c.Version.Version) }

// A NoSourceError says that a bundle was not made for a project.
type NoSourceError struct {
	Source string
	Known  []string // projects that the bundle was made for
}

func (e *NoSourceError) Error() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("no project %s: the bundle was made for none", e.Source)
	}
	const some = 20
	text := strings.Join(e.Known[:min(some, len(e.Known))], ", ")
	if more := len(e.Known) - some; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("no project %s: the bundle was made for %s", e.Source, text)
}

// NewInventory returns the inventory of a subject or, with a source, of what the module graph of a
// project selects: of each module that is reached from it the highest version that is required, or
// the next higher one that is carried whole. That is minimal version selection without the pruning
// of module graphs, so a version may be higher than the one that is built, when the bundle carries
// both. An unknown source is a *NoSourceError.
func NewInventory(ctx context.Context, s Subject, source string) (*Inventory, error) {
	inv := &Inventory{Subject: s, Source: source, Complete: s.Manifest.Counts.Missing == 0}
	for v, err := range s.Versions(ctx, "") {
		if err != nil {
			return nil, err
		}
		if v.ZipSize == nil {
			continue
		}
		c := Component{Version: v}
		if c.SHA256, err = s.sum(ctx, v); err != nil {
			return nil, err
		}
		inv.Components = append(inv.Components, c)
	}
	slices.SortFunc(inv.Components, func(a, b Component) int { return compareVersions(&a, &b) })
	if source != "" {
		if err := inv.restrict(ctx, source); err != nil {
			return nil, err
		}
	}
	return inv, inv.connect(ctx)
}

// ReadLicenses enters the licenses of components whose license the index does not have, for which
// it reads their zips.
func (inv *Inventory) ReadLicenses(ctx context.Context) error {
	place := make(map[module.Version]*Component, len(inv.Components))
	for i := range inv.Components {
		if c := &inv.Components[i]; c.License == nil {
			place[module.Version{Path: c.Path, Version: c.Version.Version}] = c
		}
	}
	wanted := func(v index.Version) bool { return place[module.Version{Path: v.Path, Version: v.Version}] != nil }
	return ReadFacts(ctx, inv.Subject, wanted, func(f VersionFacts) error {
		place[module.Version{Path: f.Path, Version: f.Version}].License = &f.License
		return nil
	})
}

// license returns the SPDX expression of a component's license, "" when it is not known or there is
// none.
func (c *Component) license() string {
	if c.License == nil || *c.License == facts.NoAssertion || *c.License == facts.None {
		return ""
	}
	return *c.License
}

// compareVersions orders versions by path, and then as semantic versions.
func compareVersions(a, b *Component) int {
	if c := strings.Compare(a.Path, b.Path); c != 0 {
		return c
	}
	return semver.Compare(a.Version.Version, b.Version.Version)
}

// selected returns the place of the lowest component that satisfies a requirement, or -1.
func (inv *Inventory) selected(m module.Version) int {
	want := Component{Version: index.Version{Path: m.Path, Version: m.Version}}
	i, _ := slices.BinarySearchFunc(inv.Components, want, func(a, b Component) int { return compareVersions(&a, &b) })
	if i < len(inv.Components) && inv.Components[i].Path == m.Path {
		return i
	}
	return -1
}

// restrict removes the components that the module graph of a project does not select.
func (inv *Inventory) restrict(ctx context.Context, source string) error {
	requires := make(map[module.Version][]module.Version)
	known := make(map[string]bool)
	for r, err := range inv.Subject.Requirements(ctx) {
		if err != nil {
			return err
		}
		if r.Version == "" {
			known[r.Path] = true
		}
		from := module.Version{Path: r.Path, Version: r.Version}
		requires[from] = append(requires[from], module.Version{Path: r.Requires, Version: r.Wanted})
	}
	root := module.Version{Path: source}
	if !known[source] {
		return &NoSourceError{source, slices.Sorted(maps.Keys(known))}
	}
	highest := make(map[string]string) // by module path
	seen := map[module.Version]bool{root: true}
	for stack := []module.Version{root}; len(stack) > 0; {
		m := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		for _, r := range requires[m] {
			if seen[r] {
				continue
			}
			seen[r] = true
			stack = append(stack, r)
			if semver.Compare(r.Version, highest[r.Path]) > 0 {
				highest[r.Path] = r.Version
			}
		}
	}
	chosen := make(map[int]bool)
	for path, version := range highest {
		if i := inv.selected(module.Version{Path: path, Version: version}); i >= 0 {
			chosen[i] = true
		}
	}
	for _, r := range requires[root] {
		if inv.selected(r) < 0 {
			inv.Absent = append(inv.Absent, r)
		}
	}
	slices.SortFunc(inv.Absent, func(a, b module.Version) int { return strings.Compare(a.Path, b.Path) })
	inv.Complete = inv.Complete && len(inv.Absent) == 0
	var components []Component
	for i, c := range inv.Components {
		if chosen[i] {
			components = append(components, c)
		}
	}
	inv.Components = components
	return nil
}

// connect enters what requires what.
func (inv *Inventory) connect(ctx context.Context) error {
	required := make([]bool, len(inv.Components))
	for r, err := range inv.Subject.Requirements(ctx) {
		if err != nil {
			return err
		}
		to := inv.selected(module.Version{Path: r.Requires, Version: r.Wanted})
		if to < 0 {
			continue
		}
		if r.Version == "" {
			if r.Path == inv.Source {
				inv.Direct = append(inv.Direct, to)
			}
			continue
		}
		from := inv.selected(module.Version{Path: r.Path, Version: r.Version})
		if from < 0 || inv.Components[from].Version.Version != r.Version || from == to {
			continue
		}
		c := &inv.Components[from]
		c.Requires = append(c.Requires, to)
		required[to] = true
	}
	if inv.Source == "" {
		for i := range inv.Components {
			if !required[i] {
				inv.Direct = append(inv.Direct, i)
			}
		}
	}
	lists := []*[]int{&inv.Direct}
	for i := range inv.Components {
		lists = append(lists, &inv.Components[i].Requires)
	}
	for _, list := range lists {
		slices.Sort(*list)
		*list = slices.Compact(*list)
	}
	return nil
}
