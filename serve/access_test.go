package serve

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// TestPasswordsOfNobody compares passwords of unknown users: that takes the time of a known one,
// whatever the cost of the hashes. Without any user nothing is compared.
func TestPasswordsOfNobody(t *testing.T) {
	file := filepath.Join(t.TempDir(), "users")
	nobody := strings.Repeat("AB", 26)
	for _, costs := range [][]int{nil, {4}, {5, 5}, {4, 6}} {
		var lines []byte
		for i, cost := range costs {
			hash, err := bcrypt.GenerateFromPassword([]byte("correct-horse"), cost)
			if err != nil {
				t.Fatal(err)
			}
			lines = fmt.Appendf(lines, "user%d:%s\n", i, hash)
		}
		if err := os.WriteFile(file, lines, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := readHtpasswd(file, nobody)
		if err != nil {
			t.Fatal(err)
		}
		seen := make(map[int]bool)
		for i := range 64 {
			name := fmt.Sprint("other", i)
			hash, known := p.of(name)
			if len(costs) == 0 && hash == nil && !known {
				continue
			}
			cost, err := bcrypt.Cost(hash)
			if again, _ := p.of(name); err != nil || known || !slices.Contains(costs, cost) || !bytes.Equal(hash, again) {
				t.Fatalf("users of cost %v: %s is %s, then %s, %v, %v", costs, name, hash, again, known, err)
			}
			if i < 2 && bcrypt.CompareHashAndPassword(hash, []byte("correct-horse")) != bcrypt.ErrMismatchedHashAndPassword {
				t.Errorf("%s is no hash that can be compared", hash)
			}
			seen[cost] = true
		}
		for _, cost := range costs {
			if !seen[cost] {
				t.Errorf("users of cost %v: nobody was compared at %d", costs, cost)
			}
		}
		for i := range costs {
			if hash, known := p.of(fmt.Sprint("user", i)); !known || bcrypt.CompareHashAndPassword(hash, []byte("correct-horse")) != nil {
				t.Errorf("user%d: %s, %v", i, hash, known)
			}
		}
	}
}

// usersFile writes a file of users whose password is correct-horse.
func usersFile(t *testing.T, names ...string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("correct-horse"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	var lines []byte
	for _, name := range names {
		lines = fmt.Appendf(lines, "%s:%s\n", name, hash)
	}
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, lines, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestGuessing has one address send wrong passwords. After some of them none is compared until time
// has passed, not even a right one that is new. A password that was right before stays right, and
// other addresses are not affected.
func TestGuessing(t *testing.T) {
	users := usersFile(t, "alice", "bob")
	refused := make(map[string]int)
	a := &Access{Htpasswd: users}
	if err := a.open(slog.New(slog.DiscardHandler), func(reason string) { refused[reason]++ }); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a.guesses.now = func() time.Time { return now }
	try := func(addr, user, password string) verdict {
		r := httptest.NewRequest("GET", "/", nil)
		r.SetBasicAuth(user, password)
		_, v := a.who(r, netip.MustParseAddr(addr))
		return v
	}
	want := func(what string, got, want verdict) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %v, want %v", what, got, want)
		}
	}
	const here, there = "192.0.2.1", "192.0.2.2"
	want("alice", try(here, "alice", "correct-horse"), reader)
	for i := range maxGuesses {
		want("guess", try(here, []string{"bob", "nobody"}[i%2], fmt.Sprint("wrong", i)), nobody)
	}
	want("one guess more", try(here, "bob", "wrong"), guessing)
	want("right, after too many", try(here, "bob", "correct-horse"), guessing)
	want("right before", try(here, "alice", "correct-horse"), reader)
	want("elsewhere", try(there, "bob", "wrong"), nobody)
	now = now.Add(guessInterval)
	want("later", try(here, "bob", "correct-horse"), reader)
	if refused[refusedGuessing] != 2 || refused[refusedPassword] != maxGuesses+1 {
		t.Errorf("counted: %v", refused)
	}
	for i := range 2 * maxGuessers { // each from another address
		a.guesses.wrong(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}))
	}
	if n := len(a.guesses.by); n > maxGuessers {
		t.Errorf("%d addresses are remembered", n)
	}
}

// TestShortTokens has tokens that are too short, or have spaces.
func TestShortTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	for token, ok := range map[string]bool{"ci:0123456789abcdef": true, "0123456789abcdef": true, "ci:0123456789abcde": false, "ci:0123456789 abcdef": false} {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readTokens(file); (err == nil) != ok {
			t.Errorf("%s: %v", token, err)
		}
	}
}

// TestOneBcryptAtATime has a second password wait while one is compared, as long as its client
// waits.
func TestOneBcryptAtATime(t *testing.T) {
	users := usersFile(t, "alice")
	a := &Access{Htpasswd: users}
	if err := a.open(slog.New(slog.DiscardHandler), func(string) {}); err != nil {
		t.Fatal(err)
	}
	ask := func(wait time.Duration) verdict {
		ctx, cancel := context.WithTimeout(t.Context(), wait)
		defer cancel()
		r := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
		r.SetBasicAuth("alice", "correct-horse")
		_, v := a.who(r, someone)
		return v
	}
	a.hashing <- struct{}{} // one is compared
	if v := ask(200 * time.Millisecond); v != nobody {
		t.Errorf("a second one beside it: %v", v)
	}
	<-a.hashing
	if v := ask(20 * time.Second); v != reader {
		t.Errorf("afterwards: %v", v)
	}
}

// TestAccessBehindAProxy accepts passwords from a trusted proxy whose client speaks https, and from
// nobody else.
func TestAccessBehindAProxy(t *testing.T) {
	users := usersFile(t, "alice")
	for _, test := range []struct {
		proxy, proto, password string
		want                   int
	}{
		{"127.0.0.1", "https", "correct-horse", 200},
		{"127.0.0.1", "https", "wrong", 401},
		{"127.0.0.1", "http", "correct-horse", 403},
		{"127.0.0.1", "", "correct-horse", 403},
		{"192.0.2.1", "https", "correct-horse", 403},
	} {
		var out syncBuffer
		s := newSite(t, func(s *Server) {
			s.Access = &Access{Htpasswd: users}
			s.Proxies, _ = ParseProxies(test.proxy)
			s.Audit = NewAudit(&out)
		})
		req, _ := http.NewRequest("GET", s.url+"/example.com/text/@v/list", nil)
		req.SetBasicAuth("alice", test.password)
		if test.proto != "" {
			req.Header.Set("X-Forwarded-Proto", test.proto)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != test.want {
			t.Errorf("%+v: %d", test, resp.StatusCode)
		}
		if named := strings.Contains(out.String(), `"name":"alice"`); named != (test.want == 200) {
			t.Errorf("%+v: %s", test, out.String())
		}
	}
}

// TestBearerTokens lets in a client with a token of the file, by its name, and no other.
func TestBearerTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(file, []byte("# ours\nci:0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused := 0
	a := &Access{Tokens: file}
	if err := a.open(slog.New(slog.DiscardHandler), func(string) { refused++ }); err != nil {
		t.Fatal(err)
	}
	for token, want := range map[string]verdict{"0123456789abcdef": reader, "0123456789abcdeg": nobody, "": nobody} {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		if name, v := a.who(r, someone); v != want || (name == "ci") != (want == reader) {
			t.Errorf("%q: %q, %v", token, name, v)
		}
	}
	if refused != 2 {
		t.Errorf("%d tokens were counted as refused", refused)
	}
}
