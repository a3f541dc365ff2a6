package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/adrg/xdg"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/goenv"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/proof"
)

func (e *env) keyFile() string   { return filepath.Join(e.configDir, "key") }
func (e *env) trustFile() string { return filepath.Join(e.configDir, "trusted") }

// stateDir returns the default state directory.
func stateDir() string { return filepath.Join(xdg.StateHome, "modmirror") }

// keyring returns the trusted keys. require is the value of --require.
func (e *env) keyring(require string) (*trust.Keyring, error) {
	keyring, err := trust.Read(e.trustFile())
	if err != nil {
		return nil, err
	}
	if err := keyring.SetRequirement(require); err != nil {
		return nil, usagef("--require %v", err)
	}
	return keyring, nil
}

// openBundle opens a bundle that a trusted key signed, or the newest bundle of a store with one
// line. The caller closes it.
func openBundle(ctx context.Context, e *env, file string) (*bundle.Bundle, error) {
	keyring, err := e.keyring(oneKey)
	if err != nil {
		return nil, err
	}
	if isFolder(file) {
		return store.OpenNewest(ctx, file, keyring)
	}
	b, err := bundle.Open(ctx, file, keyring, "")
	if err == nil {
		e.sayOther(file, b.OtherSignature)
	}
	return b, err
}

// openLines opens a bundle, or the newest bundle of each line of a store.
func openLines(ctx context.Context, e *env, file string) (lines []*bundle.Bundle, closeAll func() error, err error) {
	if !isFolder(file) {
		b, err := openBundle(ctx, e, file)
		if err != nil {
			return nil, nil, err
		}
		return []*bundle.Bundle{b}, b.Close, nil
	}
	keyring, err := e.keyring(oneKey)
	if err != nil {
		return nil, nil, err
	}
	v, err := store.OpenLines(ctx, file, keyring)
	if err != nil {
		return nil, nil, err
	}
	return v.Lines, v.Close, nil
}

// notCarried returns the error about a module, or a version of one, that a bundle does not carry
// with its zip.
func notCarried(what, file string) error {
	return hint.Add(fmt.Errorf("%s: %s does not carry it whole", what, file),
		"modmirror list --all %s shows what it carries", file)
}

// oneBundle opens the only argument of a command, see openBundle.
func oneBundle(ctx context.Context, e *env, args []string) (*bundle.Bundle, error) {
	if len(args) != 1 {
		return nil, usagef("want one bundle")
	}
	return openBundle(ctx, e, args[0])
}

// sayOther says that the .sig file beside a bundle is a signature of another tool, which what
// describes; "" says nothing.
func (e *env) sayOther(file, what string) {
	if what != "" {
		e.say("%s: the .sig file beside it is %s; modmirror does not", file, what)
	}
}

// warnAge warns of a bundle that is older than max, or dated in the future; 0 allows every age.
// Clocks inside drift, so neither is an error.
func warnAge(log *slog.Logger, m bundle.Manifest, max time.Duration) {
	age := time.Since(m.Created)
	created := m.Created.UTC().Format(time.RFC3339)
	if max > 0 && age > max {
		log.Warn("bundle is old", "name", m.Name, "created", created, "days", int(age.Hours()/24))
	}
	if age < -store.MaxDrift {
		log.Warn("bundle is dated in the future: is the clock right? Beside other lines it counts as of the day when it was first seen here", "name", m.Name, "created", created)
	}
}

// lockStore opens a store and locks it for changes. It waits while another process has the lock.
func lockStore(ctx context.Context, e *env, dir string, keyring *trust.Keyring, state string) (
	s *store.Store, unlock func() error, err error) {
	if s, err = store.Open(dir, keyring, state); err != nil {
		return nil, nil, err
	}
	unlock, err = s.Lock(ctx, e.waiting("the store "+dir))
	return s, unlock, err
}

// pinnedDatabase returns the checksum database with the given name and key; "" is that of go env
// GOSUMDB. "off" is sum.golang.org, because verification needs a key.
func pinnedDatabase(ctx context.Context, gosumdb string) (*proof.Database, error) {
	if gosumdb == "" {
		settings, err := goenv.Read(ctx)
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

// isFolder reports whether name is a folder, or a link to one.
func isFolder(name string) bool {
	st, err := os.Stat(name)
	return err == nil && st.IsDir()
}

// noSuchFile reports whether err says that a file does not exist.
func noSuchFile(err error) bool { return errors.Is(err, fs.ErrNotExist) }
