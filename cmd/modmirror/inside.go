package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/modmirror/modmirror/review"
	"github.com/modmirror/modmirror/serve/web/render"
)

// A job is a hidden command: it does in a process of its own what sources of anybody can make
// endless, with bounded memory.
type job struct {
	name   string // the argument of that process
	what   string // for messages: what fails there
	memory uint64 // how much memory that process may have, in bytes
	soft   int64  // above which it collects garbage at once, in bytes
	polite bool   // it runs when nobody else wants the core, and opens no file
	work   func(in io.Reader, out io.Writer) error
}

var (
	apiJob = &job{
		name: "api-inside", what: "the type checker", memory: 1 << 30, soft: 256 << 20, work: review.WorkAPI,
	}
	// pageAPIJob is apiJob for pages, which anybody may ask for.
	pageAPIJob = &job{
		name: "page-api-inside", what: "the type checker", memory: 256 << 20, soft: 128 << 20, polite: true,
		work: review.WorkAPI,
	}
	renderJob = &job{
		name: "render-inside", what: "the parser", memory: 256 << 20, soft: 48 << 20, polite: true,
		work: render.Work,
	}
)

const (
	// insideStack is the largest stack of a goroutine of a job, in bytes.
	insideStack = 64 << 20

	// insideTime is how long a job reads nothing: the caller is gone.
	insideTime = 2 * time.Minute

	// exitMemory is the exit code of a job that needs more memory, and exitPanic Go's own for a stack
	// that is too deep.
	exitMemory = 99
	exitPanic  = 2
)

// jobOf returns the job that args ask for, nil for none.
func jobOf(args []string) *job {
	for _, j := range []*job{apiJob, pageAPIJob, renderJob} {
		if len(args) == 1 && args[0] == j.name {
			return j
		}
	}
	return nil
}

// run runs this executable again for the job. It is a review.APIWorker, and a render.Worker.
func (j *job) run(ctx context.Context, in io.Reader, out io.Writer) error {
	exe, err := os.Executable()
	if runtime.GOOS == "linux" { // also when the file has another name by now, or is another
		exe, err = "/proc/self/exe", nil
	}
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, exe, j.name)
	cmd.Args[0] = "modmirror"
	cmd.Env = []string{}
	cmd.Stdout = out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	// As cmd.Stdin it would keep Wait from seeing that the process has ended, until in ends.
	go func() {
		io.Copy(stdin, in)
		stdin.Close()
	}()
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		switch exit.ExitCode() {
		case exitMemory:
			return &render.Error{Why: fmt.Sprintf("%s needs more than %d MiB", j.what, j.memory>>20)}
		case exitPanic:
			return &render.Error{Why: fmt.Sprintf("%s fails (%v)", j.what, err)}
		}
		return fmt.Errorf("%s fails (%w)", j.what, err)
	}
	return err
}

// inside does the work in this process, and returns the exit code.
func (j *job) inside(in io.Reader, out io.Writer) int {
	gone := time.AfterFunc(insideTime, func() { os.Exit(exitFailed) })
	if j.polite {
		bePolite()
	}
	debug.SetMaxStack(insideStack)
	debug.SetMemoryLimit(j.soft)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/total:bytes"}}
		for ; ; time.Sleep(20 * time.Millisecond) {
			if metrics.Read(sample); sample[0].Value.Uint64() > j.memory {
				os.Exit(exitMemory)
			}
		}
	}()
	if err := j.work(&prolonged{in, gone}, out); err != nil {
		return exitFailed
	}
	return exitDone
}

// A prolonged reader gives the job more time with each read.
type prolonged struct {
	io.Reader
	gone *time.Timer
}

func (p *prolonged) Read(b []byte) (int, error) {
	p.gone.Reset(insideTime)
	return p.Reader.Read(b)
}
