package e2e

import (
	"fmt"
	"io"
	"net"
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

// TestStalled has 1,000 connections that send nothing, half a request, take nothing of a large
// answer, or a byte of it now and then, and that come back when they are cut; all the while go
// commands download modules. $STALLED is for how many seconds, 15 without it.
func TestStalled(t *testing.T) {
	seconds := 15
	if text := os.Getenv("STALLED"); text != "" {
		var err error
		if seconds, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	m := newMachine(t)
	file := m.synthetic("team", 100, 3_000_000)
	p, url := m.serve("a", file)
	addr := strings.TrimPrefix(url, "http://")
	end := time.Now().Add(time.Duration(seconds) * time.Second)
	var wg sync.WaitGroup
	var open, opened atomic.Int64
	defer wg.Wait()
	for i := range 1000 {
		wg.Go(func() {
			for time.Now().Before(end) {
				c, err := net.DialTimeout("tcp", addr, 5*time.Second)
				if err != nil {
					time.Sleep(100 * time.Millisecond)
					continue
				}
				c.SetDeadline(end)
				open.Add(1)
				opened.Add(1)
				switch i % 4 {
				case 1:
					io.WriteString(c, "GET /bench.example/")
				case 2, 3:
					fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", zipOf(i%100))
				}
				b := make([]byte, 1)
				if i%4 == 2 {
					time.Sleep(time.Until(end))
				} else {
					for err = nil; err == nil; { // until it is cut, or the end
						if _, err = c.Read(b); err == nil {
							time.Sleep(time.Second)
						}
					}
				}
				open.Add(-1)
				c.Close()
			}
		})
	}
	eventually(t, "1,000 connections", func() bool { return open.Load() >= 900 })
	project := filepath.Join(m.dir, "p")
	os.Mkdir(project, 0o755)
	mod := "module p\n\ngo 1.21\n\nrequire (\n"
	for i := range 10 {
		parts := strings.Split(strings.Trim(zipOf(10*i+i), "/"), "/@v/")
		mod += "\t" + parts[0] + " " + strings.TrimSuffix(parts[1], ".zip") + "\n"
	}
	os.WriteFile(filepath.Join(project, "go.mod"), []byte(mod+")\n"), 0o644)
	done, longest := 0, time.Duration(0)
	for n := 0; time.Now().Before(end.Add(-2 * time.Second)); n++ {
		start := time.Now()
		cmd := exec.Command("go", "mod", "download", "-x")
		cmd.Dir = project
		cache := filepath.Join(m.dir, "cache"+strconv.Itoa(n))
		cmd.Env = append(m.env, "GOMODCACHE="+cache, "GOPROXY="+url, "GONOSUMDB=bench.example", "GONOPROXY=none", "GOPRIVATE=", "GOENV=off", "GOTOOLCHAIN=local", "GOFLAGS=-mod=mod -modcacherw")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go mod download with %d stalled connections: %v\n%.2000s", open.Load(), err, out)
		}
		longest = max(longest, time.Since(start))
		done++
		os.RemoveAll(cache)
	}
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	memory := ""
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM") {
			memory = strings.Join(strings.Fields(line)[1:], " ")
		}
	}
	if done == 0 {
		t.Error("no go command came to its end")
	}
	t.Logf("%d s with %d stalled connections, %d opened in all: %d go commands downloaded 10 modules, the slowest in %.1f s; peak memory %s", seconds, open.Load(), opened.Load(), done, longest.Seconds(), memory)
}
