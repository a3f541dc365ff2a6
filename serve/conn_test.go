package serve

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// serveOn serves a handler behind a listener of at most max connections, with timeouts that a test
// can wait for.
func serveOn(t *testing.T, max int, h http.HandlerFunc) (*listener, string) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(tcp, max)
	srv := &http.Server{Handler: h, ConnState: connState, ReadTimeout: time.Second, WriteTimeout: time.Second, IdleTimeout: 2 * time.Second}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close(); l.stop() })
	return l, tcp.Addr().String()
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// ask sends a request and reads the answer to its end.
func ask(c net.Conn) (string, error) {
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	data, err := io.ReadAll(resp.Body)
	return string(data), err
}

// closed waits until the server closed c, and returns how long that took.
func closed(t *testing.T, c net.Conn) time.Duration {
	t.Helper()
	start := time.Now()
	if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the server never closed the connection")
	}
	return time.Since(start)
}

// TestDeadlines has clients that send half a request or none, or do not read. They lose their
// connections at about the deadline.
func TestDeadlines(t *testing.T) {
	failed := make(chan error, 1)
	_, addr := serveOn(t, 10, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/endless" {
			buf := make([]byte, 256<<10)
			for {
				http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
				if _, err := w.Write(buf); err != nil {
					failed <- err
					return
				}
			}
		}
		io.WriteString(w, "fine")
	})
	for _, test := range []struct {
		name, send string
		min, max   time.Duration
	}{
		{"half a request", "GET / HTTP/1.1\r\nHost:", 500 * time.Millisecond, 4 * time.Second},
		{"nothing", "", 500 * time.Millisecond, 4 * time.Second},
		{"idle", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", time.Second, 5 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := dial(t, addr)
			io.WriteString(c, test.send)
			if took := closed(t, c); took < test.min || took > test.max {
				t.Errorf("closed after %v, want %v to %v", took, test.min, test.max)
			}
		})
	}
	t.Run("does not read", func(t *testing.T) {
		t.Parallel()
		fmt.Fprintf(dial(t, addr), "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n")
		select {
		case err := <-failed:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("writing failed with %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Error("writing never failed")
		}
	})
}

// TestKeepAlive expects that deadlines that did not pass do no harm to later requests, and that a
// slow client that makes progress is served.
func TestKeepAlive(t *testing.T) {
	_, addr := serveOn(t, 10, func(w http.ResponseWriter, r *http.Request) {
		for range 8 { // longer in all than any of the timeouts
			http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
			io.WriteString(w, "x")
			http.NewResponseController(w).Flush()
			time.Sleep(200 * time.Millisecond)
		}
	})
	c := dial(t, addr)
	for i := range 2 {
		if got, err := ask(c); err != nil || got != strings.Repeat("x", 8) {
			t.Fatalf("request %d: %q, %v", i, got, err)
		}
		time.Sleep(time.Second)
	}
}

// TestClientGoesAway expects that a slow handler is told when its client has gone.
func TestClientGoesAway(t *testing.T) {
	begun, told := make(chan bool), make(chan error, 1)
	_, addr := serveOn(t, 10, func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		select {
		case <-r.Context().Done():
			told <- r.Context().Err()
		case <-time.After(10 * time.Second):
			told <- nil
		}
	})
	c := dial(t, addr)
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	<-begun
	c.Close()
	if err := <-told; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler was told %v", err)
	}
}

// TestConnectionCap opens more connections than the cap. The one that is idle longest is closed for
// a new one, and one in use never.
func TestConnectionCap(t *testing.T) {
	begun, release := make(chan bool), make(chan bool)
	l, addr := serveOn(t, 3, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/wait" {
			close(begun)
			<-release
			http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Second))
		}
		io.WriteString(w, "fine")
	})
	busy := dial(t, addr)
	fmt.Fprintf(busy, "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
	<-begun
	first, second := dial(t, addr), dial(t, addr)
	for _, c := range []net.Conn{first, second} {
		if got, err := ask(c); err != nil || got != "fine" {
			t.Fatal(got, err)
		}
		time.Sleep(2 * tick) // idle times are counted in ticks
	}
	third := dial(t, addr)
	if got, err := ask(third); err != nil || got != "fine" {
		t.Fatalf("a new client beside idle ones: %q, %v", got, err)
	}
	if got, err := ask(first); err == nil {
		t.Errorf("the one idle longest is still there: %q", got)
	}
	if got, err := ask(second); err != nil {
		t.Errorf("another one was closed: %q, %v", got, err)
	}
	if n := l.open(); n > 3 {
		t.Errorf("%d connections", n)
	}
	close(release)
	resp, err := http.ReadResponse(bufio.NewReader(busy), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("the busy one: %v, %v", resp, err)
	}
}

// TestStopDuringATransfer stops the server while a client is half way through a large file. The
// client gets all of it, the server ends without an error, and later clients cannot connect.
func TestStopDuringATransfer(t *testing.T) {
	s := newSite(t)
	f, ok, err := s.bundle.Index.File(ctx, strings.TrimPrefix(largeZip, "/"))
	if !ok || err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.(*net.TCPConn).SetReadBuffer(16 << 10) // so that the rest waits at the server
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: inside\r\nConnection: close\r\n\r\n", largeZip)
	in := bufio.NewReaderSize(c, 1<<10)
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.New()
	if _, err := io.CopyN(sum, resp.Body, 50<<10); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		late, err := net.DialTimeout("tcp", strings.TrimPrefix(s.url, "http://"), time.Second)
		if err != nil { // the server does not listen any more
			break
		}
		late.Close()
		if time.Now().After(deadline) {
			t.Fatal("the server still accepts connections")
		}
	}
	if _, err := io.Copy(sum, resp.Body); err != nil || [32]byte(sum.Sum(nil)) != f.SHA256 {
		t.Errorf("the transfer: %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
