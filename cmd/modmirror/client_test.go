package main

import (
	"slices"
	"testing"

	"github.com/modmirror/modmirror/serve"
)

// TestDoctorKnowsReleases has clients of several ages, set as modmirror env sets them: nothing is
// BAD that they cannot have.
func TestDoctorKnowsReleases(t *testing.T) {
	const base = "http://goproxy.corp.example:8080"
	settings := serve.Settings{SumDB: "sum.golang.org", Private: []string{"corp.example/secret"},
		Inside: []string{"git.corp.example"}}
	t.Setenv("NO_PROXY", "goproxy.corp.example")
	for _, tc := range []struct {
		name string
		env  clientEnv
		bad  []string // settings that are
	}{
		{"go1.11 has nothing but GOPROXY", clientEnv{GOVERSION: "go1.11.13", GOPROXY: base}, nil},
		{"go1.12 with another proxy", clientEnv{GOVERSION: "go1.12.17", GOPROXY: "http://other"}, []string{"GOPROXY"}},
		{"go1.13 as env sets it", clientEnv{GOVERSION: "go1.13.15", GOPROXY: base, GONOPROXY: "git.corp.example",
			GOSUMDB: "sum.golang.org", GONOSUMDB: "git.corp.example,corp.example/secret"}, nil},
		{"go1.27 without the network inside",
			clientEnv{GOVERSION: "go1.27.4", GOPROXY: base, GONOPROXY: "none", GOSUMDB: "sum.golang.org",
				GONOSUMDB: "corp.example/secret"}, []string{"GONOPROXY", "GONOSUMDB"}},
		{"by GOPRIVATE", clientEnv{GOVERSION: "go1.27.4", GOPROXY: base, GOPRIVATE: "git.corp.example",
			GONOPROXY: "git.corp.example", GOSUMDB: "sum.golang.org",
			GONOSUMDB: "git.corp.example,corp.example/secret"}, nil},
		{"a pattern that matches nothing",
			clientEnv{GOVERSION: "go1.27.4", GOPROXY: base, GONOPROXY: "git.corp.example", GOSUMDB: "sum.golang.org",
				GONOSUMDB: "git.corp.example,corp.example/secret, x.example"}, []string{"GONOSUMDB"}},
		{"past the server", clientEnv{GOVERSION: "go1.27.4", GOPROXY: base + ",direct",
			GONOPROXY: "git.corp.example,github.com", GOSUMDB: "off",
			GONOSUMDB: "git.corp.example,corp.example/secret"}, []string{"GOPROXY", "GONOPROXY", "GOSUMDB"}},
	} {
		var bad []string
		for _, c := range tc.env.against(base, settings) {
			if !c.OK {
				bad = append(bad, c.What)
			}
		}
		if !slices.Equal(bad, tc.bad) {
			t.Errorf("%s: BAD are %v, want %v", tc.name, bad, tc.bad)
		}
	}
	also := settings
	also.Also = []string{"http://forge.corp.example/go"}
	both := clientEnv{GOVERSION: "go1.27.4", GOPROXY: base + ",http://forge.corp.example/go",
		GOSUMDB: "sum.golang.org", GONOSUMDB: "git.corp.example,corp.example/secret"}
	for _, c := range both.against(base, also) {
		if !c.OK {
			t.Errorf("with a second proxy %s is BAD: %s", c.What, c.Says)
		}
	}
	both.GOPROXY = base
	if !slices.ContainsFunc(both.against(base, also), func(c check) bool { return c.What == "GOPROXY" && !c.OK }) {
		t.Error("without the second proxy GOPROXY is as it should be")
	}
}
