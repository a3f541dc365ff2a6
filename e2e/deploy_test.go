package e2e

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

// TestCaddy: the sample of deploy/ passes a go command through, over TLS, and goes on when a
// replica is gone.
func TestCaddy(t *testing.T) {
	need(t, "caddy")
	m := newMachine(t)
	file := m.synthetic("team", 20, 1000)
	conf, err := os.ReadFile("../deploy/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	one, two, port := freePort(t), freePort(t), freePort(t)
	text := strings.NewReplacer("127.0.0.1:8081", "127.0.0.1:"+one, "127.0.0.1:8082", "127.0.0.1:"+two, "go.example {", "https://localhost:"+port+" {").Replace(string(conf))
	text = fmt.Sprintf("{\n\tadmin off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tstorage file_system %s\n}\n%s", filepath.Join(m.dir, "caddy"), text)
	caddyfile := filepath.Join(m.dir, "Caddyfile")
	if err := os.WriteFile(caddyfile, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	a := m.replica("a", one, file)
	m.replica("b", two, file)
	m.start("caddy", "run", "--config", caddyfile, "--adapter", "caddyfile")
	ca := filepath.Join(m.dir, "caddy", "pki", "authorities", "local", "root.crt")
	eventually(t, "Caddy's CA", func() bool { _, err := os.Stat(ca); return err == nil })
	m.env = append(m.env, "SSL_CERT_FILE="+ca)
	project := filepath.Join(m.dir, "p")
	os.Mkdir(project, 0o755)
	os.WriteFile(filepath.Join(project, "go.mod"), []byte("module p\n\ngo 1.21\n\nrequire bench.example/m00000000 v1.0.3\n"), 0o644)
	m.env = append(m.env, "GONOSUMDB=bench.example", "GONOSUMCHECK=1", "GOFLAGS=-mod=mod -modcacherw")
	get := func(cache string) (string, error) {
		cmd := exec.Command("go", "mod", "download", "all")
		cmd.Dir, cmd.Env = project, append(m.env, "GOMODCACHE="+filepath.Join(m.dir, cache), "GOPROXY=https://localhost:"+port+"/go", "GONOPROXY=none", "GOPRIVATE=", "GOENV=off", "GOTOOLCHAIN=local")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	eventually(t, "a go command through Caddy", func() bool { _, err := get("c1"); return err == nil })
	a.kill()
	if out, err := get("c2"); err != nil {
		t.Errorf("with one replica gone: %v\n%s", err, out)
	}
	audit, _ := os.ReadFile(filepath.Join(m.dir, "b.audit"))
	if !regexp.MustCompile(`"client":"(127\.0\.0\.1|::1)".*"path":"/go/bench\.example`).Match(audit) {
		t.Errorf("audit:\n%s", audit)
	}
}

// TestSystemd: the units are valid and the sandbox is tight; a socket that systemd listens on is
// taken, and sd_notify says that it is ready.
func TestSystemd(t *testing.T) {
	need(t, "systemd-analyze")
	need(t, "systemd-socket-activate")
	m := newMachine(t)
	out := m.must("systemd-analyze", "security", "--offline=true", "--no-pager", abs(t, "../deploy/modmirror.service"))
	match := regexp.MustCompile(`Overall exposure level for modmirror\.service: ([0-9.]+)`).FindStringSubmatch(out)
	if match == nil || match[1] > "1.5" {
		t.Errorf("exposure: %v", match)
	} else {
		t.Log(match[0])
	}
	// verify wants the binary to be there; so it gets a copy of the units that name this one.
	for _, name := range []string{"modmirror.service", "modmirror.socket"} {
		text, err := os.ReadFile("../deploy/" + name)
		if err != nil {
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(m.dir, name), []byte(strings.ReplaceAll(string(text), "/usr/local/bin/modmirror", bin+"/modmirror")), 0o644)
	}
	if out, err := m.run("systemd-analyze", "verify", "--man=no", filepath.Join(m.dir, "modmirror.socket"), filepath.Join(m.dir, "modmirror.service")); err != nil || strings.Contains(out, "modmirror.service:") {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	file := m.synthetic("team", 2, 1000)
	socket := filepath.Join(m.dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := freePort(t)
	m.env = append(m.env, "NOTIFY_SOCKET="+socket)
	p := m.start("systemd-socket-activate", "-E", "NOTIFY_SOCKET", "-E", "XDG_CONFIG_HOME", "-E", "XDG_STATE_HOME", "-l", "127.0.0.1:"+port, filepath.Join(bin, "modmirror"), "serve", file)
	eventually(t, "the socket", func() bool { status, _, _, _ := get("http://127.0.0.1:" + port + "/readyz"); return status == 200 })
	read := func() string {
		buf := make([]byte, 1000)
		n, _ := l.Read(buf)
		return string(buf[:n])
	}
	if got := read(); !strings.HasPrefix(got, "READY=1\nSTATUS=serving bundle team of ") {
		t.Errorf("notified %q", got)
	}
	p.stop()
	if got := read(); got != "STOPPING=1" {
		t.Errorf("notified %q at the end", got)
	}
}

func abs(t *testing.T, name string) string {
	t.Helper()
	name, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// TestPrometheus: promtool takes the configuration and the rules, and tests these; each metric that
// rules and dashboard name is one that a replica has.
func TestPrometheus(t *testing.T) {
	m, _, file := published(t, 2, 1000)
	// A machine that carries a vulnerability database has its metrics, when it has been compared.
	if err := os.WriteFile(filepath.Join(m.dir, "vulns.txt"), []byte("vulndb "+vulnDB(t, m)+"\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	m.must("modmirror", "sync", "-q", "--name", "vulns", "-o", "vulns.tar", "vulns.txt")
	reviewed := ""
	_, url := m.serve("of-vulns", "vulns.tar")
	eventually(t, "the review", func() bool {
		_, reviewed, _, _ = get(url + "/metrics")
		return strings.Contains(reviewed, "modmirror_vulnerable_versions")
	})
	metrics, local := "", ""
	for from, text := range map[string]*string{"s3://modules/team": &metrics, file: &local} {
		_, url := m.serve("of-"+filepath.Base(from), from)
		get(url + zipOf(0))
		get(url + "/bench.example/none/@v/list")
		var err error
		if _, *text, _, err = get(url + "/metrics"); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile("../deploy/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	// Grafana's own types, which refuse what they do not know. They are called deprecated for those
	// of dashboards of the second kind, which older Grafanas do not load.
	//lint:file-ignore SA1019 the first kind is what is wanted
	var d dashboard.Dashboard
	if err := d.UnmarshalJSONStrict(data); err != nil && err.Error() != "" { // it returns an empty list of errors
		t.Errorf("Grafana does not load the dashboard: %#v", err)
	}
	if err := d.Validate(); err != nil && err.Error() != "" {
		t.Errorf("Grafana does not take the dashboard: %v", err)
	}
	var raw struct{ Panels []json.RawMessage }
	if err := json.Unmarshal(data, &raw); err != nil || len(raw.Panels) != len(d.Panels) {
		t.Errorf("%d panels, Grafana has %d: %v", len(raw.Panels), len(d.Panels), err)
	}
	for i, text := range raw.Panels { // which the dashboard's own strictness leaves out
		var p dashboard.Panel
		if err := p.UnmarshalJSONStrict(text); err != nil && err.Error() != "" {
			t.Errorf("Grafana does not load panel %d: %v", i, err)
		}
	}
	var exprs []string
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if e, ok := v["expr"].(string); ok {
				exprs = append(exprs, e)
			}
			for _, x := range v {
				walk(x)
			}
		case []any:
			for _, x := range v {
				walk(x)
			}
		}
	}
	var plain any
	if err := json.Unmarshal(data, &plain); err != nil {
		t.Fatal(err)
	}
	walk(plain)
	if len(exprs) < 15 {
		t.Errorf("%d expressions in the dashboard", len(exprs))
	}
	rules, err := os.ReadFile("../deploy/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	reMetric := regexp.MustCompile(`\b(modmirror|process|go)_[a-z_]+\b`)
	var named []string
	for _, text := range append(exprs, regexp.MustCompile(`expr: .*`).FindAllString(string(rules), -1)...) {
		named = append(named, reMetric.FindAllString(text, -1)...)
	}
	slices.Sort(named)
	for _, name := range slices.Compact(named) {
		// Counters with labels are there when they counted; none failed here.
		if !strings.Contains(metrics+local+reviewed, "# TYPE "+strings.TrimSuffix(name, "_bucket")+" ") {
			t.Errorf("no metric %s", name)
		}
	}
	need(t, "promtool")
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.Command("promtool", args...)
		cmd.Dir = "../deploy"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(metrics)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	file = filepath.Join(m.dir, "dashboard.yml")
	var b strings.Builder
	b.WriteString("groups:\n  - name: dashboard\n    rules:\n")
	for i, e := range exprs {
		fmt.Fprintf(&b, "      - {record: 'd%d', expr: '%s'}\n", i, strings.ReplaceAll(e, "'", "''"))
	}
	os.WriteFile(file, []byte(b.String()), 0o644)
	if out, err := m.run("promtool", "check", "rules", file); err != nil {
		t.Errorf("an expression of the dashboard: %v\n%s", err, out)
	}
}

// TestCompose: Compose's own library loads the file, and what it mounts is there.
func TestCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{"../deploy/compose.yaml"}, cli.WithEnv([]string{"MODMIRROR_S3_KEY=key", "MODMIRROR_S3_SECRET=secret"}))
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(background)
	if err != nil {
		t.Fatal(err)
	}
	if len(project.Services) != 5 {
		t.Errorf("services %v", project.ServiceNames())
	}
	for _, s := range project.Services {
		for _, v := range s.Volumes {
			if name := filepath.Base(v.Source); strings.HasPrefix(name, "nginx") || strings.HasSuffix(name, ".yml") {
				if _, err := os.Stat(v.Source); err != nil {
					t.Error(err)
				}
			}
		}
	}
	// The replicas' command is one that modmirror takes: it gets as far as waiting for the storage,
	// whose name nobody knows here.
	m := newMachine(t)
	m.synthetic("team", 2, 1000) // for its key
	args := append([]string{"modmirror"}, project.Services["replica1"].Command...)
	for i, a := range args {
		args[i] = strings.NewReplacer("/state", m.dir+"/state", "/config", m.dir+"/config/modmirror", "0.0.0.0:8080", "127.0.0.1:0").Replace(a)
	}
	m.env = append(m.env, "AWS_ENDPOINT_URL=http://storage.invalid:7070")
	p := m.start(args...)
	eventually(t, "the replica", func() bool { return strings.Contains(p.out.String(), "waiting for the storage") })
	// nginx's two samples differ in the replicas' names only.
	one, err1 := os.ReadFile("../deploy/nginx.conf")
	two, err2 := os.ReadFile("../deploy/nginx-compose.conf")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	_, body1, _ := strings.Cut(string(one), "worker_processes")
	_, body2, _ := strings.Cut(string(two), "worker_processes")
	if strings.NewReplacer("127.0.0.1:8081", "replica1:8080", "127.0.0.1:8082", "replica2:8080").Replace(body1) != body2 {
		t.Error("nginx.conf and nginx-compose.conf are not the same configuration")
	}
}

// TestDockerfile: there is no registry here, so its build line is run here, and what it makes
// serves in an empty root, as its user.
func TestDockerfile(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("chroot needs root")
	}
	m := newMachine(t)
	file := m.synthetic("team", 2, 1000)
	text, err := os.ReadFile("../deploy/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^RUN (CGO_ENABLED=1 go build .*)$`).FindSubmatch(text)
	if line == nil {
		t.Fatal("no build line")
	}
	root := filepath.Join(m.dir, "root")
	for _, dir := range []string{"state", "tmp", "srv", "config"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(string(line[1]), "/out/modmirror", root+"/modmirror"))
	cmd.Dir = ".."
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", line[1], err, out)
	}
	m.must("cp", file, root+"/srv/team.tar")
	m.must("cp", filepath.Join(m.dir, "config", "modmirror", "trusted"), root+"/config/trusted")
	m.must("chown", "65532:65532", root+"/state", root+"/tmp")
	m.must("chmod", "755", m.dir, filepath.Dir(m.dir), root)
	port := freePort(t)
	m.start("chroot", "--userspec=65532:65532", root, "/modmirror", "serve", "--addr", "127.0.0.1:"+port, "--config", "/config", "--state", "/state", "--log-format", "json", "/srv/team.tar")
	eventually(t, "the server in an empty root", func() bool { status, _, _, _ := get("http://127.0.0.1:" + port + "/readyz"); return status == 200 })
	if status, _, _, err := get("http://127.0.0.1:" + port + zipOf(1)); status != 200 || err != nil {
		t.Error(status, err)
	}
}
