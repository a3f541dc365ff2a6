// Package documents makes what a bundle says about itself in its folder review, before it is
// signed: a report of what it brings, bills of materials, its known vulnerabilities, and how it was
// made.
package documents

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/provenance"
	"github.com/modmirror/modmirror/review/report"
	"github.com/modmirror/modmirror/review/symbols"
)

// Input is what documents are made of.
type Input struct {
	Report   report.Input       // about the draft that the documents go into
	Vulns    *review.Vulns      // of what is carried; nil when they are not known
	Projects []*symbols.Project // whose code was analyzed; only with Vulns
	Made     provenance.Inputs
	Key      *trust.Key // signs how the bundle was made
	Dir      string     // folder for the files, which the caller removes
}

// Make makes the documents, and returns what the report amounts to in one sentence.
func Make(ctx context.Context, in Input) (list []bundle.Source, verdict string, err error) {
	m := &maker{dir: in.Dir}
	// One is in memory at a time.
	for _, step := range []func(context.Context, *Input) error{m.report, m.inventory, m.vulns} {
		if err := step(ctx, &in); err != nil {
			return nil, "", err
		}
	}
	in.Made.Documents = m.list
	statement, err := provenance.Make(ctx, &in.Report.Subject.Manifest, &in.Made, in.Key)
	if err != nil {
		return nil, "", err
	}
	path := modpath.ReviewFile(modpath.Provenance)
	return append(m.list, bundle.DataSource(path, statement)), in.Made.Verdict, nil
}

// A maker collects documents in a folder.
type maker struct {
	dir  string
	list []bundle.Source
}

func (m *maker) report(ctx context.Context, in *Input) error {
	r, err := report.Make(ctx, in.Report)
	if err != nil {
		return err
	}
	in.Made.Verdict = r.Verdict()
	if err := m.add(modpath.ReportHTML, r.HTML); err != nil {
		return err
	}
	return m.add(modpath.ReportJSON, r.JSON)
}

func (m *maker) inventory(ctx context.Context, in *Input) error {
	inv, err := review.NewInventory(ctx, in.Report.Subject, "")
	if err != nil {
		return err
	}
	if err := m.add(modpath.CycloneDX, inv.WriteCycloneDX); err != nil {
		return err
	}
	return m.add(modpath.SPDX, inv.WriteSPDX)
}

func (m *maker) vulns(_ context.Context, in *Input) error {
	if in.Vulns == nil {
		return nil
	}
	in.Made.VulnDB = in.Vulns.Database
	author, created := in.Key.Signer.Name(), in.Report.Subject.Manifest.Created
	doc, err := in.Vulns.OpenVEX(author, created, symbols.Statements(in.Projects...)...)
	if err != nil {
		return err
	}
	return m.add(modpath.OpenVEX, doc.ToJSON)
}

// add adds a document, which write writes.
func (m *maker) add(name string, write func(io.Writer) error) error {
	file := filepath.Join(m.dir, name)
	if err := writeFile(file, write); err != nil {
		return err
	}
	s, err := bundle.FileSource(modpath.ReviewFile(name), file)
	m.list = append(m.list, s)
	return err
}

// writeFile writes a temporary file.
func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriter(f)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return f.Close()
}
