package review

import (
	"fmt"
	"strings"
)

// A SARIF is a log in the Static Analysis Results Interchange Format 2.1.0
// (https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html), with the properties that
// viewers of vulnerabilities read. The libraries for it bring a validator of JSON schemas with them.
type SARIF struct {
	Version string     `json:"version"`
	Schema  string     `json:"$schema"`
	Runs    []sarifRun `json:"runs"`
}

type sarifRun struct {
	Tool struct {
		Driver sarifDriver `json:"driver"`
	} `json:"tool"`
	Results []sarifResult `json:"results"`
}

type sarifDriver struct {
	Name    string      `json:"name"`
	Version string      `json:"version,omitempty"`
	Rules   []sarifRule `json:"rules"`
}

// A sarifRule is a vulnerability.
type sarifRule struct {
	ID               string         `json:"id"`
	ShortDescription sarifText      `json:"shortDescription"`
	HelpURI          string         `json:"helpUri,omitempty"`
	Properties       map[string]any `json:"properties,omitempty"`
}

type sarifText struct {
	Text string `json:"text"`
}

// A sarifResult is a vulnerability of a version.
type sarifResult struct {
	RuleID       string            `json:"ruleId"`
	Level        string            `json:"level"` // error when a fix exists, else warning
	Message      sarifText         `json:"message"`
	Locations    []sarifLocation   `json:"locations"`
	Fingerprints map[string]string `json:"partialFingerprints"`
}

type sarifLocation struct {
	Physical struct {
		Artifact struct {
			URI string `json:"uri"`
		} `json:"artifactLocation"`
	} `json:"physicalLocation"`
	Logical []sarifLogical `json:"logicalLocations"`
}

type sarifLogical struct {
	Name string `json:"fullyQualifiedName"`
	Kind string `json:"kind"`
}

// SARIF returns the vulnerabilities as results about an artifact, the base name of the file or
// folder that they were found in. version is that of modmirror.
func (v *Vulns) SARIF(artifact, version string) *SARIF {
	run := sarifRun{Results: []sarifResult{}}
	run.Tool.Driver = sarifDriver{Name: "modmirror", Version: version, Rules: []sarifRule{}}
	seen := make(map[string]bool)
	for _, x := range v.List {
		if !seen[x.ID] {
			seen[x.ID] = true
			rule := sarifRule{ID: x.ID, ShortDescription: sarifText{x.Summary}, HelpURI: x.URL}
			if len(x.Aliases) > 0 {
				rule.Properties = map[string]any{"tags": x.Aliases}
			}
			run.Tool.Driver.Rules = append(run.Tool.Driver.Rules, rule)
		}
		level := "error"
		if x.Fixed == "" {
			level = "warning"
		}
		l := sarifLocation{Logical: []sarifLogical{{x.String(), "module"}}}
		l.Physical.Artifact.URI = artifact
		run.Results = append(run.Results, sarifResult{
			RuleID: x.ID, Level: level, Message: sarifText{x.String() + ": " + x.Summary + ": " + x.Action()},
			Locations: []sarifLocation{l}, Fingerprints: map[string]string{"version/v1": x.ID + " " + x.String()},
		})
	}
	return &SARIF{
		Version: "2.1.0",
		Schema:  "https://json.schemastore.org/sarif-2.1.0.json",
		Runs:    []sarifRun{run},
	}
}

// Action returns what can be done about a vulnerability: "fixed in v0.23.0, and v0.30.0 is carried".
func (v *Vuln) Action() string {
	prefix := ""
	if v.IsGo() {
		prefix = "go"
	}
	switch {
	case v.FixCarried != "" && v.FixCarried == v.Fixed:
		return fmt.Sprintf("fixed in %s%s, which is carried", prefix, v.Fixed)
	case v.FixCarried != "" && v.Fixed != "":
		return fmt.Sprintf("fixed in %s%s, and %[1]s%[3]s is carried", prefix, v.Fixed, v.FixCarried)
	case v.FixCarried != "":
		return fmt.Sprintf("%s%s is not affected, and carried", prefix, v.FixCarried)
	case v.Fixed != "":
		return fmt.Sprintf("fixed in %s%s, which is not carried", prefix, v.Fixed)
	case len(v.OwnFixed) > 0:
		return "no version of the module is known to be fixed; in its own numbering, " + strings.Join(v.OwnFixed, ", ") + " is"
	}
	return "no version is known to be fixed"
}
