package serve

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

func TestHostilePaths(t *testing.T) {
	s := newSite(t)
	for _, path := range []string{
		"/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc%2fpasswd", "/%252e%252e/etc/passwd", "//etc/passwd", "/./README.txt",
		"/README.txt", "/MANIFEST", "/index.sqlite", "/example.com/hello/@v/../@v/list", "/example.com//hello/@v/list", "/example.com/hello/@v/list/",
		"/example.com/!!hello/@v/list", "/example.com/UpperCase/@v/list", "/example.com/hello%00/@v/list", "/example.com/%c0%ae%c0%ae/@v/list",
		"/example.com/hello/@v/v1.1.0.ZIP", "/example.com/hello/@v/v1.1.0", "/example.com/hello/@v/v1.zip", "/" + strings.Repeat("a", 10000),
		"/example.com/hello/@v/%2e%2e%2fv1.1.0.info", "/example.com/hello\\@v\\list", "/sumdb/../README.txt", "/sumdb/x/tile/8/0/000", "/file:///etc/passwd",
		"/example.com/hello/@v/v1.1.0.info%0a", "/example.com/hello/@v/v1.1.0.info%20", "/%", "/@v/list", "/@latest",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path)
		answer, _ := io.ReadAll(conn)
		conn.Close()
		status := ""
		if f := strings.Fields(string(answer)); len(f) > 1 {
			status = f[1]
		}
		if status != "404" && status != "400" && status != "414" {
			t.Errorf("%.80s: %.200s", path, answer)
		}
		if bytes.Contains(answer, []byte("root:")) || bytes.Contains(answer, []byte("modmirror trust add")) {
			t.Errorf("%.80s gave a file away", path)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "CONNECT"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://")) // net/http refuses to send some
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "%s /example.com/hello/@v/list HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", method)
		answer, err := io.ReadAll(conn)
		conn.Close()
		if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 405 ")) || !bytes.Contains(answer, []byte("\r\nAllow: GET, HEAD\r\n")) {
			t.Errorf("%s: %.200s, %v", method, answer, err)
		}
	}
	// Upper case is reached by its escaped path, with the ! as it is or in percent.
	for _, path := range []string{"/example.com/!upper!case/@v/list", "/example.com/%21upper%21case/@v/list"} {
		if resp, body, _ := s.do("GET", path); resp.StatusCode != 200 || string(body) != "v1.0.0\n" {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}
}
