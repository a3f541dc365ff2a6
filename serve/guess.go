package serve

import (
	"net/netip"
	"sync"
	"time"
)

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
