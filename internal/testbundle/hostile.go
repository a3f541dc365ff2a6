package testbundle

import (
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/mattn/go-sqlite3" // the driver that does what it is told
	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/trust"
)

// WithoutLarge is a change for Make: the large zip is left out.
func WithoutLarge(c *bundle.Contents) {
	c.Versions = slices.DeleteFunc(c.Versions, func(v bundle.Version) bool { return v.Path == Large.Path })
}

// SQL changes the bytes of an index by SQL, in a file in the folder dir, by a SQLite that does what
// it is told.
func SQL(dir string, index []byte, text string) ([]byte, error) {
	file := filepath.Join(dir, "x.sqlite")
	if err := os.WriteFile(file, index, 0o644); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite3", file+"?_journal_mode=OFF")
	if err != nil {
		return nil, err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	if _, err := db.Exec(text); err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
}

// Loop makes the first interior page of an index point to itself.
func Loop(b []byte) []byte {
	for p := 1; p*4096 < len(b); p++ {
		page := b[p*4096:]
		if page[0] == 5 || page[0] == 2 {
			binary.BigEndian.PutUint32(page[8:], uint32(p+1))
			return b
		}
	}
	// A small index has no interior pages: let the schema's root be one.
	b[100] = 5
	binary.BigEndian.PutUint32(b[108:], 1)
	return b
}

// Renamed returns a key with another name: its id differs, and its public key does not.
func Renamed(t testing.TB, k *trust.Key, name string) *trust.Key {
	t.Helper()
	public, err := base64.StdEncoding.DecodeString(strings.SplitN(k.Verifier, "+", 3)[2])
	check(t, err)
	text, err := note.NewEd25519VerifierKey(name, public[1:])
	check(t, err)
	v, err := note.NewVerifier(text)
	check(t, err)
	return &trust.Key{Signer: renamedSigner{v, k.Signer}, Verifier: text}
}

// renamedSigner signs by a key of another name.
type renamedSigner struct {
	note.Verifier
	signer note.Signer
}

// Sign is that of note.Signer.
func (s renamedSigner) Sign(msg []byte) ([]byte, error) { return s.signer.Sign(msg) }
