package serve

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
)

// TLS names the files for serving over TLS. The server reads them again when they change. When that
// fails it logs the error and goes on with the certificates of before.
type TLS struct {
	CertFile, KeyFile string // PEM
	ClientCA          string // PEM file of the CAs of client certificates; "" asks for none
}

// config returns a configuration that follows the files: TLS 1.2 or newer, HTTP/2. It fails when
// the files cannot be read now.
func (t *TLS) config(log *slog.Logger) (*tls.Config, error) {
	w := &watched[*tls.Config]{files: []string{t.CertFile, t.KeyFile, t.ClientCA}}
	if _, err := w.get(log, t.read); err != nil {
		return nil, err
	}
	c := baseTLS()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return w.get(log, t.read) }
	return c, nil
}

func baseTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
}

// read returns the configuration that the files say now.
func (t *TLS) read() (*tls.Config, error) {
	cert, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("reading the certificate %s and its key: %w", t.CertFile, err)
	}
	c := baseTLS()
	c.Certificates = []tls.Certificate{cert}
	if t.ClientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(t.ClientCA)
	if err != nil {
		return nil, err
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it", t.ClientCA)
	}
	return c, nil
}
