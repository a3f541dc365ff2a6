package serve

import (
	"bytes"
	"strings"
	"testing"
)

// TestLookupsAreComposed compares answers to lookups with the files in the tar.
func TestLookupsAreComposed(t *testing.T) {
	s := newSite(t)
	lookup := "/sumdb/" + s.DB.Name + "/lookup/"
	_, body, err := s.do("GET", lookup+"example.com/text@v1.0.0") // carried with its go.mod only
	if err != nil {
		t.Fatal(err)
	}
	want, err := s.bundle.ReadFile(ctx, strings.TrimPrefix(lookup, "/")+"example.com/text@v1.0.0", 1<<20)
	if err != nil || !bytes.Equal(body, want) {
		t.Errorf("served %q, the tar has %q (%v)", body, want, err)
	}
	for _, path := range []string{lookup + "corp.example/secret@v1.0.0", "/sumdb/sum.golang.org/supported", "/sumdb/other.example/lookup/example.com/text@v1.0.0"} {
		if resp, body, _ := s.do("GET", path); resp.StatusCode != 404 {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}
