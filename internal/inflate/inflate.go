// Package inflate decodes DEFLATE streams (RFC 1951), as the files of module zips are.
//
// It accepts the streams that compress/flate accepts, and no others. compress/flate asks its input
// for one byte after the other, and decodes into a window that it copies from, which costs it two
// thirds of the speed. A file of a zip is mostly small and is read with a large buffer: here both
// sides are in memory in large pieces.
//
// The speed comes from four things: 64 bits of input are held and refilled by one load; one look
// into a table tells all about a symbol; literals come in runs without a refill between them; and
// matches are copied 16 bytes at a time, while the next symbol is looked up.
package inflate

import (
	"encoding/binary"
	"errors"
	"io"
)

// ErrCorrupt is the error of a stream that breaks the rules of the format.
var ErrCorrupt = errors.New("the DEFLATE stream is corrupt")

const (
	inputSize = 64 << 10 // input in memory, in bytes
	history   = 32 << 10 // how far back a match may begin
	window    = 256 << 10

	// direct is the length of a buffer from which on Read decodes into it, without a copy.
	direct = 64 << 10

	// headerSize is more than the beginning of a dynamic block takes: 17 bits, 19 lengths of 3
	// bits, and at most 316 code lengths of at most 14 bits, so 562 bytes.
	headerSize = 1 << 10

	// maxEmpty is how many reads without bytes or an error end the stream.
	maxEmpty = 100

	// room is how many bytes a round of symbols may write: three literals, the longest match, and
	// what its copy in wide steps writes behind it.
	room = 3 + 258 + 32

	// ahead is how many bytes of input a round of symbols may load: 8 at each of three places that
	// are at most 7 apart.
	ahead = 24
)

// A Reader decodes a stream. It takes 90 KiB of memory, and 256 KiB more for a stream that is
// longer than the buffer of the first Read. It is not safe for concurrent use.
type Reader struct {
	r    io.Reader
	last bool  // r is at its end: what is in src is all there is
	err  error // sticky

	src []byte // input in memory, part of in
	at  int    // next byte of src that is not in b
	b   uint64 // the next bits of the stream, lowest first; those above n are bits of src or zero
	n   uint   // how many bits of b count
	end uint   // how many bytes b has from behind the end of the stream, as zeros

	dst   []byte // where the output goes: the buffer of the first Read, or win
	out   int    // how much of dst is written
	given int    // how much of win was returned
	begun bool   // something was returned

	state  state
	final  bool // this block is the last
	stored int  // bytes that are left of a stored block
	lit    *litTable
	dist   *distTable

	in  [inputSize]byte
	win []byte // the end of what was returned, and what follows; nil until it is needed
	own struct {
		lengths [maxLiterals + maxDistances]uint8
		lit     litTable
		dist    distTable
		pre     preTable
	}
}

// A state says what a Reader expects next.
type state uint8

const (
	atBlock   state = iota // the beginning of a block
	inStored               // more bytes of a stored block
	inSymbols              // more symbols
	atEnd                  // nothing
)

// NewReader returns a Reader of the stream at the beginning of r. It may read more of r than the
// stream.
func NewReader(r io.Reader) *Reader {
	d := new(Reader)
	d.Reset(r)
	return d
}

// Reset makes d read the stream at the beginning of r. A nil r lets go of the reader before.
func (d *Reader) Reset(r io.Reader) {
	d.r, d.last, d.err = r, false, nil
	d.src, d.at, d.b, d.n, d.end = d.in[:0], 0, 0, 0, 0
	d.dst, d.out, d.given, d.begun = nil, 0, 0, false
	d.state, d.final, d.stored = atBlock, false, 0
}

// Read reads decoded bytes. Its errors are ErrCorrupt, io.ErrUnexpectedEOF for a stream that ends
// too early, and those of the underlying reader. With an error, the last bytes need not be ones of
// the stream. A buffer of 64 KiB or more is fastest.
func (d *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if !d.begun && len(p) >= direct {
		d.begun = true
		d.dst, d.out = p, 0
		d.err = d.decode()
		if d.err == nil {
			d.makeWindow(p[:d.out])
		}
		d.dst = d.win
		n := d.out
		d.out, d.given = min(n, history), min(n, history)
		return n, d.err
	}
	for d.given == d.out {
		if d.err != nil {
			return 0, d.err
		}
		if !d.begun {
			d.begun = true
			d.makeWindow(nil)
			d.dst = d.win
		}
		if d.out > history {
			copy(d.win, d.win[d.out-history:d.out])
			d.out, d.given = history, history
		}
		d.err = d.decode()
	}
	n := copy(p, d.dst[d.given:d.out])
	d.given += n
	if d.given < d.out {
		return n, nil
	}
	return n, d.err
}

// makeWindow makes a window that begins with the end of what was returned.
func (d *Reader) makeWindow(returned []byte) {
	if d.win == nil {
		d.win = make([]byte, window)
	}
	copy(d.win, returned[max(0, len(returned)-history):])
}

// decode decodes until dst is full, or to the end of the stream, where it returns io.EOF.
func (d *Reader) decode() error {
	for len(d.dst)-d.out >= room {
		if err := d.fill(); err != nil {
			return err
		}
		var err error
		switch d.state {
		case atBlock:
			err = d.block()
		case inStored:
			err = d.copyStored()
		case inSymbols:
			err = d.symbols()
		}
		if d.n < 8*d.end { // what zeros said behind the end does not count
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if d.state == atEnd {
			return io.EOF
		}
	}
	return nil
}

// fill reads input unless there is enough to go on with.
func (d *Reader) fill() error {
	if d.last || len(d.src)-d.at >= headerSize {
		return nil
	}
	keep := min(d.at, 8) // a stored block goes back to bytes that b has whole
	have := copy(d.in[:], d.src[d.at-keep:])
	d.at = keep
	for empty := 0; have-keep < headerSize && !d.last; {
		n, err := d.r.Read(d.in[have:])
		have += n
		if err == io.EOF {
			d.last = true
		} else if err != nil {
			return err
		}
		if empty++; n > 0 {
			empty = 0
		}
		if empty == maxEmpty {
			return io.ErrNoProgress
		}
	}
	d.src = d.in[:have]
	return nil
}

// refill makes b hold at least 56 bits. Behind the end of the stream it adds zeros.
func (d *Reader) refill() {
	if len(d.src)-d.at >= 8 {
		d.b |= binary.LittleEndian.Uint64(d.src[d.at:]) << (d.n & 63)
		d.at += int((63 - d.n) >> 3)
		d.n |= 56
		return
	}
	for d.n < 56 {
		if d.at < len(d.src) {
			d.b |= uint64(d.src[d.at]) << (d.n & 63)
			d.at++
		} else {
			d.end++
		}
		d.n += 8
	}
}

// take removes k bits from b, which must hold them.
func (d *Reader) take(k uint) uint {
	v := uint(d.b) & (1<<k - 1)
	d.b >>= k
	d.n -= k
	return v
}

// block reads the beginning of a block.
func (d *Reader) block() error {
	d.refill()
	d.final = d.take(1) == 1
	switch d.take(2) {
	case 0:
		return d.beginStored()
	case 1:
		f := fixed()
		d.lit, d.dist = &f.lit, &f.dist
	case 2:
		if err := d.tables(); err != nil {
			return err
		}
		d.lit, d.dist = &d.own.lit, &d.own.dist
	default:
		return ErrCorrupt
	}
	d.state = inSymbols
	return nil
}

// endBlock goes on behind a block.
func (d *Reader) endBlock() {
	d.state = atBlock
	if d.final {
		d.state = atEnd
	}
}

// beginStored reads the length of a block that is not compressed.
func (d *Reader) beginStored() error {
	whole := d.n / 8
	if whole < d.end {
		return io.ErrUnexpectedEOF
	}
	d.at -= int(whole - d.end) // back to the first whole byte that is not used yet
	d.b, d.n, d.end = 0, 0, 0
	rest := d.src[d.at:]
	if len(rest) < 4 {
		return io.ErrUnexpectedEOF
	}
	length := binary.LittleEndian.Uint16(rest)
	if length != ^binary.LittleEndian.Uint16(rest[2:]) {
		return ErrCorrupt
	}
	d.at += 4
	d.stored = int(length)
	if d.state = inStored; length == 0 {
		d.endBlock()
	}
	return nil
}

// copyStored copies what there is of a stored block.
func (d *Reader) copyStored() error {
	n := copy(d.dst[d.out:], d.src[d.at:min(len(d.src), d.at+d.stored)])
	if n == 0 { // fill has found no more
		return io.ErrUnexpectedEOF
	}
	d.at += n
	d.out += n
	if d.stored -= n; d.stored == 0 {
		d.endBlock()
	}
	return nil
}

// preOrder is the order in which a block has the lengths of the codes for lengths.
var preOrder = [maxPre]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// tables reads the code lengths at the beginning of a dynamic block and makes the tables.
func (d *Reader) tables() error {
	literals, distances, codes := int(d.take(5))+257, int(d.take(5))+1, int(d.take(4))+4
	if literals > maxLiterals || distances > maxDistances {
		return ErrCorrupt
	}
	var pre [maxPre]uint8
	for i, at := range preOrder[:codes] {
		if i%16 == 0 {
			d.refill() // 48 bits at most follow
		}
		pre[at] = uint8(d.take(3))
	}
	if !d.own.pre.make(pre[:]) {
		return ErrCorrupt
	}
	lengths := d.own.lengths[:literals+distances]
	for i := 0; i < len(lengths); {
		if d.n < 14 {
			d.refill()
		}
		e := d.own.pre[d.b&(1<<preBits-1)]
		if e&special != 0 {
			return ErrCorrupt
		}
		d.take(uint(e & 63))
		var times int
		var length uint8
		switch v := e >> valueShift; v {
		default:
			lengths[i] = uint8(v)
			i++
			continue
		case 16:
			if i == 0 {
				return ErrCorrupt
			}
			times, length = 3+int(d.take(2)), lengths[i-1]
		case 17:
			times = 3 + int(d.take(3))
		case 18:
			times = 11 + int(d.take(7))
		}
		if times > len(lengths)-i {
			return ErrCorrupt
		}
		for j := range times {
			lengths[i+j] = length
		}
		i += times
	}
	if !d.own.lit.make(lengths[:literals]) || !d.own.dist.make(lengths[literals:]) {
		return ErrCorrupt
	}
	return nil
}

// symbols decodes literals and matches until the block ends, dst is full, or input is needed. All
// state is in local variables, so that it is in registers.
func (d *Reader) symbols() (err error) {
	lit, dist, src, dst := d.lit, d.dist, d.src, d.dst
	at, out, b, n := d.at, d.out, d.b, d.n
	for {
		if len(src)-at >= ahead {
			b |= binary.LittleEndian.Uint64(src[at:]) << (n & 63)
			at += int((63 - n) >> 3)
			n |= 56
		} else if !d.last {
			break
		} else {
			d.at, d.b, d.n = at, b, n
			d.refill()
			at, b, n = d.at, d.b, d.n
			if n < 8*d.end { // zeros must not be read forever
				break
			}
		}
		e := lit[b&(1<<litBits-1)]
	symbol:
		if len(dst)-out < room {
			break
		}
		// Three literals take at most 33 of the 56 bits, since none is in a second table.
		if e&literal != 0 {
			b >>= e & 63
			n -= uint(e & 63)
			dst[out] = byte(e >> valueShift)
			out++
			e = lit[b&(1<<litBits-1)]
			if e&literal != 0 {
				b >>= e & 63
				n -= uint(e & 63)
				dst[out] = byte(e >> valueShift)
				out++
				e = lit[b&(1<<litBits-1)]
				if e&literal != 0 {
					b >>= e & 63
					n -= uint(e & 63)
					dst[out] = byte(e >> valueShift)
					out++
					continue
				}
			}
		}
		// At least 34 bits are left; a length takes 20.
		if e&(special|second) != 0 {
			if e&second != 0 {
				e = lit[(e>>valueShift+uint32(b>>litBits)&(1<<(e>>codeShift&15)-1))%litSize]
			}
			if e&(special|literal) != 0 {
				b >>= e & 63
				n -= uint(e & 63)
				if e&literal != 0 {
					dst[out] = byte(e >> valueShift)
					out++
					continue
				}
				if e&endOfBlock == 0 {
					err = ErrCorrupt
					break
				}
				d.endBlock()
				break
			}
		}
		length := int(e>>valueShift) + int(uint32(b)&(1<<(e&63)-1)>>(e>>codeShift&15))
		b >>= e & 63
		n -= uint(e & 63)
		if n < 28 { // as many as a distance takes
			if len(src)-at >= 8 {
				b |= binary.LittleEndian.Uint64(src[at:]) << (n & 63)
				at += int((63 - n) >> 3)
				n |= 56
			} else {
				d.at, d.b, d.n = at, b, n
				d.refill()
				at, b, n = d.at, d.b, d.n
			}
		}
		e = dist[b&(1<<distBits-1)]
		if e&(special|second) != 0 {
			if e&second != 0 {
				e = dist[(e>>valueShift+uint32(b>>distBits)&(1<<(e>>codeShift&15)-1))%distSize]
			}
			if e&special != 0 {
				err = ErrCorrupt
				break
			}
		}
		distance := int(e>>valueShift) + int(uint32(b)&(1<<(e&63)-1)>>(e>>codeShift&15))
		b >>= e & 63
		n -= uint(e & 63)
		from, to := out-distance, out+length
		if from < 0 {
			err = ErrCorrupt
			break
		}
		// The next symbol is looked up before the copy, whose stores would delay it.
		more := len(src)-at >= ahead
		if more {
			b |= binary.LittleEndian.Uint64(src[at:]) << (n & 63)
			at += int((63 - n) >> 3)
			n |= 56
			e = lit[b&(1<<litBits-1)]
		}
		switch {
		case distance >= 16:
			*(*[16]byte)(dst[out:]) = *(*[16]byte)(dst[from:])
			*(*[16]byte)(dst[out+16:]) = *(*[16]byte)(dst[from+16:])
			for out += 32; out < to; out += 16 {
				*(*[16]byte)(dst[out:]) = *(*[16]byte)(dst[out-distance:])
			}
		case distance >= 8:
			for ; out < to; out += 8 {
				binary.LittleEndian.PutUint64(dst[out:], binary.LittleEndian.Uint64(dst[out-distance:]))
			}
		case distance == 1:
			v := uint64(dst[from]) * 0x0101010101010101
			for ; out < to; out += 8 {
				binary.LittleEndian.PutUint64(dst[out:], v)
			}
		default: // a few bytes make the period long enough for steps of 8
			period := (7 + distance) / distance * distance
			for end := out + period - distance; out < end; out++ {
				dst[out] = dst[out-distance]
			}
			for ; out < to; out += 8 {
				binary.LittleEndian.PutUint64(dst[out:], binary.LittleEndian.Uint64(dst[out-period:]))
			}
		}
		out = to
		if more {
			goto symbol
		}
	}
	d.at, d.out, d.b, d.n = at, out, b, n
	return err
}
