// Mutants shows that the tests notice when a security check is gone: it takes the checks out, one
// at a time, and runs the tests.
//
//	go run ./mutants [-j N] [-whole] [REGEXP]
//
// The mutants are in mutants.txt: a name, a file with the lines that go and those that come, and
// the test that is tried first. A mutant that it does not kill has all tests run against it. The
// source is not touched: the go command reads the mutated file by -overlay.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// A mutant is a check that is taken out.
type mutant struct {
	name  string
	run   []string // package and regular expression of the test that is tried first; nil for none
	edits []edit
}

// An edit is lines of a file that become others.
type edit struct{ file, old, new string }

func main() {
	jobs := flag.Int("j", 2, "mutants that are tested at once")
	whole := flag.Bool("whole", false, "run all tests against each mutant, and not first the one that it names")
	flag.Parse()
	root, err := filepath.Abs("..")
	check(err)
	data, err := os.ReadFile("mutants/mutants.txt")
	check(err)
	all, err := parse(string(data))
	check(err)
	only, err := regexp.Compile(flag.Arg(0))
	check(err)
	tmp, err := os.MkdirTemp("", "mutants-")
	check(err)
	defer os.RemoveAll(tmp)

	var (
		wg           sync.WaitGroup
		mu           sync.Mutex
		tested, dead int
		slots        = make(chan struct{}, *jobs)
	)
	for i, m := range all {
		if !only.MatchString(m.name) {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			start := time.Now()
			by, err := m.test(root, filepath.Join(tmp, fmt.Sprint(i)), *whole)
			mu.Lock()
			defer mu.Unlock()
			tested++
			switch {
			case err != nil:
				fmt.Printf("BROKEN    %s: %v\n", m.name, err)
			case by == "":
				fmt.Printf("SURVIVES  %s (%.0f s)\n", m.name, time.Since(start).Seconds())
			default:
				dead++
				fmt.Printf("killed    %s: %s (%.0f s)\n", m.name, by, time.Since(start).Seconds())
			}
		})
	}
	wg.Wait()
	fmt.Printf("%d of %d killed\n", dead, tested)
	if dead < tested || tested == 0 {
		os.RemoveAll(tmp)
		os.Exit(1)
	}
}

// parse reads the list of mutants.
func parse(text string) (all []*mutant, err error) {
	var m *mutant
	var e *edit
	for n, line := range strings.Split(text, "\n") {
		fail := func(what string) ([]*mutant, error) {
			return nil, fmt.Errorf("mutants.txt:%d: %s", n+1, what)
		}
		name, isName := strings.CutPrefix(line, "= ")
		file, isFile := strings.CutPrefix(line, "file: ")
		run, isRun := strings.CutPrefix(line, "run: ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case isName:
			m, e = &mutant{name: name}, nil
			all = append(all, m)
		case m == nil:
			return fail("want = NAME first")
		case isRun:
			if run != "none" {
				m.run = strings.SplitN(run, " ", 2)
				if len(m.run) != 2 {
					return fail("want run: PACKAGE REGEXP")
				}
			}
		case isFile:
			m.edits = append(m.edits, edit{file: file})
			e = &m.edits[len(m.edits)-1]
		case e != nil && line[0] == '-':
			e.old += line[1:] + "\n"
		case e != nil && line[0] == '+':
			e.new += line[1:] + "\n"
		default:
			return fail("neither a name, a file, a test nor a line that goes or comes")
		}
	}
	return all, nil
}

// test returns which tests noticed the mutant, "" when none did.
func (m *mutant) test(root, dir string, whole bool) (by string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for i, e := range m.edits {
		name := filepath.Join(root, e.file)
		from := name
		if old := overlay.Replace[name]; old != "" { // changed already
			from = old
		}
		src, err := os.ReadFile(from)
		if err != nil {
			return "", err
		}
		if n := bytes.Count(src, []byte(e.old)); n != 1 || e.old == "" {
			return "", fmt.Errorf("%s has the lines that go %d times", e.file, n)
		}
		to := filepath.Join(dir, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(to, bytes.Replace(src, []byte(e.old), []byte(e.new), 1), 0o644); err != nil {
			return "", err
		}
		overlay.Replace[name] = to
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		return "", err
	}
	if out, err := goCommand(root, file, "build", "./..."); err != nil {
		return "", fmt.Errorf("it does not compile: %s", out)
	}
	type attempt struct {
		name, dir string
		args      []string
	}
	var attempts []attempt
	if m.run != nil && !whole {
		// A test that fails anyway kills nothing.
		if out, err := exec.Command("go", "test", "-C", root, "-vet=off", m.run[0], "-run", m.run[1]).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s fails without it: %.500s", strings.Join(m.run, " "), out)
		}
		attempts = append(attempts, attempt{strings.Join(m.run, " "), root, []string{"-timeout=2m", m.run[0], "-run", m.run[1]}})
	}
	attempts = append(attempts, attempt{"go test ./...", root, []string{"-timeout=10m", "./..."}},
		attempt{"e2e: go test ./...", filepath.Join(root, "e2e"), []string{"-timeout=10m", "./..."}})
	for _, a := range attempts {
		out, err := goCommand(a.dir, file, append([]string{"test", "-count=1", "-vet=off"}, a.args...)...)
		if bytes.Contains(out, []byte("[build failed]")) || bytes.Contains(out, []byte("[setup failed]")) {
			return "", fmt.Errorf("%s does not compile with it: %.500s", a.name, out)
		}
		if failed, ok := errors.AsType[*exec.ExitError](err); ok && failed.Exited() {
			return a.name + firstFailure(out), nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// goCommand runs the go command with the overlay, which those that tests run have too.
func goCommand(dir, overlay string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -overlay="+overlay))
	return cmd.CombinedOutput()
}

var reFailure = regexp.MustCompile(`(?m)^ *--- FAIL: (\S+)`)

// firstFailure names the innermost test that failed first.
func firstFailure(out []byte) string {
	name := ""
	for _, found := range reFailure.FindAllSubmatch(out, -1) {
		if next := string(found[1]); name == "" || strings.HasPrefix(next, name+"/") {
			name = next
		}
	}
	if name == "" {
		return ""
	}
	return " (" + name + ")"
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(1)
	}
}
