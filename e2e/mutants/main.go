// Mutants shows that the tests notice when a security check is gone: it takes the checks out, one
// at a time, and runs the tests.
//
//	go run ./mutants [-j N] [-whole] [REGEXP]
//	go run ./mutants -check
//
// The mutants are in mutants.txt. Each has a name, files with lines to remove and lines to put in
// their place, and the test that is tried first. When that test does not notice the mutant, all
// tests are run. The source stays as it is: the go command reads the changed files by -overlay.
//
// With -check no test is run. It finds mutants that no longer fit the source: their lines are not
// in the file exactly once, or the test that they name does not exist.
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

// A mutant takes one check out.
type mutant struct {
	name  string
	run   []string // package and regular expression of the test that is tried first; nil for none
	edits []edit
}

// An edit replaces lines of a file.
type edit struct{ file, old, new string }

func main() {
	jobs := flag.Int("j", 2, "mutants that are tested at once")
	whole := flag.Bool("whole", false, "run all tests against each mutant, not first the one that it names")
	fit := flag.Bool("check", false, "run no test, and report mutants that do not fit the source")
	flag.Parse()
	root, err := filepath.Abs("..")
	check(err)
	data, err := os.ReadFile("mutants/mutants.txt")
	check(err)
	all, err := parse(string(data))
	check(err)
	if *fit {
		if !checkAll(root, all) {
			os.Exit(1)
		}
		return
	}
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
			return fail("neither a name, a file, a test, nor a line to remove or to add")
		}
	}
	return all, nil
}

// checkAll reports the mutants that do not fit the source, and whether all do.
func checkAll(root string, all []*mutant) (ok bool) {
	bad := 0
	names := make(map[string]bool)
	for _, m := range all {
		_, err := m.apply(root)
		err = errors.Join(err, m.checkRun(root))
		if names[m.name] {
			err = errors.Join(err, errors.New("another mutant has that name"))
		}
		names[m.name] = true
		if err != nil {
			fmt.Printf("BROKEN    %s: %v\n", m.name, err)
			bad++
		}
	}
	fmt.Printf("%d of %d mutants fit the source\n", len(all)-bad, len(all))
	return bad == 0
}

// apply returns the changed files, by their names.
func (m *mutant) apply(root string) (map[string][]byte, error) {
	files := make(map[string][]byte)
	for _, e := range m.edits {
		name := filepath.Join(root, e.file)
		src, changed := files[name]
		if !changed {
			var err error
			if src, err = os.ReadFile(name); err != nil {
				return nil, err
			}
		}
		if n := bytes.Count(src, []byte(e.old)); n != 1 || e.old == "" {
			return nil, fmt.Errorf("%s has the lines to remove %d times, want once", e.file, n)
		}
		files[name] = bytes.Replace(src, []byte(e.old), []byte(e.new), 1)
	}
	return files, nil
}

var reTest = regexp.MustCompile(`(?m)^func (Test\w+)\(`)

// checkRun returns an error when the package of the first test has no such test. It does not look
// for subtests.
func (m *mutant) checkRun(root string) error {
	if m.run == nil {
		return nil
	}
	pattern, _, _ := strings.Cut(m.run[1], "/")
	want, err := regexp.Compile(pattern)
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(root, m.run[0], "*_test.go"))
	if err != nil {
		return err
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, found := range reTest.FindAllSubmatch(src, -1) {
			if want.Match(found[1]) {
				return nil
			}
		}
	}
	return fmt.Errorf("there is no test %s", strings.Join(m.run, " "))
}

// test returns which tests noticed the mutant, "" when none did.
func (m *mutant) test(root, dir string, whole bool) (by string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	files, err := m.apply(root)
	if err != nil {
		return "", err
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for name, src := range files {
		to := filepath.Join(dir, fmt.Sprintf("%d.go", len(overlay.Replace)))
		if err := os.WriteFile(to, src, 0o644); err != nil {
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
		// A test that fails without the mutant too says nothing.
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

// goCommand runs the go command with the overlay. Go commands that tests run have it too.
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
