package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// nginx starts nginx with a sample of deploy/, in which each of the pairs is replaced, which must
// be there once, and returns its URL.
func (m *machine) nginx(sample string, pairs ...string) string {
	m.t.Helper()
	need(m.t, "nginx")
	conf, err := os.ReadFile("../deploy/" + sample)
	if err != nil {
		m.t.Fatal(err)
	}
	port, text := freePort(m.t), string(conf)
	pairs = append(pairs, "listen 8080;", "listen 127.0.0.1:"+port+";")
	for i := 0; i < len(pairs); i += 2 {
		if strings.Count(text, pairs[i]) != 1 {
			m.t.Fatalf("the sample has %q not once:\n%s", pairs[i], text)
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	tmp := filepath.Join(m.dir, "nginx")
	os.Mkdir(tmp, 0o755)
	paths := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		paths += kind + "_temp_path " + tmp + "/" + kind + "; "
	}
	text = "pid " + tmp + "/pid; error_log " + tmp + "/error.log; daemon off;\n" + strings.Replace(text, "http {", "http { access_log off; "+paths, 1)
	if os.Getuid() == 0 {
		text = "user root;\n" + text
	}
	file := filepath.Join(tmp, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.start("nginx", "-c", file, "-e", tmp+"/error.log")
	url := "http://127.0.0.1:" + port
	eventually(m.t, "nginx", func() bool { _, _, _, err := get(url); return err == nil })
	return url
}

// replica starts a replica at a port, as the samples want it.
func (m *machine) replica(name, port string, args ...string) *process {
	m.t.Helper()
	p := m.start(append([]string{"modmirror", "serve", "--addr", "127.0.0.1:" + port, "--state", filepath.Join(m.dir, name), "--base-path", "/go", "--trusted-proxy", "127.0.0.1",
		"--audit", filepath.Join(m.dir, name+".audit")}, args...)...)
	eventually(m.t, name, func() bool { status, _, _, _ := get("http://127.0.0.1:" + port + "/readyz"); return status == 200 })
	return p
}

// answered waits until a replica has answered so many more requests.
func (m *machine) answered(name string, n int) {
	lines := func() int {
		data, _ := os.ReadFile(filepath.Join(m.dir, name+".audit"))
		return bytes.Count(data, []byte("/@v/"))
	}
	for start, end := lines(), time.Now().Add(time.Minute); lines() < start+n && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
	}
}

// TestFailover: while go commands download a real project through nginx from two replicas, one is
// killed, and the storage goes away and comes back. What the client sees is reported; nothing wrong
// is delivered (its checksum database is on), and the second go mod download succeeds.
func TestFailover(t *testing.T) {
	m := newMachine(t)
	s := newStorage(m)
	name := os.Getenv("E2E_PROJECT") // such as github.com/caddyserver/caddy/v2@v2.10.0, with 463 modules
	if name == "" {
		name = "github.com/google/go-containerregistry@v0.22.1"
	}
	project := m.project(name)
	m.must("modmirror", "sync", "-q", "-o", "team.tar", project)
	m.must("modmirror", "publish", "--to", "s3://modules/team", "team.tar")
	portA, portB := freePort(t), freePort(t)
	url := m.nginx("nginx.conf", "127.0.0.1:8081", "127.0.0.1:"+portA, "127.0.0.1:8082", "127.0.0.1:"+portB)
	proxy := url + "/go"
	a := m.replica("a", portA, "s3://modules/team")
	b := m.replica("b", portB, "s3://modules/team")

	if status, _, _, err := get(proxy + "/metrics"); status != 404 || err != nil {
		t.Errorf("metrics for everyone: %d %v", status, err)
	}
	report := func(what, out string, err error, took time.Duration) {
		seen := "nothing of it"
		if err != nil {
			lines := strings.Split(strings.TrimSpace(errorsOf(out)), "\n")
			seen = strings.Join(lines[:min(3, len(lines))], "\n\t\t")
		}
		t.Logf("%s: go mod download all took %.1f s; the client saw\n\t\t%s", what, took.Seconds(), seen)
	}
	round := func(what, cache string, fault func()) {
		t.Helper()
		done := make(chan struct{})
		go func() { defer close(done); fault() }()
		start := time.Now()
		out, err := m.download(project, proxy, cache)
		took := time.Since(start)
		<-done
		report(what, out, err, took)
		if strings.Contains(out, "SECURITY ERROR") || strings.Contains(out, "checksum mismatch") {
			t.Errorf("%s: something wrong was delivered:\n%s", what, errorsOf(out))
		}
		start = time.Now()
		if out, err := m.download(project, proxy, cache); err != nil {
			t.Errorf("%s: the second go mod download failed: %s", what, errorsOf(out))
		} else {
			report(what+", the second time", out, err, time.Since(start))
		}
	}
	restart := func() { a = m.replica("a", portA, "s3://modules/team") }
	clear := func() {
		a.stop()
		b.stop()
		m.must("rm", "-rf", "a/cache", "b/cache")
		restart()
		b = m.replica("b", portB, "s3://modules/team")
	}

	s.proxy.rate.Store(10_000_000) // so that there is something to break off
	round("a replica is killed, caches empty", "cold", func() { m.answered("a", 40); a.kill() })
	restart()
	clear()
	round("the storage is killed for 3 s, caches empty", "storage", func() { m.answered("a", 40); s.gw.kill(); time.Sleep(3 * time.Second); s.start() })
	s.proxy.rate.Store(0)
	if out, err := m.download(project, proxy, "warm"); err != nil {
		t.Fatalf("with nothing broken: %s", errorsOf(out))
	}
	for i, after := range []int{10, 40, 80} {
		round(fmt.Sprintf("a replica is killed after %d answers, caches warm", after), fmt.Sprint("kill", i), func() { m.answered("a", after); a.kill() })
		restart()
	}
	s.gw.kill()
	round("the storage is away, each replica has a part in its cache", "away", func() {})
	s.start()

	audit, err := os.ReadFile(filepath.Join(m.dir, "b.audit"))
	if err != nil || !regexp.MustCompile(`"client":"127\.0\.0\.1".*"path":"/go/.*"request":"[0-9a-f]{32}"`).Match(audit) {
		t.Errorf("the audit does not have what nginx says of clients: %v", err)
	}
}
