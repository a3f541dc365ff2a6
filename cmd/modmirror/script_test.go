package main

import (
	"archive/tar"
	"bufio"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/internal/goenv"
	"github.com/modmirror/modmirror/internal/testproxy"
)

func TestMain(m *testing.M) {
	// Scripts wait for processes, and for time to pass, more than they compute.
	flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	testscript.Main(m, map[string]func(){"modmirror": main, "restricted": restricted})
}

// TestScripts runs the scripts in testdata/script. Each is a machine of its own, with the modules
// of testdata/mod upstream. Scripts have these commands besides the usual ones:
//
//	upstream STATUS PATH [TEXT]      answer a path with a status
//	upstream content PATH FILE       answer a path with a file
//	upstream grow                    add a record of example.org/filler to the checksum database
//	upstream grow N                  add N records that are of no module
//	upstream publish MODULE VERSION  add a version that has a go.mod alone
//	upstream only FILE               list only versions that are in the output of modmirror list
//	upstream restore                 answer all paths as at the start
//	upstream stop                    stop answering
//	corporate                        put upstream behind a proxy: $HTTPS_PROXY, with ca.pem
//	corporate block HOST             have the proxy refuse a host
//	serve BUNDLE                     start modmirror serve and set $PROXY
//	stopserve                        stop the server that was started last
//	hangup                           send it SIGHUP and wait for its new audit file
//	flip FILE OFFSET                 change a byte; a negative offset counts from the end
//	damage BUNDLE PATH               change a byte in the content of an entry
//	wait-for COMMAND... -- TEXT      run a command until it prints a text, for at most a minute
//	status CODE COMMAND...           run a command that must end with the code
func TestScripts(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Fatal("the go command is what modmirror is for: ", err)
	}
	gocache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			up, err := testproxy.New("../../testdata/mod")
			if err != nil {
				return err
			}
			e.Defer(up.Close)
			e.Values["upstream"] = up
			e.Values["stop"] = new(func())
			e.Values["hangup"] = new(func() error)
			e.Values["values"] = e.Values // so that commands can add values
			home := filepath.Join(e.WorkDir, ".home")
			e.Vars = append(e.Vars,
				"HOME="+home, "XDG_CONFIG_HOME="+home+"/config",
				"XDG_CACHE_HOME="+home+"/cache", "XDG_STATE_HOME="+home+"/state",
				"UPSTREAM="+up.URL, "GOPROXY="+up.URL, "GOSUMDB="+up.GOSUMDB,
				"GONOSUMDB=corp.example", "GONOPROXY=none", "GOPRIVATE=",
				"GOPATH="+home+"/go", "GOMODCACHE="+home+"/go/pkg/mod",
				"GOCACHE="+strings.TrimSpace(string(gocache)), "GOROOT="+strings.TrimSpace(string(goroot)),
				"GOENV=off", "GOTOOLCHAIN=local", "GOFLAGS=-modcacherw", "GOWORK=off",
				"SOURCE_DATE_EPOCH=1700000000",
			)
			return goenv.NoTelemetry(home + "/config")
		},
		Condition: func(cond string) (bool, error) {
			if cond == "landlock" {
				return hasLandlock(), nil
			}
			if cond == "netns" { // network namespaces can be made here
				return exec.Command("unshare", "-rn", "true").Run() == nil, nil
			}
			return false, fmt.Errorf("unknown condition %s", cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"upstream":  cmdUpstream,
			"corporate": cmdCorporate,
			"serve":     cmdServe,
			"stopserve": func(ts *testscript.TestScript, _ bool, _ []string) { (*ts.Value("stop").(*func()))() },
			"hangup":    cmdHangup,
			"flip":      cmdFlip,
			"damage":    cmdDamage,
			"status":    cmdStatus,
			"wait-for":  cmdWaitFor,
		},
	})
}

func cmdUpstream(ts *testscript.TestScript, neg bool, args []string) {
	up := ts.Value("upstream").(*testproxy.Server)
	switch {
	case len(args) == 1 && args[0] == "stop":
		up.Close()
	case len(args) == 1 && args[0] == "restore":
		up.Restore()
	case len(args) == 1 && args[0] == "grow":
		ts.Check(up.Grow())
	case len(args) == 2 && args[0] == "grow":
		n, err := strconv.Atoi(args[1])
		ts.Check(err)
		ts.Check(up.GrowBy(n))
	case len(args) == 3 && args[0] == "publish":
		ts.Check(up.Add(args[1], args[2],
			&txtar.Archive{Files: []txtar.File{{Name: "go.mod", Data: []byte("module " + args[1] + "\n")}}}))
	case len(args) == 2 && args[0] == "only":
		carried := make(map[module.Version]bool)
		for line := range strings.Lines(ts.ReadFile(args[1])) {
			f := strings.Fields(line)
			carried[module.Version{Path: f[0], Version: f[1]}] = true
		}
		up.Only(carried)
	case len(args) == 3 && args[0] == "content":
		data := ts.ReadFile(args[2])
		up.Override(args[1], func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, data) })
	case len(args) >= 2:
		code, err := strconv.Atoi(args[0])
		ts.Check(err)
		up.Override(args[1], testproxy.Status(code, strings.Join(args[2:], " ")))
	default:
		ts.Fatalf("usage: upstream STATUS PATH [TEXT]")
	}
}

func cmdCorporate(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 2 && args[0] == "block" {
		ts.Value("corporate").(*testproxy.Corporate).Block(args[1])
		return
	}
	c, err := testproxy.NewCorporate(ts.Value("upstream").(*testproxy.Server))
	ts.Check(err)
	ts.Defer(c.Close)
	ts.Value("values").(map[any]any)["corporate"] = c
	ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), c.CA, 0o666))
	ts.Setenv("HTTPS_PROXY", c.URL)
}

// cmdServe starts a server and waits until it says that it is ready, or that it waits for a store.
// It has pages with --requests alone: a search that nobody asks for takes time from other scripts.
func cmdServe(ts *testscript.TestScript, neg bool, args []string) {
	bin, err := exec.LookPath("modmirror")
	ts.Check(err)
	pages := "--no-pages"
	if slices.Contains(args, "--requests") {
		pages = "--no-pages=false"
	}
	cmd := exec.Command(bin, append([]string{"serve", "--addr", "127.0.0.1:0", pages}, args...)...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+ts.Getenv("XDG_CONFIG_HOME"),
		"XDG_STATE_HOME="+ts.Getenv("XDG_STATE_HOME"))
	stderr, err := cmd.StderrPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	refused := false // the server ended by itself, which fails the script already
	stop := sync.OnceFunc(func() {
		cmd.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(40*time.Second, func() { cmd.Process.Kill() })
		defer kill.Stop()
		if err := cmd.Wait(); err != nil && !refused { // a crash, or a race report
			ts.Fatalf("serve did not stop cleanly: %v", err)
		}
	})
	*ts.Value("stop").(*func()) = stop
	*ts.Value("hangup").(*func() error) = func() error { return cmd.Process.Signal(syscall.SIGHUP) }
	ts.Defer(stop)
	sc := bufio.NewScanner(stderr)
	for sc.Scan() {
		ts.Logf("serve: %s", sc.Text())
		_, rest, ok := strings.Cut(sc.Text(), " at http")
		if !ok { // perhaps the log is JSON
			_, rest, ok = strings.Cut(sc.Text(), `"msg":"serving"`)
			_, rest, _ = strings.Cut(rest, `"url":"http`)
			rest = strings.Replace(rest, `"`, ": ", 1)
		}
		if ok {
			url, _, _ := strings.Cut(rest, ": ")
			ts.Setenv("PROXY", "http"+url)
			go func() {
				for sc.Scan() { // so that the server never waits for the pipe
				}
			}()
			return
		}
	}
	refused = true
	ts.Fatalf("serve ended before it was ready")
}

// cmdHangup makes serve open its audit again, as after the file was renamed.
func cmdHangup(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check((*ts.Value("hangup").(*func() error))())
	for range 100 {
		if _, err := os.Stat(ts.MkAbs("logs/audit.json")); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("the audit was not opened again")
}

// cmdFlip changes a byte: flip FILE OFFSET.
func cmdFlip(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: flip FILE OFFSET")
	}
	at, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	if at < 0 {
		st, err := os.Stat(ts.MkAbs(args[0]))
		ts.Check(err)
		at += st.Size()
	}
	ts.Check(flip(ts.MkAbs(args[0]), at))
}

// cmdDamage changes a byte in the middle of an entry's content: damage BUNDLE PATH.
func cmdDamage(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: damage BUNDLE PATH")
	}
	f, err := os.Open(ts.MkAbs(args[0]))
	ts.Check(err)
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		ts.Check(err)
		if h.Name == args[1] { // the reader is at the start of the content
			at, err := f.Seek(0, io.SeekCurrent)
			ts.Check(err)
			ts.Check(flip(f.Name(), at+h.Size/2))
			return
		}
	}
}

// flip changes the lowest bit of a byte.
func flip(file string, at int64) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		return err
	}
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	return err
}

// cmdStatus runs a command and checks its exit code: status CODE COMMAND...
func cmdStatus(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: status CODE COMMAND...")
	}
	// The exec of testscript tells only zero from other codes.
	err := ts.Exec("sh", append([]string{"-c", `"$@"; echo "exit $?" >status.txt`, "sh"}, args[1:]...)...)
	ts.Check(err)
	if got := strings.TrimSpace(ts.ReadFile("status.txt")); got != "exit "+args[0] {
		ts.Fatalf("%s ended with %s, want %s", strings.Join(args[1:], " "), got, args[0])
	}
}

// cmdWaitFor runs a command until its output has a text: wait-for COMMAND... -- TEXT.
func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	n := len(args) - 2
	if n < 1 || args[n] != "--" {
		ts.Fatalf("usage: wait-for COMMAND... -- TEXT")
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := ts.Exec(args[0], args[1:n]...)
		if out := ts.ReadFile("stdout") + ts.ReadFile("stderr"); strings.Contains(out, args[n+1]) {
			return
		} else if time.Now().After(deadline) {
			ts.Fatalf("%s never printed %q: %v\n%s", strings.Join(args[:n], " "), args[n+1], err, out)
		}
	}
}
