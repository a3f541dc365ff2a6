package trust

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"

	"golang.org/x/mod/sumdb/note"
)

// A Key signs bundles. It is an Ed25519 key in the form of signed notes
// (https://c2sp.org/signed-note).
type Key struct {
	Signer   note.Signer
	Verifier string // public key, as "trust add" takes it: name+hash+base64
}

// EphemeralKey returns a new key that is never written to disk.
func EphemeralKey(name string) (*Key, error) {
	key, _, err := generate(name)
	return key, err
}

// generate returns a new key and the text of its private part.
func generate(name string) (key *Key, private string, err error) {
	private, public, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, "", err
	}
	signer, err := note.NewSigner(private)
	return &Key{signer, public}, private, err
}

// PEM returns a public key, in the form of Key.Verifier, as PEM of a SubjectPublicKeyInfo (RFC
// 8410) for tools that know no signed notes.
func PEM(verifier string) (string, error) {
	if err := checkKey(verifier); err != nil {
		return "", err
	}
	public := strings.SplitN(verifier, "+", 3)[2] // base64, which may have a plus
	data, err := base64.StdEncoding.DecodeString(public)
	if err != nil {
		return "", err
	}
	der, err := x509.MarshalPKIXPublicKey(ed25519.PublicKey(data[1:])) // after the byte that says Ed25519
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})), err
}

// Signers returns the signers of keys.
func Signers(keys []*Key) []note.Signer {
	list := make([]note.Signer, len(keys))
	for i, k := range keys {
		list[i] = k.Signer
	}
	return list
}
