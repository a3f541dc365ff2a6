package bundle

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"filippo.io/age/armor"
	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/internal/safefile"
)

// A Key signs bundles. Keys are Ed25519 keys in the form of signed notes
// (https://c2sp.org/signed-note).
type Key struct {
	Signer   note.Signer
	Verifier string // the public part, as "trust add" takes it: name+hash+base64
}

// keyFile is what a key file holds: comments, and the private part on a line, or encrypted with a passphrase as armored age.
const keyFile = `# modmirror signing key. Keep it secret: who has it can sign bundles in your name.
# public: %s
%s
`

// maxKeyFile is the longest key file in bytes.
const maxKeyFile = 64 << 10

// NewKey makes a key and writes it to file with mode 0600, encrypted unless the passphrase is empty. A file that is there is not
// replaced. name "" means user@host.
func NewKey(file, name string, passphrase []byte) (*Key, error) {
	if name == "" {
		name = defaultKeyName()
	}
	if strings.ContainsAny(name, " +\t\r\n") || name == "" {
		return nil, fmt.Errorf("bad key name %q: no spaces and no plus", name)
	}
	if _, err := os.Lstat(file); err == nil {
		return nil, fmt.Errorf("%s is there already and stays as it is: %w", file, fs.ErrExist)
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, err
	}
	private := skey
	if len(passphrase) > 0 {
		sealed, err := sealKey(skey, passphrase)
		if err != nil {
			return nil, err
		}
		private = strings.TrimSpace(string(sealed))
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	if err := safefile.Write(file, fmt.Appendf(nil, keyFile, vkey, private), 0o600); err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(skey)
	return &Key{signer, vkey}, err
}

var notNameChar = regexp.MustCompile(`[^A-Za-z0-9._@-]+`)

func defaultKeyName() string {
	name := "modmirror"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil && host != "" {
		name += "@" + host
	}
	return notNameChar.ReplaceAllString(name, "-")
}

// ReadKey reads a key file. One that others may read is refused. passphrase is called when the key is encrypted.
func ReadKey(file string, passphrase func() ([]byte, error)) (*Key, error) {
	public, private, err := readKeyFile(file)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(private, armor.Header) {
		phrase, err := passphrase()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if private, err = unsealKey([]byte(private+"\n"), phrase); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	signer, err := note.NewSigner(private)
	if err != nil {
		return nil, fmt.Errorf("%s: not a key file", file) // the cause would print the key
	}
	v, err := note.NewVerifier(public)
	if err != nil || v.Name() != signer.Name() || v.KeyHash() != signer.KeyHash() {
		return nil, fmt.Errorf("%s: the public part in its comment is missing or is not of this key", file)
	}
	return &Key{signer, public}, nil
}

// PublicKey returns the public part of the key in a file, which needs no passphrase.
func PublicKey(file string) (string, error) {
	public, _, err := readKeyFile(file)
	if err == nil && public == "" {
		err = fmt.Errorf("%s: the public part in its comment is missing", file)
	}
	return public, err
}

// readKeyFile returns the two parts of a key file as they stand there.
func readKeyFile(file string) (public, private string, err error) {
	st, err := os.Stat(file)
	if err != nil {
		return "", "", err
	}
	if !st.Mode().IsRegular() || st.Size() > maxKeyFile {
		return "", "", fmt.Errorf("%s: not a key file", file)
	}
	if st.Mode().Perm()&0o077 != 0 {
		return "", "", fmt.Errorf("%s: mode is %#o, so others than its owner may read the key: run chmod 600 %[1]s", file, st.Mode().Perm())
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", "", err
	}
	var lines []string
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if v, ok := strings.CutPrefix(line, "# public: "); ok {
			public = v
		}
		if line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return "", "", fmt.Errorf("%s: no key in it", file)
	}
	return public, strings.Join(lines, "\n"), nil
}

// EphemeralKey makes a key that is in memory only.
func EphemeralKey(name string) (*Key, error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		return nil, err
	}
	signer, err := note.NewSigner(skey)
	return &Key{signer, vkey}, err
}

// A Trust is the list of keys whose bundles are believed, in a file of one public key a line.
type Trust struct {
	File    string
	Keys    []string
	Require int // how many of the keys must have signed a bundle, at least; below 1 is 1. A public key counts once, whatever its names.
}

// TrustIn returns the trust in keys alone, in the form of Key.Verifier.
func TrustIn(keys ...string) *Trust { return &Trust{Keys: keys} }

// Lenient returns the trust in the same keys, of which any one is enough.
func (t *Trust) Lenient() *Trust { return TrustIn(t.Keys...) }

// made reports whether a line of a signed note is, by its key's name and hash, of one of the keys.
func (t *Trust) made(line string) bool {
	f := strings.Fields(line)
	if len(f) != 3 {
		return false
	}
	id, err := base64.StdEncoding.DecodeString(f[2])
	if err != nil || len(id) < 4 {
		return false
	}
	return slices.ContainsFunc(t.Keys, func(k string) bool { return strings.HasPrefix(k, fmt.Sprintf("%s+%x+", f[1], id[:4])) })
}

// checkSignature checks what note.Open leaves open about a line with a signature of a note that it
// took: that its base64 is canonical, since it decodes leniently (the last character before the
// padding has bits that do not count), and that a signature is right which stands in the name of a
// trusted key behind another one of that key, which it does not look at.
func (t *Trust) checkSignature(text []byte, line string) error {
	name, b64, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "— "), "\n"), " ")
	sig, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil || len(sig) < 4 {
		return fmt.Errorf("not in canonical base64: %w", cmp.Or(err, io.ErrUnexpectedEOF))
	}
	v, err := t.Verifiers().Verifier(name, binary.BigEndian.Uint32(sig))
	if _, unknown := errors.AsType[*note.UnknownVerifierError](err); unknown {
		return nil
	}
	if err == nil && !v.Verify(text, sig[4:]) {
		err = &note.InvalidSignatureError{Name: name, Hash: v.KeyHash()}
	}
	return err
}

// distinct counts the public keys among those that made verified signatures.
func (t *Trust) distinct(sigs []note.Signature) int {
	keys := make(map[string]bool)
	for _, s := range sigs {
		for _, k := range t.Keys {
			if public, ok := strings.CutPrefix(k, fmt.Sprintf("%s+%08x+", s.Name, s.Hash)); ok {
				keys[public] = true
			}
		}
	}
	return len(keys)
}

// ReadTrust reads a trust file; one that is not there trusts nobody.
func ReadTrust(file string) (*Trust, error) {
	t := &Trust{File: file}
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if _, err := note.NewVerifier(line); err != nil {
			return nil, fmt.Errorf("%s:%d: not a public key: %w", file, n, err)
		}
		t.Keys = append(t.Keys, line)
	}
	return t, sc.Err()
}

// Add trusts a public key. It reports whether that is new.
func (t *Trust) Add(key string) (bool, error) {
	key = strings.TrimSpace(key)
	if _, err := note.NewVerifier(key); err != nil {
		return false, fmt.Errorf("%.100q is not a public key: want name+hash+base64, as key show prints it", key)
	}
	if slices.Contains(t.Keys, key) {
		return false, nil
	}
	t.Keys = append(t.Keys, key)
	return true, t.edit(func(lines []string) []string { return append(lines, key) })
}

// Remove no longer trusts the keys that are named by their whole text, their name, or name+hash.
// It returns those that it found.
func (t *Trust) Remove(name string) (removed []string, err error) {
	t.Keys = slices.DeleteFunc(t.Keys, func(k string) bool {
		match := k == name || strings.HasPrefix(k, name+"+")
		if match {
			removed = append(removed, k)
		}
		return match
	})
	if len(removed) == 0 {
		return nil, fmt.Errorf("no trusted key is named %q", name)
	}
	return removed, t.edit(func(lines []string) []string {
		return slices.DeleteFunc(lines, func(l string) bool { return slices.Contains(removed, strings.TrimSpace(l)) })
	})
}

// edit changes the lines of the trust file; comments in it stay. A link to it stays one.
func (t *Trust) edit(change func(lines []string) []string) error {
	file := t.File
	if to, err := filepath.EvalSymlinks(file); err == nil {
		file = to
	}
	lines := []string{"# Keys whose bundles are believed here, one a line."}
	data, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err == nil {
		lines = strings.Split(strings.TrimRight(string(data), "\n"), "\n")
	}
	return safefile.Write(file, []byte(strings.Join(change(lines), "\n")+"\n"), 0o644)
}

// Verifiers returns the trusted keys.
func (t *Trust) Verifiers() note.Verifiers {
	var list []note.Verifier
	for _, k := range t.Keys {
		if v, err := note.NewVerifier(k); err == nil {
			list = append(list, v)
		}
	}
	return note.VerifierList(list...)
}
