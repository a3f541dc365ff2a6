package trust

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"
	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/internal/safefile"
)

// keyFile is the text of a key file: comments, then the private key on one line or, under a
// passphrase, as armored age.
const keyFile = `# modmirror signing key. Keep it secret: who has it can sign bundles in your name.
# public: %s
%s
`

const (
	// maxKeyFile is the longest key file in bytes.
	maxKeyFile = 64 << 10

	// scryptWork is the cost of trying a passphrase, as a power of 2: age's own default, which
	// takes about a second.
	scryptWork = 18
)

// ErrPassphrase is wrapped by the error about a wrong passphrase.
var ErrPassphrase = errors.New("the passphrase is not the right one")

// NewKey makes a key and writes it to file with mode 0600. A passphrase, unless it is empty,
// encrypts the private part. The name "" stands for user@host. An existing file is not replaced:
// the error wraps fs.ErrExist.
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
	key, private, err := generate(name)
	if err != nil {
		return nil, err
	}
	if len(passphrase) > 0 {
		sealed, err := seal(private, passphrase)
		if err != nil {
			return nil, err
		}
		private = strings.TrimSpace(string(sealed))
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	if err := safefile.Write(file, fmt.Appendf(nil, keyFile, key.Verifier, private), 0o600); err != nil {
		return nil, err
	}
	return key, nil
}

var notNameChar = regexp.MustCompile(`[^A-Za-z0-9._@-]+`)

// defaultKeyName returns user@host, or as much of it as the system tells.
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

// ReadKey reads a key file and calls passphrase when the key is encrypted. It refuses a file that
// others may read.
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
		if private, err = unseal([]byte(private+"\n"), phrase); err != nil {
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

// PublicKey returns the public key in a key file. It needs no passphrase.
func PublicKey(file string) (string, error) {
	public, _, err := readKeyFile(file)
	if err == nil && public == "" {
		err = fmt.Errorf("%s: the public part in its comment is missing", file)
	}
	return public, err
}

// readKeyFile returns the two parts of a key file as they are written there.
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

// seal encrypts a private key with a passphrase.
func seal(private string, passphrase []byte) ([]byte, error) {
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
	_, err = io.WriteString(w, private)
	if err := errors.Join(err, w.Close(), a.Close()); err != nil {
		return nil, err
	}
	return append(buf.Bytes(), '\n'), nil
}

// unseal decrypts a private key. The error is ErrPassphrase when the passphrase is wrong.
func unseal(sealed []byte, passphrase []byte) (string, error) {
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
	private, err := io.ReadAll(io.LimitReader(r, maxKeyFile))
	return strings.TrimSpace(string(private)), err
}
