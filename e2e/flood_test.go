package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// certificate writes a certificate of localhost and its key, and returns their files and who trusts
// it.
func (m *machine) certificate() (cert, key string, pool *x509.CertPool) {
	m.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		m.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		m.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		m.t.Fatal(err)
	}
	cert, key = filepath.Join(m.dir, "cert.pem"), filepath.Join(m.dir, "key.pem")
	for file, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			m.t.Fatal(err)
		}
	}
	pool = x509.NewCertPool()
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		m.t.Fatal(err)
	}
	pool.AddCert(parsed)
	return cert, key, pool
}

// TestFlood floods the nginx sample over HTTP/2 for some seconds: streams that are given up as soon
// as they are opened, hundreds of ranges of a large file, headers in heaps. A client that behaves
// is served all the while, and the replicas stay small.
func TestFlood(t *testing.T) {
	m := newMachine(t)
	file := m.synthetic("team", 40, 3_000_000)
	cert, key, pool := m.certificate()
	portA, portB, port := freePort(t), freePort(t), freePort(t)
	m.nginx("nginx.conf", "127.0.0.1:8081", "127.0.0.1:"+portA, "127.0.0.1:8082", "127.0.0.1:"+portB,
		"# listen 8443 ssl;", "listen 127.0.0.1:"+port+" ssl http2;",
		"# ssl_certificate cert.pem; ssl_certificate_key key.pem;", "ssl_certificate "+cert+"; ssl_certificate_key "+key+";")
	replicas := []*process{m.replica("a", portA, file), m.replica("b", portB, file)}
	url := "https://localhost:" + port + "/go"
	client := func() *http.Client {
		return &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	}
	ranges := "bytes=0-0"
	for i := range 400 {
		ranges += fmt.Sprintf(",%d-%d", i*7000, i*7000+10)
	}
	end := time.Now().Add(8 * time.Second)
	var floods atomic.Int64
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			c := client()
			for n := 0; time.Now().Before(end); n++ {
				floods.Add(1)
				ctx, giveUp := context.WithTimeout(context.Background(), 20*time.Second)
				req, err := http.NewRequestWithContext(ctx, "GET", url+zipOf(n%40), nil)
				if err != nil {
					t.Error(err)
				}
				switch i % 3 {
				case 0: // given up at once
					giveUp()
				case 1:
					req.Header.Set("Range", ranges)
				case 2:
					for h := range 50 {
						req.Header.Set(fmt.Sprintf("X-Heap-%d", h), strings.Repeat("x", 100))
					}
					req.Header.Set("If-None-Match", strings.Repeat(`"x",`, 500)+`"y"`)
				}
				if resp, err := c.Do(req); err == nil {
					io.CopyN(io.Discard, resp.Body, 100_000)
					resp.Body.Close()
				}
				giveUp()
			}
		})
	}
	good := client()
	served, longest := 0, time.Duration(0)
	for time.Now().Before(end) {
		start := time.Now()
		resp, err := good.Get(url + zipOf(served%40))
		if err != nil {
			t.Fatalf("a client that behaves: %v", err)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || resp.ProtoMajor != 2 || err != nil || n != resp.ContentLength || n < 2_900_000 {
			t.Fatalf("a client that behaves: %s, %s, %d bytes, %v", resp.Status, resp.Proto, n, err)
		}
		longest = max(longest, time.Since(start))
		served++
	}
	wg.Wait()
	for _, p := range replicas {
		status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		for line := range strings.Lines(string(status)) {
			var kib int
			if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
				t.Logf("a replica: at most %d MiB", kib>>10)
				if limit := 200 << 10; kib > limit && os.Getenv("E2E_RACE") == "" {
					t.Errorf("a replica took %d MiB", kib>>10)
				}
			}
		}
	}
	if served == 0 {
		t.Error("a client that behaves got nothing")
	}
	t.Logf("%d hostile requests; a client that behaves got %d zips of 3 MB, the slowest in %.1f s", floods.Load(), served, longest.Seconds())
}
