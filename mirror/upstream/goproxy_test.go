package upstream

import (
	"errors"
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

// TestSumDB is the table of where a checksum database is asked (cmd/go/internal/modfetch/sumdb.go
// initBase): through the first proxy that supports it, and directly only after 404, 410 or a pipe.
func TestSumDB(t *testing.T) {
	good := serve(t, answer(200, ""))
	missing := serve(t, answer(404, "missing"))
	forbidden := serve(t, answer(403, "forbidden"))
	broken := serve(t, answer(500, "broken"))
	const name = "sum.invalid"
	for _, tc := range []struct{ goproxy, want, proxy, wantErr string }{
		{good, good, "", ""},
		{missing + "," + good, good, "", ""},
		{forbidden + "|" + good, good, "", ""},
		{broken + "|" + good, good, "", ""},
		{forbidden + "," + good, "", forbidden, "the proxy does not pass checksum database sum.invalid on"},
		{broken + "," + good, "", "", "500 Internal Server Error"},
		{missing, "", "", "no proxy of GOPROXY passes checksum database sum.invalid on, and it cannot be asked directly"},
		{"direct," + good, "", "", "cannot be asked directly"},
	} {
		base, err := newClient(t, tc.goproxy).SumDB(ctx, name)
		if tc.want != "" {
			if err != nil || base != tc.want+"/sumdb/"+name {
				t.Errorf("%s: %s, %v", tc.goproxy, base, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
			t.Errorf("%s: %v, want %s", tc.goproxy, err, tc.wantErr)
		}
		if e, ok := errors.AsType[*SumDBError](err); ok && tc.proxy != strings.TrimSuffix(e.Proxy, "/sumdb/"+name) {
			t.Errorf("%s: the proxy that refuses is %q, want %q", tc.goproxy, e.Proxy, tc.proxy)
		} else if !ok && tc.proxy != "" {
			t.Errorf("%s: %T", tc.goproxy, err)
		}
	}
}
