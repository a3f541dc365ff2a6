package serve

import (
	"bytes"
	"strings"
	"testing"
)

func TestNotFoundSaysWhatAndHow(t *testing.T) {
	s := newSite(t)
	for path, words := range map[string][]string{
		"/example.com/hello/@v/v1.2.0.info":         {"example.com/hello@v1.2.0 is not in bundle test of 2023-11-14", "carried: v1.1.0", "add this line to the list outside: example.com/hello@v1.2.0"},
		"/example.com/text/@v/v1.0.0.zip":           {"of this version only the go.mod is carried", "carried: v1.1.0"},
		"/example.com/gone/@v/v1.0.0.zip":           {"its zip could not be had when the bundle was made (status 404)", "no version of this module is carried"},
		"/example.com/nowhere/@v/list":              {"no version of this module is carried", "example.com/nowhere@latest"},
		"/example.com/nowhere/@latest":              {"no version of this module is carried"},
		"/sumdb/sum.golang.org/supported":           {"the checksum database in bundle test of 2023-11-14 is sum.test.example/db, not sum.golang.org"},
		"/sumdb/" + s.DB.Name + "/tile/8/3/000.p/9": {"up to record", "remove $(go env GOPATH)/pkg/sumdb/" + s.DB.Name + "/latest"},
	} {
		resp, body, err := s.do("GET", path)
		if err != nil || resp.StatusCode != 404 || !strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
			t.Errorf("%s: %v %v", path, resp.StatusCode, err)
		}
		for _, w := range words {
			if !strings.Contains(string(body), w) {
				t.Errorf("%s: %q is not in\n%s", path, w, body)
			}
		}
		if len(body) > maxDetailBytes+1 || bytes.Count(body, []byte("\n")) > maxDetailLines {
			t.Errorf("%s: %d bytes, cmd/go prints %d:\n%s", path, len(body), maxDetailBytes, body)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.misses) != 7 {
		t.Errorf("misses: %q", s.misses)
	}
}

// TestAdvice asks for what no list can name, for a platform without Go, and for modules of the
// network inside.
func TestAdvice(t *testing.T) {
	inside := &Inside{Patterns: "corp.example/git"}
	if err := inside.Open(); err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(s *Server) { s.Inside = inside })
	for path, want := range map[string]string{
		"/golang.org/toolchain/@v/v0.0.1-go1.27.linux-amd64.zip": "no Go of that name was released",
		"/example.com/hello/@v/v1.1.0,.info":                     "did you mean example.com/hello@v1.1.0?",
		"/self/plan9-mips.tar":                                   "add a line to the list outside: self plan9/mips",
		"/corp.example/git/x/@v/list":                            "corp.example/git/x is a module of your own network",
		"/vulndb/ID/GO-2021-9999.json":                           "has no such entry",
	} {
		resp, body, err := s.do("GET", path)
		if err != nil || resp.StatusCode != 404 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %v, want %q in\n%s", path, err, want, body)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range s.misses {
		if strings.HasPrefix(path, "corp.example/") {
			t.Errorf("%s is wanted, which clients fetch elsewhere", path)
		}
	}
}
