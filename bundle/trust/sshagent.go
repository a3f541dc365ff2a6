package trust

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/note"
)

// AgentKey returns an Ed25519 key of ssh-agent, named by its comment or its fingerprint (SHA256:…).
// which may be "" when the agent has only one. An agent signs any text with such a key, so its
// signatures are those of signed notes. The comment becomes the key's name. The connection to the
// agent stays open.
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

// agentKey returns the Key that signs with k.
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

// An agentSigner signs notes with a key of ssh-agent.
type agentSigner struct {
	note.Verifier // name and hash
	agent         agent.Agent
	key           *agent.Key
}

// Sign returns the agent's signature over msg, having verified it.
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
