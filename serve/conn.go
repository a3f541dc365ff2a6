package serve

import (
	"crypto/tls"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// tick is how often deadlines of connections are checked.
const tick = 250 * time.Millisecond

// A listener accepts at most max connections at a time. When there are that many, it closes the one
// that is idle longest for a new one. When none is idle the new one waits. (netutil.LimitListener
// closes none: idle clients would keep others out for idleTimeout.)
//
// Its connections have cheap deadlines. net/http sets nine for each request, each of which takes a
// lock of the poller and some a timer. Here they are numbers that one goroutine checks every tick.
// Only one that passed becomes a deadline of the real connection.
type listener struct {
	net.Listener
	max int
	now atomic.Int64 // Unix time in ns at the last tick

	mu     sync.Mutex // guards conns and closed
	room   sync.Cond  // signaled when a connection closes or may be idle
	conns  map[*conn]struct{}
	closed bool
	done   chan struct{} // closed by stop
}

// newListener returns a listener on l. The caller calls stop after the connections have ended.
func newListener(l net.Listener, max int) *listener {
	x := &listener{Listener: l, max: max, conns: make(map[*conn]struct{}), done: make(chan struct{})}
	x.room.L = &x.mu
	x.now.Store(time.Now().UnixNano())
	go x.watch()
	return x
}

// Accept returns the next connection, when there is room for it.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	x := &conn{Conn: c, l: l}
	x.changed.L = &x.mu
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.conns) >= l.max && !l.closed {
		old := l.longestIdle()
		if old == nil {
			l.room.Wait()
			continue
		}
		l.mu.Unlock()
		old.Close()
		l.mu.Lock()
	}
	l.conns[x] = struct{}{}
	return x, nil
}

// longestIdle returns the connection that is idle longest, nil when none is. l.mu is held.
func (l *listener) longestIdle() (longest *conn) {
	since := int64(0)
	for c := range l.conns {
		if t := c.idle.Load(); t != 0 && (longest == nil || t < since) {
			longest, since = c, t
		}
	}
	return longest
}

// open returns the number of open connections.
func (l *listener) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// Close stops listening. Open connections go on.
func (l *listener) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		l.room.Broadcast()
	}
	l.mu.Unlock()
	return l.Listener.Close()
}

// stop ends the checks of deadlines. All connections must have ended.
func (l *listener) stop() { close(l.done) }

// watch checks the deadlines of all connections every tick, until stop.
func (l *listener) watch() {
	t := time.NewTicker(tick)
	defer t.Stop()
	var conns []*conn
	for {
		var now time.Time
		select {
		case <-l.done:
			return
		case now = <-t.C:
		}
		l.now.Store(now.UnixNano())
		l.mu.Lock()
		conns = conns[:0]
		for c := range l.conns {
			conns = append(conns, c)
		}
		l.room.Broadcast() // a connection may have become idle
		l.mu.Unlock()
		for _, c := range conns {
			c.check(now.UnixNano())
		}
	}
}

// connState notes which connections are idle. It is the ConnState of the http.Server.
func connState(c net.Conn, state http.ConnState) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	x, ok := c.(*conn)
	if !ok {
		return
	}
	if state == http.StateIdle || state == http.StateNew { // a new connection has sent nothing yet
		x.idle.Store(x.l.now.Load())
	} else {
		x.idle.Store(0)
	}
}

// A conn is a connection of a listener.
type conn struct {
	net.Conn
	l    *listener
	idle atomic.Int64 // since when it is idle, Unix time in ns; 0 while a request is answered

	mu      sync.Mutex // guards what follows
	changed sync.Cond  // signaled when probing ends, a read deadline passes, or the connection closes
	read    deadline
	write   deadline
	reading bool // a read of the real connection is under way
	probing bool // net/http waits for the next byte while a request is answered
	probe   bool // probing began since the last tick
	closed  bool
}

// A deadline is a time after which reads or writes of a connection fail.
type deadline struct {
	at   int64 // Unix time in ns, 0 for never
	over bool  // it passed
	real bool  // the real connection has it
}

// Read reads from the connection. net/http reads a single byte while a request is answered, to see
// when the client goes away. Most answers take less time than that read, so it begins only when an
// answer has taken a tick or two.
func (c *conn) Read(p []byte) (int, error) {
	c.mu.Lock()
	if len(p) == 1 {
		c.probing, c.probe = true, true
		for c.probing && !c.read.over && !c.closed {
			c.changed.Wait()
		}
		c.probing = false
	}
	if c.read.over {
		c.mu.Unlock()
		return 0, os.ErrDeadlineExceeded
	}
	c.reading = true
	c.mu.Unlock()
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	c.reading = false
	c.mu.Unlock()
	return n, err
}

// check passes the deadlines that are due, and lets a read of a tick ago begin.
func (c *conn) check(now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read.due(now) {
		c.passRead()
	}
	if c.write.due(now) {
		c.passWrite()
	}
	if c.probing {
		if !c.probe {
			c.probing = false
			c.changed.Broadcast()
		}
		c.probe = false
	}
}

// due reports whether the deadline is to pass now.
func (d *deadline) due(now int64) bool { return d.at != 0 && d.at <= now && !d.over }

// passRead ends reads with os.ErrDeadlineExceeded. c.mu is held.
func (c *conn) passRead() {
	c.read.over = true
	if c.reading {
		c.read.real = true
		c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
	c.changed.Broadcast()
}

// passWrite ends writes with os.ErrDeadlineExceeded. c.mu is held.
func (c *conn) passWrite() error {
	c.write.over, c.write.real = true, true
	return c.Conn.SetWriteDeadline(time.Unix(1, 0))
}

// SetReadDeadline implements net.Conn. The deadline passes at the tick after t.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read.at = nanos(t)
	if t.Unix() <= 1 && !t.IsZero() { // net/http and crypto/tls mean "now"
		c.passRead()
		return nil
	}
	c.read.over = false
	if !c.read.real {
		return nil
	}
	c.read.real = false
	return c.Conn.SetReadDeadline(time.Time{})
}

// SetWriteDeadline implements net.Conn. The deadline passes at the tick after t.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write.at = nanos(t)
	if t.Unix() <= 1 && !t.IsZero() {
		return c.passWrite()
	}
	c.write.over = false
	if !c.write.real {
		return nil
	}
	c.write.real = false
	return c.Conn.SetWriteDeadline(time.Time{})
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// nanos returns a time as Unix time in ns, 0 for the zero time.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

// CloseWrite ends the stream to the client, which can read it before the connection closes.
// crypto/tls and net/http call it.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return nil
}

// Close closes the connection, and makes room for another.
func (c *conn) Close() error {
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.room.Signal()
	c.l.mu.Unlock()
	c.mu.Lock()
	c.closed = true
	c.changed.Broadcast()
	c.mu.Unlock()
	return c.Conn.Close()
}
