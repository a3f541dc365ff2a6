package assemble

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/testproxy"
	"github.com/modmirror/modmirror/mirror"
)

// lines makes team.tar, team-2.tar, a delta to it, and other.tar, of another line. The delta
// carries example.com/old and example.com/UpperCase, the others example.com/text.
func (w *world) lines() {
	w.Helper()
	w.bundle("team.tar", nil, "example.com/text@v1.1.0")
	w.bundle("team-2.tar", func(o *Options) { o.Bases = []string{w.path("team.tar")} },
		"example.com/old@v0.1.0", "example.com/UpperCase@v1.0.0")
	w.bundle("other.tar", nil, "example.com/text@v1.1.0")
}

func TestOpenBases(t *testing.T) {
	w := newWorld(t)
	w.lines()
	o, _ := w.options("x.tar", "example.com/text@v1.1.0")
	for _, test := range []struct {
		files  []string
		name   string
		own    int64 // sequence number of the base
		beside []string
		err    string
	}{
		{nil, "", 0, nil, ""},
		{[]string{"team.tar"}, "", 1_700_000_000, nil, ""},
		{[]string{"team.tar", "team-2.tar"}, "", 1_700_000_001, nil, ""},
		{[]string{"team-2.tar", "team.tar"}, "", 1_700_000_001, nil, ""},
		{[]string{"other.tar", "team.tar"}, "team", 1_700_000_000, []string{"other"}, ""},
		{[]string{"team.tar", "other.tar"}, "", 0, nil, "the bases belong to the lines team and other: --name says which one to continue"},
		{[]string{"team.tar"}, "new", 0, nil, "none of the bases belongs to the line new"},
		{[]string{"missing.tar"}, "", 0, nil, "missing.tar"},
	} {
		var files []string
		for _, f := range test.files {
			files = append(files, w.path(f))
		}
		var opened []*bundle.Bundle
		bs, err := openBases(context.Background(), func(ctx context.Context, file string) (*bundle.Bundle, error) {
			b, err := o.OpenBase(ctx, file)
			if err == nil {
				opened = append(opened, b)
			}
			return b, err
		}, files, test.name)
		if test.err != "" {
			if err == nil || !contains(err, test.err) {
				t.Errorf("%q: %v, want %q", test.files, err, test.err)
			}
		} else if err != nil {
			t.Errorf("%q: %v", test.files, err)
		} else {
			var own int64
			if bs.own != nil {
				own = bs.own.Manifest.Sequence
			}
			var beside []string
			for _, b := range bs.beside {
				beside = append(beside, b.Manifest.Name)
			}
			if own != test.own || !slices.Equal(beside, test.beside) {
				t.Errorf("%q: own %d beside %q, want %d beside %q", test.files, own, beside, test.own, test.beside)
			}
			if err := bs.close(); err != nil {
				t.Errorf("%q: %v", test.files, err)
			}
		}
		for _, b := range opened {
			if _, err := b.Index.Vulns(context.Background()); err == nil {
				t.Errorf("%q: %s, sequence %d, is still open", test.files, b.Manifest.Name, b.Manifest.Sequence)
			}
		}
	}
}

func TestSequence(t *testing.T) {
	with := func(n int64) *bases { return &bases{own: &bundle.Bundle{Manifest: bundle.Manifest{Sequence: n}}} }
	for _, test := range []struct {
		bases *bases
		now   int64
		want  int64
	}{
		{&bases{}, 5, 5}, {with(4), 5, 5}, {with(5), 5, 6}, {with(9), 5, 10}, {with(math.MaxInt64 - 1), 5, math.MaxInt64},
	} {
		if got, err := test.bases.sequence(test.now); got != test.want || err != nil {
			t.Errorf("at %d after %+v: %d, %v, want %d", test.now, test.bases.own, got, err, test.want)
		}
	}
	if _, err := with(math.MaxInt64).sequence(5); err == nil || !contains(err, "largest possible sequence number") {
		t.Errorf("%v", err)
	}
}

// TestDelta carries what the line lacks, and agrees with another line.
func TestDelta(t *testing.T) {
	w := newWorld(t)
	w.lines()
	w.must(w.up.Grow()) // so that the tree heads differ
	r := w.bundle("team-3.tar", func(o *Options) {
		o.Name, o.Bases = "team", []string{w.path("other.tar"), w.path("team-2.tar")}
	}, "example.com/text@v1.1.0", "example.com/tip@v0.0.0-20200102030405-0123456789ab")
	b := w.open("team-3.tar")
	if b.Manifest.Name != "team" || b.Manifest.Base != w.open("team-2.tar").ID() || b.Manifest.Sequence != 1_700_000_002 {
		t.Errorf("manifest %+v", b.Manifest)
	}
	// The tar has the zip of the new version alone: the line has the others.
	var zips []string
	for _, name := range tarNames(t, w.path("team-3.tar")) {
		if strings.HasSuffix(name, ".zip") {
			zips = append(zips, name)
		}
	}
	if want := []string{"example.com/tip/@v/v0.0.0-20200102030405-0123456789ab.zip"}; !slices.Equal(zips, want) {
		t.Errorf("the delta holds %q, want %q", zips, want)
	}
	if heads, err := b.Heads(context.Background()); err != nil || len(heads) < 2 {
		t.Errorf("heads %v, %v: want the one of the other line too", heads, err)
	}
	if r.has("left the line") {
		t.Errorf("said %q", r.said)
	}
}

// TestFull makes a full bundle of a line from its catalog's versions.
func TestFull(t *testing.T) {
	w := newWorld(t)
	w.lines()
	w.bundle("team-full.tar", func(o *Options) { o.Bases, o.Full = []string{w.path("team-2.tar")}, true }, "example.com/text@v1.1.0")
	b := w.open("team-full.tar")
	if b.Manifest.Base != "" || b.Manifest.Name != "team" || b.Manifest.Sequence != 1_700_000_002 {
		t.Errorf("manifest %+v", b.Manifest)
	}
	if got, want := w.versions("team-full.tar"), w.versions("team-2.tar"); !slices.Equal(got, want) {
		t.Errorf("carried %q, want %q", got, want)
	}
	o, _ := w.options("x.tar", "example.com/text@v1.1.0")
	o.Full = true
	if err := w.make(o); !isUsage(err, "--full and --drop need a --base") {
		t.Errorf("--full without --base: %v", err)
	}
}

// TestFullLosesNothing refuses a full bundle without the line's vulnerability database or
// bootstraps.
func TestFullLosesNothing(t *testing.T) {
	w := newWorld(t)
	vulndb := t.TempDir()
	for name, text := range map[string]string{
		"index/db.json":        `{"modified":"2021-10-06T17:51:21Z"}`,
		"index/modules.json":   `[{"path":"example.com/text","vulns":[{"id":"GO-2021-0113","modified":"2021-10-06T17:51:21Z"}]}]`,
		"index/vulns.json":     `[{"id":"GO-2021-0113","modified":"2021-10-06T17:51:21Z"}]`,
		"ID/GO-2021-0113.json": `{"id":"GO-2021-0113","modified":"2021-10-06T17:51:21Z"}`,
	} {
		w.must(writeFile(filepath.Join(vulndb, name), text))
	}
	w.bundle("team.tar", func(o *Options) { o.Sources.VulnDB = vulndb }, "example.com/text@v1.1.0")
	base := func(o *Options) { o.Bases, o.Full = []string{w.path("team.tar")}, true }
	o, _ := w.options("full.tar", "example.com/text@v1.1.0")
	base(&o)
	if err := w.make(o); !hasHint(err, "the line has a vulnerability database", "--vulndb carries it") {
		t.Errorf("without the database: %v", err)
	}
	w.bundle("full.tar", func(o *Options) { base(o); o.Sources.VulnDB = vulndb }, "example.com/text@v1.1.0")
}

// TestLacking takes what an upstream lost from the line.
func TestLacking(t *testing.T) {
	w := newWorld(t)
	w.bundle("team.tar", nil, "example.com/text@v1.1.0")
	w.config.Dir = t.TempDir() // else the mirror has it
	w.up.Override("example.com/text/@v/v1.1.0.zip", testproxy.Status(404, "gone"))
	r := w.bundle("team-2.tar", func(o *Options) {
		o.Bases, o.Drop = []string{w.path("team.tar")}, []string{"unused"}
	}, "example.com/text@v1.1.0", "example.com/UpperCase@v1.0.0")
	if !r.has("cannot have the zip of example.com/text@v1.1.0 any more; the line has it: ") || len(r.missing) > 0 {
		t.Errorf("said %q, missing %v", r.said, r.missing)
	}
	if got, want := w.versions("team-2.tar"), []string{"example.com/UpperCase@v1.0.0", "example.com/text@v1.1.0"}; !slices.Equal(got, want) {
		t.Errorf("the line has %q, want %q", got, want)
	}
	// A full bundle cannot take it from anywhere.
	o, _ := w.options("full.tar", "example.com/UpperCase@v1.0.0")
	o.Bases, o.Full = []string{w.path("team.tar")}, true
	if _, ok := errors.AsType[*IncompleteError](w.make(o)); !ok {
		t.Error("a full bundle was made without a version of the line")
	}
}

func TestLackingOfWhat(t *testing.T) {
	w := newWorld(t)
	w.bundle("team.tar", nil, "example.com/text@v1.1.0")
	own := w.open("team.tar")
	rec := new(recorder)
	r := &Run{o: Options{Report: rec}, bases: &bases{own: own, kept: make(map[module.Version]bool)}}
	missing := func(what, version string) mirror.Missing {
		return mirror.Missing{Mod: module.Version{Path: "example.com/text", Version: version}, What: what}
	}
	list := []mirror.Missing{missing("zip", "v1.1.0"), missing("go.mod", "v1.1.0"), missing("list", "v1.1.0"), missing("zip", "v9.0.0")}
	got, err := r.Lacking(context.Background(), list)
	w.must(err)
	if len(got) != 2 || got[0].What != "list" || got[1].Mod.Version != "v9.0.0" {
		t.Errorf("lacking %+v", got)
	}
	if len(rec.said) != 2 || !r.bases.kept[list[0].Mod] || r.bases.kept[list[3].Mod] {
		t.Errorf("said %q, kept %v", rec.said, r.bases.kept)
	}
}

// TestRehearsalOfDelta wants all bundles of the line.
func TestRehearsalOfDelta(t *testing.T) {
	w := newWorld(t)
	w.lines()
	rehearse := func(context.Context, Rehearsal) ([]string, error) { return nil, nil }
	for _, test := range []struct {
		bases []string
		lacks int64 // sequence number of the bundle that is not at hand, 0 for none
	}{
		{[]string{"team.tar"}, 0}, {[]string{"team-2.tar"}, 1_700_000_000}, {[]string{"team-2.tar", "team.tar"}, 0},
	} {
		o, _ := w.options(fmt.Sprintf("x%d.tar", len(test.bases)), "example.com/text@v1.1.0")
		for _, b := range test.bases {
			o.Bases = append(o.Bases, w.path(b))
		}
		o.Rehearse, o.Created = rehearse, time.Unix(1_700_000_100, 0)
		run, err := New(context.Background(), o)
		if err == nil {
			run.Close()
		}
		lacks, ok := errors.AsType[*NoContentsError](err)
		if ok != (test.lacks != 0) || ok && lacks.Bundle.Sequence != test.lacks || !ok && err != nil {
			t.Errorf("%q: %v", test.bases, err)
		}
		if ok && !hasHint(err, "the rehearsal of a delta needs all bundles of its line", "name all of them with --base") {
			t.Errorf("%q: %v", test.bases, err)
		}
	}
}

// tarNames returns the names in a tar file.
func tarNames(t *testing.T, file string) (names []string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			return names
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
	}
}
