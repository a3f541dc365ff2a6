package testproxy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"
)

// A Corporate is the way out of a corporate network: an HTTP proxy that intercepts TLS with
// certificates of its own. It lets two hosts through, and both end at an upstream: a repository
// that wants a password, and the checksum database.
type Corporate struct {
	URL string // value for HTTPS_PROXY
	CA  []byte // its certificate in PEM

	http  *httptest.Server
	inner *http.Server
	conns handed
	key   *ecdsa.PrivateKey
	ca    *x509.Certificate

	mu      sync.Mutex
	blocked map[string]bool
}

// The host that a Corporate lets through, with the user and password that it wants. The upstream is
// at https://RepositoryHost/go.
const (
	RepositoryHost     = "repo.corp.example"
	RepositoryUser     = "ann"
	RepositoryPassword = "secret"
)

// NewCorporate starts a corporate network around an upstream.
func NewCorporate(up *Server) (*Corporate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	c := &Corporate{key: key, conns: handed{make(chan net.Conn), make(chan struct{})}, blocked: make(map[string]bool)}
	der, err := c.certificate(&x509.Certificate{
		Subject: pkix.Name{CommonName: "corporate CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	if err != nil {
		return nil, err
	}
	if c.ca, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	c.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	target, err := url.Parse(up.URL)
	if err != nil {
		return nil, err
	}
	dbHost, _, _ := strings.Cut(DBName, "/")
	quiet := log.New(io.Discard, "", 0) // tests disconnect on purpose
	forward := httputil.NewSingleHostReverseProxy(target)
	forward.ErrorLog = quiet
	login := "Basic " + base64.StdEncoding.EncodeToString([]byte(RepositoryUser+":"+RepositoryPassword))
	c.inner = &http.Server{ErrorLog: quiet, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host == dbHost:
			r.URL.Path = "/sumdb/" + dbHost + r.URL.Path
		case r.Header.Get("Authorization") != login:
			http.Error(w, "log in first", http.StatusUnauthorized)
			return
		default:
			r.URL.Path = strings.TrimPrefix(r.URL.Path, "/go")
		}
		forward.ServeHTTP(w, r)
	})}
	go c.inner.Serve(c.conns)
	c.http = httptest.NewServer(http.HandlerFunc(c.connect))
	c.URL = c.http.URL
	return c, nil
}

// Block makes the proxy refuse a host.
func (c *Corporate) Block(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.blocked[host] = true
}

// connect answers CONNECT with a TLS server that claims to be the host asked for.
func (c *Corporate) connect(w http.ResponseWriter, r *http.Request) {
	host, _, _ := net.SplitHostPort(r.Host)
	c.mu.Lock()
	blocked := c.blocked[host]
	c.mu.Unlock()
	if r.Method != http.MethodConnect || blocked {
		http.Error(w, "not from here", http.StatusForbidden)
		return
	}
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	conn.Write([]byte("HTTP/1.1 200 Connection established\r\n\r\n"))
	c.conns.hand(tls.Server(conn, &tls.Config{GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
		der, err := c.certificate(&x509.Certificate{
			Subject: pkix.Name{CommonName: h.ServerName}, DNSNames: []string{h.ServerName},
		})
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: c.key}, err
	}}))
}

// certificate signs a certificate with the CA, or with itself before there is a CA.
func (c *Corporate) certificate(t *x509.Certificate) ([]byte, error) {
	t.SerialNumber = big.NewInt(time.Now().UnixNano())
	t.NotBefore, t.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	ca := c.ca
	if ca == nil {
		ca = t
	}
	return x509.CreateCertificate(rand.Reader, t, ca, &c.key.PublicKey, c.key)
}

// Close stops the proxy.
func (c *Corporate) Close() {
	c.inner.Close()
	c.http.CloseClientConnections()
	c.http.Close()
}

// A handed is a net.Listener for connections that the proxy hands over.
type handed struct {
	next   chan net.Conn
	closed chan struct{}
}

func (h handed) Accept() (net.Conn, error) {
	select {
	case conn := <-h.next:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h handed) hand(conn net.Conn) {
	select {
	case h.next <- conn:
	case <-h.closed:
		conn.Close()
	}
}

func (h handed) Addr() net.Addr { return &net.TCPAddr{} }
func (h handed) Close() error   { close(h.closed); return nil }
