package render

import (
	"bufio"
	"cmp"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// maxTime is how long one answer may take, and readmeTime that of a README: its page has more.
	maxTime    = 10 * time.Second
	readmeTime = 3 * time.Second

	// maxAnswer bounds an answer in bytes.
	maxAnswer = 16 << 20

	// idle is how long a process waits for the next request.
	idle = 20 * time.Second
)

// checked follows the files of a request that are what they should be.
const checked = 1

// A Worker runs Work on in and out, in a process that may be killed.
type Worker func(ctx context.Context, in io.Reader, out io.Writer) error

// Work answers requests until in ends.
func Work(in io.Reader, out io.Writer) error {
	c := newConn(in, out)
	for {
		if err := c.serve(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// A conn is the end of a connection in the process that answers.
type conn struct {
	r   *bufio.Reader
	dec *gob.Decoder
	enc *gob.Encoder
}

func newConn(in io.Reader, out io.Writer) *conn {
	r := bufio.NewReaderSize(in, 64<<10) // gob reads no further than its message from an io.ByteReader
	return &conn{r, gob.NewDecoder(r), gob.NewEncoder(out)}
}

// serve answers one request. It returns io.EOF when there is none.
func (c *conn) serve() error {
	req := new(Request)
	if err := c.dec.Decode(req); err != nil {
		return err
	}
	for _, f := range req.files() {
		if f.Unread != "" {
			continue
		}
		f.data = make([]byte, f.Size)
		if _, err := io.ReadFull(c.r, f.data); err != nil {
			return io.ErrUnexpectedEOF
		}
	}
	if ok, err := c.r.ReadByte(); err != nil || ok != checked {
		return errors.New("the files are not what they should be")
	}
	return c.enc.Encode(answer(req))
}

// A Renderer has requests answered in another process, one at a time. That process ends some time
// after the last request.
type Renderer struct {
	Work Worker

	mu   sync.Mutex // held while a request is answered
	p    *process   // nil while there is none
	ends *time.Timer
}

// A process answers requests.
type process struct {
	send    *io.PipeWriter
	receive *limited
	enc     *gob.Encoder
	dec     *gob.Decoder
	kill    context.CancelFunc
	done    chan error // gets the error of the Worker
}

// A limited reader fails after left bytes.
type limited struct {
	*io.PipeReader
	left int
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, &Error{fmt.Sprintf("more than %d MiB to show", maxAnswer>>20)}
	}
	n, err := l.PipeReader.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// start starts a process.
func (r *Renderer) start() *process {
	ctx, kill := context.WithCancel(context.Background())
	in, send := io.Pipe()
	receive, out := io.Pipe()
	p := &process{send: send, receive: &limited{receive, 0}, kill: kill, done: make(chan error, 1)}
	p.enc, p.dec = gob.NewEncoder(send), gob.NewDecoder(p.receive)
	go func() {
		err := r.Work(ctx, in, out)
		in.CloseWithError(io.ErrClosedPipe)
		out.CloseWithError(io.ErrUnexpectedEOF)
		p.done <- err
	}()
	return p
}

// stop ends a process and returns its error.
func (p *process) stop() error {
	p.kill()
	p.send.Close()
	p.receive.Close()
	return <-p.done
}

// Do has a request answered. An *Error says what is wrong with the texts, a *WorkerError that the
// process fails for another reason; the others are those of files.
func (r *Renderer) Do(ctx context.Context, req *Request) (*Answer, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ends != nil {
		r.ends.Stop()
	}
	used := r.p != nil
	a, err := r.try(ctx, req)
	if _, failed := errors.AsType[*WorkerError](err); failed && used && ctx.Err() == nil {
		a, err = r.try(ctx, req) // the process of an earlier request may have ended meanwhile
	}
	if r.p != nil {
		r.ends = time.AfterFunc(idle, r.Close)
	}
	return a, err
}

// try is Do with one process. r.mu is held.
func (r *Renderer) try(ctx context.Context, req *Request) (*Answer, error) {
	if r.p == nil {
		r.p = r.start()
	}
	p, limit := r.p, maxTime
	if req.Readme != nil {
		limit = readmeTime
	}
	timed, cancel := context.WithTimeoutCause(ctx, limit, &Error{fmt.Sprintf("it takes more than %v to show", limit)})
	defer cancel()
	stop := context.AfterFunc(timed, p.kill)
	a, err := p.ask(req)
	killed := !stop()
	if err == nil && !killed {
		if a.Err != "" {
			return nil, &Error{a.Err}
		}
		return a, nil
	}
	r.p = nil
	failed := p.stop()
	if zip, ok := errors.AsType[*fileError](err); ok {
		return nil, zip.err
	}
	if timed.Err() != nil {
		return nil, context.Cause(timed)
	}
	if _, ours := errors.AsType[*Error](failed); ours {
		return nil, failed
	}
	if _, ours := errors.AsType[*Error](err); ours {
		return nil, err
	}
	return nil, &WorkerError{cmp.Or(failed, err)}
}

// An Error says why a text cannot be shown: the text is the reason, and not where it lies. A Worker
// returns it for a process that needs too much.
type Error struct{ Why string }

// Error returns the reason.
func (e *Error) Error() string { return e.Why }

// A WorkerError says that the process failed, which is not known to be the fault of the texts.
type WorkerError struct{ Err error }

// Error returns what the process said.
func (e *WorkerError) Error() string { return e.Err.Error() }

// Unwrap returns the error of the Worker.
func (e *WorkerError) Unwrap() error { return e.Err }

// A fileError is the error of a file that could not be sent.
type fileError struct{ err error }

func (e *fileError) Error() string { return e.err.Error() }

// ask sends a request and returns the answer.
func (p *process) ask(req *Request) (*Answer, error) {
	if err := p.enc.Encode(req); err != nil {
		return nil, err
	}
	for _, f := range req.files() {
		if f.Unread != "" {
			continue
		}
		if err := p.sendFile(f); err != nil {
			return nil, err
		}
	}
	if req.Check != nil {
		if err := req.Check(); err != nil {
			return nil, &fileError{err}
		}
	}
	if _, err := p.send.Write([]byte{checked}); err != nil {
		return nil, err
	}
	p.receive.left = maxAnswer
	a := new(Answer)
	return a, p.dec.Decode(a)
}

// sendFile sends the content of a file.
func (p *process) sendFile(f *File) error {
	src, err := f.Open()
	if err != nil {
		return &fileError{err}
	}
	defer src.Close()
	in := &source{Reader: src}
	n, err := io.Copy(p.send, io.LimitReader(in, f.Size))
	switch {
	case in.err != nil:
		return &fileError{in.err}
	case err != nil:
		return err
	case n < f.Size:
		return &fileError{io.ErrUnexpectedEOF}
	}
	return nil
}

// A source remembers the error of its reader.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// Close ends the process, if there is one. Do may be called again.
func (r *Renderer) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.p != nil {
		r.p.stop()
		r.p = nil
	}
}
