package serve

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
)

// TLS says how to serve over TLS. The files are read again when they change; one that cannot be read then is logged, and what was read before
// goes on.
type TLS struct {
	CertFile, KeyFile string // PEM
	ClientCA          string // PEM file of the CAs whose client certificates are accepted; "" asks for none
}

// config returns a configuration that follows the files: TLS 1.2 or newer, HTTP/2. It fails when the files cannot be read now.
func (t *TLS) config(log *slog.Logger) (*tls.Config, error) {
	w := &watched[*tls.Config]{log: log, files: []string{t.CertFile, t.KeyFile}, read: t.read}
	if t.ClientCA != "" {
		w.files = append(w.files, t.ClientCA)
	}
	if _, err := w.get(); err != nil {
		return nil, err
	}
	c := baseTLS()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return w.get() }
	return c, nil
}

func baseTLS() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}}
}

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
