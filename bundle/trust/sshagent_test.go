package trust

import (
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/mod/sumdb/note"
)

// TestAgentKey signs with keys of an agent that listens on a real socket.
func TestAgentKey(t *testing.T) {
	ring := agent.NewKeyring()
	for _, comment := range []string{"ada lovelace@host", "second"} {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: private, Comment: comment}); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go agent.ServeAgent(ring, conn)
		}
	}()
	t.Setenv("SSH_AUTH_SOCK", socket)
	if _, err := AgentKey(""); err == nil || !strings.Contains(err.Error(), "has 2 Ed25519 keys") {
		t.Errorf("one of two: %v", err)
	}
	k, err := AgentKey("ada lovelace@host")
	if err != nil {
		t.Fatal(err)
	}
	if k.Signer.Name() != "ada-lovelace@host" {
		t.Errorf("name %q", k.Signer.Name())
	}
	msg, err := note.Sign(&note.Note{Text: "text\n"}, k.Signer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKeyring(k.Verifier).Open(msg); err != nil {
		t.Error(err)
	}
	t.Setenv("SSH_AUTH_SOCK", "")
	if _, err := AgentKey(""); err == nil {
		t.Error("a key without an agent")
	}
}
