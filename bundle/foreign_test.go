package bundle

import (
	"bytes"
	"testing"
)

// TestLikeBundle tells a bundle with damage in its first block from other tar archives.
func TestLikeBundle(t *testing.T) {
	whole := Header(manifestName, ManifestSize)
	if !LooksLike(whole) || LooksLike(whole[:100]) || LooksLike(make([]byte, len(whole))) {
		t.Error("a whole header, a short one or zeros")
	}
	for i := range whole {
		bad := bytes.Clone(whole)
		bad[i] ^= 0x55
		if !LooksLike(bad) {
			t.Errorf("with byte %d damaged it does not look like a bundle any more", i)
		}
	}
	for _, name := range []string{"MANIFEST.txt", "team.tar", "manifest"} {
		if LooksLike(Header(name, 12345678)) {
			t.Errorf("a tar archive that begins with %s is taken for a bundle", name)
		}
	}
}

// TestForeign names what files of other kinds are, however short.
func TestForeign(t *testing.T) {
	for begin, want := range map[string]string{
		"\x1f\x8b\x08":                  "compressed with gzip",
		"PK\x03\x04":                    "a zip archive",
		"\x28\xb5\x2f\xfd":              "compressed with zstd",
		"some words":                    "a text",
		"caf\xc3":                       "a text", // a character is cut off
		"-----BEGIN PGP MESSAGE-----\n": "encrypted with OpenPGP",
		"\x85\x01\x0c\x03\x11\x22\x33":  "encrypted with OpenPGP",
		"\x8c\x0d\x04\x09\x03\x02":      "encrypted with OpenPGP",
		"\xc1\xc0\x4c\x03\x11\x22":      "encrypted with OpenPGP",
	} {
		if f := foreign("x", []byte(begin)); f == nil || f.What != want {
			t.Errorf("%q: %v, want %s", begin, f, want)
		}
	}
	for _, begin := range []string{"", "\x00", "\x85", "\xc1\xff", "\x00\x01\x02\x03", "\xff\xff\xff\xff\xff"} {
		if f := foreign("x", []byte(begin)); f != nil {
			t.Errorf("%q is called %s", begin, f.What)
		}
	}
}
