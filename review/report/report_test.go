package report_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/facts"
	"github.com/modmirror/modmirror/review/policy"
	"github.com/modmirror/modmirror/review/report"
)

// TestReport makes a report of a delta, with a base and without, and with a policy.
func TestReport(t *testing.T) {
	old, now := testbundle.Line(t, "../..")
	p := new(policy.Policy)
	if err := p.Read(strings.NewReader("license allow BSD-3-Clause\nnew exec warn"), "policy.txt"); err != nil {
		t.Fatal(err)
	}
	in := report.Input{Subject: review.Signed(now), Base: old, Policy: p, Now: time.Unix(1800000000, 0)}
	r, err := report.Make(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := r.Text(&text); err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(`modmirror report: test, sequence 8, of 2023-11-14, %s, id %.16s
compared with test, sequence 7, of 2023-11-14, id %.16s
1 thing is against the policy, with 1 warning. 2 changes to look at, nothing to say of 0 more, 0 gone.
note: vulnerabilities are not known: no vulnerability database is carried
against the policy: example.com/fresh@v1.0.0: it has no license file (NONE) (policy.txt:1: license allow BSD-3-Clause)
warning: example.com/lib@v1.1.0: now exec, in lib.go (os/exec) (policy.txt:2: new exec warn)

example.com/fresh v1.0.0 (new)
  license NONE
  + asm: asm.s

example.com/lib v1.0.0 → v1.1.0 (changed)
  license BSD-3-Clause
  + exec: lib.go os/exec
`, regexp.MustCompile(`[0-9]+ KiB`).FindString(text.String()), now.ID(), old.ID())
	if diff := cmp.Diff(want, text.String()); diff != "" {
		t.Error(diff)
	}
	again, err := report.Make(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	var pages [2]bytes.Buffer
	for i, x := range []*report.Report{r, again} {
		if err := x.HTML(&pages[i]); err != nil {
			t.Fatal(err)
		}
	}
	if pages[0].String() != pages[1].String() {
		t.Error("two reports about the same bundles differ")
	}
	in.Base, in.Policy = nil, nil
	if r, err = report.Make(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if r.New != 1 || r.Changed != 1 || r.Gone != 0 || r.Base != nil || r.Policy != nil {
		t.Errorf("beside what the line had: %+v", r)
	}
	in.Subject, in.Base = review.Signed(old), now // backwards
	if r, err = report.Make(t.Context(), in); err != nil {
		t.Fatal(err)
	}
	if r.New != 0 || r.Changed != 0 || r.Gone != 2 || !strings.HasPrefix(r.Verdict(), "0 changes to look at, nothing to say of 0 more") {
		t.Errorf("backwards: %+v", r)
	}
	in.Base = old
	if r, err = report.Make(t.Context(), in); err != nil || r.Verdict() != "It brings nothing new." {
		t.Errorf("itself: %+v, %v", r, err)
	}
}

// hostile has what a page or a terminal could take for more than text.
const hostile = "<script>alert(1)</script>\"'><img src=x>&amp;"

// TestHostile has markup in every text of a report. A page must not have an element of its own for
// it, ask for anything elsewhere, or grow without bounds.
func TestHostile(t *testing.T) {
	reason := hostile
	r := &report.Report{
		Generator: report.Mark, Bundle: report.Bundle{Name: hostile, ID: hostile, Signers: []string{hostile}},
		Base: &report.Bundle{Name: hostile, ID: hostile}, Notes: []string{hostile},
		Policy: &policy.Report{
			Violations: []policy.Violation{{
				Module: hostile, Version: hostile, What: hostile, Line: hostile, Text: hostile, Chain: []string{hostile},
				Passes: hostile, Except: hostile, Ended: &policy.Exception{Because: hostile, Line: hostile},
			}},
			Warnings: []policy.Violation{{Module: hostile, What: hostile, Text: hostile}},
			Excepted: []policy.Violation{{Module: hostile, Because: &policy.Exception{Because: hostile}}},
			Unused:   []policy.Exception{{Line: hostile, Module: hostile}}, Notes: []string{hostile},
		},
	}
	all := report.Change{
		Kind: report.Changed, Module: hostile, Version: hostile, Was: hostile, License: hostile, LicenseWas: hostile,
		Can: []facts.Use{{Kind: hostile, File: hostile, Detail: hostile, Files: 2}}, CanNot: []facts.Kind{hostile},
		Comes: []report.Vuln{{ID: hostile, Summary: hostile, Action: hostile, URL: "https://example.com/" + hostile}},
		Stays: []report.Vuln{{ID: hostile, URL: "javascript:alert(1)"}}, Leaves: []string{hostile},
		Retract: &reason, Deprecated: hostile, Time: hostile, Odd: true, Chain: []string{hostile},
	}
	quiet := report.Change{Kind: report.New, Module: hostile, Version: hostile, License: hostile, Leaves: []string{hostile}}
	gone := report.Change{Kind: report.Gone, Module: hostile, Version: hostile}
	for range 1000 {
		r.Changes = append(r.Changes, all, quiet, gone)
	}
	var page bytes.Buffer
	if err := r.HTML(&page); err != nil {
		t.Fatal(err)
	}
	reTag := regexp.MustCompile(`<[^ >]*[^>]*>?`)
	reGood := regexp.MustCompile(`^</?(!DOCTYPE|html|meta|title|style|h[123]|p|dl|dt|dd|code|ul|li|b|div|span|details|summary)[ >]` +
		`|^<a href="(https://[^ "]*|#ZgotmplZ)">|^</a>`)
	_, body, _ := strings.Cut(page.String(), "</style>")
	for _, tag := range reTag.FindAllString(body, -1) {
		if !reGood.MatchString(tag) || strings.Contains(tag, " src") {
			t.Fatalf("the page has %s", tag)
		}
	}
	for _, bad := range []string{"javascript:", "url(", "@import"} {
		if strings.Contains(page.String(), bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	if n := strings.Count(page.String(), "<details"); n != 5 {
		t.Errorf("%d pages of 1000 changes, want 5", n)
	}
	var text bytes.Buffer
	if err := r.Text(&text); err != nil || text.Len() == 0 {
		t.Fatal(err)
	}
	data, err := json.Marshal(r)
	if err != nil || !bytes.Contains(data, []byte(report.Mark)) {
		t.Error(err)
	}
}
