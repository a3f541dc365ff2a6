package main

import (
	"cmp"
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/pflag"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/sources"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/policy"
	"github.com/modmirror/modmirror/review/provenance"
)

// reviewMemory has the garbage collector keep a review below 128 MiB. Sources and license files are
// read whole.
func reviewMemory() {
	debug.SetMemoryLimit(96 << 20)
	debug.SetGCPercent(verifyGC)
}

// policyHint is the hint after violations.
const policyHint = "an exception needs a reason in place of the dots; --policy-report only reports"

func policyCommand() *command {
	var asJSON bool
	return &command{
		name:    "policy",
		summary: "compare a bundle with a policy",
		usage: `
Usage: modmirror policy [flags] BUNDLE FILE...

Compares what a bundle would bring with the lines of policy files, and prints everything
that is against them, with what brings it in, the nearest version that may pass, and the
line that would except it. sync --policy and import --policy refuse such a bundle.

  deny example.com/banned/...
  allow-only golang.org/... github.com/corp/...
  license allow MIT BSD-3-Clause Apache-2.0
  vulns none
  cooldown 14d
  retracted no
  deprecated warn
  new cgo,asm,binary,exec warn
  size 200MiB
  except GO-2026-1234 golang.org/x/net until 2027-03-01 because "not reachable"

Example:
  modmirror policy team.tar policy.txt
`,
		flags: func(fs *pflag.FlagSet) { fs.BoolVar(&asJSON, "json", false, "print JSON") },
		run: func(ctx context.Context, e *env, args []string) error {
			if len(args) < 2 {
				return usagef("want a bundle and a policy")
			}
			p, err := readPolicy(args[1:], nil)
			if err != nil {
				return err
			}
			reviewMemory()
			b, err := openBundle(ctx, e, args[0])
			if err != nil {
				return err
			}
			defer b.Close()
			r, err := judge(ctx, p, b)
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(e.stdout, r)
			} else {
				e.sayPolicy(r)
			}
			if err == nil && len(r.Violations) > 0 {
				err = errDenied
			}
			return err
		},
	}
}

// judge compares a bundle with a policy, by what the bundle alone says. Facts come from its zips:
// the index has what the one who made it says.
func judge(ctx context.Context, p *policy.Policy, b *bundle.Bundle) (*policy.Report, error) {
	in := policy.Input{
		Zips: review.Unread(review.NewCarried(b)), Size: b.Manifest.Size, Now: time.Now(), Sums: b.Manifest.DB != "",
		Before: []review.Zips{review.Unread(review.Earlier{Zips: review.NewCarried(b)})},
	}
	in.DBs, in.DBErr = review.Databases(ctx, b)
	return p.Check(ctx, in)
}

// policyFlags are the flags of commands that keep a policy.
type policyFlags struct {
	files  []string
	report bool
}

// flags adds the flags.
func (f *policyFlags) flags(fs *pflag.FlagSet, what string) {
	fs.StringArrayVar(&f.files, "policy", nil, "refuse a bundle that is against the policy in this `file`: "+what)
	fs.BoolVar(&f.report, "policy-report", false, "only report what is against the policy")
}

// readPolicy reads policy files, and the lines of a policy in lists.
func readPolicy(files []string, lines []sources.PolicyLine) (*policy.Policy, error) {
	p := new(policy.Policy)
	for _, file := range files {
		if err := p.ReadFile(file); err != nil {
			return nil, err
		}
	}
	for _, l := range lines {
		var err error
		if l.File != "" {
			err = p.ReadFile(l.File)
		} else {
			err = p.Add(l.Name, l.Text)
		}
		if err != nil {
			return nil, err
		}
	}
	return p, nil
}

// namedVersions returns the versions that somebody has named in full among the sources. It must be
// called before a run adds to these what a rehearsal missed, or what the line has.
func namedVersions(job *mirror.Job) map[module.Version]bool {
	named := make(map[module.Version]bool)
	for i := range job.List {
		s := &job.List[i]
		if s.Mod == nil && s.Work == nil && !s.NoZip && module.CanonicalVersion(s.Query.Version) == s.Query.Version {
			named[s.Query] = true
		}
	}
	return named
}

// maxViolations bounds what is printed of each list.
const maxViolations = 200

// sayPolicy prints the result of a policy.
func (e *env) sayPolicy(r *policy.Report) {
	shown := 0
	for _, g := range policy.Groups(r.Violations) {
		if shown > 0 && shown+len(g.Violations) > maxViolations {
			break
		}
		shown += len(g.Violations)
		e.sayGroup(g)
	}
	e.sayMore(len(r.Violations)-shown, "violation")
	for i := range r.Warnings[:min(len(r.Warnings), maxViolations)] {
		v := &r.Warnings[i]
		e.sayClean("warning: %s: %s (%s: %s)", v.Subject(), v.What, v.Line, v.Text)
	}
	e.sayMore(len(r.Warnings)-maxViolations, "warning")
	list := r.Excepted[:min(len(r.Excepted), maxViolations)]
	for len(list) > 0 {
		v, n := &list[0], 0
		var what []string
		for n < len(list) && list[n].Subject() == v.Subject() && *list[n].Because == *v.Because {
			what = append(what, cmp.Or(list[n].ID, list[n].Rule))
			n++
		}
		e.sayClean("excepted until %s by %s (%s): %s: %s", day(v.Because.Until), v.Because.Line, v.Because.Because,
			v.Subject(), strings.Join(what, ", "))
		list = list[n:]
	}
	e.sayMore(len(r.Excepted)-maxViolations, "exception")
	for _, x := range r.Unused {
		e.sayClean("nothing needs the exception on %s any more: %s %s", x.Line, x.What, x.Module)
	}
	for _, n := range r.Notes {
		e.sayClean("policy: %s", n)
	}
	if r.More > 0 {
		e.say("policy: of each list the first 10,000 are kept; there are %d more", r.More)
	}
	e.say("policy: %s in %s, %s, %d excepted", number(len(r.Violations), "violation"),
		number(r.Checked, "version"), number(len(r.Warnings), "warning"), len(r.Excepted))
}

// sayMore says how many elements of a list were not printed.
func (e *env) sayMore(more int, what string) {
	if more > 0 {
		e.say("and %s more, which --json has", number(more, what))
	}
}

// sayGroup prints what is against one version, or against the bundle.
func (e *env) sayGroup(g policy.Group) {
	e.complainClean("%s", g.Subject)
	if len(g.Chain) > 1 {
		e.complainClean("  wanted by %s", strings.Join(g.Chain, " → "))
	}
	for i := range g.Violations {
		v := &g.Violations[i]
		e.complainClean("  %s: %s: %s", v.Line, v.Text, v.What)
		if v.Ended != nil {
			e.complainClean("    the exception on %s ended on %s: %s", v.Ended.Line, day(v.Ended.Until), v.Ended.Because)
		}
	}
	if g.Passes != "" {
		e.complainClean("  nearest version that may pass: %s", g.Passes)
	}
	for _, line := range g.Except {
		e.complainClean("  to let it pass: %s", line)
	}
}

// refuse returns errDenied, after it has said why, when a policy is violated and not only reported.
func (f *policyFlags) refuse(e *env, r *policy.Report, command, consequence string) error {
	if len(r.Violations) == 0 || f.report {
		return nil
	}
	e.complain("%s: %s of the policy, so %s", command, number(len(r.Violations), "violation"), consequence)
	e.hint("%s", policyHint)
	return errDenied
}

// checkPolicy compares what goes into a bundle with the policy of a sync.
func (r *syncReport) checkPolicy(ctx context.Context, c review.Contents, m *bundle.Manifest) error {
	if r.policy.Empty() {
		return nil
	}
	in := policy.Input{
		Zips: c, Before: c.Before(), Size: m.Size, Now: time.Now(), Sums: c.Sums(), Named: r.named, Seen: r.synced.Seen,
		Retraction: r.synced.Retraction,
	}
	db, err := c.Database(ctx)
	if in.DBErr = err; db != nil {
		in.DBs = append(in.DBs, db)
	}
	report, err := r.policy.Check(ctx, in)
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	r.result.Policy = report
	r.e.sayPolicy(report)
	return r.flags.refuse(r.e, report, "sync", "no bundle was written")
}

// accept checks what a bundle says about how it was made, and compares it with the policy of the
// import. As for judge, facts come from the zips.
func (i *importer) accept(ctx context.Context, b *bundle.Bundle, v *store.View) error {
	if _, err := provenance.Read(ctx, b, i.keyring); err != nil {
		return fmt.Errorf("%s: %w", b.Path(), err)
	}
	if i.policy.Empty() {
		return nil
	}
	in := policy.Input{
		Zips: review.Unread(review.NewCarried(b)), BeforeCounts: true, Size: b.Manifest.Size, Now: time.Now(),
		Sums: b.Manifest.DB != "", Seen: v.Sightings(b),
	}
	known := []*bundle.Bundle{b}
	// What the store serves now is what was judged before. Where it serves nothing, all is new.
	if before, err := i.store.View(ctx, nil); err == nil {
		defer before.Close()
		known = append(known, before.Lines...)
		for _, line := range before.Lines {
			in.Before = append(in.Before, review.Unread(review.NewCarried(line)))
		}
	} else if ctx.Err() != nil {
		return ctx.Err()
	}
	in.DBs, in.DBErr = review.Databases(ctx, known...)
	report, err := i.policy.Check(ctx, in)
	if err != nil {
		return hint.Add(fmt.Errorf("policy: %w", err), "without --policy the bundle comes in unseen")
	}
	i.judged = report
	i.e.sayPolicy(report)
	return i.policyFlags.refuse(i.e, report, "import", b.Path()+" was not imported")
}
