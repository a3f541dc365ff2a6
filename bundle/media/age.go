package media

import (
	"bufio"
	"bytes"
	"io"

	"filippo.io/age/armor"
)

// AgeHeader begins an encrypted file (https://c2sp.org/age).
const AgeHeader = "age-encryption.org/v1\n"

// ageArmor begins an encrypted file in its form for texts (https://c2sp.org/age, ASCII armor).
const ageArmor = "-----BEGIN AGE ENCRYPTED FILE-----"

// BeginsAge reports whether a file that begins so is encrypted with age.
func BeginsAge(begin []byte) bool {
	return bytes.HasPrefix(begin, []byte(AgeHeader)) || bytes.HasPrefix(bytes.TrimLeft(begin, " \t\r\n"), []byte(ageArmor))
}

// IsAge reports whether the bytes of r are encrypted with age, in either form. It takes none of
// them.
func IsAge(r *bufio.Reader) bool {
	begin, _ := r.Peek(2 * len(ageArmor))
	return BeginsAge(begin)
}

// AgeReader returns a reader of an encrypted file in its binary form.
func AgeReader(r io.Reader) io.Reader {
	buffered := bufio.NewReaderSize(r, 64<<10)
	if begin, _ := buffered.Peek(len(AgeHeader)); string(begin) == AgeHeader {
		return buffered
	}
	return armor.NewReader(buffered)
}
