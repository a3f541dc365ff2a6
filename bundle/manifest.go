package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/safetree"
)

// ManifestSize is the size of the MANIFEST entry in bytes, with padding. A hundred signatures fit.
const ManifestSize = 16 << 10

// Format is the first line of every manifest: the format of bundles and its version.
const Format = "modmirror bundle v1"

// A Manifest is the signed text of a bundle.
//
// After a first line that names the format, the text has one "key value" line for each field, in
// the order below. Empty base and head are left out. A manifest has exactly one text: ParseManifest
// refuses any other.
type Manifest struct {
	Name      string    // of the line, such as "team"
	Sequence  int64     // higher is newer; Unix seconds unless set by hand
	Created   time.Time // in whole seconds
	Size      int64     // of the whole file in bytes
	Index     [32]byte  // SHA-256 of index.sqlite
	IndexSize int64     // in bytes
	Base      string    // id of the bundle before it, for a delta

	DB   string    // name of the checksum database; "" for none
	Head tlog.Tree // its tree head, which proves all records

	Counts index.Counts
}

// reName matches names of lines, which are safe in file names and in lines of text.
var reName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// CheckName returns an error unless name can be the name of a line.
func CheckName(name string) error {
	if !reName.MatchString(name) {
		return fmt.Errorf("bad bundle name %.120q: want letters, digits, dots, dashes and underscores, 100 at most", name)
	}
	return nil
}

// Text returns the text that is signed.
func (m Manifest) Text() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s", Format)
	line("name %s", m.Name)
	line("sequence %d", m.Sequence)
	line("created %s", m.Created.UTC().Format(time.RFC3339))
	line("size %d", m.Size)
	line("index %x %d", m.Index, m.IndexSize)
	if m.Base != "" {
		line("base %s", m.Base)
	}
	if m.DB != "" {
		line("head %s %d %s", m.DB, m.Head.N, m.Head.Hash)
	}
	line("modules %d", m.Counts.Modules)
	line("versions %d", m.Counts.Versions)
	line("modonly %d", m.Counts.ModOnly)
	line("private %d", m.Counts.Private)
	line("files %d", m.Counts.Files)
	line("missing %d", m.Counts.Missing)
	return b.String()
}

// ID returns the bundle's id: the SHA-256 of its text, in hex. It does not depend on signatures.
func (m Manifest) ID() string {
	sum := sha256.Sum256([]byte(m.Text()))
	return hex.EncodeToString(sum[:])
}

// ParseManifest parses a text that Text returned.
func ParseManifest(text string) (Manifest, error) {
	var m Manifest
	fail := func(format string, args ...any) (Manifest, error) {
		return Manifest{}, fmt.Errorf("manifest: "+format, args...)
	}
	lines := strings.Split(text, "\n")
	if lines[0] != Format {
		return fail("first line is %.60q, this modmirror reads %q", lines[0], Format)
	}
	counts := map[string]*int64{
		"modules": &m.Counts.Modules, "versions": &m.Counts.Versions, "modonly": &m.Counts.ModOnly,
		"private": &m.Counts.Private, "files": &m.Counts.Files, "missing": &m.Counts.Missing,
		"sequence": &m.Sequence, "size": &m.Size,
	}
	for _, line := range lines[1:] {
		key, value, _ := strings.Cut(line, " ")
		f := strings.Fields(value)
		var err error
		switch {
		case line == "":
		case counts[key] != nil:
			*counts[key], err = strconv.ParseInt(value, 10, 64)
			if err == nil && *counts[key] < 0 {
				err = errors.New("negative")
			}
		case key == "name":
			m.Name, err = value, CheckName(value)
		case key == "created":
			m.Created, err = time.Parse(time.RFC3339, value)
		case key == "index" && len(f) == 2:
			if err = parseHex(m.Index[:], f[0]); err == nil {
				m.IndexSize, err = strconv.ParseInt(f[1], 10, 64)
			}
		case key == "base":
			m.Base = value
			err = parseHex(make([]byte, sha256.Size), value)
		case key == "head" && len(f) == 3:
			m.DB = f[0]
			if err = modpath.CheckDB(m.DB); err != nil {
				break
			}
			if m.Head.N, err = strconv.ParseInt(f[1], 10, 64); err == nil {
				m.Head.Hash, err = tlog.ParseHash(f[2])
			}
		default:
			return fail("unknown line %.100q", line)
		}
		if err != nil {
			return fail("line %.100q: %v", line, err)
		}
	}
	if m.Text() != text {
		return fail("not in canonical form")
	}
	if m.IndexSize <= 0 || m.IndexSize > index.MaxSize || m.Size < m.IndexSize || m.Size > maxSize {
		return fail("impossible sizes %d and %d", m.IndexSize, m.Size)
	}
	if m.DB != "" && m.Head.N < 1 {
		return fail("head of an empty tree")
	}
	return m, nil
}

// parseHex decodes s, which must have exactly as many hex digits as dst needs.
func parseHex(dst []byte, s string) error {
	if hex.DecodedLen(len(s)) != len(dst) {
		return fmt.Errorf("want %d hex digits", hex.EncodedLen(len(dst)))
	}
	_, err := hex.Decode(dst, []byte(s))
	return err
}

// Sign returns the content of the MANIFEST entry: the signed note, padded with newlines.
func (m Manifest) Sign(signers ...note.Signer) ([]byte, error) {
	msg, err := signNote(&note.Note{Text: m.Text()}, signers...)
	if err != nil {
		return nil, err
	}
	return padManifest(msg), nil
}

// signNote adds signatures to a note. The result fits into the MANIFEST entry.
func signNote(n *note.Note, signers ...note.Signer) ([]byte, error) {
	msg, err := note.Sign(n, signers...)
	if err != nil {
		return nil, fmt.Errorf("signing manifest: %w", err)
	}
	if len(msg) > ManifestSize {
		return nil, errTooManySignatures
	}
	return msg, nil
}

var errTooManySignatures = fmt.Errorf("manifest with its signatures is longer than %d bytes", ManifestSize)

// padManifest returns the content of the MANIFEST entry for a signed note.
func padManifest(msg []byte) []byte {
	return append(bytes.Clone(msg), bytes.Repeat([]byte("\n"), ManifestSize-len(msg))...)
}

// A NotVerifiedError says which part of a bundle does not verify, and why.
type NotVerifiedError = media.NotVerifiedError

// An OccupiedError reports something that is in the way of a file, and stays as it is.
type OccupiedError = safetree.OccupiedError

// OpenManifest verifies the signatures on a MANIFEST entry, as Keyring.Open does, and parses it.
// Errors are *NotVerifiedError.
func OpenManifest(data []byte, keyring *trust.Keyring) (Manifest, error) {
	m, _, err := openManifest(data, nil, keyring)
	return m, err
}

// openManifest is OpenManifest with more signatures: a signed note of the same text, or nil.
func openManifest(data, more []byte, keyring *trust.Keyring) (Manifest, *note.Note, error) {
	if len(data) != ManifestSize {
		return Manifest{}, nil, &NotVerifiedError{What: "MANIFEST", Err: fmt.Errorf("%d bytes, want %d", len(data), ManifestSize)}
	}
	msg := append(bytes.Clone(bytes.TrimRight(data, "\n")), '\n')
	if more != nil {
		own, _ := signatureLines(msg)
		text, lines := signatureLines(more)
		if !bytes.Equal(text, own) {
			return Manifest{}, nil, errOtherSignatures
		}
		for line := range strings.Lines(string(lines)) {
			if keyring.Claims(line) {
				msg = append(msg, line...)
			}
		}
		if len(msg) > ManifestSize {
			return Manifest{}, nil, &NotVerifiedError{What: "detached signatures", Err: errTooManySignatures}
		}
	}
	n, err := keyring.Open(msg)
	if err != nil {
		return Manifest{}, nil, &NotVerifiedError{What: "signature", Err: err}
	}
	m, err := ParseManifest(n.Text)
	if err != nil {
		return Manifest{}, nil, &NotVerifiedError{What: "MANIFEST", Err: err}
	}
	return m, n, nil
}

// errOtherSignatures reports detached signatures of another bundle.
var errOtherSignatures = errors.New("it has signatures of another bundle")
