package review

import (
	"archive/zip"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/inflate"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/review/facts"
)

// VersionFacts are the facts of a carried version.
type VersionFacts struct {
	Path    string `json:"path"`
	Version string `json:"version"`
	facts.Facts
}

// ReadFacts reads the zips of carried versions, on all cores, and calls each with what they say, in
// the order of the index. wanted, which may be nil, chooses versions. Toolchains are left out. A zip
// whose h1 is not that of the index is an error that wraps proof.ErrMismatch.
func ReadFacts(ctx context.Context, b *bundle.Bundle, wanted func(index.Version) bool, each func(VersionFacts) error) error {
	cpu := make(h1.Limiter, runtime.GOMAXPROCS(0))
	eg, ctx := errgroup.WithContext(ctx)
	eg.SetLimit(2 * cap(cpu)) // one may wait for a disk
	o := &ordered{each: each, ready: make(map[int]VersionFacts)}
	n := 0
	for v, err := range b.Index.Versions(ctx, "") {
		if err != nil {
			return errors.Join(eg.Wait(), err)
		}
		if v.ZipSize == nil || v.Path == modpath.Toolchain || wanted != nil && !wanted(v) {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		number := n
		n++
		eg.Go(func() error {
			f, err := readFacts(ctx, b, cpu, v)
			if err != nil {
				return fmt.Errorf("%s@%s: %w", v.Path, v.Version, err)
			}
			return o.put(number, VersionFacts{v.Path, v.Version, f})
		})
	}
	return eg.Wait()
}

// ordered passes on values by number, as soon as all before are there.
type ordered struct {
	each func(VersionFacts) error

	mu    sync.Mutex
	next  int
	ready map[int]VersionFacts
}

func (o *ordered) put(number int, f VersionFacts) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ready[number] = f
	for {
		f, ok := o.ready[o.next]
		if !ok {
			return nil
		}
		delete(o.ready, o.next)
		o.next++
		if err := o.each(f); err != nil {
			return err
		}
	}
}

// readFacts reads one zip.
func readFacts(ctx context.Context, b *bundle.Bundle, cpu h1.Limiter, v index.Version) (facts.Facts, error) {
	path := modpath.Request{Kind: modpath.Zip, Path: v.Path, Version: v.Version}.String()
	f, ok, err := b.Index.File(ctx, path)
	if err == nil && !ok {
		err = errors.New("the index has no file " + path)
	}
	if err != nil {
		return facts.Facts{}, err
	}
	content, err := b.Content(ctx, f)
	if err != nil {
		return facts.Facts{}, err
	}
	a, err := h1.Open(ctx, content, f.Size)
	if err != nil {
		return facts.Facts{}, damaged(err)
	}
	defer a.Close()
	m := module.Version{Path: v.Path, Version: v.Version}
	names := make([]string, len(a.File))
	for i, file := range a.File {
		names[i] = file.Name
	}
	s := facts.New(m.String(), names)
	a.Look = func(name string, size uint64) io.WriteCloser { return s.File(name, int64(size)) }
	hash, err := a.Hash(cpu, m)
	if err != nil {
		return facts.Facts{}, damaged(err)
	}
	if hash.H1 != v.H1 {
		return facts.Facts{}, fmt.Errorf("its h1 is %s, the index says %s: %w", hash.H1, v.H1, proof.ErrMismatch)
	}
	return s.Facts(), nil
}

// damaged returns an error about a zip that wraps proof.ErrMismatch when the zip is at fault, and
// not its medium.
func damaged(err error) error {
	for _, bad := range []error{zip.ErrFormat, zip.ErrAlgorithm, zip.ErrChecksum, inflate.ErrCorrupt, io.ErrUnexpectedEOF} {
		if errors.Is(err, bad) {
			return fmt.Errorf("%w: %w", err, proof.ErrMismatch)
		}
	}
	return err
}
