package policy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/mod/module"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/policy"
)

// parse returns the policy in a text.
func parse(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p := new(policy.Policy)
	if err := p.Read(strings.NewReader(text), "p"); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestSyntax has lines that cannot be read, and what is said about them.
func TestSyntax(t *testing.T) {
	for line, want := range map[string]string{
		"licence allow MIT":          `p:1: cannot read "licence": a line begins with deny, allow-only, license, vulns, cooldown, retracted, deprecated, new, size, except`,
		"deny":                       "no module: want deny MODULE[@VERSION]… or PREFIX/…",
		"deny ../x":                  `"../x" is neither a module`,
		"deny a.b/c@latest":          `"a.b/c@latest" is neither a module`,
		"deny a.b/...@v1.0.0":        "is neither a module",
		"deny a.b/c@":                "is neither a module",
		"deny A.b/c":                 "is neither a module",
		"deny a.b/c\rdeny a.b/d":     "a carriage return inside the line",
		"# all\rdeny a.b/d\r":        "a carriage return inside the line",
		"new ,":                      "no kind",
		"new cgo\nnew exec,cgo warn": "p:2: cgo was said before, on p:1",
		"license allow MIT\nlicense allow ISC warn": "p:2: p:1 refuses or warns, and this line does the other",
		"allow-only":                          "no module",
		"license MIT":                         "no license is allowed",
		"license allow mit":                   `"mit" is not an SPDX identifier that modmirror recognizes a license by, perhaps MIT`,
		"license allow Apache":                "perhaps Apache-1.0",
		"license allow (MIT OR ISC)":          `"(MIT" is not an SPDX identifier`,
		"vulns":                               "cannot read which are refused",
		"vulns high":                          "Go's database gives no severities",
		"cooldown 14":                         "want 1 to 365 days, such as 14d: want cooldown DAYSd [warn]",
		"cooldown 0d":                         "want 1 to 365 days",
		"cooldown 366d":                       "want 1 to 365 days",
		"cooldown 1d\ncooldown 2d":            "p:2: cooldown was said before, on p:1",
		"retracted":                           "want no, or warn",
		"retracted yes":                       "want no, or warn",
		"deprecated no no":                    "want no, or warn",
		"new":                                 "no kind",
		"new cgo,guns":                        `"guns" is none of the kinds cgo,asm,linkname`,
		"size many":                           "want a size, such as 200MiB",
		"size 0":                              "want a size",
		"except":                              "an exception has a module, an end and a reason",
		"except license a.b/c until 2027-1-1": "an exception has a module, an end and a reason",
		`except license a.b/c until 2027-13-01 because "x"`:      `"2027-13-01" is not a day`,
		`except license a.b/c until 2027-01-01 because "…"`:      "an exception needs a reason",
		`except license a.b/c until 2027-01-01 because ""`:       "an exception needs a reason",
		`except size a.b/c until 2027-01-01 because "x"`:         `"size" is neither a rule about modules nor the id of a vulnerability`,
		`except license ./c until 2027-01-01 because "x"`:        "is neither a module",
		`except license a.b/c until 2027-01-01 because "x`:       `a quotation mark " is open`,
		strings.Repeat("x", 100_000):                             "token too long",
		strings.Repeat("deny a.b/c\n", 10_001):                   "p:10001: more than 10000 lines",
		strings.Repeat(strings.Repeat("#", 1000)+"\n", 1<<10+40): "longer than 1048576 bytes",
	} {
		err := new(policy.Policy).Read(strings.NewReader(line), "p")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60q: %v, want %s", line, err, want)
		}
		bad, ok := errors.AsType[*policy.SyntaxError](err)
		if strings.Contains(want, "p:") && (!ok || !strings.HasPrefix(want, bad.Line)) {
			t.Errorf("%.60q: %#v is about another line", line, err)
		}
	}
	p := parse(t, "\ufeff# nothing\r\n\r\n  cooldown 14d # days\r\nsize 200MiB\r\nnew cgo, asm warn\n")
	if p.Empty() || p.Cooldown() != 14 || !new(policy.Policy).Empty() || parse(t, "cooldown 14d warn").Cooldown() != 0 {
		t.Errorf("%+v", p)
	}
}

// said returns what a report lists, each as MARK SUBJECT: WHAT.
func said(r *policy.Report) (list []string) {
	for mark, vs := range map[string][]policy.Violation{"no": r.Violations, "warn": r.Warnings, "except": r.Excepted} {
		for _, v := range vs {
			list = append(list, fmt.Sprintf("%s %s: %s", mark, v.Subject(), v.What))
		}
	}
	for _, x := range r.Unused {
		list = append(list, "unused "+x.Line)
	}
	for _, n := range r.Notes {
		list = append(list, "note "+n)
	}
	slices.Sort(list)
	return list
}

// TestCheck compares two bundles of a line with policies. A delta is judged by what it brings.
func TestCheck(t *testing.T) {
	old, now := testbundle.Line(t, "../..")
	day := time.Date(2026, 3, 30, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		policy string
		b      *bundle.Bundle
		want   []string
	}{
		{"deny example.com/lib@v1.1.0 corp.example/...", now, []string{"no example.com/lib@v1.1.0: denied by example.com/lib@v1.1.0"}},
		{"deny example.com/lib@v1.1.0 corp.example/...", old, []string{"no corp.example/secret@v1.0.0: denied by corp.example/..."}},
		{"allow-only example.com/lib", now, []string{"no example.com/fresh@v1.0.0: not among the modules that are allowed"}},
		{"allow-only example.com/lib\nallow-only example.com/...", now, nil},
		{"license allow BSD-3-Clause", now, []string{"no example.com/fresh@v1.0.0: it has no license file (NONE)"}},
		{"license allow Apache-2.0 NONE warn", now, []string{"warn example.com/lib@v1.1.0: its license is BSD-3-Clause"}},
		{"new exec,asm", now, []string{
			"no example.com/fresh@v1.0.0: now asm, in asm.s", "no example.com/lib@v1.1.0: now exec, in lib.go (os/exec)",
		}},
		{"new cgo,exec warn\nnew asm", now, []string{
			"no example.com/fresh@v1.0.0: now asm, in asm.s", "warn example.com/lib@v1.1.0: now exec, in lib.go (os/exec)",
		}},
		{"new cgo,asm,exec", old, []string{"note new: there is nothing yet to compare with"}},
		{"size 1KiB", now, []string{fmt.Sprintf("no the bundle: it has %d bytes, and at most 1024 are allowed", now.Manifest.Size)}},
		{"size 1GiB\nvulns none warn", now, []string{"warn the bundle: no vulnerability database to compare with: modmirror sync --vulndb carries it"}},
		{"cooldown 14d", now, []string{
			"note cooldown: 2 private versions, which have no record, were not asked for their age: example.com/fresh@v1.0.0, example.com/lib@v1.1.0",
			"note cooldown: no tree of the checksum database was seen here on or before 2026-03-16, " +
				"so the times count that versions give themselves, which their authors can set",
		}},
		{"deny example.com/LIB", now, []string{"no example.com/lib@v1.1.0: denied by example.com/LIB"}},
		{"allow-only example.com/LIB example.com/fresh", now, []string{"no example.com/lib@v1.1.0: not among the modules that are allowed"}},
		{`new exec
except new example.com/lib@v1.1.0 until 2026-03-30 because "looked at it"
except new example.com/lib@v1.0.0 until 2026-03-30 because "carried before"
except license example.com/never until 2026-03-30 because "nobody knows"`, now,
			[]string{"except example.com/lib@v1.1.0: now exec, in lib.go (os/exec)", "unused p:4"}},
		{`new exec
except new example.com/lib until 2026-03-29 because "looked at it"`, now, []string{"no example.com/lib@v1.1.0: now exec, in lib.go (os/exec)"}},
	} {
		in := policy.Input{
			Zips: review.NewCarried(test.b), Before: []review.Zips{review.Earlier{Zips: review.NewCarried(test.b)}}, Size: test.b.Manifest.Size, Now: day, Sums: true,
		}
		r, err := parse(t, test.policy).Check(t.Context(), in)
		if err != nil {
			t.Errorf("%s: %v", test.policy, err)
			continue
		}
		if diff := cmp.Diff(test.want, said(r)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.policy, diff)
		}
	}
}

// TestExplains checks what is said besides: the ended exception, and the way out.
func TestExplains(t *testing.T) {
	_, now := testbundle.Line(t, "../..")
	p := parse(t, "deny example.com/lib@v1.1.0\nexcept deny example.com/... until 2026-03-01 because \"once\"")
	in := policy.Input{
		Zips: review.NewCarried(now), Now: time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC),
		Retraction: func(string, string) (string, bool, bool) { return "", false, true },
	}
	r, err := p.Check(t.Context(), in)
	if err != nil || len(r.Violations) != 1 {
		t.Fatal(r, err)
	}
	v := r.Violations[0]
	const except = `except deny example.com/lib@v1.1.0 until 2026-04-01 because "…"`
	if v.Ended == nil || v.Ended.Line != "p:2" || v.Except != except || v.ExceptRule != except || v.Passes != "v1.0.0" ||
		!slices.Equal(v.Chain, []string{"example.com/lib@v1.1.0"}) {
		t.Errorf("%+v", v)
	}
	in.Retraction = func(_, version string) (string, bool, bool) { return "", version == "v1.0.0", true }
	if r, err = parse(t, "retracted no\ndeny example.com/lib@v1.1.0").Check(t.Context(), in); err != nil || r.Violations[0].Passes != "" {
		t.Errorf("a retracted version passes: %+v, %v", r, err)
	}
}

// TestCooldown checks that records count, and who is not asked for his age.
func TestCooldown(t *testing.T) {
	tb := testbundle.Make(t, "../../testdata/mod", nil)
	b, err := bundle.Open(t.Context(), tb.Path, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	hello, ok, err := b.Index.Lookup(t.Context(), "example.com/hello", "v1.1.0")
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	day := time.Date(2026, 3, 30, 12, 0, 0, 0, time.UTC)
	in := policy.Input{
		Zips: review.NewCarried(b), Now: day,
		Seen: []proof.Sighting{{Seen: day.AddDate(0, 0, -14), Head: proof.Head{Tree: tlog.Tree{N: *hello.Record}}}},
	}
	young := func() (list []string) {
		r, err := parse(t, "cooldown 14d").Check(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range r.Violations {
			list = append(list, v.Subject())
		}
		return list
	}
	got := young()
	if !slices.Contains(got, "example.com/hello@v1.1.0") || slices.Contains(got, "corp.example/secret@v1.0.0") {
		t.Errorf("young: %v", got)
	}
	in.Named = map[module.Version]bool{{Path: "example.com/hello", Version: "v1.1.0"}: true}
	if slices.Contains(young(), "example.com/hello@v1.1.0") {
		t.Error("a version that was named is refused")
	}
	in.Named = nil
	in.Seen[0].Head.N++
	if slices.Contains(young(), "example.com/hello@v1.1.0") {
		t.Error("a version whose record is in the tree is refused")
	}
}

// TestUnread has an index with a license that the zip does not have. Who makes a bundle believes
// it, and who lets it in reads the zips.
func TestUnread(t *testing.T) {
	tb := testbundle.Make(t, "../../testdata/mod", nil)
	b, err := bundle.Open(t.Context(), tb.Path, tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, test := range []struct {
		zips review.Zips
		bad  bool
	}{{review.NewCarried(b), false}, {review.Unread(review.NewCarried(b)), true}} {
		r, err := parse(t, "license allow MIT").Check(t.Context(), policy.Input{Zips: test.zips, Now: time.Now()})
		if err != nil {
			t.Fatal(err)
		}
		bad := slices.ContainsFunc(r.Violations, func(v policy.Violation) bool {
			return v.Subject() == testbundle.Claimed.String()
		})
		if bad != test.bad {
			t.Errorf("%T: refused is %v", test.zips, bad)
		}
	}
}

// TestBefore checks that a bundle does not say itself what crosses: what counts is what is there.
func TestBefore(t *testing.T) {
	old, now := testbundle.Line(t, "../..")
	p := parse(t, "allow-only example.com/nothing")
	check := func(before ...review.Zips) int {
		t.Helper()
		in := policy.Input{Zips: review.NewCarried(now), Before: before, BeforeCounts: true}
		r, err := p.Check(t.Context(), in)
		if err != nil || len(r.Violations) != r.Checked {
			t.Fatal(r, err)
		}
		return r.Checked
	}
	all, beside := check(), check(review.NewCarried(old))
	if all != 9 || beside != 2 {
		t.Errorf("%d versions cross into nothing, and %d beside the bundle before, want 9 and 2", all, beside)
	}
	if n := check(review.NewCarried(now)); n != 0 {
		t.Errorf("%d versions cross that are all there", n)
	}
}

// FuzzPolicy checks that no text makes the parser panic, and that what it read can be used.
func FuzzPolicy(f *testing.F) {
	f.Add("deny a.b/... # x\nlicense allow MIT warn\nvulns none\ncooldown 14d\nretracted no\nnew cgo,asm warn\nsize 200MiB\n" +
		"except GO-2026-1 a.b/c@v1.0.0 until 2027-03-01 because \"not # reachable\"\n")
	f.Add("except \"\" \"\" until \"\" because \"\"")
	f.Fuzz(func(t *testing.T, text string) {
		p := new(policy.Policy)
		if err := p.Read(strings.NewReader(text), "p"); err != nil {
			return
		}
		if d := p.Cooldown(); d < 0 || d > 365 {
			t.Errorf("a cooldown of %d days", d)
		}
		p.Empty()
	})
}
