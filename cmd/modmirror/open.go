package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/adrg/xdg"
	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/internal/proof"
)

func (e *env) keyFile() string { return filepath.Join(e.configDir, "key") }

func (e *env) trustFile() string { return filepath.Join(e.configDir, "trusted") }

// stateDir is where serve keeps what it has verified.
func stateDir() string { return filepath.Join(xdg.StateHome, "modmirror") }

// noSuchFile reports whether err is about a file that is not there.
func noSuchFile(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// oneBundle opens the bundle that a command was given.
func oneBundle(ctx context.Context, e *env, args []string) (*bundle.Bundle, error) {
	if len(args) != 1 {
		return nil, usagef("want one bundle")
	}
	return openBundle(ctx, e, args[0])
}

// openBundle opens a bundle under the trusted keys, or the newest one in a store of one line.
func openBundle(ctx context.Context, e *env, file string) (*bundle.Bundle, error) {
	trust, err := e.trust(1)
	if err != nil {
		return nil, err
	}
	if st, err := os.Stat(file); err == nil && st.IsDir() {
		return bundle.OpenNewest(ctx, file, trust)
	}
	b, err := bundle.Open(ctx, file, trust, "")
	if err == nil {
		e.sayOther(file, b.OtherSignature)
	}
	return b, err
}

// sayOther says what a file beside a bundle is that has the name of its signatures and is none for
// modmirror.
func (e *env) sayOther(file, what string) {
	if what != "" {
		e.say("%s: the .sig file beside it is %s; modmirror does not", file, what)
	}
}

// pinnedDatabase returns the checksum database whose key is known here. "off" does not
// turn verification off: it means that of Go's own.
func pinnedDatabase(ctx context.Context, gosumdb string) (*proof.Database, error) {
	if gosumdb == "" {
		settings, err := readGoEnv(ctx)
		if err != nil {
			return nil, err
		}
		gosumdb = settings.GOSUMDB
	}
	if gosumdb == "off" {
		gosumdb = "sum.golang.org"
	}
	return proof.ParseGOSUMDB(gosumdb)
}

// lockStore opens a store to change it, when no other process does.
func lockStore(ctx context.Context, e *env, dir string, trust *bundle.Trust, state string) (s *bundle.Store, unlock func() error, err error) {
	if s, err = bundle.OpenStore(dir, trust, state); err != nil {
		return nil, nil, err
	}
	unlock, err = s.Lock(ctx, e.waiting("the store "+dir))
	return s, unlock, err
}

// trust returns the trusted keys, of which so many must have signed a bundle.
func (e *env) trust(require int) (*bundle.Trust, error) {
	if require < 1 {
		return nil, usagef("--require %d: want 1 or more", require)
	}
	trust, err := bundle.ReadTrust(e.trustFile())
	if err == nil {
		trust.Require = require
	}
	return trust, err
}
