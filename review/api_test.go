package review_test

import (
	"bytes"
	"context"
	"errors"
	"hash/crc32"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/modmirror/modmirror/review"
)

// openVersions opens the sources of two versions of a module, given as txtar.
func openVersions(t *testing.T, old, now string) []*review.Sources {
	t.Helper()
	_, pair := openPair(t, txtar.Parse([]byte(old)), txtar.Parse([]byte(now)))
	return pair
}

// openPair makes a bundle with v1.0.0 and v1.1.0 of example.com/a, and opens their sources.
func openPair(t *testing.T, old, now *txtar.Archive) (b *bundle.Bundle, pair []*review.Sources) {
	t.Helper()
	tb := testbundle.Make(t, "../testdata/mod", nil)
	tb.Add(t, "example.com/a", "v1.0.0", old)
	tb.Add(t, "example.com/a", "v1.1.0", now)
	tb.Write(t)
	b, err := bundle.Open(t.Context(), tb.Path, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	for v, err := range b.Index.Versions(t.Context(), "example.com/a") {
		if err != nil {
			t.Fatal(err)
		}
		s, err := review.OpenSources(t.Context(), review.NewCarried(b), make(h1.Limiter, 2), v)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		pair = append(pair, s)
	}
	return b, pair
}

// inProcess is an APIWorker without a process of its own.
func inProcess(_ context.Context, in io.Reader, out io.Writer) error { return review.WorkAPI(in, out) }

// TestDiffAPI has changes of each kind, and what is no change: functions' bodies, tests, commands,
// internal packages, other platforms, types of other modules that are named alike.
func TestDiffAPI(t *testing.T) {
	const old = `
-- go.mod --
module example.com/a
-- a.go --
package a

import (
	"io"
	"net/http"
	"sync/atomic"

	other "example.org/x/go-other.v2"
)

type T struct {
	A int
	h http.Handler
}

type S interface {
	io.Reader
	Close() error
}

var Counter atomic.Pointer[T]

func F(h http.Handler, o *other.Option) error { return nil }
func G[K comparable, V other.Number](m map[K]V) {}
func Gone() {}

const C = other.C + 1

var V = other.New()
-- a_windows.go --
package a

func F(int) {}
func OnlyThere() {}
-- a_test.go --
package a

func Helper() {}
-- internal/i.go --
package internal

func I() {}
-- cmd/m/main.go --
package main

func Main() {}
-- old/o.go --
package old
-- same/s.go --
package same

import "example.com/a"

type X = a.T
`
	const now = `
-- go.mod --
module example.com/a
-- a.go --
package a

import (
	"io"
	"net/http"
	"sync/atomic"

	other "example.org/x/go-other.v2"
)

type T struct {
	A int
	h http.HandlerFunc
	B string
}

type S interface {
	io.Reader
	Close() error
	More()
}

var Counter atomic.Pointer[T]

func F(h http.HandlerFunc, o *other.Option) error { return io.EOF }
func G[K comparable, V other.Number](m map[K]V) {}

const C = other.C + 2

var V = other.Make()
-- a_windows.go --
package a

func F(string) {}
-- internal/i.go --
package internal

func J() {}
-- cmd/m/main.go --
package main

func Main2() {}
-- new/n.go --
package new
-- same/s.go --
package same

import "example.com/a"

type X = a.T
`
	pair := openVersions(t, old, now)
	d, err := review.DiffAPI(t.Context(), pair[0], pair[1], inProcess)
	if err != nil {
		t.Fatal(err)
	}
	const p = "example.com/a"
	want := &review.APIDiff{
		Changes: []review.APIChange{
			{p, false, "F: changed from func(net/http.Handler, *example.org/x/go-other.v2.Option) error to func(net/http.HandlerFunc, *example.org/x/go-other.v2.Option) error"},
			{p, false, "Gone: removed"},
			{p, false, "S.More: added"},
			{p + "/old", false, "package example.com/a/old: removed"},
			{p, true, "T.B: added"},
			{p + "/new", true, "package example.com/a/new: added"},
		},
		Unknown: []string{"example.com/a: C: value changed from unknown to unknown"},
	}
	if diff := cmp.Diff(want, d); diff != "" || d.Incompatible() != 4 {
		t.Errorf("%d incompatible\n%s", d.Incompatible(), diff)
	}
}

// TestDiffAPIKinds has changes of packages that are not what they seem.
func TestDiffAPIKinds(t *testing.T) {
	const mod = "-- go.mod --\nmodule example.com/a\n"
	for name, test := range map[string]struct{ old, now, want string }{
		"a constant of another package": {
			"-- a.go --\npackage a\n\nimport \"example.com/a/internal/v\"\n\nconst C = v.C\n" +
				"-- internal/v/v.go --\npackage v\n\nconst C = 1\n",
			"-- a.go --\npackage a\n\nimport \"example.com/a/internal/v\"\n\nconst C = v.C\n" +
				"-- internal/v/v.go --\npackage v\n\nconst C = 2\n",
			"incompatible C: value changed from 1 to 2",
		},
		"a command becomes a package": {
			"-- a.go --\npackage main\n", "-- a.go --\npackage a\n", "compatible package example.com/a: added",
		},
		"another platform's becomes one of all": {
			"-- a_windows.go --\npackage a\n", "-- a.go --\npackage a\n", "compatible package example.com/a: added",
		},
		"not to be read": {
			"-- a.go --\npackage a\n\nfunc F() {}\n", "-- a.go --\npackage a\n\nfunc {\n",
			"unread a.go v1.1.0: 3:6: expected 'IDENT', found '{'",
		},
		"named unknown": {
			"-- a.go --\npackage a\n\nfunc Getunknown() {}\n", "-- a.go --\npackage a\n", "incompatible Getunknown: removed",
		},
		"long, of another platform": {
			"-- a.go --\npackage a\n", "-- a.go --\npackage a\n\nfunc F() {}\n" +
				"-- a_windows.go --\npackage a\n" + strings.Repeat("//\n", 2<<20),
			"compatible F: added",
		},
		"a text that says it is not known": {
			"-- a.go --\npackage a\n\ntype B struct{ X int }\n", "-- a.go --\npackage a\n\ntype B struct{ X string `invalid type` }\n",
			"incompatible B.X: changed from int to string",
		},
		"a constant that says so": {
			"-- a.go --\npackage a\n\nconst A = \"a\"\n", "-- a.go --\npackage a\n\nconst A = \"unknown to unknown\"\n",
			`incompatible A: value changed from "a" to "unknown to unknown"`,
		},
		"an error of two lines": {
			"-- a.go --\npackage a\n", "-- a.go --\npackage a\n\nvar x = 1 `\ncompatible: all of it\n`\n",
			"unread a.go v1.1.0: 3:11: expected ';', found ` compatible: all of it `",
		},
		"imported from far": {
			"-- a.go --\npackage a\n\nimport \"example.com/a/internal/b\"\n\nconst C = b.C\n" +
				"-- internal/b/b.go --\npackage b\n\nimport \"example.com/a/internal/c\"\n\nconst C = c.C\n" +
				"-- internal/c/c.go --\npackage c\n\nconst C = 1\n",
			"-- a.go --\npackage a\n\nimport \"example.com/a/internal/b\"\n\nconst C = b.C\n" +
				"-- internal/b/b.go --\npackage b\n\nimport \"example.com/a/internal/c\"\n\nconst C = c.C\n" +
				"-- internal/c/c.go --\npackage c\n\nconst C = 2\n",
			"incompatible C: value changed from 1 to 2",
		},
		"long": {
			"-- a.go --\npackage a\n", "-- a.go --\npackage a\n" + strings.Repeat("//\n", 2<<20), "unread a.go v1.1.0: too long",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pair := openVersions(t, mod+test.old, mod+test.now)
			d, err := review.DiffAPI(t.Context(), pair[0], pair[1], inProcess)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, c := range d.Changes {
				got = append(got, map[bool]string{true: "compatible ", false: "incompatible "}[c.Compatible]+c.Text)
			}
			for _, u := range d.Unknown {
				got = append(got, "unknown "+u)
			}
			for _, u := range d.Unread {
				got = append(got, "unread "+u)
			}
			if diff := cmp.Diff([]string{test.want}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestDiffHostileAPI has sources that no compiler takes.
func TestDiffHostileAPI(t *testing.T) {
	const old = "-- go.mod --\nmodule example.com/a\n"
	deep := "-- deep.go --\npackage a\n\nvar D " + strings.Repeat("[]", 20_000) + "int\n"
	for name, now := range map[string]string{
		"cycle": "-- b/b.go --\npackage b\n\nimport \"example.com/a/c\"\n\ntype B c.C\n" +
			"-- c/c.go --\npackage c\n\nimport \"example.com/a/b\"\n\ntype C b.B\n",
		"itself":     "-- a.go --\npackage a\n\nimport \"example.com/a\"\n\ntype A a.A\n",
		"not Go":     "-- a.go --\npackage a; func {\n",
		"two names":  "-- a.go --\npackage a\n-- b.go --\npackage b\n",
		"infinite":   "-- a.go --\npackage a\n\ntype T[P any] struct { f *T[T[P]] }\ntype A [len(B)]int\ntype B A\nconst X = X\n",
		"shift":      "-- a.go --\npackage a\n\nconst X = 1 << 1 << 500 << 500\nvar Y [1 << 62]int\n",
		"bad import": "-- a.go --\npackage a\n\nimport \"\"\nimport \"../x\"\nimport `example.com/a//`\n",
		"deep":       deep,
		"control":    "-- a.go --\npackage a\n\nconst X = \"\\u202e\\x1b\"\n",
	} {
		t.Run(name, func(t *testing.T) {
			pair := openVersions(t, old, old+now)
			for _, p := range [][2]*review.Sources{{pair[0], pair[1]}, {pair[1], pair[0]}, {pair[1], pair[1]}} {
				d, err := review.DiffAPI(t.Context(), p[0], p[1], inProcess)
				if err != nil {
					t.Fatal(err)
				}
				if unread := name == "not Go" || name == "deep"; unread && p[0] != p[1] && len(d.Unread) == 0 {
					t.Errorf("%+v", d)
				}
			}
		})
	}
}

// TestDiffAPIStops ends while sources are compared.
func TestDiffAPIStops(t *testing.T) {
	const old = "-- go.mod --\nmodule example.com/a\n"
	pair := openVersions(t, old, "-- go.mod --\nmodule example.com/a\n-- a.go --\npackage a\n")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := review.DiffAPI(ctx, pair[0], pair[1], inProcess); !errors.Is(err, context.Canceled) {
		t.Errorf("%+v, %v", d, err)
	}
}

// forge ends text in a comment that gives it a CRC-32.
func forge(t *testing.T, text string, want uint32) string {
	t.Helper()
	const n = 64 // characters 0 or 1: each changes the sum by itself
	sum := func(bits []byte) uint32 { return crc32.ChecksumIEEE([]byte(text + "//" + string(bits) + "\n")) }
	zero := bytes.Repeat([]byte("0"), n)
	base := sum(zero)
	type row struct {
		sum  uint32
		bits uint64 // characters that make it
	}
	var rows []row // with different highest bits
	reduce := func(r row) row {
		for _, x := range rows {
			if r.sum^x.sum < r.sum {
				r.sum, r.bits = r.sum^x.sum, r.bits^x.bits
			}
		}
		return r
	}
	for i := range n {
		one := bytes.Clone(zero)
		one[i] = '1'
		if r := reduce(row{sum(one) ^ base, 1 << i}); r.sum != 0 {
			rows = append(rows, r)
			slices.SortFunc(rows, func(a, b row) int { return int(int64(b.sum) - int64(a.sum)) })
		}
	}
	r := reduce(row{want ^ base, 0})
	if r.sum != 0 {
		t.Fatal("no comment does")
	}
	for i := range n {
		if r.bits>>i&1 != 0 {
			zero[i] = '1'
		}
	}
	return text + "//" + string(zero) + "\n"
}

// TestForgedSum has two files of the same length and CRC-32: they are not the same.
func TestForgedSum(t *testing.T) {
	old := forge(t, "package a\n\nfunc F(int) {}\n", 0x12345678)
	now := forge(t, "package a\n\nfunc G(int) {}\n", 0x12345678)
	const mod = "-- go.mod --\nmodule example.com/a\n-- a.go --\n"
	pair := openVersions(t, mod+old, mod+now)
	d, err := review.DiffAPI(t.Context(), pair[0], pair[1], inProcess)
	if err != nil || len(d.Changes) != 2 {
		t.Errorf("%+v, %v", d, err)
	}
	var out strings.Builder
	_, err = review.DiffCode(t.Context(), pair[0], pair[1], into(&out))
	if err != nil || !strings.Contains(out.String(), "+func G(int) {}") {
		t.Errorf("%v\n%s", err, out.String())
	}
}
