package web

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/facts"
	"github.com/modmirror/modmirror/serve/web/render"
)

// A table is a page of rows, which is CSV below the same name with .csv.
type table struct {
	Title   string   `json:"-"`
	Note    string   `json:"-"`
	Path    string   `json:"-"` // of the page
	Sort    string   `json:"-"` // name of the column by which the rows are sorted, "" as they come
	Columns []string `json:"-"`
	Cells   [][]cell `json:"-"`
	Form    bool     `json:"-"` // for wishes
}

// A cell is a text with a link, or without one.
type cell struct{ Text, Href string }

// sorted sorts the rows by the column of that name, if there is one.
func (t *table) sorted(by string) {
	i := slices.Index(t.Columns, by)
	if i < 0 {
		return
	}
	t.Sort = by
	slices.SortStableFunc(t.Cells, func(a, b []cell) int { return cmp.Compare(a[i].Text, b[i].Text) })
}

// csv returns the table as CSV (RFC 4180). Spreadsheets must not take texts of modules for formulas.
func (t *table) csv() ([]byte, error) {
	var buf bytes.Buffer
	w := csv.NewWriter(&buf)
	w.Write(t.Columns)
	for _, cells := range t.Cells {
		var row []string
		for _, c := range cells {
			if c.Text != "" && strings.ContainsRune("=+-@\t\r", rune(c.Text[0])) {
				c.Text = "'" + c.Text
			}
			row = append(row, c.Text)
		}
		w.Write(row)
	}
	w.Flush()
	return buf.Bytes(), w.Error()
}

// tablePage returns the page of a table. Its JSON is data.
func tablePage(v *Visit, t *table, data any) *page {
	t.sorted(v.Request.URL.Query().Get("sort"))
	return &page{template: "table.html", title: t.Title, data: data, table: t}
}

// modules returns the page of all modules.
func (s *Site) modules(v *Visit) (*page, error) {
	t := &table{Title: "All modules", Path: "/modules", Columns: []string{"Module", "Newest carried", "Versions", "License"}}
	for _, m := range s.catalog.modules[:min(len(s.catalog.modules), maxTable)] {
		t.Cells = append(t.Cells, []cell{
			{m.Path, s.Base + "/" + m.Path}, {Text: m.Latest}, {m.countText(), s.Base + "/" + m.Path + "?tab=versions"},
			{cmp.Or(m.License, "unknown"), s.Base + "/licenses"},
		})
	}
	return tablePage(v, t, s.catalog.modules), nil
}

// A licensed version is a row of the page of licenses.
type licensed struct {
	Module  string `json:"module"`
	Version string `json:"version"`
	License string `json:"license"` // SPDX expression; NOASSERTION when unknown
}

// licenses returns the page of the licenses of all versions that are carried.
func (s *Site) licenses(ctx context.Context, v *Visit) (*page, error) {
	t := &table{Title: "Licenses", Path: "/licenses", Columns: []string{"License", "Module", "Version"}}
	var list []licensed
	seen := make(map[[2]string]bool)
	unknown := 0
	for _, b := range s.View.Lines {
		for x, err := range review.WholeVersions(ctx, b.Index) {
			if err != nil {
				return nil, err
			}
			if key := [2]string{x.Path, x.Version}; seen[key] {
				continue
			} else if seen[key] = true; len(list) == maxTable {
				break
			}
			l := licensed{x.Path, x.Version, facts.NoAssertion}
			if x.License != nil {
				l.License = *x.License
			}
			if l.License == facts.NoAssertion || l.License == facts.None {
				unknown++
			}
			list = append(list, l)
		}
	}
	slices.SortStableFunc(list, func(a, b licensed) int { return cmp.Compare(a.License, b.License) })
	for _, l := range list {
		href, at := s.Base+"/"+l.Module, "@"+l.Version
		if l.Module == modpath.Toolchain {
			href, at = s.Base+"/"+render.Std, ""
		}
		t.Cells = append(t.Cells, []cell{{Text: l.License}, {l.Module, href}, {l.Version, href + at}})
	}
	t.Note = "Of " + plural(len(list), "carried version") + ", the license of " + strconv.Itoa(unknown) + " is not known."
	if len(list) == maxTable {
		t.Note += " These are the first of them."
	}
	return tablePage(v, t, list), nil
}

// maxTable bounds the rows of a table.
const maxTable = 20_000

// vulns returns the page of the known vulnerabilities of what is carried.
func (s *Site) vulns(v *Visit) (*page, error) {
	found := s.Vulns()
	if found == nil {
		return nil, notFound("no vulnerability database is carried, or it is still compared",
			"to have it carried, add a line to the list outside: vulndb")
	}
	t := &table{
		Title: "Vulnerabilities", Path: "/vulns", Columns: []string{"Module", "Version", "ID", "Summary", "Fixed in", "Fix carried"},
		Note: found.Summary() + " (database of " + found.Database.UTC().Format(time.DateOnly) + ").",
	}
	for _, x := range found.List[:min(len(found.List), maxTable)] {
		href, at := s.Base+"/"+x.Module, "@"+x.Version
		if x.IsGo() {
			href, at = s.Base+"/std", "@go"+x.Version
		}
		row := []cell{{x.Module, href}, {x.Version, href + at}, {x.ID, s.Base + "/vulndb/ID/" + x.ID + ".json"}, {Text: x.Summary}, {Text: x.Fixed}, {Text: x.FixCarried}}
		t.Cells = append(t.Cells, row)
	}
	p := tablePage(v, t, found)
	p.fresh = true // what is found comes after the first request
	return p, nil
}

// A Want is something that clients asked for and that was not carried.
type Want struct {
	Line    string    `json:"line"` // for the list outside
	Path    string    `json:"path"`
	Query   string    `json:"query,omitempty"`
	Count   int64     `json:"count"`
	First   time.Time `json:"first"`
	Last    time.Time `json:"last"`
	Carried bool      `json:"carried"` // it came since
	Reason  string    `json:"reason,omitempty"`
}

// maxWants bounds the wants of the page: those with the most requests.
const maxWants = 500

// wants returns the page of what was asked for and is missing.
func (s *Site) wants(ctx context.Context, v *Visit) (*page, error) {
	if s.Wants == nil {
		return nil, notFound("this server does not remember what is asked for")
	}
	list := s.Wants()
	slices.SortStableFunc(list, func(a, b Want) int { return cmp.Compare(b.Count, a.Count) })
	list = list[:min(len(list), maxWants)]
	t := &table{
		Title: "Asked for and missing", Path: "/wants", Columns: []string{"Module", "Version", "Requests", "First", "Last", "Reason", "For the list outside"},
		Form: s.Ask != nil,
		Note: "What clients of this server asked for, and what is not carried. Who signs the bundles gets the lines by: modmirror wants",
	}
	for i, w := range list {
		x, ok, err := s.View.Lookup(ctx, w.Path, w.Query)
		if err != nil {
			return nil, err
		}
		list[i].Carried = ok && x.ZipSize != nil
		line, href := cell{Text: w.Line}, ""
		if list[i].Carried {
			line, href = cell{Text: "carried since"}, s.Base+"/"+w.Path+"@"+w.Query
		}
		t.Cells = append(t.Cells, []cell{
			{w.Path, href}, {Text: w.Query}, {Text: strconv.FormatInt(w.Count, 10)}, {Text: day(w.First)}, {Text: day(w.Last)}, {Text: w.Reason}, line,
		})
	}
	p := tablePage(v, t, list)
	p.fresh = true
	return p, nil
}

// plural returns a number with its noun.
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// countText returns how many versions are carried.
func (c *carried) countText() string { return strconv.Itoa(c.Versions) }

// maxForm is the longest form in bytes.
const maxForm = 4 << 10

// ask records a wish from the form of the page of what is missing.
func (s *Site) ask(v *Visit) error {
	r := v.Request
	if s.Ask == nil {
		return &httpError{http.StatusMethodNotAllowed, "this server takes no wishes", nil}
	}
	if err := new(http.CrossOriginProtection).Check(r); err != nil {
		return &httpError{http.StatusForbidden, "the form is on another site", nil}
	}
	r.Body = http.MaxBytesReader(v, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		return &httpError{http.StatusBadRequest, "this is no form of this site", nil}
	}
	path, version, _ := strings.Cut(strings.TrimSpace(r.PostForm.Get("module")), "@")
	if err := s.Ask(path, version, r.PostForm.Get("reason"), r); err != nil {
		return &httpError{http.StatusBadRequest, "this cannot be asked for", []string{err.Error()}}
	}
	http.Redirect(v, r, s.Base+"/wants", http.StatusSeeOther)
	return nil
}
