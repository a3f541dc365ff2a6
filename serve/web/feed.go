package web

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"time"
)

// An atomFeed is a feed of RFC 4287.
type atomFeed struct {
	XMLName xml.Name    `xml:"http://www.w3.org/2005/Atom feed"`
	Title   string      `xml:"title"`
	ID      string      `xml:"id"`
	Updated string      `xml:"updated"`
	Author  string      `xml:"author>name"`
	Link    []atomLink  `xml:"link"`
	Entries []atomEntry `xml:"entry"`
}

type atomLink struct {
	Rel  string `xml:"rel,attr"`
	Href string `xml:"href,attr"`
}

type atomEntry struct {
	Title   string   `xml:"title"`
	ID      string   `xml:"id"`
	Updated string   `xml:"updated"`
	Link    atomLink `xml:"link"`
	Summary string   `xml:"summary"`
}

// feed answers with the newest bundle of each line, for readers of feeds.
func (s *Site) feed(v *Visit) error {
	f := atomFeed{
		Title: "Bundles of " + s.lines(), ID: v.URL + "/feed.atom", Author: "modmirror",
		Link: []atomLink{{"self", v.URL + "/feed.atom"}, {"alternate", v.URL + "/"}},
	}
	for _, b := range s.View.Lines { // the most recently created first
		m := b.Manifest
		made := m.Created.UTC().Format(time.RFC3339)
		if f.Updated == "" {
			f.Updated = made
		}
		f.Entries = append(f.Entries, atomEntry{
			Title: fmt.Sprintf("%s, sequence %d", m.Name, m.Sequence), ID: "urn:sha256:" + b.ID(), Updated: made,
			Link:    atomLink{"alternate", v.URL + "/"},
			Summary: fmt.Sprintf("%s of %s, signed by %v", plural(int(m.Counts.Versions), "version"), plural(int(m.Counts.Modules), "module"), b.Signers),
		})
	}
	return v.xml("application/atom+xml; charset=utf-8", &f)
}

// An openSearch describes a search to browsers (OpenSearch 1.1).
type openSearch struct {
	XMLName     xml.Name      `xml:"http://a9.com/-/spec/opensearch/1.1/ OpenSearchDescription"`
	ShortName   string        `xml:"ShortName"`
	Description string        `xml:"Description"`
	URL         openSearchURL `xml:"Url"`
}

type openSearchURL struct {
	Type     string `xml:"type,attr"`
	Template string `xml:"template,attr"`
}

// openSearch answers with the description of the search.
func (s *Site) openSearch(v *Visit) error {
	return v.xml("application/opensearchdescription+xml; charset=utf-8", &openSearch{
		ShortName: "Go packages", Description: "Go packages that " + s.lines() + " carries",
		URL: openSearchURL{"text/html", v.URL + "/search?q={searchTerms}"},
	})
}

// xml answers with a document.
func (v *Visit) xml(contentType string, doc any) error {
	var buf bytes.Buffer
	buf.WriteString(xml.Header)
	enc := xml.NewEncoder(&buf)
	enc.Indent("", " ")
	if err := enc.Encode(doc); err != nil {
		return err
	}
	h := v.Header()
	secure(h)
	h.Set("Content-Type", contentType)
	h.Set("Cache-Control", "no-store") // it has the address that the browser used
	http.ServeContent(v, v.Request, "", time.Time{}, bytes.NewReader(buf.Bytes()))
	return nil
}
