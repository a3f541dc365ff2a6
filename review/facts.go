package review

import (
	"cmp"
	"context"
	"runtime"
	"sync"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/review/facts"
)

// VersionFacts are the facts of a carried version.
type VersionFacts struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	facts.Facts
}

// ReadFacts calls each with the facts of carried versions, in the order of the catalog. wanted,
// which may be nil, chooses versions. Toolchains are left out. The facts are those of the index.
// Where it has none, and for an Unread, zips are read, on all cores; one whose h1 is not that of
// the catalog is an error that wraps proof.ErrMismatch.
func ReadFacts(
	ctx context.Context, z Zips, wanted func(index.Version) bool, each func(VersionFacts) error,
) error {
	cpu := make(h1.Limiter, runtime.GOMAXPROCS(0))
	eg, work := errgroup.WithContext(ctx)
	eg.SetLimit(2 * cap(cpu)) // one may wait for a disk
	o := &ordered{each: each, ready: make(map[int]VersionFacts)}
	n := 0
	for v, err := range z.Versions(work, "") {
		if err != nil {
			return cmp.Or(eg.Wait(), err) // that of the group has ended the query
		}
		if v.ZipSize == nil || v.Path == modpath.Toolchain || wanted != nil && !wanted(v) {
			continue
		}
		if work.Err() != nil {
			break
		}
		number := n
		n++
		eg.Go(func() error {
			f, err := readFacts(work, z, cpu, v)
			if err != nil {
				return err
			}
			return o.put(number, VersionFacts{v.Path, v.Version, f})
		})
	}
	return cmp.Or(eg.Wait(), ctx.Err())
}

// ordered passes on values by number, as soon as all before are there.
type ordered struct {
	each func(VersionFacts) error

	mu    sync.Mutex
	next  int
	ready map[int]VersionFacts
	err   error // of each, which is not called again
}

func (o *ordered) put(number int, f VersionFacts) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ready[number] = f
	for o.err == nil {
		f, ok := o.ready[o.next]
		if !ok {
			return nil
		}
		delete(o.ready, o.next)
		o.next++
		o.err = o.each(f)
	}
	return o.err
}

// readFacts returns what the index says, or reads the zip.
func readFacts(ctx context.Context, z Zips, cpu h1.Limiter, v index.Version) (facts.Facts, error) {
	if v.License != nil {
		if rows, ok, err := z.facts(ctx, v); err != nil || ok {
			return facts.FromRows(*v.License, rows), err
		}
	}
	var scan *facts.Scanner
	s, err := openSources(ctx, z, cpu, v, func(a *h1.Archive) {
		scan = facts.Look(a, module.Version{Path: v.Path, Version: v.Version})
	})
	if err != nil {
		return facts.Facts{}, err
	}
	s.Close()
	f := scan.Facts()
	return facts.FromRows(f.License, f.Rows()), nil // as an index would have it
}

// Unread returns z without the facts of its index: ReadFacts reads every zip.
func Unread(z Zips) Zips { return unread{z} }

type unread struct{ Zips }

func (unread) facts(context.Context, index.Version) ([]index.Fact, bool, error) {
	return nil, false, nil
}
