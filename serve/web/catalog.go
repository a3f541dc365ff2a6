package web

import (
	"cmp"
	"context"
	"slices"
	"sort"
	"strings"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"

	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/vulndb"
	"github.com/modmirror/modmirror/serve/web/render"
)

// A carried module has at least one version with its zip.
type carried struct {
	Path     string `json:"path"`
	Latest   string `json:"latest"` // version that is shown without another one in the URL
	Versions int    `json:"versions"`
	License  string `json:"license,omitempty"`
	Size     int64  `json:"size"` // of the zip of Latest, in bytes

	h1 string // of the zip of Latest
}

// A catalog lists the modules of a view.
type catalog struct {
	modules []carried // by path, with render.Std for the standard library, without golang.org/toolchain
	paths   []string  // of modules
	bytes   int64     // of the zips of all versions
	count   int       // versions with their zip
	std     []toolchain
}

// A toolchain is a carried release of Go.
type toolchain struct {
	release string // go1.26.1
	version string // of golang.org/toolchain
	h1      string
}

// readCatalog reads the catalog of a view.
func readCatalog(ctx context.Context, v *store.View) (c catalog, err error) {
	at := make(map[string]int)
	seen := make(map[module.Version]bool)
	for _, b := range v.Lines {
		for x, err := range review.WholeVersions(ctx, b.Index) {
			if err != nil {
				return c, err
			}
			if mod := (module.Version{Path: x.Path, Version: x.Version}); seen[mod] {
				continue
			} else if len(v.Lines) > 1 {
				seen[mod] = true
			}
			c.count++
			c.bytes += *x.ZipSize
			if x.Path == modpath.Toolchain {
				if release := review.GoRelease(x); release != "" {
					c.std = append(c.std, toolchain{"go" + release, x.Version, x.H1})
				}
				continue
			}
			m := carried{Path: x.Path, Latest: x.Version, Versions: 1, Size: *x.ZipSize, h1: x.H1}
			if x.License != nil {
				m.License = *x.License
			}
			i, ok := at[x.Path]
			switch {
			case !ok:
				at[x.Path] = len(c.modules)
				c.modules = append(c.modules, m)
			case modpath.Later(x.Version, c.modules[i].Latest):
				m.Versions += c.modules[i].Versions
				c.modules[i] = m
			default:
				c.modules[i].Versions++
			}
		}
	}
	c.addStd()
	slices.SortFunc(c.modules, func(a, b carried) int { return cmp.Compare(a.Path, b.Path) })
	for _, m := range c.modules {
		c.paths = append(c.paths, m.Path)
	}
	return c, nil
}

// addStd adds the standard library of the carried toolchains, the newest first, and of one release
// that for linux/amd64.
func (c *catalog) addStd() {
	if len(c.std) == 0 {
		return
	}
	slices.SortFunc(c.std, func(a, b toolchain) int {
		return cmp.Or(-semver.Compare(semverOf(a.release), semverOf(b.release)),
			-cmp.Compare(preferred(a.version), preferred(b.version)), cmp.Compare(a.version, b.version))
	})
	c.std = slices.CompactFunc(c.std, func(a, b toolchain) bool { return a.release == b.release })
	c.modules = append(c.modules, carried{
		Path: render.Std, Latest: c.std[0].release, Versions: len(c.std), License: "BSD-3-Clause", h1: c.std[0].h1,
	})
}

// semverOf returns a release of Go as a semantic version: go1.26rc1 is v1.26.0-rc1.
func semverOf(release string) string {
	v, _ := vulndb.SemverOfGo(strings.TrimPrefix(release, "go"))
	return v
}

func preferred(version string) int {
	if strings.HasSuffix(version, ".linux-amd64") {
		return 1
	}
	return 0
}

// module returns a module by its path, nil for none.
func (c *catalog) module(path string) *carried {
	i, ok := slices.BinarySearch(c.paths, path)
	if !ok {
		return nil
	}
	return &c.modules[i]
}

// below returns the modules whose paths begin with prefix and a slash.
func (c *catalog) below(prefix string) []carried {
	prefix += "/"
	i := sort.SearchStrings(c.paths, prefix)
	j := i
	for j < len(c.paths) && strings.HasPrefix(c.paths[j], prefix) {
		j++
	}
	return c.modules[i:j]
}
