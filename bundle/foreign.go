package bundle

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A ForeignError reports a file that is neither a bundle nor signatures of one, and says what it
// is.
type ForeignError struct {
	File string
	What string // such as "a zip archive"
	undo string // command that gets at what is in it, with %s for the file; "" for none
}

// Error says what the file is.
func (e *ForeignError) Error() string { return "it is " + e.What + ", and no bundle" }

// Hint returns a command that gets at what is in the file, "" for none.
func (e *ForeignError) Hint() string {
	if e.undo == "" {
		return ""
	}
	return fmt.Sprintf(e.undo, e.File)
}

// formats are what people turn a bundle into on its way, by the first bytes: gzip (RFC 1952), zstd
// (RFC 8878), xz (its file format 1.2.1), zip (APPNOTE 4.3.7), and others.
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

// openPGP reports whether a file that begins so is a binary OpenPGP message: its first packet is an
// encrypted session key or, in the new format, encrypted data (RFC 9580, section 4.2).
func openPGP(begin []byte) bool {
	if len(begin) < 4 || begin[0]&0x80 == 0 {
		return false
	}
	tag, version := begin[0]>>2&0xf, begin[min(1+1<<(begin[0]&3), 3)] // after a length of 1, 2 or 4 bytes
	if begin[0]&0x40 != 0 {
		tag, version = begin[0]&0x3f, begin[2]
		if begin[1] >= 192 {
			version = begin[3]
		}
	}
	return tag == 1 && version >= 2 && version <= 6 || tag == 3 && version >= 4 && version <= 6
}

// foreign returns what a file that does not begin like a bundle is, nil when it may be a damaged
// bundle.
func foreign(file string, begin []byte) *ForeignError {
	for _, f := range formats {
		if bytes.HasPrefix(begin, []byte(f.begin)) {
			return &ForeignError{file, f.what, f.undo}
		}
	}
	switch {
	case openPGP(begin):
		return &ForeignError{file, "encrypted with OpenPGP", "gpg --output team.tar --decrypt %s"}
	case LooksLike(begin):
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

// foreignSignature returns what a file of signatures beside a bundle is when it is not a signed
// note.
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

// LooksLike reports whether a file that begins so is a bundle, perhaps a damaged one.
func LooksLike(begin []byte) bool {
	want := Header(manifestName, ManifestSize)
	if len(begin) < len(want) {
		return false
	}
	// Bytes that other tar archives share do not count: size, time and checksum tell a MANIFEST
	// from other entries.
	same, all := 0, 0
	for i, c := range want[:156] {
		if i >= 16 && (c == 0 || c == '0' || i >= 100 && i < 124) {
			continue
		}
		if all++; begin[i] == c {
			same++
		}
	}
	return 6*same >= 5*all
}
