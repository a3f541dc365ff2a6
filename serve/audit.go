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

// Audit writes a line of JSON for each request to a file, or to any writer. A line is written before the next request of its connection
// is read.
type Audit struct {
	file string

	mu   sync.Mutex
	w    io.Writer
	err  error // of the last line, nil when it was written
	part bool  // of which a part was written
}

// OpenAudit appends to a file, which is made when it is not there. A file that ends in something
// else than a line of an audit is left alone: a *bundle.OccupiedError.
func OpenAudit(file string) (*Audit, error) {
	if err := checkAudit(file); err != nil {
		return nil, err
	}
	a := &Audit{file: file}
	return a, a.Reopen()
}

// checkAudit looks at the end of a regular file.
func checkAudit(file string) error {
	st, err := os.Stat(file)
	if err != nil || !st.Mode().IsRegular() || st.Size() == 0 { // a pipe takes what it is given
		return nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil // it may be one that can only be appended to
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
	return &bundle.OccupiedError{File: file, Reason: "it is no audit of modmirror serve"}
}

// maxAuditLine is more than two lines of an audit take, in bytes: a path has at most
// modpath.MaxLength, each escaped to six.
const maxAuditLine = 64 << 10

// NewAudit writes to w.
func NewAudit(w io.Writer) *Audit { return &Audit{w: w} }

// Reopen opens the file again, after another program gave it another name. What cannot be opened leaves the old one in use.
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

// Close closes the file.
func (a *Audit) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f, ok := a.w.(*os.File); ok && a.file != "" {
		return f.Close()
	}
	return nil
}

// maxMethod is how much of a method is in a line, in bytes.
const maxMethod = 32

// auditLine is a line of the audit. What a client sends is in JSON strings, in which line breaks and other control characters are escaped.
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
	Cut      bool    `json:"cut,omitempty"`     // the connection was cut: the body is not whole
	Bundle   string  `json:"bundle,omitempty"`  // ids of the bundles that were served
	Request  string  `json:"request"`           // as in the log
}

// write writes the line of a request. It returns an error when the line before was written and this one was not.
func (a *Audit) write(x *exchange, ids string, now time.Time) error {
	line := auditLine{
		Time: x.start.UTC().Format(time.RFC3339Nano), Client: x.origin().addr.String(), Name: x.name, Method: x.req.Method, Path: x.path,
		Status: x.status, Bytes: x.bytes, Duration: now.Sub(x.start).Seconds(), Cut: !x.done, Bundle: ids, Request: x.requestID(),
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

// failing returns why the last line was not written, nil when it was.
func (a *Audit) failing() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}
