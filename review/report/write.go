package report

import (
	"cmp"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/dustin/go-humanize/english"

	"github.com/modmirror/modmirror/review/policy"
)

//go:embed report.html
var pageText string

var page = template.Must(template.New("report").Funcs(template.FuncMap{
	"bytes":  func(n int64) string { return humanize.IBytes(uint64(max(n, 0))) },
	"day":    day,
	"date":   date,
	"chain":  func(list []string) string { return strings.Join(list, " → ") },
	"join":   func(list []string) string { return strings.Join(list, ", ") },
	"less":   func(n int) int { return n - 1 },
	"groups": policy.Groups,
	"deref":  func(s *string) string { return *s },
}).Parse(pageText))

// day returns a day in UTC.
func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// date returns the day of a time of an index, or the text itself.
func date(s string) string {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t.UTC().Format(time.DateOnly)
	}
	return s
}

// pageSize is how many changes a page of the HTML shows at once.
const pageSize = 200

// A changePage is a part of the changes that there is something to say about.
type changePage struct {
	Title   string
	First   bool
	Changes []Change
}

// view is what the template reads.
type view struct {
	*Report
	Loud        int
	Pages       []changePage
	Quiet       []Change
	GoneChanges []Change
}

// sort splits the changes into those to look at, those without anything to say, and those that are
// gone.
func (r *Report) sort() view {
	v := view{Report: r}
	var loud []Change
	for _, c := range r.Changes {
		switch {
		case c.Kind == Gone:
			v.GoneChanges = append(v.GoneChanges, c)
		case c.Quiet():
			v.Quiet = append(v.Quiet, c)
		default:
			loud = append(loud, c)
		}
	}
	slices.SortStableFunc(loud, func(a, b Change) int { return cmp.Compare(a.rank(), b.rank()) })
	v.Loud = len(loud)
	for n := 0; n < len(loud); n += pageSize {
		part := loud[n:min(n+pageSize, len(loud))]
		title := fmt.Sprintf("%d to %d", n+1, n+len(part))
		v.Pages = append(v.Pages, changePage{title, n == 0, part})
	}
	return v
}

// rank orders changes by how much there is to decide: what gets worse, what is new, what was known.
func (c *Change) rank() int {
	switch {
	case len(c.Comes) > 0 || c.Retract != nil || c.LicenseWas != "" || c.Odd || c.Unknown:
		return 0
	case len(c.Can) > 0 || c.unlicensed() || c.Deprecated != "" || c.API.Loud():
		return 1
	}
	return 2
}

// Unlicensed reports whether nobody knows the license of a new module.
func (c Change) Unlicensed() bool { return c.unlicensed() }

// Verdict returns one or two sentences about the bundle.
func (r *Report) Verdict() string {
	v := r.sort()
	if len(r.Changes) == 0 {
		return "It brings nothing new."
	}
	text := fmt.Sprintf("%s to look at, nothing to say of %d more, %d gone",
		english.Plural(v.Loud, "change", ""), len(v.Quiet), r.Gone)
	unknown := 0
	for i := range r.Changes {
		if r.Changes[i].Unknown {
			unknown++
		}
	}
	if unknown > 0 {
		text += fmt.Sprintf(", %d of which it is not known what the code can do", unknown)
	}
	if r.More > 0 {
		text += fmt.Sprintf(", AND %d THAT ARE NOT LISTED", r.More)
	}
	text += "."
	if r.Policy == nil {
		return text
	}
	against := "Nothing is against the policy"
	if n := len(r.Policy.Violations); n > 0 {
		against = english.Plural(n, "thing is", "things are") + " against the policy"
	}
	if n := len(r.Policy.Warnings); n > 0 {
		against += fmt.Sprintf(", with %s", english.Plural(n, "warning", ""))
	}
	return against + ". " + text
}

// HTML writes the report as one page that needs no other file.
func (r *Report) HTML(w io.Writer) error { return page.Execute(w, r.sort()) }

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}

// Text writes the report for a terminal.
func (r *Report) Text(w io.Writer) error {
	v := r.sort()
	var b strings.Builder
	fmt.Fprintf(&b, Mark+": %s, sequence %d, of %s", r.Bundle.Name, r.Bundle.Sequence, day(r.Bundle.Created))
	if r.Bundle.ID != "" {
		fmt.Fprintf(&b, ", %s, id %.16s", humanize.IBytes(uint64(r.Bundle.Size)), r.Bundle.ID)
	}
	b.WriteByte('\n')
	if r.Base != nil {
		fmt.Fprintf(&b, "compared with %s, sequence %d, of %s, id %.16s\n", r.Base.Name, r.Base.Sequence,
			day(r.Base.Created), r.Base.ID)
	}
	fmt.Fprintf(&b, "%s\n", r.Verdict())
	if x := r.Vulns; x != nil {
		fmt.Fprintf(&b, "carried versions with known vulnerabilities: %d → %d\n", x.Before, x.Affected)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	r.policyText(&b)
	for _, p := range v.Pages {
		for i := range p.Changes {
			p.Changes[i].text(&b)
		}
	}
	if len(v.Quiet) > 0 {
		b.WriteString("\nnothing to say about:\n")
	}
	for _, c := range v.Quiet {
		fmt.Fprintf(&b, "  %s %s", c.name(), c.License)
		if len(c.Leaves) > 0 {
			fmt.Fprintf(&b, ", no more %s", strings.Join(c.Leaves, ", "))
		}
		b.WriteByte('\n')
	}
	if len(v.GoneChanges) > 0 {
		b.WriteString("\ngone:\n")
	}
	for _, c := range v.GoneChanges {
		fmt.Fprintf(&b, "  %s\n", c.name())
	}
	if r.More > 0 {
		fmt.Fprintf(&b, "and %d more changes\n", r.More)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// policyText writes what a policy is against.
func (r *Report) policyText(b *strings.Builder) {
	if r.Policy == nil {
		return
	}
	for i := range r.Policy.Violations {
		v := &r.Policy.Violations[i]
		fmt.Fprintf(b, "against the policy: %s: %s (%s: %s)\n", v.Subject(), v.What, v.Line, v.Text)
	}
	for i := range r.Policy.Warnings {
		v := &r.Policy.Warnings[i]
		fmt.Fprintf(b, "warning: %s: %s (%s: %s)\n", v.Subject(), v.What, v.Line, v.Text)
	}
	for _, n := range r.Policy.Notes {
		fmt.Fprintf(b, "policy: %s\n", n)
	}
	if r.Policy.More > 0 {
		fmt.Fprintf(b, "policy: and %d more\n", r.Policy.More)
	}
	for i := range r.Policy.Excepted {
		v := &r.Policy.Excepted[i]
		fmt.Fprintf(b, "excepted until %s: %s: %s (%s)\n", day(v.Because.Until), v.Subject(), v.What, v.Because.Because)
	}
}

// besides says what a version is compared with.
func besides(was string) string {
	if was == "" {
		return ""
	}
	return " beside " + was
}

// name returns the module of a change and its versions.
func (c *Change) name() string {
	if c.Was != "" {
		return fmt.Sprintf("%s %s → %s", c.Module, c.Was, c.Version)
	}
	return c.Module + " " + c.Version
}

// Rest says what is not known of exports; "" when all is.
func (a *API) Rest() string {
	text := ""
	if a.NotKnown > 0 {
		text += fmt.Sprintf(", %d not known", a.NotKnown)
	}
	if a.Unread > 0 {
		text += ", " + english.Plural(a.Unread, "file", "") + " not read"
	}
	return text
}

// text writes a change for a terminal.
func (c *Change) text(b *strings.Builder) {
	fmt.Fprintf(b, "\n%s (%s)\n", c.name(), c.Kind)
	line := func(format string, args ...any) { fmt.Fprintf(b, "  "+format+"\n", args...) }
	for _, v := range c.Comes {
		line("+ %s: %s (%s)", v.ID, v.Summary, v.Action)
	}
	for _, v := range c.Stays {
		line("= %s: %s (%s)", v.ID, v.Summary, v.Action)
	}
	if len(c.Leaves) > 0 {
		line("- %s", strings.Join(c.Leaves, ", "))
	}
	switch {
	case c.LicenseWas != "":
		line("license %s → %s", c.LicenseWas, c.License)
	case c.License != "":
		line("license %s", c.License)
	}
	if c.Unknown {
		line("what its code can do is not known%s", besides(c.Was))
	}
	for _, u := range c.Can {
		line("+ %s", strings.TrimSpace(fmt.Sprintf("%s: %s %s", u.Kind, u.File, u.Detail)))
	}
	for _, k := range c.CanNot {
		line("- %s", k)
	}
	if a := c.API; a != nil && a.Unknown != "" {
		line("what it exports is not known%s: %s", besides(c.Was), a.Unknown)
	} else if a.Loud() {
		line("exports: %s, %d compatible%s", english.Plural(a.Incompatible, "incompatible change", ""), a.Compatible, a.Rest())
		for _, s := range a.First {
			line("  %s", s)
		}
	}
	if c.Retract != nil {
		line("retracted: %s", strings.Join(strings.Fields(*c.Retract), " "))
	}
	if c.Deprecated != "" {
		line("deprecated: %s", strings.Join(strings.Fields(c.Deprecated), " "))
	}
	if c.Odd {
		line("it says that it is of %s, and its record is younger than the base", date(c.Time))
	}
	if len(c.Chain) > 1 {
		line("wanted by %s", strings.Join(c.Chain, " → "))
	}
}
