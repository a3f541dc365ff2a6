package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// recheck is how often files that may be replaced while serving, such as certificates and passwords, are looked at.
const recheck = time.Second

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

// watched is what was read from files, read again when one of them changes. It is safe for concurrent use.
type watched[T any] struct {
	log   *slog.Logger
	files []string
	read  func() (T, error)

	mu     sync.Mutex
	looked time.Time
	state  string
	value  T
	ok     bool
}

// get returns what the files say. An error is returned only when they could never be read.
func (w *watched[T]) get() (T, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ok && time.Since(w.looked) < recheck {
		return w.value, nil
	}
	w.looked = time.Now()
	state := ""
	for _, f := range w.files {
		if st, err := os.Stat(f); err == nil {
			state += fmt.Sprintln(f, st.Size(), st.ModTime().UnixNano())
		}
	}
	if w.ok && state == w.state {
		return w.value, nil
	}
	value, err := w.read()
	switch {
	case err == nil:
		if w.ok {
			w.log.Info("read again", "files", w.files)
		}
		w.value, w.ok, w.state = value, true, state
	case w.ok:
		w.state = state // it is said once
		w.log.Error("cannot be read; what was read before goes on", "files", w.files, "err", err)
		return w.value, nil
	}
	return w.value, err
}

// ErrNoTLS is the error of settings that would have passwords sent in the clear.
var ErrNoTLS = errors.New("passwords and tokens are for TLS only: go commands send them over https, and others could read them")
