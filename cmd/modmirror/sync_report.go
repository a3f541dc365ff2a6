package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/assemble"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/modgraph"
	"github.com/modmirror/modmirror/mirror/upstream"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/policy"
)

// A syncReport tells what a sync does: people on the terminal as it goes on, programs in the
// result.
type syncReport struct {
	e        *env
	progress *mirror.Progress
	result   syncResult

	named  map[module.Version]bool // by somebody, in full
	policy *policy.Policy
	flags  *policyFlags
	synced *mirror.Closure

	reviews   string   // value of --review: which documents the bundle carries; "" for none
	upstreams []string // URLs without credentials, for them
}

// Say implements assemble.Reporter.
func (r *syncReport) Say(format string, args ...any) { r.e.sayClean(format, args...) }

// Complain implements assemble.Reporter.
func (r *syncReport) Complain(format string, args ...any) { r.e.complainClean(format, args...) }

// Syncing implements assemble.Reporter.
func (r *syncReport) Syncing() (stop func()) { return r.e.showProgress(r.progress) }

// Synced implements assemble.Reporter.
func (r *syncReport) Synced(c *mirror.Closure) {
	r.result.closure(c)
	r.synced = c
	e := r.e
	for _, m := range c.NoGoMod {
		e.say("%s has no go.mod: carrying the latest version of what it imports, as go commands choose it "+
			"(the list line \"only %[1]s\" carries it alone)", m)
	}
	e.sayNotes(c.Notes)
	if len(c.Versions) == 0 {
		return
	}
	s := c.Stats
	e.say("%s and the go.mod of %d more in %.1f s (graph %.1f s, then proofs %.1f s beside hashing %.1f s of CPU); "+
		"%s fetched, %s from GOMODCACHE",
		number(r.result.Versions, "module version"), r.result.ModOnly,
		s.Total.Seconds(), s.Resolve.Seconds(), s.Prove.Seconds(), s.Hash.Seconds(),
		bytesText(s.Fetched), number(s.Reused, "zip"))
}

// review implements assemble.ReviewFunc: it says how many versions of the bundle have known
// vulnerabilities, compares it with the policy, and makes the review documents.
func (r *syncReport) review(ctx context.Context, d *assemble.Draft) error {
	contents := review.NewContents(d.Contents)
	found, err := contents.Vulns(ctx)
	r.result.Vulns = r.e.sayVulns(found, err)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if bad := r.checkPolicy(ctx, contents, &d.Manifest); bad != nil || r.reviews == "" {
		return bad
	}
	if err != nil {
		return fmt.Errorf("--review: the vulnerability database that is to be carried: %w", err)
	}
	return r.addDocuments(ctx, d, contents, found)
}

// Missing implements assemble.Reporter.
func (r *syncReport) Missing(list []mirror.Missing) {
	r.result.missing(list)
	r.e.reportMissing(list)
}

// Writing implements assemble.Reporter.
func (r *syncReport) Writing(size int64) (add func(int64), stop func()) {
	bar := r.e.bar(size, "writing")
	return bar.add, bar.done
}

// Wrote implements assemble.Reporter.
func (r *syncReport) Wrote(w *assemble.Written) {
	m := w.Manifest
	r.result.Output, r.result.Name, r.result.Sequence = w.Where, m.Name, m.Sequence
	r.result.ID, r.result.Size = m.ID(), m.Size
	r.e.say("wrote %s: %s of %s, signed by %s+%08x, sequence %d, id %.16s", w.Where, bytesText(m.Size), m.Name,
		w.Key.Signer.Name(), w.Key.Signer.KeyHash(), m.Sequence, m.ID())
}

// planned reports how much will be carried, and how much the build lists of the sources would be
// without their closed closures.
func (r *syncReport) planned(build, all modgraph.Size) {
	if build == all {
		r.e.say("to carry: %s", sizeText(all))
		return
	}
	r.e.say("to carry: %s (closed). The build lists alone are %s, but then not every carried version can start a new project.",
		sizeText(all), sizeText(build))
}

func sizeText(s modgraph.Size) string {
	return fmt.Sprintf("%s and %d go.mod", number(s.Versions, "module version"), s.ModOnly)
}

// perVersion is about how many bytes a version takes in a bundle besides its zip: .mod, .info,
// lookup and tiles, their tar headers and rows.
const perVersion = 14 << 10

// plan reports what sync would do. It returns the error with which sync would end.
func (r *syncReport) plan(ctx context.Context, run *assemble.Run, p *mirror.Plan, f *syncFlags) error {
	e := r.e
	e.sayNotes(p.Notes)
	if f.asJSON {
		return r.planJSON(p)
	}
	if p.Carried > 0 {
		fmt.Fprintf(e.stdout, "in the line already: %s\n", number(p.Carried, "zip"))
	}
	fmt.Fprintf(e.stdout, "zips: %d, %s; to be fetched: %d, %s\n",
		p.Versions, bytesText(p.Bytes), p.Fetch, bytesText(p.ToFetch))
	if p.Unknown > 0 {
		fmt.Fprintf(e.stdout, "not counted: %s whose size the upstream does not say\n", number(p.Unknown, "zip"))
	}
	lacking := p.Missing
	if !f.full {
		var err error
		if lacking, err = run.Lacking(ctx, p.Missing); err != nil {
			return err
		}
	}
	missing := e.reportMissing(lacking)
	if missing == 0 || f.keepGoing {
		fmt.Fprintf(e.stdout, "the bundle will have about %s\n", bytesText(p.Bytes+perVersion*int64(p.Versions+p.ModOnly)))
	}
	if missing > 0 {
		if !f.keepGoing {
			e.complain("sync: %s cannot be had, so no bundle would be written", number(missing, "file"))
			e.hintMissing(lacking, p.Toolchains)
		}
		return errIncomplete
	}
	return nil
}

// planJSON is plan for programs.
func (r *syncReport) planJSON(p *mirror.Plan) error {
	r.result.missing(p.Missing)
	err := writeJSON(r.e.stdout, struct {
		Zips    int           `json:"zips"`
		ModOnly int           `json:"modOnly"`
		Bytes   int64         `json:"bytes"` // of the zips
		Fetch   int           `json:"fetch"`
		ToFetch int64         `json:"toFetch"` // bytes
		Unknown int           `json:"unknown"` // zips whose size the upstream does not say
		Carried int           `json:"carried"` // zips that the line has
		Missing []syncMissing `json:"missing"`
		Notes   []string      `json:"notes"`
	}{
		p.Versions, p.ModOnly, p.Bytes, p.Fetch, p.ToFetch, p.Unknown, p.Carried,
		r.result.Missing, append([]string{}, p.Notes...),
	})
	if err == nil && slices.ContainsFunc(p.Missing, func(m mirror.Missing) bool { return !m.Allowed }) {
		return errIncomplete
	}
	return err
}

// syncResult is what sync prints with --json.
type syncResult struct {
	Output   string        `json:"output,omitempty"` // no bundle was written without it
	Name     string        `json:"name,omitempty"`
	Sequence int64         `json:"sequence,omitempty"`
	ID       string        `json:"id,omitempty"`
	Size     int64         `json:"size,omitempty"` // bytes
	Versions int           `json:"versions"`       // with their zip
	ModOnly  int           `json:"modOnly"`
	Fetched  int64         `json:"fetched"` // bytes
	Missing  []syncMissing `json:"missing"`
	Notes    []string      `json:"notes"`
	Vulns    *vulnCounts   `json:"vulns,omitempty"` // nil without a vulnerability database

	Policy *policy.Report `json:"policy,omitempty"` // nil without a policy
}

// A syncMissing is a file that could not be had.
type syncMissing struct {
	Path    string   `json:"path"`
	Version string   `json:"version"`
	What    string   `json:"what"` // go.mod, info, zip, record or list
	Reason  string   `json:"reason"`
	Chain   []string `json:"chain"`
	Allowed bool     `json:"allowed"`
	Hint    string   `json:"hint,omitempty"`
}

// missing takes over the files that the bundle lacks.
func (r *syncResult) missing(list []mirror.Missing) {
	r.Missing = []syncMissing{}
	for _, m := range list {
		r.Missing = append(r.Missing, syncMissing{m.Mod.Path, m.Mod.Version, m.What, m.Asked, m.Chain, m.Allowed, m.Near})
	}
}

// closure takes over what a closure contains.
func (r *syncResult) closure(c *mirror.Closure) {
	r.Notes, r.Fetched = append([]string{}, c.Notes...), c.Stats.Fetched
	r.Versions, r.ModOnly = 0, 0
	for _, v := range c.Versions {
		if v.Zip != nil {
			r.Versions++
		} else {
			r.ModOnly++
		}
	}
}

// sayNotes reports what is odd about a closure but no reason to fail.
func (e *env) sayNotes(notes []string) {
	for _, note := range notes {
		e.say("%s", oneLine(errors.New(note)))
	}
}

// proxiesHint is the hint when no proxy can be asked.
const proxiesHint = "modmirror asks the proxies of go env GOPROXY, or of --goproxy"

// explainSync turns the error of a sync into one that report knows. It reports what takes more than
// a line.
func explainSync(ctx context.Context, e *env, err error) error {
	if incomplete, ok := errors.AsType[*assemble.IncompleteError](err); ok {
		if !incomplete.Written {
			e.complain("sync: %v, so no bundle was written", incomplete)
			e.hintMissing(incomplete.Missing, incomplete.Toolchains)
		}
		return errIncomplete
	}
	if _, ok := errors.AsType[*assemble.NoContentsError](err); ok {
		err = &incompleteError{err}
	}
	if denied, ok := errors.AsType[*mirror.DeniedError](err); ok {
		for _, d := range denied.Modules {
			e.complain("sync: %s is denied by the line \"deny %s\"", d.Mod, d.Line)
			e.complain("  wanted by %s", oneLine(errors.New(strings.Join(d.Chain, " → "))))
		}
		return errDenied
	}
	if unverified, ok := errors.AsType[*mirror.UnverifiedError](err); ok {
		const some = 20
		for _, m := range unverified.Mods[:min(some, len(unverified.Mods))] {
			e.complain("unverified: %s", m)
		}
		if n := len(unverified.Mods) - some; n > 0 {
			e.complain("unverified: %d more", n)
		}
		return &hint.Error{Err: err, Hint: upstream.SumDBHint + "; GONOSUMDB names modules that nothing but go.sum and your signature vouches for"}
	}
	if errors.Is(err, upstream.ErrOff) || errors.Is(err, upstream.ErrDirect) {
		return &hint.Error{Err: err, Hint: proxiesHint}
	}
	if up, ok := errors.AsType[*upstream.Error](err); ok && ctx.Err() == nil {
		return upstreamHint(up, err)
	}
	if _, ok := errors.AsType[*mirror.GoSumError](err); ok {
		return &hint.Error{Err: err, Hint: "the checksum database agrees with what was fetched: go.sum is wrong, or the module was tagged again after it was written"}
	}
	return err
}

// upstreamHint adds the next step to err, of which up is the reason.
func upstreamHint(up *upstream.Error, err error) error {
	module, version := strings.TrimPrefix(up.URL, "direct:"), ""
	if r, err := modpath.Parse(module); err == nil {
		module, version = r.Path, cmp.Or(r.Version, "latest")
	}
	if none, ok := errors.AsType[*upstream.NoVCSError](err); ok {
		return &hint.Error{Err: err, Hint: "install " + none.Name}
	}
	switch layer, advice := upstream.Diagnose(err); {
	case strings.HasPrefix(up.URL, "direct:"):
		return &hint.Error{Err: err, Hint: fmt.Sprintf(`GOPRIVATE or GONOPROXY has it fetched directly: does "go mod download %s@%s" work here with GOPROXY=direct?`, module, version)}
	case up.Status == 0 || layer == upstream.LayerCredentials:
		return &hint.Error{Err: err, Hint: advice + " (modmirror doctor tells more)"}
	}
	return err
}

// reportMissing names what could not be had. It returns how many of the files are not accepted to
// be missing.
func (e *env) reportMissing(list []mirror.Missing) (n int) {
	for _, m := range list {
		if !m.Allowed {
			n++
		}
		what := "cannot have"
		if m.Allowed {
			what = "goes without"
		}
		e.complain("%s the %s of %s: %s", what, m.What, m.Mod, oneLine(errors.New(m.Asked)))
		e.complain("  wanted by %s", oneLine(errors.New(strings.Join(m.Chain, " → "))))
		if m.Near != "" {
			e.hint("%s", oneLine(errors.New(m.Near)))
		}
	}
	if slices.ContainsFunc(list, func(m mirror.Missing) bool { return strings.Contains(m.Asked, "GET direct:") }) {
		e.hint("GOPRIVATE or GONOPROXY has it fetched directly: does \"go mod download MODULE@VERSION\" work here with GOPROXY=direct?")
	}
	return n
}

// hintMissing says what to do about what could not be had and is not accepted. It says nothing of
// what was asked for by name: another name has to be given.
func (e *env) hintMissing(list []mirror.Missing, toolchains []string) {
	for _, line := range toolchains {
		e.hint("--toolchain auto carries it, for clients inside with an older Go; or a line in a list: %s", line)
	}
	required := func(m mirror.Missing) bool { return !m.Allowed && !m.Named && m.Mod.Path != modpath.Toolchain }
	if slices.ContainsFunc(list, required) {
		e.hint("--keep-going writes it without them; a list line \"missing-ok module@version\" accepts one")
	}
}
