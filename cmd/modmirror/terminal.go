package main

// The rules of the terminal:
//
//   - Results go to stdout, and everything else to stderr.
//   - A message begins with "modmirror: ", in lower case, and has no full stop.
//   - A next step follows its message as "hint: ".
//   - --quiet leaves results and errors.
//   - Progress bars appear on a terminal only.
//   - Text from an upstream or a bundle goes through cleanText.
//
// hints.go has the exit codes and what to do about an error.

import (
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize/english"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"

	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/mirror"
)

// output is stdout. It remembers the first error, so that a command need not check each print: a
// result that was lost is a failure of the command.
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

// say prints a message about what goes on. --quiet silences it.
func (e *env) say(format string, args ...any) {
	if !e.quiet {
		e.complain(format, args...)
	}
}

// complain prints a message about what went wrong.
func (e *env) complain(format string, args ...any) {
	e.line(fmt.Sprintf("modmirror: "+format, args...))
}

// hint prints the next step after what complain printed.
func (e *env) hint(format string, args ...any) { e.line(fmt.Sprintf("hint: "+format, args...)) }

// sayHint prints the next step after what say printed. --quiet silences it.
func (e *env) sayHint(format string, args ...any) {
	if !e.quiet {
		e.hint(format, args...)
	}
}

// waiting returns a function that says that another process has the lock of a thing.
func (e *env) waiting(thing string) func(holder string) {
	return func(holder string) { e.say("waiting for %s: %s has it", thing, holder) }
}

// line prints a line on stderr, in the place of the bar.
func (e *env) line(text string) {
	e.terminal.mu.Lock()
	defer e.terminal.mu.Unlock()
	if b := e.terminal.bar; b != nil {
		b.p.Clear()
	}
	fmt.Fprintln(e.stderr, text)
}

// terminal is the state of stderr. mu guards writing to it, and bar.
type terminal struct {
	mu  sync.Mutex
	bar *bar // the bar that is shown, nil for none
}

// A bar shows progress on a terminal. A nil bar shows none. Its methods are safe for concurrent
// use.
type bar struct {
	e *env
	p *progressbar.ProgressBar
}

// bar shows how many bytes are done, of bytes in all; -1 is unknown. It returns nil when stderr is
// not a terminal.
func (e *env) bar(bytes int64, what string) *bar { return e.newBar(bytes, what, true) }

func (e *env) newBar(max int64, what string, bytes bool) *bar {
	f, ok := e.stderr.(*os.File)
	if !ok || e.quiet || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	b := &bar{e, progressbar.NewOptions64(max,
		progressbar.OptionSetWriter(f), progressbar.OptionSetDescription(what), progressbar.OptionShowBytes(bytes),
		progressbar.OptionClearOnFinish(), progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(bytes && max > 0), progressbar.OptionThrottle(65*time.Millisecond))}
	e.terminal.mu.Lock()
	defer e.terminal.mu.Unlock()
	e.terminal.bar = b
	return b
}

// add shows that n more are done.
func (b *bar) add(n int64) {
	if b == nil {
		return
	}
	b.e.terminal.mu.Lock()
	defer b.e.terminal.mu.Unlock()
	b.p.Add64(n)
}

// done removes the bar.
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

// refresh calls f ten times a second until the returned function is called, which removes the bar.
// A nil bar calls nothing.
func (b *bar) refresh(f func()) (stop func()) {
	if b == nil {
		return func() {}
	}
	end := every(100*time.Millisecond, f)
	return sync.OnceFunc(func() { end(); b.done() })
}

// spin shows that something goes on until the returned function is called.
func (e *env) spin(what string) (stop func()) {
	b := e.newBar(-1, what, false)
	return b.refresh(func() { b.add(0) })
}

// showProgress shows the progress of a sync until the returned function is called. The number of
// bytes is known only at the end, so the bar counts modules and names the bytes fetched so far.
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

// oneLine returns the text of an error, see cleanText.
func oneLine(err error) string { return cleanText(err.Error()) }

// cleanText joins the lines of a text and removes what could steer a terminal.
func cleanText(text string) string {
	return index.CleanText(strings.NewReplacer("\n", "; ", "\t", " ").Replace(strings.TrimSpace(text)))
}

// number returns a count with its noun: 1 file, 2 files, 3 entries.
func number[T ~int | ~int64](n T, noun string) string {
	return fmt.Sprintf("%d %s", n, english.PluralWord(int(n), noun, ""))
}

// bytesText returns a number of bytes for people: 512 B, 1.5 KiB, 2.25 GiB. It keeps a decimal more
// than humanize.IBytes, since whether a bundle fits on a disk depends on it.
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

// writeJSON prints a result as indented JSON.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// printEach prints rows: each by line or, with asJSON, as JSON on a line of its own.
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
