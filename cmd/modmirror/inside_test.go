package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/modmirror/modmirror/internal/goenv"
	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/modmirror/modmirror/serve/web/render"
)

// TestHostileAPI has declarations that take all memory of a type checker, or all of its stack: that
// ends a process beside modmirror.
func TestHostileAPI(t *testing.T) {
	var deep, long strings.Builder
	deep.WriteString("package a\n")
	for i := range 60_000 {
		fmt.Fprintf(&deep, "const A%d = A%d\n", i, i+1)
	}
	long.WriteString("package a\n\nconst S0 = \"0123456789abcdef\"\n")
	for i := range 27 {
		fmt.Fprintf(&long, "const S%d = S%d + S%[2]d\n", i+1, i)
	}
	long.WriteString("const L = len(S27)\n")
	for name, source := range map[string]string{"stack": deep.String(), "memory": long.String()} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			tb := testbundle.Make(t, "../../testdata/mod", testbundle.WithoutLarge)
			const mod = "-- go.mod --\nmodule example.com/a\n-- a.go --\n"
			tb.Add(t, "example.com/a", "v1.0.0", txtar.Parse([]byte(mod+"package a\n")))
			tb.Add(t, "example.com/a", "v1.1.0", txtar.Parse([]byte(mod+source)))
			tb.Write(t)
			m.trust(t, tb.Key.Verifier)
			out, code := m.run("diff", "--api", tb.Path, tb.Path, "example.com/a@v1.0.0", "v1.1.0")
			ended := strings.Contains(out, "what it exports cannot be compared: the type checker") ||
				strings.Contains(out, "what it exports takes too long to compare") // on a busy machine
			if code != exitFailed || !ended {
				t.Errorf("exit code %d\n%s", code, out)
			}
		})
	}
}

// A machine runs modmirror with settings of its own.
type machine struct {
	dir string
	env []string
}

func newMachine(t *testing.T, env ...string) *machine {
	t.Helper()
	dir := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(exe, filepath.Join(dir, "modmirror")); err != nil { // TestMain looks at the name
		t.Fatal(err)
	}
	if err := goenv.NoTelemetry(dir + "/config"); err != nil {
		t.Fatal(err)
	}
	return &machine{dir, append([]string{
		"HOME=" + dir, "XDG_CONFIG_HOME=" + dir + "/config", "XDG_STATE_HOME=" + dir + "/state", "GOENV=off",
	}, env...)}
}

// run runs a command, and returns what it prints and its exit code.
func (m *machine) run(args ...string) (string, int) {
	cmd := exec.Command(filepath.Join(m.dir, "modmirror"), args...)
	cmd.Dir = m.dir
	cmd.Env = append(os.Environ(), m.env...)
	out, _ := cmd.CombinedOutput()
	return string(out), cmd.ProcessState.ExitCode()
}

func (m *machine) trust(t *testing.T, key string) {
	t.Helper()
	if out, code := m.run("trust", "add", key); code != 0 {
		t.Fatal(out)
	}
}

// TestJobEnds expects that run sees the end of its process although the caller has more to send.
func TestJobEnds(t *testing.T) {
	for _, test := range []struct {
		name string
		end  func(send io.Writer, cancel func())
		want string
	}{
		{"by itself", func(send io.Writer, _ func()) { send.Write([]byte("no request")) }, "the parser fails (exit status 1)"},
		{"killed", func(_ io.Writer, cancel func()) { cancel() }, "the parser fails (signal: killed)"},
	} {
		t.Run(test.name, func(t *testing.T) {
			in, send := io.Pipe()
			defer send.Close()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- renderJob.run(ctx, in, io.Discard) }()
			if _, err := send.Write([]byte{1}); err != nil { // the process is there
				t.Fatal(err)
			}
			test.end(send, cancel)
			select {
			case err := <-done:
				if err == nil || err.Error() != test.want {
					t.Errorf("%v, want %q", err, test.want)
				}
			case <-time.After(time.Minute):
				t.Fatal("run goes on after its process")
			}
		})
	}
}

// TestRenderJob has another process make a page, as serve does.
func TestRenderJob(t *testing.T) {
	r := &render.Renderer{Work: renderJob.run}
	defer r.Close()
	const readme = "# Hello"
	for range 2 {
		a, err := r.Do(t.Context(), &render.Request{Readme: &render.File{Name: "README.md", Size: int64(len(readme)), Open: func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(readme)), nil
		}}})
		if err != nil || !strings.Contains(string(a.HTML), "Hello</h3>") {
			t.Fatalf("%+v %v", a, err)
		}
	}
}
