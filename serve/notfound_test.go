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
