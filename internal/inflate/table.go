package inflate

import (
	"math/bits"
	"sync"
)

// The largest alphabets (RFC 1951, section 3.2.7). The two literals and two distances that only
// the fixed code has are never valid.
const (
	maxLiterals  = 286
	maxDistances = 30
	maxPre       = 19
	maxLength    = 15 // of a code, in bits
)

// A table is looked into with the next bits of the stream. Its first part has an entry for each
// value of litBits, distBits or preBits of them. Longer codes share an entry there that leads to a
// second table behind it, which is looked into with the bits that follow.
//
// litSize and distSize are powers of two, so that an index can be cut to them without a branch, and
// are no less than the most that a complete code takes: 2,342 entries for 288 symbols with 11 bits,
// and 402 for 32 symbols with 8 bits (zlib's examples/enough.c computes such numbers).
const (
	litBits  = 11
	distBits = 8
	preBits  = 7
	litSize  = 4096
	distSize = 512
)

type (
	litTable  [litSize]uint32
	distTable [distSize]uint32
	preTable  [1 << preBits]uint32
)

// The fields of an entry. Its lowest six bits say how many bits of the stream it takes: those of
// the code and those that are added to the value. With the flag second, valueShift has where the
// second table begins, and codeShift how many bits it is looked into with.
const (
	special    = 1 << 6 // no value: a code that does not exist, or with endOfBlock the end
	second     = 1 << 7
	codeShift  = 8 // four bits: length of the code alone
	endOfBlock = 1 << 12
	literal    = 1 << 13
	valueShift = 16 // the literal, or the smallest length or distance
)

// none is the entry of a code that does not exist.
const none = special

// litEntries and distEntries are the entries of symbols, without the length of their codes.
var (
	litEntries  = makeLitEntries()
	distEntries = makeDistEntries()
	preEntries  = makePreEntries()
)

// makeLitEntries returns the entries of literals, the end of a block, and lengths: 28 steps of
// which four at a time have one more extra bit, and 258.
func makeLitEntries() (e [maxLiterals + 2]uint32) {
	for i := range 256 {
		e[i] = literal | uint32(i)<<valueShift
	}
	e[256] = special | endOfBlock
	base := 3
	for i := 257; i < 285; i++ {
		extra := max(0, (i-261)/4)
		e[i] = uint32(base)<<valueShift | uint32(extra)
		base += 1 << extra
	}
	e[285] = 258 << valueShift
	e[286], e[287] = none, none
	return e
}

// makeDistEntries returns the entries of distances: 30 steps of which two at a time have one more
// extra bit.
func makeDistEntries() (e [maxDistances + 2]uint32) {
	base := 1
	for i := range maxDistances {
		extra := max(0, i/2-1)
		e[i] = uint32(base)<<valueShift | uint32(extra)
		base += 1 << extra
	}
	e[30], e[31] = none, none
	return e
}

func makePreEntries() (e [maxPre]uint32) {
	for i := range e {
		e[i] = uint32(i) << valueShift
	}
	return e
}

func (t *litTable) make(lengths []uint8) bool {
	return makeTable(t[:], litBits, lengths, litEntries[:])
}
func (t *distTable) make(lengths []uint8) bool {
	return makeTable(t[:], distBits, lengths, distEntries[:])
}
func (t *preTable) make(lengths []uint8) bool {
	return makeTable(t[:], preBits, lengths, preEntries[:])
}

// fixed returns the tables of the fixed code (RFC 1951, section 3.2.6).
var fixed = sync.OnceValue(func() *struct {
	lit  litTable
	dist distTable
} {
	var f struct {
		lit  litTable
		dist distTable
	}
	var lengths [maxLiterals + 2]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	f.lit.make(lengths[:])
	clear(lengths[:])
	for i := range maxDistances + 2 {
		lengths[i] = 5
	}
	f.dist.make(lengths[:maxDistances+2])
	return &f
})

// makeTable fills a table whose first part is looked into with width bits, for symbols with these
// lengths of codes. It reports whether the code is complete. Two others are accepted, as by
// compress/flate and zlib: the empty one, and that of one symbol of one bit.
func makeTable(table []uint32, width uint, lengths []uint8, entries []uint32) bool {
	var count [maxLength + 1]uint16
	for _, n := range lengths {
		count[n&15]++
	}
	count[0] = 0
	var next [maxLength + 2]uint16 // where the symbols of a length begin in sorted
	left := 1                      // codes of the current length that are free
	longest := uint(0)
	for n := 1; n <= maxLength; n++ {
		next[n+1] = next[n] + count[n]
		left = left<<1 - int(count[n])
		if left < 0 {
			return false
		}
		if count[n] > 0 {
			longest = uint(n)
		}
	}
	if left > 0 && longest > 1 {
		return false
	}
	var sorted [maxLiterals + 2]uint16
	for i, n := range lengths {
		if n != 0 {
			sorted[next[n&15]] = uint16(i)
			next[n&15]++
		}
	}
	if left > 0 { // empty, or one symbol
		table[0], table[1] = none, none
		if longest == 1 {
			table[0] = withLength(entries[sorted[0]], 1)
		}
		double(table, 2, 1<<width)
		return true
	}
	// Codes are counted upwards from the shortest, with their bits reversed. The part for codes of
	// up to n bits is filled, then doubled for one bit more.
	code, i := uint(0), 0
	filled := uint(0)
	for n := uint(1); n <= min(longest, width); n++ {
		if filled > 0 {
			copy(table[filled:2*filled], table[:filled])
			filled *= 2
		} else if count[n] > 0 {
			filled = 1 << n
		}
		for range count[n] {
			table[code] = withLength(entries[sorted[i]], n)
			i++
			code = increment(code, n)
		}
	}
	if filled > 0 { // else all codes are longer than width
		double(table, filled, 1<<width)
	}
	// Codes of more than width bits: those with the same first bits share a second table, as wide
	// as the longest of them asks for.
	end := uint(1) << width
	var begin, prefix, bitsIn uint
	prefix = 1 << width // none yet
	for n := width + 1; n <= longest; n++ {
		for left := count[n]; left > 0; left-- {
			if p := code & (1<<width - 1); p != prefix {
				prefix, begin = p, end
				bitsIn = n - width
				for free := 1<<bitsIn - int(left); free > 0 && width+bitsIn < longest; {
					bitsIn++
					free = free<<1 - int(count[width+bitsIn])
				}
				end += 1 << bitsIn
				table[prefix] = second | uint32(begin)<<valueShift | uint32(bitsIn)<<codeShift
			}
			e := withLength(entries[sorted[i]], n)
			for j := code >> width; j < 1<<bitsIn; j += 1 << (n - width) {
				table[begin+j] = e
			}
			i++
			code = increment(code, n)
		}
	}
	return true
}

// double fills a table up to end with copies of its first part.
func double(table []uint32, filled, end uint) {
	for ; filled < end; filled *= 2 {
		copy(table[filled:2*filled], table[:filled])
	}
}

// withLength returns the entry of a symbol whose code has n bits.
func withLength(e uint32, n uint) uint32 {
	return e + uint32(n) + uint32(n)<<codeShift
}

// increment returns the code of n bits, reversed, that follows another. After the last one it
// returns it again.
func increment(code, n uint) uint {
	// The highest zero becomes one, and the ones above it zero.
	free := code ^ (1<<n - 1)
	if free == 0 {
		return code
	}
	bit := uint(1) << (bits.Len(free) - 1)
	return code&(bit-1) | bit
}
