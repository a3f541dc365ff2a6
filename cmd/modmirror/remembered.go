package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// rememberedHead checks that the go command here will accept the server's head of a checksum
// database. The go command remembers the newest head that it has seen, and wants a consistency
// proof from there. rememberedHead makes the same proofs from the server's tiles.
func (c clientEnv) rememberedHead(ctx context.Context, client *upstream.Client, base, name string) check {
	path, _, _ := strings.Cut(c.GOPATH, string(os.PathListSeparator))
	file := filepath.Join(path, "pkg", "sumdb", filepath.FromSlash(name), "latest")
	r := remembered{"remembered head of " + name, name, file}
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(data) == 0 {
		return r.ok("none, so this server's will be")
	}
	if err != nil {
		return r.bad(err, "")
	}
	db, err := proof.ParseGOSUMDB(c.GOSUMDB)
	if err != nil || db == nil || db.Name != name {
		return r.ok("not asked, since GOSUMDB is another one")
	}
	old, err := db.ParseHead(data)
	if err != nil {
		return r.bad(fmt.Errorf("%s: %w", file, err),
			"keep it, and show it to the person who makes the bundles: it is signed by another key")
	}
	tiles := &serverTiles{ctx: ctx, client: client, db: base + "/sumdb/" + name + "/"}
	if data, err = tiles.get("latest"); err != nil {
		return r.bad(err, "")
	}
	now, err := db.ParseHead(data)
	if err != nil {
		return r.unproven(err, old, "")
	}
	if old.N > now.N {
		return r.bad(fmt.Errorf("the go command here has seen record %d, online or from a newer bundle; the bundle ends at %d, and go commands will fail with \"checking tree#%d\"", old.N, now.N, old.N), r.carry(old))
	}
	if err := (&proof.Prover{Head: old, Source: tiles}).ProveHead(); err != nil {
		return r.unproven(err, old, fmt.Sprintf("the bundle lacks what go commands need to go on from record %d, which they have seen", old.N))
	}
	if err := (&proof.Prover{Head: now, Source: tiles}).ProveConsistency(old); err != nil {
		return r.unproven(err, old, fmt.Sprintf("the bundle has no consistency proof from record %d to its %d", old.N,
			now.N))
	}
	return r.ok(fmt.Sprintf("record %d, and the server's %d goes on from there", old.N, now.N))
}

// A remembered is the file in which the go command remembers the head of a checksum database.
type remembered struct {
	what string // of the check
	name string // of the database
	file string
}

func (r remembered) ok(says string) check            { return check{r.what, true, says, ""} }
func (r remembered) bad(err error, fix string) check { return check{r.what, false, err.Error(), fix} }

// carry returns what to do about a bundle without the proof that a client needs.
func (r remembered) carry(old proof.Head) string {
	return fmt.Sprintf("rm %s; or have what connects the two carried, with a line in the list outside: head %s %d",
		r.file, r.name, old.N)
}

// unproven returns the check of a proof that failed. lacking says what the bundle does not have if
// tiles are missing.
func (r remembered) unproven(err error, old proof.Head, lacking string) check {
	switch {
	case errors.Is(err, proof.ErrMismatch): // perhaps an attack, and the file is the evidence
		return r.bad(err, "keep "+r.file+" and show it to the person who makes the bundles: one of two histories of the checksum database is forged")
	case upstream.IsNotFound(err):
		return r.bad(fmt.Errorf("%s: %w", lacking, err), r.carry(old))
	}
	return r.bad(err, "")
}

// serverTiles reads tiles of a checksum database from a server.
type serverTiles struct {
	ctx    context.Context
	client *upstream.Client
	db     string // URL of the checksum database, with a slash at its end
}

// get returns the file at a path below the database.
func (s *serverTiles) get(elem string) ([]byte, error) {
	return s.client.GetOnce(s.ctx, s.db+elem)
}

// ReadTiles reads tiles one after another. A proof needs few.
func (s *serverTiles) ReadTiles(tiles []tlog.Tile) (data [][]byte, err error) {
	for _, t := range tiles {
		tile, err := proof.ReadTile(t, func(t tlog.Tile) ([]byte, error) { return s.get(t.Path()) },
			func(error) bool { return true })
		if err == nil && len(tile) != t.W*tlog.HashSize {
			err = fmt.Errorf("%s has %d bytes", t.Path(), len(tile))
		}
		if err != nil {
			return nil, err
		}
		data = append(data, tile)
	}
	return data, nil
}

// SaveTiles does nothing: the tiles are not needed again.
func (s *serverTiles) SaveTiles([]tlog.Tile, [][]byte) error { return nil }
