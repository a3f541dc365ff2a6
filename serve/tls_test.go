package serve

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// certificate writes a certificate that is its own CA, for servers and clients, and returns its
// file, that of its key, and itself.
func certificate(t *testing.T, name string) (certFile, keyFile string, cert tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if cert, err = tls.LoadX509KeyPair(certFile, keyFile); err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile, cert
}

// TestClientCertificates lets clients in with a certificate of the client CA, and no others.
func TestClientCertificates(t *testing.T) {
	certFile, keyFile, server := certificate(t, "server")
	caFile, _, client := certificate(t, "client")
	_, _, stranger := certificate(t, "stranger")
	tb := testbundle.Make(t, "../testdata/mod", nil)
	ready := make(chan struct{})
	s := &Server{
		Open: func(ctx context.Context) (*store.View, error) {
			return store.OpenFiles(ctx, []string{tb.Path}, tb.Trusted, store.NoState())
		},
		Log: slog.New(slog.DiscardHandler), Ready: func(*store.View) { close(ready) },
		TLS: &TLS{CertFile: certFile, KeyFile: keyFile, ClientCA: caFile},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	<-ready
	roots := x509.NewCertPool()
	roots.AddCert(server.Leaf)
	for name, tc := range map[string]struct {
		certs []tls.Certificate
		ok    bool
	}{"client": {[]tls.Certificate{client}, true}, "stranger": {[]tls.Certificate{stranger}, false}, "nobody": {nil, false}} {
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: tc.certs}, ForceAttemptHTTP2: true}
		resp, err := (&http.Client{Transport: tr}).Get("https://" + l.Addr().String() + "/example.com/text/@v/list")
		if (err == nil) != tc.ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			if body, _ := io.ReadAll(resp.Body); string(body) != "v1.1.0\n" || resp.ProtoMajor != 2 {
				t.Errorf("%s: %q over %s", name, body, resp.Proto)
			}
			resp.Body.Close()
		}
		tr.CloseIdleConnections()
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	// Passwords are for TLS only.
	if err := (&Server{Access: &Access{}}).Serve(ctx, l); err != ErrNoTLS {
		t.Errorf("passwords without TLS: %v", err)
	}
}
