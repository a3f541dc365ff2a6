package upstream

import (
	"context"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestRedirectRules(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		ok       bool
	}{
		{"https://a.example/x", "https://b.example/x", true},
		{"https://a.example/x", "http://a.example/x", false},
		{"http://a.example/x", "http://127.0.0.1/x", false},
		{"http://a.example/x", "http://169.254.169.254/latest/meta-data", false},
		{"http://a.example/x", "http://[::1]/x", false},
		{"http://a.example/x", "http://localhost/x", false},
		{"http://a.example/x", "http://0.0.0.0/x", false},
		{"http://a.example/x", "http://LOCALHOST/x", false},
		{"http://a.example/x", "http://[fe80::1%25eth0]/x", false},
		{"http://a.example/x", "http://[::ffff:127.0.0.1]/x", false},
		{"http://127.0.0.1:1/x", "http://127.0.0.1:2/x", true},
	} {
		from, _ := http.NewRequest("GET", tc.from, nil)
		to, _ := http.NewRequest("GET", tc.to, nil)
		if err := checkRedirect(to, []*http.Request{from}); (err == nil) != tc.ok {
			t.Errorf("%s → %s: %v", tc.from, tc.to, err)
		}
	}
}

// TestRedirectRebinds checks that a redirect is not followed to this machine when its name resolved
// to an address elsewhere during the check and resolves to this machine when connecting.
func TestRedirectRebinds(t *testing.T) {
	far := context.WithValue(ctx, afar{}, true)
	local := strings.TrimPrefix(serve(t, answer(200, "secret")), "http://")
	_, port, err := net.SplitHostPort(local)
	if err != nil {
		t.Fatal(err)
	}
	for _, to := range []string{local, "localhost:" + port} { // the name resolves to this machine now
		if c, err := dial(far, "tcp", to); err == nil || !strings.Contains(err.Error(), "which is the local address") {
			if c != nil {
				c.Close()
			}
			t.Errorf("%s after a redirect: %v", to, err)
		}
		c, err := dial(ctx, "tcp", to)
		if err != nil {
			t.Fatalf("%s without one: %v", to, err)
		}
		c.Close()
	}
	// A redirect from elsewhere marks its request; a redirect of a proxy on this machine does not.
	for from, want := range map[string]bool{"http://192.0.2.1/x": true, "http://127.0.0.1:1/x": false} {
		a, _ := http.NewRequest("GET", from, nil)
		b, _ := http.NewRequest("GET", "http://192.0.2.2/x", nil)
		if err := checkRedirect(b, []*http.Request{a}); err != nil || (b.Context().Value(afar{}) != nil) != want {
			t.Errorf("a redirect from %s: marked %v, %v", from, b.Context().Value(afar{}), err)
		}
	}
}
