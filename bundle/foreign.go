package bundle

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"filippo.io/age/armor"
)

// A ForeignError says that a file is something else than a bundle, or than signatures of one, and
// what it is.
type ForeignError struct {
	File string
	What string // such as "a zip archive"
	undo string // a command that gets at what is in it, with %s for the name of the file; "" for none
}

// Error says what it is.
func (e *ForeignError) Error() string { return "it is " + e.What + ", and no bundle" }

// Hint returns the command that undoes it, "" when there is none.
func (e *ForeignError) Hint() string {
	if e.undo == "" {
		return ""
	}
	return fmt.Sprintf(e.undo, e.File)
}

// ageArmor begins an encrypted file in its form for texts (https://c2sp.org/age, ASCII armor).
const ageArmor = "-----BEGIN AGE ENCRYPTED FILE-----"

// isAge reports whether a file that begins so is encrypted with age.
func isAge(begin []byte) bool {
	return bytes.HasPrefix(begin, []byte(AgeHeader)) || bytes.HasPrefix(bytes.TrimLeft(begin, " \t\r\n"), []byte(ageArmor))
}

// IsAge reports whether what r reads is encrypted with age, in either form. Nothing is taken from
// r.
func IsAge(r *bufio.Reader) bool {
	begin, _ := r.Peek(2 * len(ageArmor)) // what there is of it
	return isAge(begin)
}

// AgeReader returns a reader of an encrypted file in its binary form.
func AgeReader(r io.Reader) io.Reader {
	buffered := bufio.NewReaderSize(r, 64<<10)
	if begin, _ := buffered.Peek(len(AgeHeader)); string(begin) == AgeHeader {
		return buffered
	}
	return armor.NewReader(buffered)
}

// formats are what people make of a file on its way, by the first bytes: those of gzip are from RFC
// 1952, of zstd RFC 8878, of xz its file format 1.2.1, of zip APPNOTE 4.3.7.
var formats = []struct{ begin, what, undo string }{
	{"\x1f\x8b", "compressed with gzip", "gunzip %s"},
	{"\x28\xb5\x2f\xfd", "compressed with zstd", "unzstd %s"},
	{"\xfd7zXZ\x00", "compressed with xz", "unxz %s"},
	{"BZh", "compressed with bzip2", "bunzip2 %s"},
	{"\x04\x22\x4d\x18", "compressed with lz4", "unlz4 %s"},
	{"PK\x03\x04", "a zip archive", "if a bundle is in it: unzip %s"},
	{"PK\x05\x06", "an empty zip archive", ""},
	{"7z\xbc\xaf\x27\x1c", "a 7z archive", "if a bundle is in it: 7z x %s"},
	{"-----BEGIN PGP MESSAGE", "encrypted with OpenPGP", "gpg --output team.tar --decrypt %s"},
	{"%PDF-", "a PDF", ""},
	{"\x7fELF", "a program", ""},
}

// openPGP reports whether a file that begins so is a binary OpenPGP message: its first packet holds
// an encrypted session key or, in the new format, encrypted data (RFC 9580, section 4.2).
func openPGP(begin []byte) bool {
	if len(begin) < 4 || begin[0]&0x80 == 0 {
		return false
	}
	tag, version := begin[0]>>2&0xf, begin[min(1+1<<(begin[0]&3), 3)] // behind a length of 1, 2 or 4 bytes
	if begin[0]&0x40 != 0 {
		tag, version = begin[0]&0x3f, begin[2]
		if begin[1] >= 192 {
			version = begin[3]
		}
	}
	return tag == 1 && version >= 2 && version <= 6 || tag == 3 && version >= 4 && version <= 6
}

// foreign returns what a file that does not begin like a bundle is, nil when that cannot be told:
// it may be a damaged bundle.
func foreign(file string, begin []byte) *ForeignError {
	for _, f := range formats {
		if bytes.HasPrefix(begin, []byte(f.begin)) {
			return &ForeignError{file, f.what, f.undo}
		}
	}
	switch {
	case openPGP(begin):
		return &ForeignError{file, "encrypted with OpenPGP", "gpg --output team.tar --decrypt %s"}
	case likeBundle(begin):
		return nil
	case len(begin) > 262 && string(begin[257:262]) == "ustar":
		return &ForeignError{file, "another tar archive", "if a bundle is in it: tar tf %s"}
	case len(begin) > 0 && isText(begin):
		return &ForeignError{file, "a text", ""}
	}
	return nil
}

// isText reports whether the beginning of a file is text. A character may be cut off at its end.
func isText(begin []byte) bool {
	for len(begin) > 0 {
		if !utf8.FullRune(begin) {
			return true
		}
		r, n := utf8.DecodeRune(begin)
		if r == utf8.RuneError && n <= 1 || r < ' ' && !strings.ContainsRune("\t\r\n\f", r) {
			return false
		}
		begin = begin[n:]
	}
	return true
}

// isSignatures reports whether a file beside a bundle is a signed note, and so meant for modmirror.
func isSignatures(data []byte) bool { return bytes.Contains(data, []byte("\n\n\u2014 ")) }

// foreignSignature returns what a file beside a bundle is that has its name for signatures and is
// no signed note.
func foreignSignature(data []byte) string {
	for _, f := range []struct{ begin, what string }{
		{"-----BEGIN PGP SIGNATURE-----", "an OpenPGP signature: gpg --verify checks it"},
		{"-----BEGIN SSH SIGNATURE-----", "a signature of ssh-keygen: ssh-keygen -Y verify checks it"},
		{"untrusted comment:", "a signature of signify or minisign, which check it"},
		{"-----BEGIN PKCS7-----", "a CMS signature: openssl cms -verify checks it"},
		{"-----BEGIN CMS-----", "a CMS signature: openssl cms -verify checks it"},
		{"\x30", "a CMS signature: openssl cms -verify checks it"},
		{"{", "a JSON document, perhaps of cosign"},
	} {
		if bytes.HasPrefix(data, []byte(f.begin)) {
			return f.what
		}
	}
	switch {
	case len(data) == 0:
		return "empty"
	case data[0] == 0x88, data[0] == 0x89, data[0] == 0xc2: // a packet with tag 2 (RFC 9580, section 5)
		return "an OpenPGP signature: gpg --verify checks it"
	}
	return "in a format that modmirror does not know"
}
