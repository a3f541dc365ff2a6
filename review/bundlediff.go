package review

import (
	"context"
	"iter"
	"slices"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/review/facts"
)

// A ModuleDiff is a module of which two bundles carry different versions.
type ModuleDiff struct {
	Path    string   `json:"path"`
	Added   []string `json:"added,omitempty"` // versions
	Removed []string `json:"removed,omitempty"`
	Bytes   int64    `json:"bytes,omitempty"` // of the added zips

	// Facts has, after AddFacts, for each added version how its facts differ from those of its
	// version before. Versions whose facts do not are left out.
	Facts map[string]FactsDiff `json:"facts,omitempty"`

	before []string // all versions in the old bundle, lowest first
}

// Before returns the version in the old bundle that an added version is compared with: the next
// lower one, or the lowest. It is "" for a module that the old bundle does not carry.
func (m *ModuleDiff) Before(added string) string {
	if len(m.before) == 0 {
		return ""
	}
	i, _ := slices.BinarySearchFunc(m.before, added, semver.Compare)
	return m.before[max(i-1, 0)]
}

// A BundleDiff is how the catalogs of two bundles differ.
type BundleDiff struct {
	Modules      []ModuleDiff `json:"modules"`
	NewBytes     int64        `json:"newBytes"`           // of zips that only the new bundle has
	Sizes        [2]int64     `json:"sizes"`              // of the two bundles, in bytes
	NewVulns     []string     `json:"newVulns,omitempty"` // entries of the vulnerability database
	ChangedVulns []string     `json:"changedVulns,omitempty"`

	// Affected counts the versions with known vulnerabilities in the two bundles, by the database in
	// the new one; null without one.
	Affected *[2]int `json:"affected,omitempty"`
}

// DiffBundles compares the catalogs of two bundles.
func DiffBundles(ctx context.Context, old, now *bundle.Bundle) (*BundleDiff, error) {
	modules, err := DiffCatalogs(ctx, old.Index, now.Index)
	if err != nil {
		return nil, err
	}
	d := &BundleDiff{Modules: modules, Sizes: [2]int64{old.Manifest.Size, now.Manifest.Size}}
	for i := range modules {
		d.NewBytes += modules[i].Bytes
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

// DiffCatalogs returns the modules of which two catalogs have different versions, by path. It reads
// both side by side, so its memory does not grow with them.
func DiffCatalogs(ctx context.Context, old, now Catalog) ([]ModuleDiff, error) {
	list := []ModuleDiff{}
	of := func(path string) *ModuleDiff {
		if n := len(list); n == 0 || list[n-1].Path != path {
			list = append(list, ModuleDiff{Path: path})
		}
		return &list[len(list)-1]
	}
	compare := func(a, b index.Version) int {
		return slices.Compare([]string{a.Path, a.Version}, []string{b.Path, b.Version})
	}
	err := merge(WholeVersions(ctx, old), WholeVersions(ctx, now), compare, func(a, b *index.Version) {
		switch {
		case b == nil:
			m := of(a.Path)
			m.Removed = append(m.Removed, a.Version)
		case a == nil:
			m := of(b.Path)
			m.Added = append(m.Added, b.Version)
			m.Bytes += *b.ZipSize
		}
	})
	for i := 0; i < len(list) && err == nil; i++ {
		err = list[i].readBefore(ctx, old)
	}
	return list, err
}

// readBefore enters the versions that the old catalog has of a module with additions.
func (m *ModuleDiff) readBefore(ctx context.Context, old Catalog) error {
	if len(m.Added) == 0 {
		return nil
	}
	for v, err := range old.Versions(ctx, m.Path) {
		if err != nil {
			return err
		}
		if v.ZipSize != nil {
			m.before = append(m.before, v.Version)
		}
	}
	slices.SortFunc(m.before, semver.Compare)
	return nil
}

// WholeVersions returns the versions that are carried with their zip, in the order of the catalog.
func WholeVersions(ctx context.Context, c Catalog) iter.Seq2[index.Version, error] {
	return func(yield func(index.Version, error) bool) {
		for v, err := range c.Versions(ctx, "") {
			if (v.ZipSize != nil || err != nil) && !yield(v, err) {
				return
			}
		}
	}
}

// CountAffected counts the versions in the two bundles that have vulnerabilities by the database in
// the new one, if that carries one.
func (d *BundleDiff) CountAffected(ctx context.Context, old, now *bundle.Bundle) error {
	db, err := Database(ctx, now)
	if db == nil || err != nil {
		return err
	}
	var n [2]int
	for i, b := range []*bundle.Bundle{old, now} {
		found, err := FindVulns(ctx, Catalogs(b), db)
		if err != nil {
			return err
		}
		n[i] = found.Affected
	}
	d.Affected = &n
	return nil
}

// FactsOfChanges reads the facts of what is added to modules, from now, and of the versions before,
// from old. An error about old alone leaves before incomplete, and after not.
func FactsOfChanges(
	ctx context.Context, list []ModuleDiff, old, now Zips,
) (before, after map[module.Version]facts.Facts, err error) {
	before, after = make(map[module.Version]facts.Facts), make(map[module.Version]facts.Facts)
	wantBefore, wantAfter := make(map[module.Version]bool), make(map[module.Version]bool)
	for i := range list {
		m := &list[i]
		for _, added := range m.Added {
			wantAfter[module.Version{Path: m.Path, Version: added}] = true
			if v := m.Before(added); v != "" {
				wantBefore[module.Version{Path: m.Path, Version: v}] = true
			}
		}
	}
	read := func(z Zips, wanted map[module.Version]bool, into map[module.Version]facts.Facts) error {
		is := func(v index.Version) bool { return wanted[module.Version{Path: v.Path, Version: v.Version}] }
		return ReadFacts(ctx, z, is, func(f VersionFacts) error {
			into[module.Version{Path: f.Path, Version: f.Version}] = f.Facts
			return nil
		})
	}
	if err = read(now, wantAfter, after); err == nil {
		err = read(old, wantBefore, before)
	}
	return before, after, err
}

// AddFacts adds how the facts of added versions differ from those of the versions before.
func (d *BundleDiff) AddFacts(ctx context.Context, old, now Zips) error {
	before, after, err := FactsOfChanges(ctx, d.Modules, old, now)
	if err != nil {
		return err
	}
	for i := range d.Modules {
		m := &d.Modules[i]
		for _, added := range m.Added {
			now, ok := after[module.Version{Path: m.Path, Version: added}]
			if !ok { // a toolchain, which is not read
				continue
			}
			var was *facts.Facts
			if f, ok := before[module.Version{Path: m.Path, Version: m.Before(added)}]; ok {
				was = &f
			}
			if diff := DiffFacts(was, now); !diff.Empty() {
				if m.Facts == nil {
					m.Facts = make(map[string]FactsDiff)
				}
				m.Facts[added] = diff
			}
		}
	}
	return nil
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
