package serve

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/bcrypt"
)

const (
	// maxKnown is how many right passwords are remembered, by their hashes: bcrypt takes a tenth of
	// a second each time.
	maxKnown = 1000

	// maxBcrypt is how many passwords are compared at once, so that clients that guess leave a core
	// for the others.
	maxBcrypt = 1
)

// ErrNoTLS is returned by Server.Serve for settings that would send passwords in the clear.
var ErrNoTLS = errors.New("passwords and tokens are for TLS only: " +
	"go commands send them over https, and others could read them")

// Access says who may read: users with a password, which go commands take from netrc, and bearer
// tokens, which GOAUTH commands print. The server reads the files again when they change.
type Access struct {
	Htpasswd string // file of name:bcrypt lines, as htpasswd -B writes them; "" for none
	Tokens   string // file of tokens, one a line, perhaps as name:token; "" for none

	users  watched[*passwords]
	tokens watched[map[[32]byte]string] // names, by the SHA-256 of the token
	nobody string                       // 52 random letters, for hashes of unknown users

	hashing chan struct{} // held while a password is compared
	guesses guesses
	log     *slog.Logger
	refused func(reason string) // counts a refused password or token

	mu    sync.Mutex
	known map[[32]byte]bool // SHA-256 of user, hash and a right password; guarded by mu
}

// open reads the files. It calls refused, from several goroutines, for each password or token that
// is not accepted.
func (a *Access) open(log *slog.Logger, refused func(reason string)) error {
	a.log, a.refused = log, refused
	a.guesses = guesses{now: time.Now, by: make(map[netip.Prefix]*guesser)}
	a.hashing, a.known = make(chan struct{}, maxBcrypt), make(map[[32]byte]bool)
	a.nobody = rand.Text() + rand.Text()
	a.users.files, a.tokens.files = []string{a.Htpasswd}, []string{a.Tokens}
	if _, err := a.readUsers(); err != nil {
		return err
	}
	_, err := a.readTokens()
	return err
}

// readUsers returns the users as the file says now.
func (a *Access) readUsers() (*passwords, error) {
	return a.users.get(a.log, func() (*passwords, error) { return readHtpasswd(a.Htpasswd, a.nobody) })
}

// readTokens returns the tokens as the file says now.
func (a *Access) readTokens() (map[[32]byte]string, error) {
	return a.tokens.get(a.log, func() (map[[32]byte]string, error) { return readTokens(a.Tokens) })
}

// admit reports whether the client may read. It answers the request when not.
func (s *Server) admit(x *exchange) bool {
	if s.Access == nil {
		if x.req.TLS != nil && len(x.req.TLS.PeerCertificates) > 0 {
			x.name = x.req.TLS.PeerCertificates[0].Subject.CommonName
		}
		return true
	}
	if x.req.TLS == nil && (!x.origin().proxied || x.origin().scheme != "https") {
		x.kind = kindRefused
		text(x, http.StatusForbidden, "this server wants a password, and takes one over https only, "+
			"here or at the reverse proxy that it trusts (which must set X-Forwarded-Proto)")
		return false
	}
	name, v := s.Access.who(x.req, x.origin().addr)
	x.name = name
	if v != reader {
		x.kind = kindRefused
		deny(x, v)
	}
	return v == reader
}

// A verdict says whether a client may read.
type verdict int

const (
	nobody   verdict = iota // it sent no right password or token
	guessing                // its address sent too many wrong passwords: no more are compared for now
	reader
)

// The reasons for which metrics count a refusal.
const (
	refusedPassword = "password" // it was wrong
	refusedToken    = "token"    // it was wrong
	refusedGuessing = "guessing" // it was not compared
)

// who returns the name of the client that sent r from addr, and whether it may read.
func (a *Access) who(r *http.Request, addr netip.Addr) (name string, v verdict) {
	if token, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); is {
		return a.ofToken(token)
	}
	user, password, is := r.BasicAuth()
	if !is {
		return "", nobody
	}
	users, err := a.readUsers()
	if err != nil {
		return "", nobody
	}
	hash, known := users.of(user)
	if hash == nil {
		a.refused(refusedPassword)
		return "", nobody
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%q %s %q", user, hash, password))
	if a.remembers(key) {
		return user, reader
	}
	select {
	case a.hashing <- struct{}{}:
		defer func() { <-a.hashing }()
	case <-r.Context().Done():
		return "", nobody
	}
	if a.remembers(key) { // a concurrent request was first
		return user, reader
	}
	if !a.guesses.may(addr) {
		a.refused(refusedGuessing)
		return "", guessing
	}
	if right := bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil; !right || !known {
		a.refused(refusedPassword)
		if a.guesses.wrong(addr) {
			a.log.Warn("an address sends wrong passwords: no more are looked at for now", "client", addr)
		}
		return "", nobody
	}
	a.remember(key)
	return user, reader
}

// ofToken returns the name of a bearer token, and whether its client may read. The map is keyed by
// hashes, so that the time of a lookup tells nothing of a token.
func (a *Access) ofToken(token string) (name string, v verdict) {
	tokens, err := a.readTokens()
	if err != nil {
		return "", nobody
	}
	name, ok := tokens[sha256.Sum256([]byte(token))]
	if !ok {
		a.refused(refusedToken)
		return "", nobody
	}
	return name, reader
}

// remembers reports whether a password was right before.
func (a *Access) remembers(key [32]byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known[key]
}

// remember notes that a password was right.
func (a *Access) remember(key [32]byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxKnown {
		clear(a.known)
	}
	a.known[key] = true
}

// deny answers the request of a client that may not read.
func deny(w http.ResponseWriter, v verdict) {
	if v == guessing {
		w.Header().Set("Retry-After", strconv.Itoa(int(guessInterval/time.Second)))
		text(w, http.StatusTooManyRequests, "too many wrong passwords came from this address: "+
			"correct the one in netrc, then wait for %v", guessInterval)
		return
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="modmirror", charset="UTF-8"`)
	text(w, http.StatusUnauthorized, "this server wants a password or a token: put it into netrc, "+
		"whose machine line wants the port too (machine HOST:PORT login NAME password WORD), "+
		"or have a GOAUTH command print it (go help goauth)")
}

// passwords are the bcrypt hashes of users.
type passwords struct {
	hashes map[string][]byte
	costs  []int  // of the hashes, in the order of the file
	nobody string // 52 letters that no client knows
}

// of returns the hash of a user, and whether the user is known. For an unknown user it returns a
// hash that no password has. The cost of that is the cost of one of the users, and always the same
// for a name, so that the time of an answer does not tell who is a user. Without any user hash is
// nil.
func (p *passwords) of(user string) (hash []byte, known bool) {
	if hash, known := p.hashes[user]; known || len(p.costs) == 0 {
		return hash, known
	}
	sum := sha256.Sum256([]byte(p.nobody + user))
	cost := p.costs[binary.BigEndian.Uint64(sum[:])%uint64(len(p.costs))]
	return fmt.Appendf(nil, "$2a$%02d$%.53s", cost, p.nobody+"A"), false
}

// readHtpasswd reads a file of users. nobody has 52 random letters.
func readHtpasswd(file, nobody string) (*passwords, error) {
	p := &passwords{hashes: make(map[string][]byte), nobody: nobody}
	err := eachLine(file, func(line string) error {
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return fmt.Errorf("want NAME:HASH")
		}
		cost, err := bcrypt.Cost([]byte(hash))
		if err != nil {
			return fmt.Errorf("the hash of %.40q is not one of bcrypt (htpasswd -B)", name)
		}
		p.hashes[name] = []byte(hash)
		p.costs = append(p.costs, cost)
		return nil
	})
	return p, err
}

// readTokens reads a file of tokens: names by the SHA-256 of the token.
func readTokens(file string) (map[[32]byte]string, error) {
	tokens := make(map[[32]byte]string)
	err := eachLine(file, func(line string) error {
		name, token, ok := strings.Cut(line, ":")
		if !ok {
			name, token = "token", line
		}
		if len(token) < 16 || strings.ContainsAny(token, " \t") {
			return fmt.Errorf("a token has 16 characters or more, and no spaces")
		}
		tokens[sha256.Sum256([]byte(token))] = name
		return nil
	})
	return tokens, err
}

// eachLine calls f with the lines of a file but empty ones and comments. The file "" has no lines.
func eachLine(file string, f func(line string) error) error {
	if file == "" {
		return nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	sc := bufio.NewScanner(bytes.NewReader(data))
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if err := f(line); err != nil {
			return fmt.Errorf("%s:%d: %w", file, n, err)
		}
	}
	return sc.Err()
}

const (
	// maxGuesses is how many wrong passwords in a row an address may send; one more is allowed each
	// guessInterval.
	maxGuesses    = 10
	guessInterval = 6 * time.Second

	// maxGuessers is how many networks that sent wrong passwords are remembered.
	maxGuessers = 10_000
)

// guesses counts wrong passwords by the client's network. Right passwords cost nothing, so that
// many users behind one address do not stand in each other's way.
type guesses struct {
	now func() time.Time

	mu sync.Mutex
	by map[netip.Prefix]*guesser // guarded by mu
}

// A guesser is the network of a client that sent wrong passwords.
type guesser struct {
	left float64 // wrong passwords that it may still send, as of at
	at   time.Time
}

// client returns the network that counts as one client: an address of IPv4, or the 64 bits of IPv6
// that one host can have all addresses in.
func client(addr netip.Addr) netip.Prefix {
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits) // of the zero address it is the zero prefix
	return p
}

// refill brings a guesser up to date.
func (c *guesser) refill(now time.Time) {
	c.left = min(maxGuesses, c.left+float64(now.Sub(c.at))/float64(guessInterval))
	c.at = now
}

// may reports whether another password from addr is compared.
func (g *guesses) may(addr netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	c := g.by[client(addr)]
	if c == nil {
		return true
	}
	c.refill(g.now())
	return c.left >= 1
}

// wrong counts a wrong password, and reports whether it was the last one that addr may send for
// now.
func (g *guesses) wrong(addr netip.Addr) (last bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if len(g.by) >= maxGuessers {
		for p, c := range g.by {
			if c.refill(now); c.left >= maxGuesses {
				delete(g.by, p)
			}
		}
		if len(g.by) >= maxGuessers { // too many to count apart: maxBcrypt bounds them together
			clear(g.by)
		}
	}
	c := g.by[client(addr)]
	if c == nil {
		c = &guesser{left: maxGuesses, at: now}
		g.by[client(addr)] = c
	}
	c.refill(now)
	c.left--
	return c.left < 1
}
