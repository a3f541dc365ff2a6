package symbols

import (
	"fmt"

	"github.com/openvex/go-vex/pkg/vex"

	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/review/vulndb"
)

// Statements returns what there is to say about projects in OpenVEX: one is affected by what it may
// call, and not by what the analysis finds no call of.
func Statements(projects ...*Project) (list []vex.Statement) {
	for _, p := range projects {
		list = append(list, p.statements()...)
	}
	return list
}

func (p *Project) statements() (list []vex.Statement) {
	for i := range p.Vulns {
		v := &p.Vulns[i]
		s := vex.Statement{
			Vulnerability: review.VEXVulnerability(v.ID, v.URL, v.Summary, v.Aliases),
			Products: []vex.Product{{
				Component:     vex.Component{ID: review.PURL(p.Module, "")},
				Subcomponents: []vex.Subcomponent{{Component: vex.Component{ID: review.PURL(v.Module, v.Version)}}},
			}},
		}
		looked := fmt.Sprintf("govulncheck finds none, in a build for %s with %s", p.Platform, p.Go)
		switch v.Level {
		case Called:
			s.Status, s.ActionStatement = vex.StatusAffected, v.Action()
		case Imported:
			s.Status, s.Justification = vex.StatusNotAffected, vex.VulnerableCodeNotInExecutePath
			s.ImpactStatement = "calls of what is vulnerable: " + looked
		default:
			s.Status, s.Justification = vex.StatusNotAffected, vex.VulnerableCodeNotPresent
			s.ImpactStatement = "packages with what is vulnerable: " + looked
		}
		list = append(list, s)
	}
	return list
}

// Action says what to do about the vulnerability.
func (v *Vuln) Action() string {
	if v.Fixed == "" {
		return "not fixed"
	}
	if v.Module == vulndb.Stdlib {
		return "fixed in go" + v.Fixed
	}
	return "fixed in " + v.Fixed
}
