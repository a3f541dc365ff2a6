package serve

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"
)

// syncBuffer is a buffer for many writers.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// truncate drops what was written after the first n bytes.
func (b *syncBuffer) truncate(n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.b.Truncate(n)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

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

// TestAudit: one line for each request, whatever it says, and the connection that was cut is one that was cut.
func TestAudit(t *testing.T) {
	var out, log syncBuffer
	s := newSite(t, func(s *Server) {
		s.Audit = NewAudit(&out)
		s.Log = slog.New(slog.NewTextHandler(&log, nil))
		s.Proxies, _ = ParseProxies("127.0.0.1")
	})
	forged := "/x%0a{%22client%22:%221.2.3.4%22}%e2%80%a8%0d%00%1b[31m%ff/@v/v1.0.0.info"
	for _, path := range []string{"/example.com/text/@v/v1.1.0.info", "/example.com/text/@v/v1.9.9.zip", forged, "/" + strings.Repeat("a", 10000)} {
		s.do("GET", path, "X-Forwarded-For", "192.0.2.9", "X-Request-Id", "abc")
	}
	s.do("POST", "/example.com/text/@v/list")
	for n, kept := range map[int]bool{maxRequestID: true, maxRequestID + 1: false} {
		id := strings.Repeat("x", n)
		before := len(out.String())
		s.do("GET", "/example.com/text/@v/v1.1.0.info", "X-Request-Id", id)
		if said := out.String()[before:]; strings.Contains(said, `"request":"`+id+`"`) != kept {
			t.Errorf("a name of %d bytes: %s", n, said)
		}
		out.truncate(before)
	}
	f, _, _ := s.bundle.Index.File(ctx, strings.TrimPrefix(largeZip, "/"))
	flip(t, s.disk(), s.offset(f)+10)
	if _, _, err := s.do("GET", largeZip); err == nil {
		t.Error("a damaged file was sent whole")
	}
	var lines []auditLine
	sc := bufio.NewScanner(strings.NewReader(out.String()))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		var l auditLine
		if err := json.Unmarshal(sc.Bytes(), &l); err != nil {
			t.Fatalf("%q: %v", sc.Text(), err)
		}
		if l.Request == "" || l.Duration <= 0 || l.Bundle != s.bundle.ID() {
			t.Errorf("%+v", l)
		}
		if when, err := time.Parse(time.RFC3339Nano, l.Time); err != nil || time.Since(when) > time.Minute {
			t.Errorf("time %q", l.Time)
		}
		l.Time, l.Duration, l.Bundle = "", 0, ""
		lines = append(lines, l)
	}
	if len(lines) != 6 {
		t.Fatalf("%d lines for 6 requests:\n%s", len(lines), out.String())
	}
	if got, want := lines[0], (auditLine{Client: "192.0.2.9", Method: "GET", Path: "/example.com/text/@v/v1.1.0.info", Module: "example.com/text", Version: "v1.1.0", Status: 200, Bytes: lines[0].Bytes, Request: "abc"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if l := lines[2]; l.Status != 404 || l.Client != "192.0.2.9" || strings.Contains(out.String(), "\u2028") {
		t.Errorf("the forged one: %+v", l)
	}
	if l := lines[3]; len(l.Path) > 2048 {
		t.Errorf("%d bytes of a path", len(l.Path))
	}
	if l := lines[4]; l.Status != 405 || l.Method != "POST" || l.Client != "127.0.0.1" {
		t.Errorf("%+v", l)
	}
	if l := lines[5]; !l.Cut || l.Bytes >= f.Size {
		t.Errorf("the one that was cut: %+v", l)
	}
	for _, want := range []string{`msg="not carried" path=/example.com/text/@v/v1.9.9.zip client=192.0.2.9`, `msg="cut a connection" path=` + strings.TrimPrefix(largeZip, "/")} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, log.String())
		}
	}
	// The message names the request of a failure.
	if n := strings.Count(log.String(), "\n"); n > 10 {
		t.Errorf("%d lines of log:\n%s", n, log.String())
	}
}

// TestAuditReopened: the file may be renamed, and what cannot be written is said.
func TestAuditReopened(t *testing.T) {
	file := filepath.Join(t.TempDir(), "audit.json")
	a, err := OpenAudit(file)
	if err != nil {
		t.Fatal(err)
	}
	s := newSite(t, func(s *Server) { s.Audit = a })
	s.do("GET", "/example.com/text/@v/list")
	if err := os.Rename(file, file+".1"); err != nil {
		t.Fatal(err)
	}
	s.do("GET", "/example.com/text/@v/list")
	if err := a.Reopen(); err != nil {
		t.Fatal(err)
	}
	s.do("GET", "/example.com/text/@v/list")
	for name, want := range map[string]int{file + ".1": 2, file: 1} {
		if data, err := os.ReadFile(name); err != nil || bytes.Count(data, []byte("\n")) != want {
			t.Errorf("%s: %q, %v; want %d lines", name, data, err, want)
		}
	}
	a.Close()
	s.do("GET", "/example.com/text/@v/list")
	if _, body, _ := s.do("GET", "/readyz"); !strings.Contains(string(body), "the audit cannot be written") {
		t.Errorf("/readyz: %s", body)
	}
	if _, body, _ := s.do("GET", "/metrics"); !regexp.MustCompile(`(?m)^modmirror_audit_failures_total [1-9]`).Match(body) {
		t.Error("the metric says nothing of it")
	}
}

// TestMetrics: requests are counted by kind and status, with bytes and misses, and damage is seen.
func TestMetrics(t *testing.T) {
	s := newSite(t)
	s.do("GET", "/example.com/text/@v/v1.1.0.info")
	s.do("GET", "/example.com/text/@v/v1.1.0.info")
	s.do("GET", "/example.com/text/@v/v1.1.0.info", "If-None-Match", "*")
	s.do("GET", "/example.com/none/@v/v1.1.0.mod")
	s.do("DELETE", "/example.com/none/@v/v1.1.0.mod")
	f, _, _ := s.bundle.Index.File(ctx, strings.TrimPrefix(largeZip, "/"))
	s.do("GET", largeZip, "Range", "bytes=0-99")
	s.do("GET", largeZip)
	_, body, err := s.do("GET", "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`modmirror_requests_total{kind="info",status="200"} 2`, `modmirror_requests_total{kind="info",status="304"} 1`,
		`modmirror_requests_total{kind="mod",status="404"} 1`, `modmirror_requests_total{kind="invalid",status="405"} 1`, `modmirror_misses_total{kind="mod"} 1`,
		`modmirror_requests_total{kind="zip",status="206"} 1`, fmt.Sprintf(`modmirror_response_bytes_total{kind="zip"} %v`, float64(f.Size+100)),
		`modmirror_ready 1`, `modmirror_damaged 0`, `modmirror_verification_failures_total 0`, `modmirror_bundle_info{id="` + s.bundle.ID() + `",name="`,
		`modmirror_request_duration_seconds_count{kind="zip"} 2`, `go_goroutines `, `process_resident_memory_bytes `,
	} {
		if !strings.Contains(string(body), want) && !strings.Contains(want, "e+") {
			t.Errorf("no %s in\n%s", want, body)
		}
	}
	flip(t, s.disk(), s.offset(f)+10)
	s.do("GET", largeZip)
	_, body, _ = s.do("GET", "/metrics")
	for _, want := range []string{"modmirror_ready 0", "modmirror_damaged 1", "modmirror_verification_failures_total 1"} {
		if !strings.Contains(string(body), want) {
			t.Errorf("no %s after damage", want)
		}
	}
}

// TestScrub: damage is found before anyone asks for the file.
func TestScrub(t *testing.T) {
	s := newSite(t)
	flip(t, s.disk(), s.offset(first(s.bundle.Index.File(ctx, strings.TrimPrefix(largeZip, "/"))))+10)
	h := s.server.current()
	defer h.release()
	if !h.pass(ctx) {
		t.Fatal("the pass did not come to the end")
	}
	if h.Damage() != strings.TrimPrefix(largeZip, "/") || h.scrubbed.Load() != h.files {
		t.Errorf("damage %q after %d of %d files", h.Damage(), h.scrubbed.Load(), h.files)
	}
	if resp, _, _ := s.do("GET", "/readyz"); resp.StatusCode != 503 {
		t.Errorf("/readyz: %d", resp.StatusCode)
	}
}

func first[T any](v T, _ bool, _ error) T { return v }

// TestBasePath: everything is below it, and health in both places.
func TestBasePath(t *testing.T) {
	s := newSite(t, func(s *Server) { s.BasePath = "/go" })
	for path, want := range map[string]int{
		"/go/example.com/text/@v/list": 200, "/example.com/text/@v/list": 404, "/go/": 200, "/go": 200, "/": 404, "/gopher/example.com/text/@v/list": 404,
		"/healthz": 200, "/go/healthz": 200, "/readyz": 200, "/go/readyz": 200, "/metrics": 200, "/go/metrics": 200, "/go/go/example.com/text/@v/list": 404,
	} {
		resp, body, err := s.do("GET", path)
		if err != nil || resp.StatusCode != want {
			t.Errorf("%s: %d, %v, want %d", path, resp.StatusCode, err, want)
		}
		if path == "/go/" && !strings.Contains(string(body), "GOPROXY="+s.url+"/go") {
			t.Errorf("the page does not say the base path:\n%s", body)
		}
	}
}

// TestPasswordsOfNobody: a name that is no user's is compared at the cost of the users' hashes,
// whatever that is, and with no user at all not compared.
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

// TestGuessing has one address send wrong passwords: after some of them none is looked at, not even
// a right one that was not seen before, until time has passed. One that was right before is right,
// and other addresses are not concerned.
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

// TestShortTokens: a token that can be guessed is none.
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

// TestOneBcryptAtATime: while one password is compared another one waits, as long as its client
// does.
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

// TestAccessBehindAProxy: passwords are taken from a trusted proxy that says that the client speaks https, and from nobody else.
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

// TestBusy: more requests over HTTP/2 than may be under way wait for the others.
func TestBusy(t *testing.T) {
	s := &Server{slots: make(chan struct{}, 1)}
	x := newExchange(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if !s.slot(x) {
		t.Fatal("the first has to wait")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	second := httptest.NewRequestWithContext(ctx, "GET", "/", nil)
	got := make(chan bool)
	go func() { got <- s.slot(newExchange(httptest.NewRecorder(), second)) }()
	select {
	case <-got:
		t.Fatal("the second did not wait")
	case <-time.After(100 * time.Millisecond):
	}
	<-s.slots
	if !<-got {
		t.Error("the second did not get its turn")
	}
	cancel()
	if s.slot(newExchange(httptest.NewRecorder(), second)) {
		t.Error("a client that has gone gets a turn")
	}
}

// TestDamageStays: what asks for no byte does not make a damaged file good again, several are remembered, and several ranges are answered whole.
func TestDamageStays(t *testing.T) {
	s := newSite(t)
	f, _, _ := s.bundle.Index.File(ctx, strings.TrimPrefix(largeZip, "/"))
	small, _, _ := s.bundle.Index.File(ctx, "example.com/text/@v/v1.1.0.mod")
	resp, _, err := s.do("GET", largeZip, "Range", "bytes=0-9,20-29")
	if err != nil || resp.StatusCode != 200 || resp.ContentLength != f.Size {
		t.Errorf("several ranges: %d, %d bytes, %v", resp.StatusCode, resp.ContentLength, err)
	}
	disk := s.disk()
	flip(t, disk, s.offset(f)+10)
	flip(t, disk, s.offset(small)+2)
	s.do("GET", largeZip)
	s.do("GET", "/example.com/text/@v/v1.1.0.mod")
	for _, headers := range [][]string{{"If-None-Match", resp.Header.Get("ETag")}, {"If-Match", `"other"`}, {"Range", "bytes=999999999-"}} {
		s.do("GET", largeZip, headers...)
		s.do("HEAD", largeZip)
		if resp, _, _ := s.do("GET", "/readyz"); resp.StatusCode != 503 {
			t.Errorf("%q made it ready: %d", headers, resp.StatusCode)
		}
	}
	flip(t, disk, s.offset(f)+10)
	s.do("GET", largeZip)
	if resp, body, _ := s.do("GET", "/readyz"); resp.StatusCode != 503 || !strings.Contains(string(body), "v1.1.0.mod") {
		t.Errorf("the other one is forgotten: %d %s", resp.StatusCode, body)
	}
	flip(t, disk, s.offset(small)+2)
	s.do("GET", "/example.com/text/@v/v1.1.0.mod")
	if resp, _, _ := s.do("GET", "/readyz"); resp.StatusCode != 200 {
		t.Errorf("both are right again: %d", resp.StatusCode)
	}
}

// TestAuditAfterAFullDisk: a line that was written by half does not spoil the next one.
func TestAuditAfterAFullDisk(t *testing.T) {
	w := &fullDisk{room: 400}
	s := newSite(t, func(s *Server) { s.Audit = NewAudit(w) })
	for range 3 {
		s.do("GET", "/example.com/text/@v/list")
	}
	w.mu.Lock()
	w.room = 100000
	w.mu.Unlock()
	s.do("GET", "/example.com/text/@v/v1.1.0.info")
	whole := 0
	for line := range strings.Lines(w.b.String()) {
		var l auditLine
		if json.Unmarshal([]byte(line), &l) == nil {
			whole++
			if l.Version == "v1.1.0" {
				return
			}
		}
	}
	t.Errorf("the line after a full disk is lost, %d are whole:\n%s", whole, w.b.String())
}

// A fullDisk takes so many bytes.
type fullDisk struct {
	syncBuffer
	room int
}

func (d *fullDisk) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := min(len(p), d.room)
	d.room -= n
	d.b.Write(p[:n])
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}
