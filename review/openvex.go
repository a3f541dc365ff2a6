package review

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
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
// and what to do. Whether a program that uses them is, no list of modules can say: more are
// statements that do.
func (v *Vulns) OpenVEX(author string, created time.Time, more ...vex.Statement) (*vex.VEX, error) {
	list := make([]vex.Statement, 0, len(v.List)+len(more))
	for _, x := range v.List {
		s := vex.Statement{
			Vulnerability:   VEXVulnerability(x.ID, x.URL, x.Summary, x.Aliases),
			Status:          vex.StatusAffected,
			ActionStatement: x.Action(),
		}
		purl := PURL(x.Module, x.Version)
		p := vex.Product{Component: vex.Component{ID: purl}}
		for _, path := range x.Packages {
			if sub, ok := strings.CutPrefix(path, x.Module+"/"); ok {
				p.Subcomponents = append(p.Subcomponents, vex.Subcomponent{Component: vex.Component{ID: purl + "#" + sub}})
			}
		}
		s.Products = []vex.Product{p}
		list = append(list, s)
	}
	return NewVEX(author, created, append(list, more...))
}

// VEXVulnerability returns what OpenVEX says of a vulnerability.
func VEXVulnerability(id, url, summary string, aliases []string) vex.Vulnerability {
	v := vex.Vulnerability{ID: url, Name: vex.VulnerabilityID(id), Description: summary}
	for _, a := range aliases {
		v.Aliases = append(v.Aliases, vex.VulnerabilityID(a))
	}
	return v
}

// NewVEX returns a document of statements, whose id is made of its content.
func NewVEX(author string, created time.Time, statements []vex.Statement) (*vex.VEX, error) {
	created = created.UTC()
	doc := vex.New()
	doc.Author, doc.Tooling, doc.Timestamp, doc.Statements = author, "modmirror", &created, statements
	for i := range statements {
		if err := statements[i].Validate(); err != nil {
			return nil, fmt.Errorf("%s: %w", statements[i].Vulnerability.Name, err)
		}
	}
	// The canonical id of go-vex takes time and memory of the square of the statements.
	data, err := json.Marshal(&doc)
	if err != nil {
		return nil, err
	}
	doc.ID = "urn:uuid:" + uuid.NewSHA1(uuid.NameSpaceURL, data).String()
	return &doc, nil
}
