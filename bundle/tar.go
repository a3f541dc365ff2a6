package bundle

import (
	"fmt"
	"strings"

	"github.com/modmirror/modmirror/bundle/media"
)

// Each entry of the tar has one spelling: its header is a function of name and size alone. A reader
// does not parse headers. It makes them again and compares bytes, so that no two tools can disagree
// about the entries.
//
// Headers are ustar (POSIX.1-2001, pax). A name that does not fit is in a pax record before it. All
// entries are regular files of mode 0644 without an owner.
const (
	blockSize = 512

	// mtime is 2000-01-01T00:00:00Z, since GNU tar warns about 1970.
	mtime = 946684800

	// maxEntry is the largest entry that ustar allows, and maxSize the largest bundle: 8 GiB and
	// 8 TiB.
	maxEntry = 1<<33 - 1
	maxSize  = media.MaxSize

	// endSize is the size of the end of the archive: two empty blocks.
	endSize = 2 * blockSize
)

// Header returns the bytes before the content of an entry: its tar header, or two with a pax
// record.
func Header(name string, size int64) []byte { return appendHeader(nil, name, size) }

// appendHeader appends Header(name, size) to h.
func appendHeader(h []byte, name string, size int64) []byte {
	prefix, rest, ok := splitName(name)
	if ok {
		return appendUstar(h, prefix, rest, '0', size)
	}
	record := paxRecord("path", name)
	h = appendUstar(h, "", "././@PaxHeader", 'x', int64(len(record)))
	h = append(h, record...)
	h = append(h, zeros[:padding(int64(len(record)))]...)
	return appendUstar(h, "", name[:100], '0', size)
}

// headerSize returns len(Header(name, size)), which does not depend on size.
func headerSize(name string) int64 {
	if _, _, ok := splitName(name); ok {
		return blockSize
	}
	n := int64(len(paxRecord("path", name)))
	return 2*blockSize + n + padding(n)
}

// entrySize returns the size in the tar of an entry with its header and padding.
func entrySize(name string, size int64) int64 {
	return headerSize(name) + size + padding(size)
}

// padding returns how many zero bytes follow size bytes of content.
func padding(size int64) int64 { return -size & (blockSize - 1) }

// splitName splits a name for the ustar prefix and name fields, at the last slash that works.
func splitName(name string) (prefix, rest string, ok bool) {
	if len(name) <= 100 {
		return "", name, true
	}
	if len(name) > 256 {
		return "", "", false
	}
	i := strings.LastIndexByte(name[:min(len(name), 156)], '/')
	if i <= 0 || len(name)-i-1 > 100 || len(name)-i-1 == 0 {
		return "", "", false
	}
	return name[:i], name[i+1:], true
}

// paxRecord returns "LENGTH key=value\n", where LENGTH counts itself.
func paxRecord(key, value string) string {
	n := len(key) + len(value) + 3 // the space, = and newline
	size := n + len(fmt.Sprint(n))
	if s := fmt.Sprintf("%d %s=%s\n", size, key, value); len(s) == size {
		return s
	}
	return fmt.Sprintf("%d %s=%s\n", size+1, key, value)
}

// appendUstar appends the tar header of an entry to b.
func appendUstar(b []byte, prefix, name string, typ byte, size int64) []byte {
	b = append(b, zeros[:blockSize]...)
	h := b[len(b)-blockSize:]
	copy(h[0:], name)
	copy(h[100:], "0000644\x00")
	copy(h[108:], "0000000\x00")
	copy(h[116:], "0000000\x00")
	if size <= maxEntry {
		putOctal(h[124:135], size)
	} else { // an index of index.MaxSize has one more
		putOctal(h[124:136], size)
	}
	putOctal(h[136:147], mtime)
	copy(h[148:], "        ")
	h[156] = typ
	copy(h[257:], "ustar\x0000")
	copy(h[329:], "0000000\x00")
	copy(h[337:], "0000000\x00")
	copy(h[345:], prefix)
	sum := int64(0)
	for _, b := range h {
		sum += int64(b)
	}
	putOctal(h[148:154], sum)
	h[154] = 0
	return b
}

// putOctal fills field with the octal digits of n. modmirror writes no header with a number that is
// too long for its field.
func putOctal(field []byte, n int64) {
	for i := len(field) - 1; i >= 0; i-- {
		field[i] = '0' + byte(n&7)
		n >>= 3
	}
}
