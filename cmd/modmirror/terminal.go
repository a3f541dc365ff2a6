package main

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/modmirror/modmirror/index"
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

// refresh calls f ten times a second until the returned function is called, which takes the bar
// away. A nil bar calls nothing.
func (b *bar) refresh(f func()) (stop func()) {
	if b == nil {
		return func() {}
	}
	end := every(100*time.Millisecond, f)
	return func() { end(); b.done() }
}

// spin shows that something goes on until the returned function is called.
func (e *env) spin(what string) (stop func()) {
	b := e.newBar(-1, what, false)
	return b.refresh(func() { b.add(0) })
}

// showProgress shows a sync until the returned function is called. How many bytes there will be
// nobody knows before all of them are there, so it counts modules, and the bytes that came.
func (e *env) showProgress(p *mirror.Progress) (stop func()) {
	b := e.newBar(-1, "reading go.mod files", false)
	return b.refresh(func() {
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

// output is stdout. It remembers the first error, so that a command that prints need not
// look: a result that was lost is a failure all the same.
type output struct {
	*os.File
	err error
}

// Write writes to stdout.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.File.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// say prints a line about what is going on.
func (e *env) say(format string, args ...any) {
	if !e.quiet {
		e.complain(format, args...)
	}
}

// complain prints a line about what went wrong.
func (e *env) complain(format string, args ...any) {
	e.line(fmt.Sprintf("modmirror: "+format, args...))
}

func (e *env) hint(format string, args ...any) { e.line(fmt.Sprintf("hint: "+format, args...)) }

// sayHint is the hint behind what say printed.
func (e *env) sayHint(format string, args ...any) {
	if !e.quiet {
		e.hint(format, args...)
	}
}

// waiting returns what says, when another process has a thing, that it is waited for.
func (e *env) waiting(thing string) func(holder string) {
	return func(holder string) { e.say("waiting for %s: %s has it", thing, holder) }
}

// oneLine returns the text of an error on one line, safe to print. See cleanText.
func oneLine(err error) string { return cleanText(err.Error()) }

// cleanText joins the lines of a text and drops what could steer a terminal: names and texts may
// come from an upstream or a bundle.
func cleanText(text string) string {
	return index.CleanText(strings.NewReplacer("\n", "; ", "\t", " ").Replace(strings.TrimSpace(text)))
}

// number returns a count with its noun: 1 file, 2 files.
func number[T ~int | ~int64](n T, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "ry"):
		noun = strings.TrimSuffix(noun, "y") + "ies"
	default:
		noun += "s"
	}
	return fmt.Sprint(n) + " " + noun
}

// bytesText returns a number of bytes as people read it.
func bytesText(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printEach prints rows, as tab-separated lines or as JSON.
func printEach[T any](w io.Writer, asJSON bool, rows iter.Seq2[T, error], line func(io.Writer, T) error) error {
	for row, err := range rows {
		if err != nil {
			return err
		}
		if asJSON {
			err = json.NewEncoder(w).Encode(row)
		} else {
			err = line(w, row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
