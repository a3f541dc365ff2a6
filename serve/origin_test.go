package serve

import (
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestOrigin(t *testing.T) {
	proxies, err := ParseProxies("127.0.0.1, 10.0.0.0/8,::1")
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", "example.com", "10.0.0.0/33", "127.0.0.1,"} {
		if _, err := ParseProxies(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	for _, test := range []struct {
		name, peer string
		headers    map[string][]string
		want       origin
	}{
		{"direct", "192.0.2.1:1000", nil, origin{netip.MustParseAddr("192.0.2.1"), "http", "example.com", false}},
		{"a liar", "192.0.2.1:1000", map[string][]string{"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"evil"}},
			origin{netip.MustParseAddr("192.0.2.1"), "http", "example.com", false}},
		{"by a proxy", "127.0.0.1:1000", map[string][]string{"X-Forwarded-For": {"192.0.2.7"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Host": {"go.example"}},
			origin{netip.MustParseAddr("192.0.2.7"), "https", "go.example", true}},
		{"by two proxies, behind a liar", "[::1]:1000", map[string][]string{"X-Forwarded-For": {"127.0.0.1, 192.0.2.7", "10.1.2.3"}},
			origin{netip.MustParseAddr("192.0.2.7"), "http", "example.com", true}},
		{"nonsense", "[::ffff:127.0.0.1]:1000", map[string][]string{"X-Forwarded-For": {"192.0.2.7, unknown"}, "X-Forwarded-Proto": {"gopher"}},
			origin{netip.MustParseAddr("127.0.0.1"), "http", "example.com", true}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := httptest.NewRequest("GET", "/", nil)
			r.RemoteAddr = test.peer
			for k, v := range test.headers {
				r.Header[k] = v
			}
			if diff := cmp.Diff(test.want, originOf(r, proxies), cmp.AllowUnexported(origin{}), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
	}
}
