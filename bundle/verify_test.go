package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// makeMany makes a bundle with 2,000 tiles besides, most of one hash and some of 256, so that it is
// verified in many stretches.
func makeMany(t *testing.T) *testbundle.TB {
	return testbundle.Make(t, modfiles, func(c *bundle.Contents) {
		for i := range int64(2000) {
			tile := tlog.Tile{H: modpath.TileHeight, L: 1, N: 1000 + i, W: 1}
			if i%10 == 0 {
				tile.W = 256
			}
			path := modpath.Request{Kind: modpath.SumTile, DB: c.DB, Tile: tile}.String()
			c.Tiles = append(c.Tiles, bundle.DataSource(path, bytes.Repeat([]byte{byte(i)}, tile.W*tlog.HashSize)))
		}
	})
}

// own returns the files of a bundle that is no delta, in their order, and the offset that theirs
// count from.
func own(t *testing.T, b *bundle.Bundle) (files []index.File, payload int64) {
	t.Helper()
	for f, err := range b.Index.Files(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	place, err := b.Find(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return files, place.Offset - files[0].Offset
}

// TestDamageInOrder damages entries in all places, and expects each to be reported once, in the
// order of the file, and every byte to be counted.
func TestDamageInOrder(t *testing.T) {
	tb := makeMany(t)
	b, err := bundle.Open(ctx, tb.Path, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	files, payload := own(t, b)
	total := b.Manifest.Size - payload - 1024
	data := testbundle.Read(t, tb.Path)
	for name, every := range map[string]int{"none": len(files) + 1, "few": 97, "all": 1} {
		t.Run(name, func(t *testing.T) {
			bad := bytes.Clone(data)
			var want []string
			for i, f := range files {
				if (i+1)%every != 0 {
					continue
				}
				at := payload + f.Offset // the content, padding or header, in turn
				err := media.ErrHash.Error()
				switch pad := -f.Size & 511; {
				case i%3 == 1 && pad > 0:
					at, err = at+f.Size+pad-1, "padding: not the bytes that must be there"
				case i%3 == 2 || f.Size == 0:
					at, err = at-512, "tar header: not the bytes that must be there"
				}
				bad[at] ^= 1
				want = append(want, f.Path+": "+err)
			}
			path := filepath.Join(t.TempDir(), "bad.tar")
			testbundle.WriteFile(t, path, bad)
			b, err := bundle.Open(ctx, path, tb.Trusted, "")
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			var got []string
			n := int64(0)
			err = b.Verify(ctx, func(k int64) { n += k }, func(d bundle.Damage) { got = append(got, fmt.Sprintf("%s: %v", d.Path, d.Err)) })
			if err != nil || n != total {
				t.Errorf("%d bytes of %d, %v", n, total, err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%d damaged entries, want %d; they begin with %.5q, want %.5q", len(got), len(want), got, want)
			}
		})
	}
}

// TestDeepReportsOnce damages a zip, a go.mod and a lookup file. VerifyDeep must report each once,
// for its bytes, and not look into it.
func TestDeepReportsOnce(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	b, err := bundle.Open(ctx, tb.Path, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	files, payload := own(t, b)
	data := testbundle.Read(t, tb.Path)
	var want []string
	for _, f := range files {
		r, _ := modpath.Parse(f.Path)
		if r.Path == testbundle.Large.Path && (r.Kind == modpath.Zip || r.Kind == modpath.Mod || r.Kind == modpath.SumLookup) {
			data[payload+f.Offset+f.Size/2] ^= 1
			want = append(want, f.Path)
		}
	}
	path := filepath.Join(t.TempDir(), "bad.tar")
	testbundle.WriteFile(t, path, data)
	bad, err := bundle.Open(ctx, path, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer bad.Close()
	var got []string
	report := func(d bundle.Damage) {
		got = append(got, d.Path)
		if !errors.Is(d.Err, media.ErrHash) {
			t.Errorf("%s: %v", d.Path, d.Err)
		}
	}
	if err := bad.VerifyDeep(ctx, &bundle.Deep{DB: tb.DB}, nil, report); err != nil || len(want) != 3 || !slices.Equal(got, want) {
		t.Errorf("%q, want %q, %v", got, want, err)
	}
}

// TestDeepAfterBytes has all versions checked, and found wrong, when AllRead is called. They must
// be reported after it, and not at all when it returns an error.
func TestDeepAfterBytes(t *testing.T) {
	tb := testbundle.Make(t, modfiles, func(c *bundle.Contents) {
		for i := range c.Versions {
			c.Versions[i].GoModH1 = c.Versions[0].GoModH1
		}
	})
	for _, stop := range []error{nil, errors.New("stop")} {
		b, err := bundle.Open(ctx, tb.Path, tb.Trusted, "")
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		_, payload := own(t, b)
		want := b.Manifest.Size - payload - 1024 + *tb.Contents.Versions[0].ZipSize
		for _, v := range tb.Contents.Versions {
			want += v.ModSize
		}
		var n atomic.Int64
		checked := make(chan struct{})
		progress := func(k int64) {
			if n.Add(k) == want {
				close(checked)
			}
		}
		var damages []string
		deep := &bundle.Deep{DB: tb.DB, AllRead: func() error {
			<-checked
			if len(damages) > 0 {
				t.Errorf("reported before: %q", damages)
			}
			return stop
		}}
		err = b.VerifyDeep(ctx, deep, progress, func(d bundle.Damage) { damages = append(damages, d.Path) })
		if !errors.Is(err, stop) || (len(damages) > 0) != (stop == nil) {
			t.Errorf("stop is %v: %v, %q damaged", stop, err, damages)
		}
	}
}

// stalled is media whose reads from an offset on wait until their context is done.
type stalled struct {
	media.Media
	from    int64
	waiting chan struct{} // closed when a read waits
	once    atomic.Bool
}

func (m *stalled) ReadAt(ctx context.Context, p []byte, at int64) (int, error) {
	if at+int64(len(p)) <= m.from {
		return m.Media.ReadAt(ctx, p, at)
	}
	if !m.once.Swap(true) {
		close(m.waiting)
	}
	<-ctx.Done()
	return 0, ctx.Err()
}

// TestVerifyCancelled: a verification of media that stall ends with its context, and reports
// nothing.
func TestVerifyCancelled(t *testing.T) {
	tb := makeMany(t)
	st, err := os.Stat(tb.Path)
	if err != nil {
		t.Fatal(err)
	}
	file, err := media.OpenFile(tb.Path)
	if err != nil {
		t.Fatal(err)
	}
	m := &stalled{Media: file, from: st.Size() - 1<<20, waiting: make(chan struct{})}
	b, err := bundle.OpenFrontIn(ctx, tb.Path, m, "", tb.Trusted)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.OpenIndex(ctx, tb.Trusted, ""); err != nil {
		t.Fatal(err)
	}
	for _, deep := range []bool{false, true} {
		m.waiting = make(chan struct{})
		m.once.Store(false)
		stop, cancel := context.WithCancel(ctx)
		go func() {
			<-m.waiting
			cancel()
		}()
		report := func(d bundle.Damage) { t.Errorf("reported: %s: %v", d.Path, d.Err) }
		if deep {
			err = b.VerifyDeep(stop, &bundle.Deep{DB: tb.DB}, nil, report)
		} else {
			err = b.Verify(stop, nil, report)
		}
		if !errors.Is(err, context.Canceled) {
			t.Errorf("deep %v: %v", deep, err)
		}
	}
}
