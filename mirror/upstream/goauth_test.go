package upstream

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"
)

// guarded starts a TLS server that answers with the password of a request, and "ok" to netrc's ann
// and the command's token.
func guarded(t *testing.T, allow func(r *http.Request) bool) *httptest.Server {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !allow(r) {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, "ok")
	}))
	t.Cleanup(s.Close)
	return s
}

func authClient(t *testing.T, s *httptest.Server, goproxy, goauth string) *Client {
	t.Helper()
	c, err := New(goproxy, goauth, 4)
	if err != nil {
		t.Fatal(err)
	}
	c.http.Transport.(*http.Transport).TLSClientConfig = s.Client().Transport.(*http.Transport).TLSClientConfig
	return c
}

// script writes an executable shell script.
func script(t *testing.T, text string) string {
	name := filepath.Join(t.TempDir(), "auth")
	if err := os.WriteFile(name, []byte("#!/bin/sh\n"+text), 0o777); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestAuth finds the credentials of a proxy through GOAUTH as go help goauth describes it.
func TestAuth(t *testing.T) {
	s := guarded(t, func(r *http.Request) bool {
		user, pass, _ := r.BasicAuth()
		return user == "ann" && pass == "secret" || r.Header.Get("Private-Token") == "t0ken"
	})
	host := strings.TrimPrefix(s.URL, "https://")
	machine, _, _ := strings.Cut(host, ":")
	netrc := filepath.Join(t.TempDir(), "netrc")
	if err := os.WriteFile(netrc, fmt.Appendf(nil, "macdef x\nmachine %[1]s login macro password no\n\nmachine other.example login ann password wrong\nmachine %[2]s login ann\n  password secret\nmachine %[2]s login bob password second\n", machine, host), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("NETRC", netrc)
	first := script(t, "[ $# = 0 ] && printf '"+s.URL+"/m\\n\\nPrivate-Token: t0ken\\n\\n'")
	// This command waits until it is told about a refusal, and reads the answer.
	second := script(t, "[ $# = 1 ] || exit 0; grep -q '^HTTP/.* 401' || exit 1; printf '%s\\n\\nPrivate-Token: t0ken\\n\\n' \"$1\"")
	broken := script(t, "echo 'no ticket: run kinit' >&2; exit 3")
	for _, tc := range []struct{ name, goauth, wantErr string }{
		{"netrc is the default", "", ""},
		{"netrc", "netrc", ""},
		{"off", "off", "401 Unauthorized: who are you"},
		{"a command", first, ""},
		{"a quoted command", "'" + first + "'", ""},
		{"a command that wants the URL", second, ""},
		{"the first one counts", first + "; netrc", ""},
		{"a command that fails", broken, "no ticket: run kinit"},
		{"git without a folder", "git", "absolute path"},
		{"off among others", "off; netrc", "cannot be combined"},
		{"nothing", "netrc;;", "empty command"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(s.URL, tc.goauth, 4)
			if err == nil {
				c := authClient(t, s, s.URL, tc.goauth)
				var data []byte
				if data, err = c.Get(t.Context(), "m/@v/list", 0); err == nil && string(data) != "ok" {
					t.Errorf("got %q", data)
				}
			}
			if tc.wantErr == "" && err != nil || tc.wantErr != "" && (err == nil || !strings.Contains(err.Error(), tc.wantErr)) {
				t.Errorf("%v, want %q", err, tc.wantErr)
			}
		})
	}
}

// TestCredentialsStay has a proxy redirect to another host, which must not get the headers for the
// first.
func TestCredentialsStay(t *testing.T) {
	var leaked http.Header
	other := guarded(t, func(r *http.Request) bool { leaked = r.Header; return true })
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Private-Token") == "" {
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		http.Redirect(w, r, other.URL+"/elsewhere", http.StatusFound)
	}))
	t.Cleanup(s.Close)
	c := authClient(t, s, s.URL, script(t, "printf '"+s.URL+"\\n\\nPrivate-Token: t0ken\\nAuthorization: Bearer x\\n\\n'"))
	if data, err := c.Get(t.Context(), "m/@v/list", 0); err != nil || string(data) != "ok" {
		t.Fatalf("%q, %v", data, err)
	}
	if leaked.Get("Private-Token") != "" || leaked.Get("Authorization") != "" {
		t.Errorf("the other host got %v", leaked)
	}
}

// TestNoCredentialsInTheClear has a plain http proxy ask for a password.
func TestNoCredentialsInTheClear(t *testing.T) {
	var got string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got += r.Header.Get("Authorization")
		http.Error(w, "who are you", http.StatusUnauthorized)
	}))
	t.Cleanup(s.Close)
	netrc := filepath.Join(t.TempDir(), "netrc")
	os.WriteFile(netrc, []byte("machine "+strings.TrimPrefix(s.URL, "http://")+" login ann password secret\n"), 0o600)
	t.Setenv("NETRC", netrc)
	c, err := New(s.URL, "netrc", 4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Get(t.Context(), "m/@v/list", 0); err == nil || got != "" {
		t.Errorf("%v, and sent %q", err, got)
	}
}

func TestParseCredentials(t *testing.T) {
	got, err := parseCredentials([]byte("https://a.example\nhttps://b.example/x\n\nAuthorization: Basic eA==\nX-Y: 1\nX-Y: 2\n\nhttps://c.example\n\n\n"))
	want := map[string]http.Header{
		"https://a.example":   {"Authorization": {"Basic eA=="}, "X-Y": {"1", "2"}},
		"https://b.example/x": {"Authorization": {"Basic eA=="}, "X-Y": {"1", "2"}},
		"https://c.example":   {},
	}
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v, %s", err, cmp.Diff(want, got))
	}
	for _, bad := range []string{"https://a.example\n", "nonsense\n\n\n", "https://a.example\n\nno header\n\n", "https://a.example\n\nA: b\n"} {
		if got, err := parseCredentials([]byte(bad)); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// TestAuthSideBySide has many requests refused at once while the command with the right token is
// slow, and then a token that expires again and again.
func TestAuthSideBySide(t *testing.T) {
	var token atomic.Int64
	token.Store(1)
	s := guarded(t, func(r *http.Request) bool { return r.Header.Get("Private-Token") == fmt.Sprint("t", token.Load()) })
	counter := filepath.Join(t.TempDir(), "n")
	c := authClient(t, s, s.URL, script(t, `[ $# = 1 ] || exit 0
n=$(($(cat `+counter+` 2>/dev/null || echo 0) + 1))
echo $n >`+counter+`
sleep 0.2
printf '`+s.URL+`\n\nPrivate-Token: t%s\n\n' $n`))
	get := func() {
		var eg errgroup.Group
		for range 8 {
			eg.Go(func() error {
				_, err := c.Get(t.Context(), "m/@v/list", 0)
				return err
			})
		}
		if err := eg.Wait(); err != nil {
			t.Errorf("token %d: %v", token.Load(), err)
		}
	}
	for range 3 {
		get()
		token.Add(1)
	}
}

// TestAuthHangs has a command leave a child process behind that holds its output.
func TestAuthHangs(t *testing.T) {
	s := guarded(t, func(*http.Request) bool { return false })
	c := authClient(t, s, s.URL, script(t, "sleep 60 & sleep 60"))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := c.Get(ctx, "m/@v/list", 0); err == nil || time.Since(start) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
