package review

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/mod/module"
)

// Chains knows why versions are carried. A catalog of 2,500 versions has some hundred thousand
// requirements, so a version is a number here.
type Chains struct {
	versions []module.Version
	number   map[module.Version]int32
	from     []int32 // the version before, on a shortest chain; -1 at its begin
}

// notReached is where nothing leads to: in a cycle of versions that were asked for by name.
const notReached = -2

// NewChains reads the requirements of catalogs. Chains begin at projects, and at versions that
// nothing requires.
func NewChains(ctx context.Context, catalogs ...Catalog) (*Chains, error) {
	c := &Chains{number: make(map[module.Version]int32)}
	var requires [][]int32
	required := make(map[int32]bool)
	of := func(m module.Version) int32 {
		n, ok := c.number[m]
		if !ok {
			n = int32(len(c.versions))
			c.number[m] = n
			c.versions = append(c.versions, m)
			requires = append(requires, nil)
		}
		return n
	}
	for _, catalog := range catalogs {
		for r, err := range catalog.Requirements(ctx) {
			if err != nil {
				return nil, err
			}
			from := of(module.Version{Path: r.Path, Version: r.Version})
			to := of(module.Version{Path: r.Requires, Version: r.Wanted})
			requires[from] = append(requires[from], to)
			required[to] = true
		}
	}
	byName := func(a, b int32) int { return strings.Compare(c.versions[a].String(), c.versions[b].String()) }
	var projects, others []int32
	for n, m := range c.versions {
		switch n := int32(n); {
		case m.Version == "":
			projects = append(projects, n)
		case !required[n]:
			others = append(others, n)
		}
	}
	slices.SortFunc(projects, byName)
	slices.SortFunc(others, byName)
	c.from = slices.Repeat([]int32{notReached}, len(c.versions))
	for _, begin := range [][]int32{projects, others} { // a project explains more than what somebody asked for
		level := begin
		for _, n := range begin {
			c.from[n] = -1
		}
		for len(level) > 0 {
			var next []int32
			for _, from := range level {
				for _, to := range requires[from] {
					if c.from[to] == notReached {
						c.from[to] = from
						next = append(next, to)
					}
				}
			}
			level = next
		}
	}
	return c, nil
}

// Of returns a shortest chain of versions to m, each of which requires the next one, as
// "path@version". It is m alone when nothing requires it.
func (c *Chains) Of(m module.Version) []string { return c.of(m, math.MaxInt) }

// shortChain is how many versions ShortOf names.
const shortChain = 12

// ShortOf is Of, but of a chain of more than twelve versions it names the first and last six: a
// hostile graph may be one chain.
func (c *Chains) ShortOf(m module.Version) []string { return c.of(m, shortChain) }

func (c *Chains) of(m module.Version, most int) (chain []string) {
	last, ok := c.number[m]
	if !ok {
		return []string{m.String()}
	}
	length := 0
	for n := last; n >= 0; n = c.from[n] {
		length++
	}
	at := length
	for n := last; n >= 0; n = c.from[n] {
		at--
		switch {
		case length <= most || at < most/2 || at >= length-most/2:
			chain = append(chain, c.versions[n].String())
		case at == most/2:
			chain = append(chain, fmt.Sprintf("… %d more …", length-most))
		}
	}
	slices.Reverse(chain)
	return chain
}
