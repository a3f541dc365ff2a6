package serve

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"

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

	users  *watched[map[string][]byte]
	tokens *watched[map[[32]byte]string] // names, by the SHA-256 of the token

	nobody  []byte // hash of a password that nobody has
	hashing chan struct{}
	mu      sync.Mutex
	known   map[[32]byte]bool // SHA-256 of user, hash and password
}

// open reads the files.
func (a *Access) open(log *slog.Logger) error {
	a.hashing, a.known = make(chan struct{}, maxBcrypt), make(map[[32]byte]bool)
	a.users = &watched[map[string][]byte]{log: log, files: []string{a.Htpasswd}, read: func() (map[string][]byte, error) { return readHtpasswd(a.Htpasswd) }}
	a.tokens = &watched[map[[32]byte]string]{log: log, files: []string{a.Tokens}, read: func() (map[[32]byte]string, error) { return readTokens(a.Tokens) }}
	var err error
	if a.nobody, err = bcrypt.GenerateFromPassword([]byte(rand.Text()), bcrypt.DefaultCost); err != nil {
		return err
	}
	if _, err := a.users.get(); err != nil {
		return err
	}
	_, err = a.tokens.get()
	return err
}

func readHtpasswd(file string) (map[string][]byte, error) {
	users := make(map[string][]byte)
	err := eachLine(file, func(line string) error {
		name, hash, ok := strings.Cut(line, ":")
		if !ok || name == "" {
			return fmt.Errorf("want NAME:HASH")
		}
		if _, err := bcrypt.Cost([]byte(hash)); err != nil {
			return fmt.Errorf("the hash of %.40q is not one of bcrypt (htpasswd -B)", name)
		}
		users[name] = []byte(hash)
		return nil
	})
	return users, err
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

// who returns the name of the client that a request is from, and whether it may read.
func (a *Access) who(r *http.Request) (name string, ok bool) {
	if token, is := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); is {
		tokens, err := a.tokens.get()
		if err != nil {
			return "", false
		}
		name, ok := tokens[sha256.Sum256([]byte(token))] // what is looked up is a hash: how long it takes tells nothing of the token
		return name, ok
	}
	user, password, is := r.BasicAuth()
	if !is {
		return "", false
	}
	users, err := a.users.get()
	if err != nil {
		return "", false
	}
	hash, known := users[user]
	if !known {
		hash = a.nobody // it takes as long as a wrong password
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%q %s %q", user, hash, password))
	a.mu.Lock()
	again := a.known[key]
	a.mu.Unlock()
	if again {
		return user, true
	}
	select {
	case a.hashing <- struct{}{}:
		defer func() { <-a.hashing }()
	case <-r.Context().Done():
		return "", false
	}
	if right := bcrypt.CompareHashAndPassword(hash, []byte(password)) == nil; !right || !known {
		return "", false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxKnown {
		clear(a.known)
	}
	a.known[key] = true
	return user, true
}

// deny answers a request of nobody who may read.
func deny(w http.ResponseWriter) {
	w.Header().Set("WWW-Authenticate", `Basic realm="modmirror", charset="UTF-8"`)
	text(w, http.StatusUnauthorized, "this server wants a password or a token: put it into netrc, whose machine line wants the port too (machine HOST:PORT login NAME password WORD), or have a GOAUTH command print it (go help goauth)")
}
