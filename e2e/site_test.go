// Package e2e has the tests that need more than Go: an S3 server (versitygw), nginx, Caddy,
// promtool. It is a module of its own, so that what they need is nothing that modmirror needs.
// Everything runs on loopback.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var bin string // folder of modmirror, mkbundle, versitygw

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if bin, err = os.MkdirTemp("", "modmirror-e2e-"); err != nil {
			panic(err)
		}
		defer os.RemoveAll(bin)
		race := "-race=" + strconv.FormatBool(os.Getenv("E2E_RACE") != "") // the servers under the race detector
		for _, args := range [][]string{
			{"build", "-C", "..", race, "-o", bin + "/", "./cmd/modmirror", "./bench/mkbundle"},
			{"build", "-o", bin + "/", "github.com/versity/versitygw/cmd/versitygw"},
		} {
			if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "go %s: %v\n%s", strings.Join(args, " "), err, out)
				return 1
			}
		}
		os.Setenv("PATH", bin+":"+os.Getenv("PATH"))
		return m.Run()
	}())
}

// need skips a test without a program.
func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("there is no %s here", program)
	}
}

// A machine is a folder with the state of modmirror, and processes that end with the test.
type machine struct {
	t       *testing.T
	dir     string
	env     []string
	program string // the modmirror that serves
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { exec.Command("chmod", "-R", "u+w", dir).Run() })
	// Else a process of the go command, which outlives it, would write where the folder is removed.
	quiet := exec.Command("go", "telemetry", "off")
	quiet.Env = append(os.Environ(), "XDG_CONFIG_HOME="+dir+"/config")
	if out, err := quiet.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return &machine{t, dir, append(os.Environ(),
		"HOME="+dir, "XDG_CONFIG_HOME="+dir+"/config", "XDG_CACHE_HOME="+dir+"/cache", "XDG_STATE_HOME="+dir+"/state",
		"AWS_ACCESS_KEY_ID=testkey", "AWS_SECRET_ACCESS_KEY=testsecret", "AWS_REGION=us-east-1", "GOCACHE="+goEnv("GOCACHE")), "modmirror"}
}

var goEnvs sync.Map

func goEnv(name string) string {
	if v, ok := goEnvs.Load(name); ok {
		return v.(string)
	}
	out, _ := exec.Command("go", "env", name).Output()
	v := strings.TrimSpace(string(out))
	goEnvs.Store(name, v)
	return v
}

// run runs a program to its end, and returns what it prints.
func (m *machine) run(args ...string) (string, error) {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Env = m.dir, m.env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// must runs a program that must not fail.
func (m *machine) must(args ...string) string {
	m.t.Helper()
	out, err := m.run(args...)
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// A process goes on until stop or kill.
type process struct {
	cmd *exec.Cmd
	out *safeBuffer
}

// start starts a program; it is ended with the test.
func (m *machine) start(args ...string) *process {
	m.t.Helper()
	p := &process{exec.Command(args[0], args[1:]...), new(safeBuffer)}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = m.dir, m.env, p.out, p.out
	if err := p.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		p.stop()
		if strings.Contains(p.out.String(), "WARNING: DATA RACE") {
			m.t.Errorf("%s: a data race", strings.Join(args, " "))
		}
		if m.t.Failed() {
			m.t.Logf("%s:\n%.6000s", strings.Join(args, " "), p.out.String())
		}
	})
	return p
}

func (p *process) stop() {
	p.cmd.Process.Signal(os.Interrupt)
	kill := time.AfterFunc(10*time.Second, func() { p.cmd.Process.Kill() })
	defer kill.Stop()
	p.cmd.Wait()
}

func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// freePort returns a port of loopback that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// eventually waits until f reports true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("%s: not within 30 s", what)
}

// get returns the answer to a request.
func get(url string, headers ...string) (status int, body string, header http.Header, err error) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		return 0, "", nil, err
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), resp.Header, err
}

// metric returns the value of a metric of a server.
func metric(t *testing.T, url, name string) float64 {
	t.Helper()
	_, body, _, err := get(url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			v, _ := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return v
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// A storage is a real S3 server with the bucket "modules", behind a proxy that can be slow, break
// off, or lie.
type storage struct {
	m     *machine
	port  string
	data  string
	gw    *process
	proxy *faults
	url   string // of the proxy
}

func newStorage(m *machine) *storage {
	m.t.Helper()
	s := &storage{m: m, port: freePort(m.t), data: filepath.Join(m.dir, "s3")}
	if err := os.MkdirAll(filepath.Join(s.data, "modules"), 0o755); err != nil {
		m.t.Fatal(err)
	}
	s.start()
	target, _ := url.Parse("http://127.0.0.1:" + s.port)
	s.proxy = &faults{ReverseProxy: httputil.NewSingleHostReverseProxy(target)}
	s.proxy.Director = nil
	s.proxy.Rewrite = func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is signed
	}
	s.proxy.ErrorLog = log.New(io.Discard, "", 0)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		m.t.Fatal(err)
	}
	srv := &http.Server{Handler: s.proxy}
	go srv.Serve(l)
	m.t.Cleanup(func() { srv.Close() })
	s.url = "http://" + l.Addr().String()
	m.env = append(m.env, "AWS_ENDPOINT_URL="+s.url)
	return s
}

// start starts the S3 server.
func (s *storage) start() {
	s.m.t.Helper()
	gw := *s.m
	gw.env = append(gw.env, "ROOT_ACCESS_KEY=testkey", "ROOT_SECRET_KEY=testsecret")
	s.gw = gw.start("versitygw", "--port", "127.0.0.1:"+s.port, "--quiet", "posix", s.data)
	eventually(s.m.t, "the S3 server", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// faults is a proxy.
type faults struct {
	*httputil.ReverseProxy
	rate    atomic.Int64 // bytes of bodies a second, 0 for as they come
	cut     atomic.Int64 // bodies that are cut half way from now on
	lie     atomic.Bool  // the middle byte of bodies is changed
	parts   atomic.Int64 // parts that were uploaded
	reads   atomic.Int64 // ranges that were asked for
	stopped atomic.Int64 // parts after which the proxy answers no more, 0 for never
	spoil   atomic.Int64 // uploads whose bodies are changed from now on
	refuse  atomic.Bool  // team-2.tar is not given out
}

func (f *faults) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == "PUT" && r.URL.Query().Has("partNumber") {
		if n := f.parts.Add(1); f.stopped.Load() > 0 && n > f.stopped.Load() {
			time.Sleep(time.Hour)
		}
		if f.spoil.Add(-1) >= 0 {
			data, _ := io.ReadAll(r.Body)
			data[len(data)/2] ^= 1
			r.Body = io.NopCloser(bytes.NewReader(data))
		}
	}
	if f.refuse.Load() && strings.HasSuffix(r.URL.Path, "/team-2.tar") {
		http.Error(w, "", http.StatusForbidden)
		return
	}
	if r.Method == "GET" && r.Header.Get("Range") != "" {
		f.reads.Add(1)
		w = &faulty{ResponseWriter: w, f: f, cut: f.cut.Add(-1) >= 0}
	}
	f.ReverseProxy.ServeHTTP(w, r)
}

// A faulty is a body with a fault.
type faulty struct {
	http.ResponseWriter
	f    *faults
	cut  bool
	n    int64
	size int64
}

func (w *faulty) WriteHeader(status int) {
	w.size, _ = strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
	w.ResponseWriter.WriteHeader(status)
}

func (w *faulty) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		k := min(len(p), 64<<10)
		part := append([]byte(nil), p[:k]...)
		if at := w.size/2 - w.n; at >= 0 && at < int64(k) {
			if w.f.lie.Load() {
				part[at] ^= 1
			}
			if w.cut {
				panic(http.ErrAbortHandler)
			}
		}
		if rate := w.f.rate.Load(); rate > 0 {
			time.Sleep(time.Duration(k) * time.Second / time.Duration(rate))
		}
		m, err := w.ResponseWriter.Write(part)
		n += m
		w.n += int64(m)
		if err != nil {
			return n, err
		}
		p = p[k:]
	}
	if f, ok := w.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
	return n, nil
}

// synthetic makes a bundle of modules without a checksum database; its key is trusted.
func (m *machine) synthetic(name string, n int, size int64, args ...string) (file string) {
	m.t.Helper()
	file = filepath.Join(m.dir, name+".tar")
	key := m.must(append([]string{"mkbundle", "-n", strconv.Itoa(n), "-zip", strconv.FormatInt(size, 10), "-name", name, "-o", file, "-key", filepath.Join(m.dir, "bench.key")}, args...)...)
	m.must("modmirror", "trust", "add", strings.TrimSpace(key))
	return file
}

// serve starts a replica with a state of its own, and returns its URL.
func (m *machine) serve(name string, args ...string) (*process, string) {
	m.t.Helper()
	port := freePort(m.t)
	p := m.start(append([]string{m.program, "serve", "--addr", "127.0.0.1:" + port, "--state", filepath.Join(m.dir, name)}, args...)...)
	url := "http://127.0.0.1:" + port
	eventually(m.t, name, func() bool { status, _, _, _ := get(url + "/readyz"); return status == 200 })
	return p, url
}

// project is a folder with a go.mod whose modules are really there, outside; a test that cannot
// have them is skipped.
func (m *machine) project(module string) string {
	m.t.Helper()
	out, err := exec.Command("go", "mod", "download", "-json", module).Output()
	if err != nil {
		m.t.Skipf("the configured GOPROXY does not answer for %s", module)
	}
	_, rest, _ := strings.Cut(string(out), `"Dir": "`)
	dir, _, _ := strings.Cut(rest, `"`)
	to := filepath.Join(m.dir, "project")
	m.must("cp", "-r", dir, to)
	m.must("chmod", "-R", "u+w", to)
	return to
}

// download runs go mod download all with an empty module cache, and with the checksum database.
func (m *machine) download(project, proxy, name string) (out string, err error) {
	m.t.Helper()
	cmd := exec.Command("go", "mod", "download", "-x", "all")
	cmd.Dir = project
	cache := filepath.Join(m.dir, name)
	cmd.Env = append(m.env, "GOPATH="+cache, "GOMODCACHE="+cache+"/mod", "GOFLAGS=-modcacherw -mod=mod", "GOPROXY="+proxy, "GONOSUMDB=", "GONOPROXY=none", "GOPRIVATE=", "GOENV=off", "GOTOOLCHAIN=local", "GOWORK=off")
	data, err := cmd.CombinedOutput()
	return string(data), err
}

// errorsOf returns the lines of go's output that are no requests.
func errorsOf(out string) string {
	var b strings.Builder
	sc := bufio.NewScanner(strings.NewReader(out))
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		if !strings.HasPrefix(sc.Text(), "# get ") && sc.Text() != "" {
			fmt.Fprintln(&b, sc.Text())
		}
	}
	return b.String()
}

var background = context.Background()
