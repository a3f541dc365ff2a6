package trust

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// newKey returns a key that is not in a file.
func newKey(t *testing.T, name string) *Key {
	t.Helper()
	k, err := EphemeralKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestKeyFile writes key files and reads them again, with a passphrase and without.
func TestKeyFile(t *testing.T) {
	for _, phrase := range []string{"", "correct horse"} {
		file := filepath.Join(t.TempDir(), "config", "key")
		made, err := NewKey(file, "", []byte(phrase))
		if err != nil {
			t.Fatal(err)
		}
		st, err := os.Stat(file)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Fatalf("mode %v, %v", st.Mode(), err)
		}
		if public, err := PublicKey(file); err != nil || public != made.Verifier {
			t.Errorf("public key %q, %v, want %q", public, err, made.Verifier)
		}
		asked := 0
		read, err := ReadKey(file, func() ([]byte, error) { asked++; return []byte(phrase), nil })
		if err != nil || read.Verifier != made.Verifier || asked != len(phrase[:min(1, len(phrase))]) {
			t.Errorf("read %v, %v, asked %d times", read, err, asked)
		}
		if phrase != "" {
			_, err := ReadKey(file, func() ([]byte, error) { return []byte("wrong"), nil })
			if !errors.Is(err, ErrPassphrase) {
				t.Errorf("wrong passphrase: %v", err)
			}
		}
		if _, err := NewKey(file, "", nil); !errors.Is(err, fs.ErrExist) {
			t.Errorf("a key file was replaced: %v", err)
		}
		if err := os.Chmod(file, 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadKey(file, nil); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("a file that the group may read: %v", err)
		}
	}
}

// TestOpen verifies notes under keyrings. The cases with whole manifests are bundle's
// TestSignatures.
func TestOpen(t *testing.T) {
	a, b, stranger := newKey(t, "a"), newKey(t, "b"), newKey(t, "stranger")
	sign := func(keys ...*Key) []byte {
		msg, err := note.Sign(&note.Note{Text: "text\n"}, Signers(keys)...)
		if err != nil {
			t.Fatal(err)
		}
		return msg
	}
	two := NewKeyring(a.Verifier, b.Verifier)
	two.Require = 2
	n, err := two.Open(sign(a, b, stranger))
	if err != nil || n.Text != "text\n" || two.Check(Names(n.Sigs)) != nil {
		t.Errorf("two of two: %v, %v", n, err)
	}
	if few, ok := errors.AsType[*TooFewError](openError(two, sign(a, stranger))); !ok || few.Have != 1 || few.Want != 2 || len(few.Others) != 1 {
		t.Errorf("one of two: %v", few)
	}
	if _, err := two.Lenient().Open(sign(a)); err != nil {
		t.Errorf("lenient: %v", err)
	}
	if untrusted, ok := errors.AsType[*UntrustedError](openError(two, sign(stranger))); !ok || len(untrusted.Signers) != 1 {
		t.Errorf("no trusted key: %v", untrusted)
	}
	_, lines, _ := bytes.Cut(sign(a), []byte("\n\n"))
	line := string(lines)
	if !two.Claims(line) || two.Claims(strings.Replace(line, " a ", " c ", 1)) || two.Claims("no signature") {
		t.Error("Claims")
	}
	if n, err := OpenUnverified(sign(stranger)); err != nil || n.Text != "text\n" {
		t.Errorf("unverified: %v, %v", n, err)
	}
}

func openError(t *Keyring, msg []byte) error {
	_, err := t.Open(msg)
	return err
}

// TestKeyringFile adds and removes keys in a file with comments, through a symbolic link.
func TestKeyringFile(t *testing.T) {
	a, b := newKey(t, "a"), newKey(t, "b")
	dir := t.TempDir()
	file, link := filepath.Join(dir, "real"), filepath.Join(dir, "trusted")
	if err := os.WriteFile(file, []byte("# ours\n"+a.Verifier+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	k, err := Read(link)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} {
		if added, err := k.Add(b.Verifier); err != nil || added != want {
			t.Errorf("Add: %v, %v, want %v", added, err, want)
		}
	}
	if removed, err := k.Remove("a"); err != nil || !slices.Equal(removed, []string{a.Verifier}) {
		t.Errorf("Remove: %v, %v", removed, err)
	}
	if _, err := k.Remove("a"); err == nil {
		t.Error("a key was removed twice")
	}
	data, err := os.ReadFile(file)
	if want := "# ours\n" + b.Verifier + "\n"; err != nil || string(data) != want {
		t.Errorf("file %q, %v, want %q", data, err, want)
	}
	if st, err := os.Lstat(link); err != nil || st.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", st, err)
	}
	if none, err := Read(filepath.Join(dir, "missing")); err != nil || len(none.Keys) != 0 {
		t.Errorf("missing file: %v, %v", none, err)
	}
}

// FuzzKeyring reads keyring files: each key that is taken is one that verifies, and the file can be
// added to and taken from.
func FuzzKeyring(f *testing.F) {
	key, err := EphemeralKey("seed")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("# a comment\n" + key.Verifier + "\n\n")
	f.Add(key.Verifier + " # a comment behind it\n")
	f.Add("\ufeff" + key.Verifier + "\r\n")
	file := filepath.Join(f.TempDir(), "trusted")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		keyring, err := Read(file)
		if err != nil {
			return
		}
		before := len(keyring.Keys)
		if _, err := keyring.Add(key.Verifier); err != nil {
			t.Fatal(err)
		}
		again, err := Read(file)
		if err != nil || !slices.Equal(again.Keys, keyring.Keys) {
			t.Fatalf("%d keys, then %d, then %v (%v)", before, len(keyring.Keys), again, err)
		}
		for _, k := range again.Keys {
			if _, err := note.NewVerifier(k); err != nil {
				t.Errorf("%q is trusted: %v", k, err)
			}
		}
	})
}

// FuzzKeyFile reads key files: what is taken for a key signs what its public part verifies, and no
// error has the private part.
func FuzzKeyFile(f *testing.F) {
	file := filepath.Join(f.TempDir(), "key")
	if _, err := NewKey(file, "seed", nil); err != nil {
		f.Fatal(err)
	}
	seed, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(bytes.ReplaceAll(seed, []byte("# public"), []byte("# other")))
	f.Add([]byte("PRIVATE+KEY+seed+00000000+AAAA\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := ReadKey(file, func() ([]byte, error) { return []byte("x"), nil })
		if err != nil {
			if strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("the error has the key: %v", err)
			}
			return
		}
		v, err := note.NewVerifier(k.Verifier)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := k.Signer.Sign([]byte("text"))
		if err != nil || !v.Verify([]byte("text"), sig) {
			t.Errorf("it does not sign what it verifies: %v", err)
		}
	})
}

func TestPEM(t *testing.T) {
	for range 20 { // in base64 some keys have a plus
		key, err := EphemeralKey("team")
		if err != nil {
			t.Fatal(err)
		}
		text, err := PEM(key.Verifier)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode([]byte(text))
		public, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := key.Signer.Sign([]byte("hello"))
		if err != nil || !ed25519.Verify(public.(ed25519.PublicKey), []byte("hello"), sig) {
			t.Errorf("%s: another key, or %v:\n%s", key.Verifier, err, text)
		}
	}
	if _, err := PEM("team+00000000+AAAA"); err == nil {
		t.Error("no error for what is no key")
	}
}
