package upstream

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/mod/semver"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/internal/modpath"
)

// A Measure says how fast and how reliable a proxy is.
type Measure struct {
	URL      string        `json:"url"` // without user and password
	Requests int           `json:"requests"`
	Failed   int           `json:"failed"`
	P50      time.Duration `json:"p50Nanoseconds"` // time of small answers
	P90      time.Duration `json:"p90Nanoseconds"`
	P99      time.Duration `json:"p99Nanoseconds"`
	Rate     float64       `json:"bytesPerSecond"`    // of a zip; 0 without one
	Trouble  string        `json:"trouble,omitempty"` // first failure
}

// probing is the number of requests of a measurement in flight, similar to a module graph's.
const probing = 8

// Probe sends n requests for small files of a module to each proxy in turn, and then fetches its
// newest zip. It returns the measures with the best proxy first: the smallest share of failures,
// and then the lowest P90.
func (c *Client) Probe(ctx context.Context, path string, n int) []Measure {
	var list []Measure
	for _, base := range c.bases() {
		list = append(list, c.probe(ctx, base, path, n))
	}
	slices.SortStableFunc(list, func(a, b Measure) int {
		share := func(m Measure) float64 { return float64(m.Failed) / float64(m.Requests) }
		return cmp.Or(cmp.Compare(share(a), share(b)), cmp.Compare(a.P90, b.P90))
	})
	return list
}

func (c *Client) probe(ctx context.Context, base, path string, n int) Measure {
	m := Measure{URL: Redact(base)}
	times := make([]time.Duration, 0, n)
	count := func(f Finding) {
		if m.Requests++; f.Layer == LayerOK {
			times = append(times, f.Elapsed)
		} else if m.Failed++; m.Trouble == "" {
			m.Trouble = fmt.Sprintf("%s: %s", f.Layer, f.Detail)
		}
	}
	first, data := c.find(ctx, base+"/"+modpath.Request{Kind: modpath.List, Path: path}.String())
	count(first)
	var versions []string
	for _, v := range strings.Fields(string(data)) {
		if module.Check(path, v) == nil && semver.Prerelease(v) == "" {
			versions = append(versions, v)
		}
	}
	semver.Sort(versions)
	if first.Layer != LayerOK || len(versions) == 0 {
		return m
	}
	found := make([]Finding, max(n-1, 0))
	var eg errgroup.Group
	eg.SetLimit(probing)
	for i := range found {
		kind := modpath.Info
		if i%2 == 1 {
			kind = modpath.Mod
		}
		v := versions[len(versions)-1-i/2%len(versions)] // from the newest version on
		eg.Go(func() error {
			found[i], _ = c.find(ctx, base+"/"+modpath.Request{Kind: kind, Path: path, Version: v}.String())
			return nil
		})
	}
	eg.Wait()
	for _, f := range found {
		count(f)
	}
	slices.Sort(times)
	at := func(p int) time.Duration { return times[min(len(times)-1, len(times)*p/100)] }
	m.P50, m.P90, m.P99 = at(50), at(90), at(99)
	newest := modpath.Request{Kind: modpath.Zip, Path: path, Version: versions[len(versions)-1]}
	zip, data := c.find(ctx, base+"/"+newest.String())
	if zip.Layer == LayerOK {
		m.Rate = float64(len(data)) / zip.Elapsed.Seconds()
	}
	return m
}
