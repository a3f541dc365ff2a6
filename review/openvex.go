package review

import (
	"fmt"
	"strings"
	"time"

	"github.com/openvex/go-vex/pkg/vex"
	"github.com/package-url/packageurl-go"
)

// PURL returns the package URL of a version (https://github.com/package-url/purl-spec, type
// golang): pkg:golang/golang.org/x/net@v0.20.0, and pkg:golang/stdlib@1.22.1 for Go.
func PURL(path, version string) string {
	namespace, name := "", path
	if i := strings.LastIndex(path, "/"); i >= 0 {
		namespace, name = path[:i], path[i+1:]
	}
	return packageurl.NewPackageURL(packageurl.TypeGolang, namespace, name, version, nil, "").ToString()
}

// OpenVEX returns the vulnerabilities as a document of OpenVEX (https://openvex.dev), dated created:
// the same vulnerabilities make the same document. It says that the carried versions are affected,
// and what to do. Whether a program that uses them is, no list of modules can say.
func (v *Vulns) OpenVEX(author string, created time.Time) (*vex.VEX, error) {
	created = created.UTC()
	doc := vex.New()
	doc.Author, doc.Tooling, doc.Timestamp = author, "modmirror", &created
	for _, x := range v.List {
		s := vex.Statement{
			Vulnerability:   vex.Vulnerability{ID: x.URL, Name: vex.VulnerabilityID(x.ID), Description: x.Summary},
			Status:          vex.StatusAffected,
			ActionStatement: x.Action(),
		}
		for _, a := range x.Aliases {
			s.Vulnerability.Aliases = append(s.Vulnerability.Aliases, vex.VulnerabilityID(a))
		}
		purl := PURL(x.Module, x.Version)
		p := vex.Product{Component: vex.Component{ID: purl}}
		for _, path := range x.Packages {
			if sub, ok := strings.CutPrefix(path, x.Module+"/"); ok {
				p.Subcomponents = append(p.Subcomponents, vex.Subcomponent{Component: vex.Component{ID: purl + "#" + sub}})
			}
		}
		s.Products = []vex.Product{p}
		if err := s.Validate(); err != nil {
			return nil, fmt.Errorf("%s of %s: %w", x.ID, x.String(), err)
		}
		doc.Statements = append(doc.Statements, s)
	}
	if _, err := doc.GenerateCanonicalID(); err != nil {
		return nil, err
	}
	return &doc, nil
}
