//go:build unix

package vectors

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/modmirror/modmirror/serve"
)

const (
	folder   = "../../testdata/vectors"
	modfiles = "../../testdata/mod"

	// What a hostile bundle may cost the command.
	maxMemory = 64 << 20
	maxTime   = 5 * time.Second
)

func readAll(t *testing.T) []*Vector {
	t.Helper()
	all, err := Read(folder)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestRows counts the vectors: each row of the list of threats has one.
func TestRows(t *testing.T) {
	count := make(map[string]int)
	kinds := make(map[string]int)
	for _, v := range readAll(t) {
		count[v.Row]++
		kinds[v.Kind]++
	}
	rows, requests := 0, 0
	for letter, n := range Rows {
		for i := range n {
			row := fmt.Sprintf("%c%d", letter, i+1)
			switch {
			case count[row] == 0:
				t.Errorf("row %s has no vector", row)
			case letter == 'R':
				requests++
			default:
				rows++
			}
			delete(count, row)
		}
	}
	for row := range count {
		if len(row) > 1 {
			t.Errorf("there is no row %s", row)
		}
	}
	t.Logf("rows %d of 132, requests %d of %d; vectors: %d bundles, %d zips, %d requests, %d that name tests", rows, requests, Rows['R'], kinds["bundle"], kinds["zip"], kinds["request"], kinds["test"])
}

// A made is a bundle that was made for a vector.
type made struct {
	v    *Vector
	file string
	data []byte
}

// TestBundles makes each bundle and has it opened and verified: here, for the class and the stage,
// by the command, for memory and time, and by a reader in another language that knows the
// documentation only. With $VECTORS the bundles stay in that folder.
func TestBundles(t *testing.T) {
	m := NewMaker(t, modfiles)
	dir := os.Getenv("VECTORS")
	if dir == "" {
		dir = t.TempDir()
	}
	var all []made
	for _, v := range readAll(t) {
		if v.Kind != "bundle" {
			continue
		}
		list, err := m.MakeAll(t.TempDir(), v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, v.Name+".trust"), []byte(strings.Join(m.Keys(v.Trust...), "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		for i, data := range list {
			file := filepath.Join(dir, fmt.Sprintf("%s-%d.tar", v.Name, i))
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
			all = append(all, made{v, file, data})
		}
	}
	t.Run("class", func(t *testing.T) {
		for _, x := range all {
			if got, err := classOf(x.file, m, x.v); got != x.v.Expect {
				t.Errorf("%s: %s (%v), want %s", filepath.Base(x.file), got, err, x.v.Expect)
			}
		}
	})
	t.Run("stage", func(t *testing.T) { // what comes later is garbage: who looked at it first would say so
		file := filepath.Join(t.TempDir(), "spoiled.tar")
		n := 0
		for _, x := range all {
			from := 0
			switch x.v.Expect {
			case "signature", "manifest":
				from = indexAt
			case "index":
				from = indexAt + int(m.tb.Draft.Manifest.IndexSize)
			}
			if from == 0 || from > len(x.data) {
				continue
			}
			data := bytes.Clone(x.data)
			for i := range data[from:] {
				data[from+i] = 0xaa
			}
			if x.v.Expect == "signature" {
				copy(data[noteAt:headerAt], bytes.Replace(data[noteAt:headerAt], []byte("bundle v1"), []byte("bundle v2"), 1))
			}
			if err := os.WriteFile(file, data, 0o644); err != nil {
				t.Fatal(err)
			}
			if got, err := classOf(file, m, x.v); got != x.v.Expect {
				t.Errorf("%s, with garbage behind it: %s (%v), want %s", filepath.Base(x.file), got, err, x.v.Expect)
			}
			n++
		}
		t.Logf("%d bundles with garbage behind what is refused", n)
	})
	t.Run("command", func(t *testing.T) { commands(t, all) })
	t.Run("reader", func(t *testing.T) { reader(t, dir, all) })
}

// classOf opens and verifies a bundle and says what it is refused for.
func classOf(file string, m *Maker, v *Vector) (string, error) {
	ctx := context.Background()
	keyring := trust.NewKeyring(m.Keys(v.Trust...)...)
	keyring.Require = v.Need
	b, err := bundle.Open(ctx, file, keyring, "")
	if err != nil {
		bad, ok := errors.AsType[*bundle.NotVerifiedError](err)
		switch {
		case !ok:
			return "io", err
		case bad.What == "signature":
			return "signature", err
		case bad.What == "MANIFEST":
			return "manifest", err
		case bad.What == "index.sqlite" && !strings.Contains(err.Error(), "tar header"):
			return "index", err
		}
		return "tar", err
	}
	defer b.Close()
	var damage error
	if err := b.Verify(ctx, nil, func(d bundle.Damage) { damage = errors.Join(damage, d.Err) }); err != nil {
		return "io", err
	}
	if damage != nil {
		return "tar", damage
	}
	return "ok", nil
}

// command builds modmirror and returns its path.
func command(t *testing.T) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "modmirror")
	if out, err := exec.Command("go", "build", "-o", bin, "../../cmd/modmirror").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return bin
}

// commands has "modmirror verify" look at each bundle.
func commands(t *testing.T, all []made) {
	dir, bin := t.TempDir(), command(t)
	var most int64
	var longest time.Duration
	n, last := 0, ""
	for _, x := range all {
		if slices.ContainsFunc(x.v.Recipe, func(line string) bool { return strings.Contains(line, "{N}") }) && n%20 != 0 || raced && n%40 != 0 {
			n++ // one in twenty of these
			continue
		}
		config := filepath.Join(dir, x.v.Name)
		if x.v.Name != last {
			keyring, err := os.ReadFile(strings.TrimSuffix(x.file, filepath.Base(x.file)) + x.v.Name + ".trust")
			if err != nil {
				t.Fatal(err)
			}
			if err := os.MkdirAll(filepath.Join(config, "modmirror"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(config, "modmirror", "trusted"), keyring, 0o644); err != nil {
				t.Fatal(err)
			}
			last = x.v.Name
		}
		cmd := exec.Command(bin, "verify", "--require", strconv.Itoa(x.v.Need), x.file)
		cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+config, "XDG_STATE_HOME="+filepath.Join(dir, "state"))
		got, memory, took, out := measured(t, cmd)
		want := 3
		if x.v.Expect == "ok" {
			want = 0
		}
		if got != want {
			t.Errorf("%s: exit code %d, want %d: %s", filepath.Base(x.file), got, want, out)
		}
		if memory > maxMemory || took > maxTime {
			t.Errorf("%s: %d MiB in %v", filepath.Base(x.file), memory>>20, took)
		}
		most, longest = max(most, memory), max(longest, took)
		n++
	}
	t.Logf("%d bundles: at most %d MiB and %v", n, most>>20, longest.Round(time.Millisecond))
}

// measured runs a command and returns its exit code, its peak resident memory in bytes, how long it
// took and what it printed. It runs it from a process of its own: what wait4 tells of a child
// begins with the memory of who started it.
func measured(t *testing.T, cmd *exec.Cmd) (exit int, memory int64, took time.Duration, out string) {
	t.Helper()
	child := exec.Command(os.Args[0], cmd.Args...)
	child.Env = append(cmd.Environ(), "MODmirror.MEASURE=1")
	var stdout, stderr strings.Builder
	child.Stdout, child.Stderr = &stdout, &stderr
	if err := child.Run(); err != nil {
		t.Fatalf("%v: %s", err, stderr.String())
	}
	if _, err := fmt.Sscan(stdout.String(), &exit, &memory, (*int64)(&took)); err != nil {
		t.Fatal(err)
	}
	return exit, memory, took, stderr.String()
}

// TestMain is the child of measured when it is asked to be.
func TestMain(m *testing.M) {
	if os.Getenv("MODmirror.MEASURE") == "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command(os.Args[1], os.Args[2:]...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	start := time.Now()
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(cmd.ProcessState.ExitCode(), cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss<<10, int64(time.Since(start)))
	os.Exit(0)
}

// reader has the reader in Python look at each bundle.
func reader(t *testing.T, dir string, all []made) {
	python := ""
	for _, p := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(p, "-c", "import cryptography").Run() == nil {
			python = p
			break
		}
	}
	if python == "" {
		t.Skip("no python3 with the package cryptography: apt-get install python3-cryptography")
	}
	want := make(map[string]string)
	files := make(map[*Vector][]string)
	for _, x := range all {
		want[filepath.Base(x.file)] = x.v.Expect
		files[x.v] = append(files[x.v], x.file)
	}
	agree := 0
	for v, list := range files {
		args := append([]string{folder + "/reader.py", "--require", strconv.Itoa(v.Need), "--trust", filepath.Join(dir, v.Name+".trust")}, list...)
		cmd := exec.Command(python, args...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			name, said, _ := strings.Cut(strings.TrimSpace(line), " ")
			class, _, _ := strings.Cut(said, ":")
			if class != want[name] {
				t.Errorf("%s: the reader says %q, want %s", name, said, want[name])
			} else {
				agree++
			}
		}
	}
	if agree != len(all) {
		t.Errorf("the reader agrees on %d of %d", agree, len(all))
	}
	t.Logf("the reader agrees on %d of %d", agree, len(all))
}

// TestNamedTests: a vector that names tests names such that exist.
func TestNamedTests(t *testing.T) {
	for _, v := range readAll(t) {
		if v.Kind != "test" {
			continue
		}
		for _, line := range v.Recipe {
			if line == "" {
				continue
			}
			how, rest, _ := strings.Cut(line, " ")
			where, what, _ := strings.Cut(rest, " ")
			var files []string
			want := what
			switch how {
			case "go":
				files, _ = filepath.Glob(filepath.Join("../..", where, "*_test.go"))
				name, sub, _ := strings.Cut(what, "/")
				want = "func " + name + "("
				if sub != "" {
					contains(t, v, files, sub)
				}
			case "script":
				files = []string{filepath.Join("../../cmd/modmirror/testdata/script", where+".txtar")}
			case "sh":
				files = []string{filepath.Join("../..", where)}
			default:
				t.Errorf("%s: want go, script or sh, not %q", v.Name, line)
				continue
			}
			contains(t, v, files, want)
		}
	}
}

// contains fails unless one of the files has the text.
func contains(t *testing.T, v *Vector, files []string, text string) {
	t.Helper()
	for _, f := range files {
		if data, err := os.ReadFile(f); err == nil && bytes.Contains(data, []byte(text)) {
			return
		}
	}
	t.Errorf("%s: nothing has %q in %v", v.Name, text, files)
}

// TestRequests sends each request as it stands, and a good one behind it: the server goes on.
func TestRequests(t *testing.T) {
	tb := testbundle.Make(t, modfiles, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	s := &serve.Server{
		Open: func(ctx context.Context) (*store.View, error) {
			return store.OpenFiles(ctx, []string{tb.Path}, tb.Trusted, store.NoState())
		},
		Ready: func(*store.View) { close(ready) },
		Log:   slog.New(slog.DiscardHandler),
	}
	go func() { done <- s.Serve(ctx, l) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	<-ready
	const good = "/example.com/text/@v/v1.1.0.mod"
	alive := func() (string, error) {
		resp, err := http.Get("http://" + l.Addr().String() + good)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		return string(data), err
	}
	body, err := alive()
	if err != nil || !strings.Contains(body, "module example.com/text") {
		t.Fatal(body, err)
	}
	sent := 0
	for _, v := range readAll(t) {
		if v.Kind != "request" {
			continue
		}
		var answer string
		for _, line := range v.Recipe {
			verb, rest, _ := strings.Cut(line, " ")
			switch verb {
			case "":
			case ">":
				text, err := strconv.Unquote(rest)
				if err != nil {
					t.Fatalf("%s: %s: %v", v.Name, line, err)
				}
				text = reRepeat.ReplaceAllStringFunc(text, func(found string) string {
					p := reRepeat.FindStringSubmatch(found)
					n, _ := strconv.Atoi(p[1])
					return strings.Repeat(p[2], n)
				})
				answer = ask(t, l.Addr().String(), text)
				sent++
			case "status":
				status, _, _ := strings.Cut(strings.TrimPrefix(answer, "HTTP/1.1 "), " ")
				if !slices.Contains(strings.Fields(rest), status) {
					t.Errorf("%s: status %.60q, want %s", v.Name, answer, rest)
				}
			case "has", "lacks":
				text, err := strconv.Unquote(rest)
				if err != nil {
					t.Fatalf("%s: %s: %v", v.Name, line, err)
				}
				if strings.Contains(answer, text) != (verb == "has") {
					t.Errorf("%s: %s, in %.500q", v.Name, line, answer)
				}
			default:
				t.Errorf("%s: unknown line %q", v.Name, line)
			}
		}
		if now, err := alive(); err != nil || now != body {
			t.Fatalf("after %s: %q, %v", v.Name, now, err)
		}
	}
	t.Logf("%d requests were sent", sent)
}

// reRepeat is <N*TEXT>: TEXT N times.
var reRepeat = regexp.MustCompile(`<([0-9]+)\*([^>]*)>`)

// ask sends bytes and returns what comes back, up to 64 KiB, until the server closes or ends a
// body.
func ask(t *testing.T, addr, text string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	go io.WriteString(c, text) // it may be refused before all of it is sent
	var all bytes.Buffer
	in := bufio.NewReader(io.TeeReader(io.LimitReader(c, 1<<20), &all))
	method, _, _ := strings.Cut(text, " ")
	resp, err := http.ReadResponse(in, &http.Request{Method: method})
	if err != nil {
		return all.String()
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if n := in.Buffered(); n > 0 || strings.Contains(text, "pipelined") { // a second answer, or a wait for one
		c.SetDeadline(time.Now().Add(time.Second))
		io.Copy(io.Discard, in)
	}
	return all.String()
}
