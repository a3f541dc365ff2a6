package serve

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
	"testing"
)

// TestVulnDB asks for the vulnerability database compressed, as govulncheck does, and as it is.
func TestVulnDB(t *testing.T) {
	s := newSite(t)
	for _, name := range []string{"ID/GO-2021-0113.json", "index/modules.json"} {
		want := `{"name":"` + name + `"}`
		resp, body, err := s.do("GET", "/vulndb/"+name)
		if err != nil || resp.StatusCode != 200 || string(body) != want || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s, %v", name, resp.StatusCode, body, err)
		}
		for range 2 {
			resp, body, err = s.do("GET", "/vulndb/"+name+".gz")
			if err != nil || resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != "" {
				t.Fatalf("%s.gz: %d, %v", name, resp.StatusCode, err)
			}
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(z); err != nil || string(got) != want {
				t.Errorf("%s.gz: %s, %v", name, got, err)
			}
		}
	}
	for _, path := range []string{"/vulndb/ID/GO-2021-9999.json", "/vulndb/ID/GO-2021-9999.json.gz"} {
		if resp, body, _ := s.do("GET", path); resp.StatusCode != 404 || !strings.Contains(string(body), "no such entry") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
	for _, path := range []string{"/vulndb/", "/vulndb/ID/", "/vulndb/ID/../index/db.json", "/vulndb/index/db.json.gz.gz", "/vulndb/ID/GO-1-1.json"} {
		if resp, _, _ := s.do("GET", path); resp.StatusCode != 404 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
}
