// Package trust decides whose signatures count: signing keys, where they are kept, and the keyring
// of the public keys that a machine trusts. It knows signed notes and nothing of bundles.
package trust

import (
	"bufio"
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/internal/safefile"
)

// A Keyring is a list of trusted public keys, kept in a file of one key a line. It is not safe for
// concurrent changes.
type Keyring struct {
	File string
	Keys []string // as Key.Verifier

	// Require is how many of the keys must have signed a bundle; below 1 means 1. Each public key
	// counts once, whatever its names.
	Require int

	// RequireRoles is how many keys of each role must have signed besides, each in one role alone:
	// who made a bundle does not approve it too.
	RequireRoles map[string]int

	roles map[string][]string // by key
}

// NewKeyring returns a keyring without a file, of keys in the form of Key.Verifier.
func NewKeyring(keys ...string) *Keyring { return &Keyring{Keys: keys} }

// Read reads a keyring from its file. A file that does not exist gives an empty keyring.
func Read(file string) (*Keyring, error) {
	t := &Keyring{File: file}
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
		key, words, _ := strings.Cut(line, " ")
		if err := checkKey(key); err != nil {
			return nil, fmt.Errorf("%s:%d: not a public key: %w", file, n, err)
		}
		if slices.Contains(t.Keys, key) {
			return nil, fmt.Errorf("%s:%d: this key was there before: put its roles on one line", file, n)
		}
		t.Keys = append(t.Keys, key)
		if roles := strings.Fields(words); len(roles) > 0 {
			if err := CheckRoles(roles); err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, n, err)
			}
			t.setRoles(key, roles)
		}
	}
	return t, sc.Err()
}

// checkKey checks a public key. There must be one way to write it, since keys are told apart by their
// text, and a person must see all of its name.
func checkKey(key string) error {
	v, err := note.NewVerifier(key)
	if err != nil {
		return err
	}
	_, rest, _ := strings.Cut(key, "+")
	hash, public, _ := strings.Cut(rest, "+")
	data, err := base64.StdEncoding.DecodeString(public)
	if err != nil || base64.StdEncoding.EncodeToString(data) != public || hash != fmt.Sprintf("%08x", v.KeyHash()) {
		return errors.New("not in canonical form")
	}
	if strings.ContainsFunc(v.Name(), func(r rune) bool { return !unicode.IsPrint(r) }) {
		return errors.New("its name has characters that are not seen")
	}
	return nil
}

// Lenient returns a keyring of the same keys that requires one signature.
func (t *Keyring) Lenient() *Keyring { return NewKeyring(t.Keys...) }

// Add adds a public key with roles to the keyring and to its file, and reports whether that is new.
// A key that is there keeps its roles when none are given.
func (t *Keyring) Add(key string, roles ...string) (bool, error) {
	key = strings.TrimSpace(key)
	if err := CheckRoles(roles); err != nil {
		return false, err
	}
	if err := checkKey(key); err != nil {
		return false, fmt.Errorf("%.100q is not a public key (%w): want name+hash+base64, as key show prints it", key, err)
	}
	known := slices.Contains(t.Keys, key)
	if known && (len(roles) == 0 || slices.Equal(roles, t.Roles(key))) {
		return false, nil
	}
	if !known {
		t.Keys = append(t.Keys, key)
	}
	t.setRoles(key, roles)
	line := strings.Join(append([]string{key}, roles...), " ")
	return true, t.edit(func(lines []string) []string {
		for i, l := range lines {
			if keyOf(l) == key {
				lines[i] = line
				return lines
			}
		}
		return append(lines, line)
	})
}

// keyOf returns the key on a line of the file.
func keyOf(line string) string {
	key, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	return key
}

// Remove removes the keys whose whole text, name, or name+hash is name, from the keyring and from
// its file, and returns them. No such key is an error.
func (t *Keyring) Remove(name string) (removed []string, err error) {
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
		return slices.DeleteFunc(lines, func(l string) bool { return slices.Contains(removed, keyOf(l)) })
	})
}

// edit rewrites the lines of the file. Comments stay, and so does a symbolic link to the file.
func (t *Keyring) edit(change func(lines []string) []string) error {
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

// Verifiers returns the verifiers of the keys.
func (t *Keyring) Verifiers() note.Verifiers {
	var list []note.Verifier
	for _, k := range t.Keys {
		if v, err := note.NewVerifier(k); err == nil {
			list = append(list, v)
		}
	}
	return note.VerifierList(list...)
}

// Open verifies the signatures of a signed note. Signatures of unknown keys are ignored; a bad
// signature of a trusted key is an error, even beside a good one. The error is an *UntrustedError
// when no trusted key signed, and a *TooFewError when fewer than required did.
func (t *Keyring) Open(msg []byte) (*note.Note, error) {
	n, err := note.Open(msg, t.Verifiers())
	if unverified, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		return nil, &UntrustedError{Names(unverified.Note.UnverifiedSigs)}
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(msg[len(n.Text)+1:])) {
		if err := t.checkSignature([]byte(n.Text), line); err != nil {
			return nil, err
		}
	}
	if err := t.Check(Names(n.Sigs)); err != nil {
		err.Others = Names(n.UnverifiedSigs)
		return nil, err
	}
	return n, nil
}

// checkSignature checks what note.Open does not, for one signature line of a note that it accepted:
// that the base64 is canonical (decoding is lenient about bits before the padding), and that a
// second signature of a trusted key is good too (note.Open skips it).
func (t *Keyring) checkSignature(text []byte, line string) error {
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

// Check returns an error unless the signers, as "name+hash", are as many of the keys as are required.
func (t *Keyring) Check(signers []string) *TooFewError {
	roles := make(map[string][]string) // by public key: a key with several names has the roles of all
	for _, s := range signers {
		for _, k := range t.Keys {
			if public, ok := strings.CutPrefix(k, s+"+"); ok {
				roles[public] = append(roles[public], t.roles[k]...)
			}
		}
	}
	if have := len(roles); have < t.Require {
		return &TooFewError{Want: t.Require, Have: have}
	}
	return t.checkRoles(roles)
}

// Claims reports whether a signature line of a note carries the name and hash of a trusted key. It
// does not verify the signature.
func (t *Keyring) Claims(line string) bool {
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

// OpenUnverified parses a signed note without verifying any signature.
func OpenUnverified(msg []byte) (*note.Note, error) {
	n, err := note.Open(msg, note.VerifierList())
	if u, ok := errors.AsType[*note.UnverifiedNoteError](err); ok {
		return u.Note, nil
	}
	return n, err
}

// Names returns the keys of signatures as "name+hash".
func Names(sigs []note.Signature) (names []string) {
	for _, s := range sigs {
		names = append(names, fmt.Sprintf("%s+%08x", s.Name, s.Hash))
	}
	return names
}

// An UntrustedError reports a bundle that no trusted key signed.
type UntrustedError struct {
	Signers []string // "name+hash" of the keys that did
}

// Error names the keys that signed.
func (e *UntrustedError) Error() string {
	if len(e.Signers) == 0 {
		return "it is not signed"
	}
	return "signed by " + strings.Join(e.Signers, ", ") + ", which is not among the trusted keys"
}

// A TooFewError reports that fewer trusted keys signed than are required.
type TooFewError struct {
	Role       string // that the keys must have; "" for any
	Want, Have int
	Others     []string // "name+hash" of untrusted keys that signed too
}

// Error says how many signed and how many are required.
func (e *TooFewError) Error() string {
	text := fmt.Sprintf("signed by %d of the trusted keys, and %d are required", e.Have, e.Want)
	if e.Role != "" {
		text = fmt.Sprintf("signed by %d of the trusted keys in the role of %s, and %d are required "+
			"(each key counts in one role)", e.Have, e.Role, e.Want)
	}
	if len(e.Others) > 0 {
		text += "; also signed by " + strings.Join(e.Others, ", ") + ", not trusted here"
	}
	return text
}
