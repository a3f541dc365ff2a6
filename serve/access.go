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

// maxKnown is how many passwords that were right are remembered, by their hashes: bcrypt takes a tenth of a second each time.
const maxKnown = 1000

// maxBcrypt is how many passwords are compared at once, so that clients that guess leave a core for the others.
const maxBcrypt = 1

// Access says who may read: users with a password, as go commands send them from netrc, and bearer tokens, as GOAUTH commands send them. The
// files are read again when they change.
type Access struct {
	Htpasswd string // file of name:bcrypt lines, as htpasswd -B writes them; "" for none
	Tokens   string // file of tokens, one a line, perhaps as name:token; "" for none

	users  *watched[*passwords]
	tokens *watched[map[[32]byte]string] // names, by the SHA-256 of the token

	hashing chan struct{}
	guesses guesses
	log     *slog.Logger
	refused func(reason string) // counts what was refused
	mu      sync.Mutex
	known   map[[32]byte]bool // SHA-256 of user, hash and password
}

// open reads the files.
func (a *Access) open(log *slog.Logger, refused func(reason string)) error {
	a.log, a.refused = log, refused
	a.guesses = guesses{now: time.Now, by: make(map[netip.Prefix]*guesser)}
	a.hashing, a.known = make(chan struct{}, maxBcrypt), make(map[[32]byte]bool)
	nobody := rand.Text() + rand.Text()
	a.users = &watched[*passwords]{log: log, files: []string{a.Htpasswd}, read: func() (*passwords, error) { return readHtpasswd(a.Htpasswd, nobody) }}
	a.tokens = &watched[map[[32]byte]string]{log: log, files: []string{a.Tokens}, read: func() (map[[32]byte]string, error) { return readTokens(a.Tokens) }}
	if _, err := a.users.get(); err != nil {
		return err
	}
	_, err := a.tokens.get()
	return err
}

// passwords are the bcrypt hashes of users.
type passwords struct {
	hashes map[string][]byte
	costs  []int  // of the hashes, in the order of the file
	nobody string // 52 letters that nobody outside knows
}

// of returns the hash of a user. For who is none it is one that no password has. Its cost is that
// of one of the users, always the same one for a name, so that the time of an answer does not tell
// who is a user. Without any user it is nil.
func (p *passwords) of(user string) (hash []byte, known bool) {
	if hash, known := p.hashes[user]; known || len(p.costs) == 0 {
		return hash, known
	}
	sum := sha256.Sum256([]byte(p.nobody + user))
	cost := p.costs[binary.BigEndian.Uint64(sum[:])%uint64(len(p.costs))]
	return fmt.Appendf(nil, "$2a$%02d$%.53s", cost, p.nobody+"A"), false
}

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

// eachLine calls f with the lines of a file that are no comments; "" is a file without lines.
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

// A verdict says whether a client may read.
type verdict int

const (
	nobody   verdict = iota // it said nothing, or nothing that is right
	guessing                // its address sent so many wrong passwords that no more are looked at for now
	reader
)

// Why a request was refused, as metrics have it.
const (
	refusedPassword = "password" // it was wrong
	refusedToken    = "token"    // it was wrong
	refusedGuessing = "guessing" // it was not looked at
)

// who returns the name of the client that a request is from, and whether it may read. addr is where
// it comes from.
func (a *Access) who(r *http.Request, addr netip.Addr) (name string, v verdict) {
	if token, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); is {
		tokens, err := a.tokens.get()
		if err != nil {
			return "", nobody
		}
		name, ok := tokens[sha256.Sum256([]byte(token))] // what is looked up is a hash: how long it takes tells nothing of the token
		if !ok {
			a.refused(refusedToken)
			return "", nobody
		}
		return name, reader
	}
	user, password, is := r.BasicAuth()
	if !is {
		return "", nobody
	}
	users, err := a.users.get()
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
	if a.remembers(key) { // a request beside this one was first
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
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxKnown {
		clear(a.known)
	}
	a.known[key] = true
	return user, reader
}

// remembers reports whether a password was right before.
func (a *Access) remembers(key [32]byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.known[key]
}

// deny answers a request of nobody who may read.
func deny(w http.ResponseWriter, v verdict) {
	if v == guessing {
		w.Header().Set("Retry-After", strconv.Itoa(int(guessInterval/time.Second)))
		text(w, http.StatusTooManyRequests, "too many wrong passwords came from this address: correct the one in netrc, then wait for %v", guessInterval)
		return
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="modmirror", charset="UTF-8"`)
	text(w, http.StatusUnauthorized, "this server wants a password or a token: put it into netrc, whose machine line wants the port too (machine HOST:PORT login NAME password WORD), or have a GOAUTH command print it (go help goauth)")
}

// ErrNoTLS is the error of settings that would have passwords sent in the clear.
var ErrNoTLS = errors.New("passwords and tokens are for TLS only: go commands send them over https, and others could read them")

// admit reports whether the client may read; if not it is answered.
func (s *Server) admit(x *exchange) bool {
	if s.Access == nil {
		if x.req.TLS != nil && len(x.req.TLS.PeerCertificates) > 0 {
			x.name = x.req.TLS.PeerCertificates[0].Subject.CommonName
		}
		return true
	}
	if x.req.TLS == nil && (!x.origin().proxied || x.origin().scheme != "https") {
		x.kind = kindRefused
		text(x, http.StatusForbidden, "this server wants a password, and takes one over https only, here or at the reverse proxy that it trusts (which must set X-Forwarded-Proto)")
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

const (
	// maxGuesses is how many wrong passwords in a row an address may send; one more is allowed each
	// guessInterval.
	maxGuesses    = 10
	guessInterval = 6 * time.Second

	// maxGuessers is how many addresses are remembered that sent wrong ones.
	maxGuessers = 10_000
)

// guesses counts wrong passwords by the client's network. Right ones cost nothing, so that many
// users behind one address do not stand in each other's way.
type guesses struct {
	now func() time.Time

	mu sync.Mutex
	by map[netip.Prefix]*guesser
}

// A guesser is a client's network that sent wrong passwords.
type guesser struct {
	left float64 // at the time since
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

// may reports whether another password of the address is looked at.
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

// wrong counts a wrong password, and reports whether it was the last that the address may send for
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
		if len(g.by) >= maxGuessers { // so many that to count them apart is no help: bcrypt's turn bounds them together
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
