package bundle

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/note"
)

// scryptWork is how hard a passphrase is to try: 2^18 rounds, about a second, which is age's own default.
const scryptWork = 18

// sealKey encrypts the private part of a key with a passphrase.
func sealKey(secret string, passphrase []byte) ([]byte, error) {
	r, err := age.NewScryptRecipient(string(passphrase))
	if err != nil {
		return nil, err
	}
	r.SetWorkFactor(scryptWork)
	var buf bytes.Buffer
	a := armor.NewWriter(&buf)
	w, err := age.Encrypt(a, r)
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(w, secret)
	if err := errors.Join(err, w.Close(), a.Close()); err != nil {
		return nil, err
	}
	return append(buf.Bytes(), '\n'), nil
}

// ErrPassphrase is wrapped by the error about a passphrase that is not the right one.
var ErrPassphrase = errors.New("the passphrase is not the right one")

// unsealKey decrypts the private part of a key.
func unsealKey(sealed []byte, passphrase []byte) (string, error) {
	id, err := age.NewScryptIdentity(string(passphrase))
	if err != nil {
		return "", err
	}
	id.SetMaxWorkFactor(scryptWork + 2)
	r, err := age.Decrypt(armor.NewReader(bytes.NewReader(sealed)), id)
	if _, wrong := errors.AsType[*age.NoIdentityMatchError](err); wrong {
		return "", ErrPassphrase
	}
	if err != nil {
		return "", err
	}
	secret, err := io.ReadAll(io.LimitReader(r, maxKeyFile))
	return strings.TrimSpace(string(secret)), err
}

// AgentKey returns a key that is in ssh-agent: the Ed25519 key with a comment or a fingerprint (SHA256:…), or the only one there is when
// which is "". An agent signs any text with such a key, so what it signs is a signed note like any other. The key's name is its comment.
func AgentKey(which string) (*Key, error) {
	socket := os.Getenv("SSH_AUTH_SOCK")
	if socket == "" {
		return nil, errors.New("there is no ssh-agent: SSH_AUTH_SOCK is not set")
	}
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("ssh-agent: %w", err)
	}
	a := agent.NewClient(conn)
	keys, err := a.List()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("ssh-agent: %w", err)
	}
	keys = slices.DeleteFunc(keys, func(k *agent.Key) bool {
		return k.Type() != ssh.KeyAlgoED25519 || which != "" && k.Comment != which && ssh.FingerprintSHA256(k) != which
	})
	if len(keys) != 1 {
		conn.Close()
		return nil, fmt.Errorf("ssh-agent has %d Ed25519 keys that are meant by %q, want one", len(keys), which)
	}
	key, err := agentKey(a, keys[0])
	if err != nil {
		conn.Close()
		return nil, err
	}
	return key, nil
}

func agentKey(a agent.Agent, k *agent.Key) (*Key, error) {
	parsed, err := ssh.ParsePublicKey(k.Blob)
	if err != nil {
		return nil, fmt.Errorf("ssh-agent: %w", err)
	}
	crypto, ok := parsed.(ssh.CryptoPublicKey)
	if !ok {
		return nil, errors.New("ssh-agent: not a public key")
	}
	public, ok := crypto.CryptoPublicKey().(ed25519.PublicKey)
	if !ok {
		return nil, errors.New("ssh-agent: not an Ed25519 key")
	}
	name := strings.Trim(notNameChar.ReplaceAllString(k.Comment, "-"), "-")
	if name == "" {
		name = "ssh-agent"
	}
	text, err := note.NewEd25519VerifierKey(name, public)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(text)
	if err != nil {
		return nil, err
	}
	return &Key{Signer: &agentSigner{v, a, k}, Verifier: text}, nil
}

// agentSigner signs notes by ssh-agent.
type agentSigner struct {
	note.Verifier // name and hash
	agent         agent.Agent
	key           *agent.Key
}

// Sign has the agent sign msg, and checks what it made.
func (s *agentSigner) Sign(msg []byte) ([]byte, error) {
	sig, err := s.agent.Sign(s.key, msg)
	if err != nil {
		return nil, fmt.Errorf("ssh-agent: %w", err)
	}
	if !s.Verify(msg, sig.Blob) {
		return nil, errors.New("ssh-agent made a signature that does not verify")
	}
	return sig.Blob, nil
}
