package main

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/modmirror/modmirror/mirror"
)

// A bar shows progress on a terminal. A nil bar shows none. Its methods are safe for concurrent
// use.
type bar struct {
	e *env
	p *progressbar.ProgressBar
}

// terminal is what stderr shows now: a bar is taken away before a line is printed.
type terminal struct {
	mu  sync.Mutex
	bar *bar // nil for none
}

// bar begins to show how many of so many bytes are done; -1 for nobody knows. It returns nil when
// stderr is no terminal.
func (e *env) bar(bytes int64, what string) *bar { return e.newBar(bytes, what, true) }

func (e *env) newBar(max int64, what string, bytes bool) *bar {
	f, ok := e.stderr.(*os.File)
	if !ok || e.quiet || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	b := &bar{e, progressbar.NewOptions64(max, progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(what), progressbar.OptionShowBytes(bytes),
		progressbar.OptionClearOnFinish(), progressbar.OptionShowCount(), progressbar.OptionSetPredictTime(bytes && max > 0), progressbar.OptionThrottle(65*time.Millisecond))}
	e.terminal.mu.Lock()
	defer e.terminal.mu.Unlock()
	e.terminal.bar = b
	return b
}

// add says that so much more is done.
func (b *bar) add(n int64) {
	if b == nil {
		return
	}
	b.e.terminal.mu.Lock()
	defer b.e.terminal.mu.Unlock()
	b.p.Add64(n)
}

// done takes the bar away.
func (b *bar) done() {
	if b == nil {
		return
	}
	b.e.terminal.mu.Lock()
	defer b.e.terminal.mu.Unlock()
	b.p.Exit()
	b.p.Clear()
	if b.e.terminal.bar == b {
		b.e.terminal.bar = nil
	}
}

// line prints a line on stderr, where a bar may be.
func (e *env) line(text string) {
	e.terminal.mu.Lock()
	defer e.terminal.mu.Unlock()
	if b := e.terminal.bar; b != nil {
		b.p.Clear()
	}
	fmt.Fprintln(e.stderr, text)
}

// every calls f ten times a second on a bar, nil for none, until the returned function is called,
// which takes the bar away.
func (b *bar) every(f func()) (stop func()) {
	if b == nil {
		return func() {}
	}
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				f()
			}
		}
	}()
	return sync.OnceFunc(func() { close(done); <-stopped; b.done() })
}

// spin shows that something goes on until the returned function is called.
func (e *env) spin(what string) (stop func()) {
	b := e.newBar(-1, what, false)
	return b.every(func() { b.add(0) })
}

// showProgress shows a sync until the returned function is called. How many bytes there will be
// nobody knows before all of them are there, so it counts modules, and the bytes that came.
func (e *env) showProgress(p *mirror.Progress) (stop func()) {
	b := e.newBar(-1, "reading go.mod files", false)
	return b.every(func() {
		total := p.Total.Load()
		if total == 0 {
			b.add(0)
			return
		}
		e.terminal.mu.Lock()
		defer e.terminal.mu.Unlock()
		b.p.ChangeMax64(total)
		b.p.Describe(fmt.Sprintf("modules, %s fetched", bytesText(p.Bytes.Load())))
		b.p.Set64(p.Done.Load())
	})
}
