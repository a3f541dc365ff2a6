package serve

import (
	"fmt"
	"slices"
	"strings"
)

// A Var is a setting of the go command.
type Var struct{ Name, Value string }

// Vars returns the settings of a client of the server at a URL. GOVULNDB, which gopls reads, is not
// among those that go env -w knows.
//
// clean says that GOPRIVATE is empty on the client, so that GONOPROXY, whose default it is, can be
// too. Else GONOPROXY is none: an empty variable of the environment does not count against "go env
// -w". With any GONOPROXY "go get -u=patch" and "go get PACKAGE@patch" fail since go 1.16, whatever
// the proxies have (findings/gonoproxy-patch.sh).
func (s *Settings) Vars(url string, clean bool) []Var {
	noProxy := "none"
	if clean {
		noProxy = ""
	}
	if len(s.Inside) > 0 && len(s.Also) == 0 {
		noProxy = strings.Join(s.Inside, ",")
	}
	vars := []Var{
		{"GOPROXY", strings.Join(append([]string{url}, s.Also...), ",")}, // without "direct", which would go to a network that is not there
		{"GONOPROXY", noProxy},
		{"GOPRIVATE", ""},
		{"GONOSUMDB", strings.Join(s.NoSumDB(), ",")},
	}
	if s.SumDB == "sum.golang.org" {
		vars = append(vars, Var{"GOSUMDB", s.SumDB})
	}
	if s.VulnDB {
		vars = append(vars, Var{"GOVULNDB", url + "/vulndb"})
	}
	return vars
}

// NoSumDB returns the patterns of modules that no checksum database vouches for: those of the
// network inside, and the private ones that are carried.
func (s *Settings) NoSumDB() []string { return slices.Concat(s.Inside, s.Private) }

// Shells are the forms in which settings are printed, with their names for people.
var Shells = []struct{ Name, Title string }{
	{"sh", "sh, bash, zsh"},
	{"powershell", "PowerShell"},
	{"go", "For good, with go env -w"},
}

// ShellText returns commands that make settings in a form of Shells; ok is false for another one.
func ShellText(shell string, vars []Var) (text string, ok bool) {
	var b strings.Builder
	switch shell {
	case "sh":
		for _, v := range vars {
			fmt.Fprintf(&b, "export %s='%s'\n", v.Name, v.Value)
		}
	case "powershell":
		for _, v := range vars {
			fmt.Fprintf(&b, "$env:%s = '%s'\n", v.Name, v.Value)
		}
	case "go":
		b.WriteString("go env -w")
		for _, v := range vars {
			if v.Name != "GOVULNDB" {
				fmt.Fprintf(&b, " '%s=%s'", v.Name, v.Value)
			}
		}
		b.WriteString("\n")
	default:
		return "", false
	}
	return b.String(), true
}
