package upstream

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/module"
)

// TestDoctor has a proxy for each way to fail.
func TestDoctor(t *testing.T) {
	closed := httptest.NewServer(nil)
	closed.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	modern := httptest.NewUnstartedServer(http.NotFoundHandler())
	modern.TLS = &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAnyClientCert}
	modern.StartTLS()
	t.Cleanup(modern.Close)
	trusting := secure.Client().Transport.(*http.Transport).TLSClientConfig
	html := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte("<html>log in"))
	})
	for _, tc := range []struct {
		name, url string
		want      Layer
		advice    string
	}{
		{"works", serve(t, answer(200, "v1.0.0")), LayerOK, ""},
		{"no such host", "http://no-such-host.invalid", LayerName, "is the name right?"},
		{"nothing listens", closed.URL, LayerConnection, "nothing listens there"},
		{"unknown certificate", secure.URL, LayerTLS, "SSL_CERT_FILE"},
		{"no TLS", strings.Replace(serve(t, answer(200, "")), "http://", "https://", 1), LayerTLS, "is it http://?"},
		{"client certificate wanted", modern.URL, LayerTLS, "client certificate"},
		{"login page", html, LayerLogin, "login or block page"},
		{"password", serve(t, answer(401, "who?")), LayerCredentials, "GOAUTH"},
		{"forbidden", serve(t, answer(403, "no")), LayerRefused, "rules"},
		{"absent", serve(t, answer(404, "no")), LayerNotFound, "one behind it"},
		{"busy", serve(t, answer(429, "wait")), LayerServer, "--parallel"},
		{"broken", serve(t, answer(503, "oops")), LayerServer, "pipe"},
		{"no proxy", serve(t, answer(400, "oops")), LayerAnswer, "URL of a module proxy"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newClient(t, tc.url)
			if tc.name == "client certificate wanted" {
				c.http.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: trusting.RootCAs, InsecureSkipVerify: true}
			}
			found, ok := c.Doctor(t.Context(), module.Version{Path: "example.com/m"}, "", "")
			if len(found) != 1 || found[0].Layer != tc.want || !strings.Contains(found[0].Advice, tc.advice) || ok != (tc.want == LayerOK) {
				t.Errorf("%+v, %v", found, ok)
			}
		})
	}
	// This proxy accepts connections and says nothing.
	silent := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	c := newClient(t, silent)
	c.http.Transport.(*http.Transport).ResponseHeaderTimeout = 50 * time.Millisecond
	if f, _ := c.find(t.Context(), silent+"/x"); f.Layer != LayerTimeout {
		t.Errorf("silent: %+v", f)
	}
}

// TestDoctorSumDB has proxies that pass the checksum database on and proxies that do not.
func TestDoctorSumDB(t *testing.T) {
	mux := func(sumdb bool) string {
		return serve(t, func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/sumdb/") && !sumdb {
				http.NotFound(w, r)
			}
		})
	}
	direct := mux(true)
	for _, tc := range []struct {
		goproxy, dbURL string
		ok             bool
	}{
		{mux(true), "", true},
		{mux(false), "", false}, // sum.invalid cannot be asked directly
		{mux(false) + "," + mux(true), "", true},
		{mux(false), direct, true},
	} {
		if found, ok := newClient(t, tc.goproxy).Doctor(t.Context(), module.Version{Path: "example.com/m", Version: "v1.0.0"}, "sum.invalid", tc.dbURL); ok != tc.ok {
			t.Errorf("%s %s: %v, %+v", tc.goproxy, tc.dbURL, ok, found)
		}
	}
}
