package upstream

import (
	"strings"
	"testing"
)

// TestListRules is the table of GOPROXY: after "," the next proxy is asked only after 404 and 410,
// after "|" it is asked after any error.
func TestListRules(t *testing.T) {
	good := serve(t, answer(200, "good"))
	gone := serve(t, answer(410, "gone"))
	missing := serve(t, answer(404, "missing"))
	forbidden := serve(t, answer(403, "forbidden"))
	broken := serve(t, answer(500, "broken"))
	dead := "http://127.0.0.1:1"
	for _, tc := range []struct{ goproxy, want, wantErr string }{
		{good, "good", ""},
		{missing + "," + good, "good", ""},
		{gone + "," + good, "good", ""},
		{forbidden + "," + good, "", "403 Forbidden: forbidden"},
		{broken + "," + good, "", "500 Internal Server Error"},
		{dead + "," + good, "", "connection refused"},
		{forbidden + "|" + good, "good", ""},
		{broken + "|" + good, "good", ""},
		{dead + "|" + good, "good", ""},
		{missing + ",off," + good, "", "404 Not Found"},
		{missing + ",direct", "", "404 Not Found: missing"},
		{missing + "," + forbidden, "", "403 Forbidden"},
		{" " + missing + " , " + good + "/ ", "good", ""},
		{"," + good, "good", ""},
		{"off", "", "GOPROXY=off"},
		{"direct", "", "only what GOPRIVATE or GONOPROXY names is fetched directly"},
	} {
		data, err := newClient(t, tc.goproxy).Get(ctx, "x/@v/list", 0)
		switch {
		case tc.wantErr == "" && (err != nil || string(data) != tc.want):
			t.Errorf("%s: %q, %v", tc.goproxy, data, err)
		case tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)):
			t.Errorf("%s: %v, want %s", tc.goproxy, err, tc.wantErr)
		}
	}
	for bad, want := range map[string]string{
		"": "empty", ",": "empty", "ftp://x": "invalid", "proxy": "invalid", "://": "invalid",
		"file:///no/such/folder": "no such file",
	} {
		if _, err := New(bad, "", 1); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("New(%q): %v, want %s", bad, err, want)
		}
	}
	if c, err := New("proxy.example/x", "", 1); err != nil || c.proxies[0].url != "https://proxy.example/x" {
		t.Errorf("a host without a scheme: %v", err)
	}
}
