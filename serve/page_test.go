package serve

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/serve/web/render"
)

func TestFirstPage(t *testing.T) {
	s := newSite(t, func(s *Server) {
		s.Render = func(_ context.Context, in io.Reader, out io.Writer) error { return render.Work(in, out) }
	})
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
	if err != nil || resp.StatusCode != 200 || !strings.Contains(string(body), "GOPROXY=&#39;"+s.url) || !strings.Contains(string(body), "corp.example/secret") {
		t.Errorf("%d %v\n%s", resp.StatusCode, err, body)
	}
	if _, body, _ := s.do("GET", "/settings.json"); !strings.Contains(string(body), `"private":["corp.example/secret"]`) {
		t.Errorf("settings: %s", body)
	}
}

// TestVars expects the settings of a client for each way in which it fetches modules of the network
// inside.
func TestVars(t *testing.T) {
	for _, test := range []struct {
		name     string
		settings Settings
		clean    bool
		want     string
	}{
		{"nothing", Settings{}, false, "GOPROXY=U GONOPROXY=none GOPRIVATE= GONOSUMDB="},
		{"with go env -w", Settings{}, true, "GOPROXY=U GONOPROXY= GOPRIVATE= GONOSUMDB="},
		{"fetched directly", Settings{Inside: []string{"a", "b"}, Private: []string{"c"}}, true,
			"GOPROXY=U GONOPROXY=a,b GOPRIVATE= GONOSUMDB=a,b,c"},
		{"a second proxy", Settings{Inside: []string{"a"}, Also: []string{"V"}}, false,
			"GOPROXY=U,V GONOPROXY=none GOPRIVATE= GONOSUMDB=a"},
		{"databases", Settings{SumDB: "sum.golang.org", VulnDB: true}, false,
			"GOPROXY=U GONOPROXY=none GOPRIVATE= GONOSUMDB= GOSUMDB=sum.golang.org GOVULNDB=U/vulndb"},
		{"another database", Settings{SumDB: "sum.example"}, false, "GOPROXY=U GONOPROXY=none GOPRIVATE= GONOSUMDB="},
	} {
		var got []string
		for _, v := range test.settings.Vars("U", test.clean) {
			got = append(got, v.Name+"="+v.Value)
		}
		if got := strings.Join(got, " "); got != test.want {
			t.Errorf("%s:\n%s, want\n%s", test.name, got, test.want)
		}
	}
}

func TestShellText(t *testing.T) {
	vars := []Var{{"GOPROXY", "http://x"}, {"GOVULNDB", "http://x/vulndb"}}
	for shell, want := range map[string]string{
		"sh":         "export GOPROXY='http://x'\nexport GOVULNDB='http://x/vulndb'\n",
		"powershell": "$env:GOPROXY = 'http://x'\n$env:GOVULNDB = 'http://x/vulndb'\n",
		"file":       "GOPROXY=http://x\nGOVULNDB=http://x/vulndb\n",
		"go":         "go env -w 'GOPROXY=http://x'\n",
	} {
		if got, ok := ShellText(shell, vars); got != want || !ok {
			t.Errorf("%s: %q, %v", shell, got, ok)
		}
	}
	if _, ok := ShellText("csh", vars); ok {
		t.Error("csh is known")
	}
}
