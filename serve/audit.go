package serve

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/modpath"
)

// An Audit writes a line of JSON for each request to a file, or to any writer. It writes the line
// of a request before the server reads the next one of its connection. It is safe for concurrent
// use.
type Audit struct {
	file string // "" for any other writer

	mu   sync.Mutex // guards what follows
	w    io.Writer
	err  error // of the last line; nil when it was written
	part bool  // the last line was written in part
}

// OpenAudit returns an audit that appends to a file, which it creates when it does not exist. It
// returns a *bundle.OccupiedError for a file that does not end in a line of an audit.
func OpenAudit(file string) (*Audit, error) {
	if err := checkAudit(file); err != nil {
		return nil, err
	}
	a := &Audit{file: file}
	return a, a.Reopen()
}

// checkAudit returns a *bundle.OccupiedError for a regular file that does not end in a line of an
// audit.
func checkAudit(file string) error {
	st, err := os.Stat(file)
	if err != nil || !st.Mode().IsRegular() || st.Size() == 0 { // a pipe takes any line
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil // this process may be allowed only to append to it
	}
	defer f.Close()
	end := make([]byte, min(st.Size(), maxAuditLine))
	if _, err := f.ReadAt(end, st.Size()-int64(len(end))); err != nil && err != io.EOF {
		return err
	}
	lines := bytes.Split(bytes.TrimRight(end, "\n"), []byte("\n"))
	for i := len(lines) - 1; i >= 0 && i >= len(lines)-2; i-- { // the last one may be cut off
		var line auditLine
		if json.Unmarshal(lines[i], &line) == nil && line.Time != "" && line.Method != "" {
			return nil
		}
	}
	return &bundle.OccupiedError{File: file, Reason: "it is not an audit of modmirror serve"}
}

// maxAuditLine is an upper bound for the length of two lines, in bytes: a path has at most
// modpath.MaxLength bytes, each escaped to six.
const maxAuditLine = 64 << 10

// NewAudit returns an audit that writes to w.
func NewAudit(w io.Writer) *Audit { return &Audit{w: w} }

// Reopen opens the file again, after another program has renamed it. When it returns an error the
// audit goes on with the old file.
func (a *Audit) Reopen() error {
	if a.file == "" {
		return nil
	}
	f, err := os.OpenFile(a.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if old, ok := a.w.(*os.File); ok {
		old.Close()
	}
	a.w = f
	return nil
}

// Close closes the file. It leaves any other writer open.
func (a *Audit) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f, ok := a.w.(*os.File); ok && a.file != "" {
		return f.Close()
	}
	return nil
}

// maxMethod is how many bytes of a method go into a line.
const maxMethod = 32

// auditLine is a line of the audit. Text of clients is in JSON strings, which escape line breaks
// and other control characters.
type auditLine struct {
	Time     string  `json:"time"`              // RFC 3339, when the request came
	Client   string  `json:"client"`            // address
	Name     string  `json:"name,omitempty"`    // of the user, token or client certificate
	Method   string  `json:"method"`            //
	Path     string  `json:"path"`              // at most 2048 bytes of it
	Module   string  `json:"module,omitempty"`  //
	Version  string  `json:"version,omitempty"` //
	Status   int     `json:"status"`            //
	Bytes    int64   `json:"bytes"`             // of the body
	Duration float64 `json:"duration"`          // seconds
	Cut      bool    `json:"cut,omitempty"`     // the connection was cut, in the middle of the body
	Bundle   string  `json:"bundle,omitempty"`  // ids of the bundles that were served
	Request  string  `json:"request"`           // as in the log
}

// write writes the line of a request that ended now; ids are those of the bundles. It returns an
// error for the first line of several that cannot be written.
func (a *Audit) write(x *exchange, ids string, now time.Time) error {
	line := auditLine{
		Time: x.start.UTC().Format(time.RFC3339Nano), Client: x.origin().addr.String(), Name: x.name,
		Method: x.req.Method, Path: x.path, Status: x.status, Bytes: x.bytes,
		Duration: now.Sub(x.start).Seconds(), Cut: !x.done, Bundle: ids, Request: x.requestID(),
	}
	if len(line.Method) > maxMethod {
		line.Method = line.Method[:maxMethod]
	}
	if len(line.Path) > modpath.MaxLength {
		line.Path = line.Path[:modpath.MaxLength]
	}
	if req, err := modpath.Parse(strings.TrimPrefix(x.req.URL.Path, "/")); err == nil {
		line.Module, line.Version = req.Path, req.Version
	}
	data, err := json.Marshal(line)
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.err
	data = append(data, '\n')
	if a.part {
		data = append([]byte("\n"), data...)
	}
	n, err := a.w.Write(data)
	a.err = err
	if err == nil || n > 0 {
		a.part = err != nil
	}
	if before != nil {
		return nil
	}
	return a.err
}

// failing returns the error of the last line, nil when it was written.
func (a *Audit) failing() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}
