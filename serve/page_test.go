package serve

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestLandingPage(t *testing.T) {
	s := newSite(t)
	req, _ := http.NewRequest("GET", s.url+"/", nil)
	req.Host = `x"><script>alert(1)</script>`
	resp, err := http.DefaultClient.Do(req)
	if err == nil {
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if bytes.Contains(body, []byte("<script>")) {
			t.Error("a Host header reached the page as markup")
		}
	}
	resp, body, err := s.do("GET", "/")
	if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), "GOPROXY="+s.url) || !strings.Contains(string(body), "corp.example/secret") {
		t.Errorf("%d %v\n%s", resp.StatusCode, err, body)
	}
	if _, body, _ := s.do("GET", "/settings.json"); !strings.Contains(string(body), `"private":["corp.example/secret"]`) {
		t.Errorf("settings: %s", body)
	}
}
