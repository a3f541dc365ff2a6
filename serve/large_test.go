package serve

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/modmirror/modmirror/bundle/media"
)

// TestOverwrittenInPlace changes a large file after it was verified.
func TestOverwrittenInPlace(t *testing.T) {
	s := newSite(t)
	for range 2 {
		if resp, _, err := s.do("GET", largeZip); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp.StatusCode, err)
		}
	}
	f, _, err := s.bundle.Index.File(ctx, largeZip[1:])
	if err != nil {
		t.Fatal(err)
	}
	disk := s.disk()
	flip(t, disk, s.offset(f)+1000)
	if _, body, err := s.do("GET", largeZip); err == nil {
		t.Errorf("a complete answer of %d bytes", len(body))
	}
	if resp, _, err := s.do("GET", largeZip, "Range", "bytes=0-9"); err == nil && resp.StatusCode == 206 {
		t.Error("a range of a file that does not verify")
	}
	resp, body, _ := s.do("GET", "/readyz")
	if resp.StatusCode != 503 || !strings.Contains(string(body), "example.com/large/@v/v1.0.0.zip does not verify") {
		t.Errorf("/readyz: %d %s", resp.StatusCode, body)
	}
	if resp, _, _ := s.do("GET", "/healthz"); resp.StatusCode != 200 {
		t.Errorf("/healthz: %d", resp.StatusCode)
	}
	// Truncated: an error, not a crash.
	if err := disk.Truncate(s.offset(f) + 100); err != nil {
		t.Fatal(err)
	}
	if resp, _, err := s.do("GET", largeZip); err == nil && resp.StatusCode != 500 {
		t.Error("a complete answer from a truncated bundle")
	}
}

// TestChangeDuringARange changes the bundle after a large file was verified and before it is read.
func TestChangeDuringARange(t *testing.T) {
	s := newSite(t)
	f, _, err := s.bundle.Index.File(ctx, largeZip[1:])
	if err != nil {
		t.Fatal(err)
	}
	l := s.server.handler.Load().large[s.bundle]
	src, err := l.open(ctx, f)
	if err != nil {
		t.Fatal(err)
	}
	g := &part{SectionReader: io.NewSectionReader(readerAt{ctx, src}, 0, f.Size), ctx: ctx, renew: func() {}, src: src}
	if _, err := g.Read(make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	disk := s.disk()
	flip(t, disk, s.offset(f)+2000)
	if n, err := g.Read(make([]byte, 5000)); n != 0 || !errors.Is(err, media.ErrChanged) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

// TestOverwrittenInFlight overwrites the bundle while a client that was promised a verified file
// does not read. The buffers of the kernel must not hold pages of the file.
func TestOverwrittenInFlight(t *testing.T) {
	s := newSite(t)
	_, want, err := s.do("GET", largeZip)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetReadBuffer(4096)
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", largeZip)
	first := make([]byte, 1)
	if _, err := io.ReadFull(conn, first); err != nil { // it has begun
		t.Fatal(err)
	}
	f, _, err := s.bundle.Index.File(ctx, largeZip[1:])
	if err != nil {
		t.Fatal(err)
	}
	disk := s.disk()
	if _, err := disk.WriteAt(bytes.Repeat([]byte("EVIL"), int(f.Size/4)), s.offset(f)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(io.MultiReader(bytes.NewReader(first), conn)), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); err == nil && !bytes.Equal(got, want) {
		t.Errorf("a complete body of %d bytes, %d times EVIL", len(got), bytes.Count(got, []byte("EVIL")))
	}
}

// TestReplacedByName moves another file over the served bundle. The server goes on with the file
// that it has open.
func TestReplacedByName(t *testing.T) {
	s := newSite(t)
	for i := range 3 {
		_, body, err := s.do("GET", largeZip)
		if err != nil || len(body) <= smallFile {
			t.Fatalf("request %d: %d bytes, %v", i, len(body), err)
		}
		other := s.Path + ".new"
		if err := os.WriteFile(other, []byte("another bundle"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(other, s.Path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestConditionsNeedNoHash expects that an answer without a body hashes nothing.
func TestConditionsNeedNoHash(t *testing.T) {
	s := newSite(t)
	resp, _, err := s.do("HEAD", largeZip)
	if err != nil {
		t.Fatal(err)
	}
	for _, req := range [][]string{
		{"GET", "If-None-Match", resp.Header.Get("Etag")},
		{"HEAD", "If-None-Match", `"x"`},
		{"HEAD", "Range", "bytes=0-9"},
	} {
		if _, _, err := s.do(req[0], largeZip, req[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	for _, bits := range s.server.handler.Load().large[s.bundle].verified {
		if bits != 0 {
			t.Error("a file was hashed")
		}
	}
}
