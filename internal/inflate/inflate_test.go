package inflate

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

// most bounds what a test decodes, in bytes: a few bytes can stand for a thousand times as many.
const most = 4 << 20

// drain reads a stream into buffers of a length, up to most bytes.
func drain(r io.Reader, length int) ([]byte, error) {
	var out bytes.Buffer
	buf := make([]byte, length)
	for out.Len() <= most {
		n, err := r.Read(buf)
		out.Write(buf[:n])
		if err == io.EOF {
			return out.Bytes(), nil
		}
		if err != nil {
			return out.Bytes(), err
		}
	}
	return nil, nil
}

// compare decodes a stream with compress/flate and, in several ways, with a Reader.
func compare(t *testing.T, stream []byte) {
	t.Helper()
	want, wantErr := drain(flate.NewReader(bytes.NewReader(stream)), 4<<10)
	for _, way := range []struct {
		name   string
		r      io.Reader
		length int
	}{
		{"with a large buffer", bytes.NewReader(stream), 256 << 10},
		{"with the smallest direct buffer", bytes.NewReader(stream), direct},
		{"with a small buffer", bytes.NewReader(stream), 1000},
		{"byte by byte", iotest.DataErrReader(iotest.OneByteReader(bytes.NewReader(stream))), direct - 1},
	} {
		got, err := drain(NewReader(way.r), way.length)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%s: %v, compress/flate says %v", way.name, err, wantErr)
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("%s: %d bytes differ from the %d of compress/flate", way.name, len(got), len(want))
		}
		if err != nil && err != ErrCorrupt && err != io.ErrUnexpectedEOF {
			t.Fatalf("%s: error %v is of no kind", way.name, err)
		}
	}
}

// pack returns data as a stream.
func pack(t testing.TB, data []byte, level int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, level)
	if err != nil {
		t.Fatal(err)
	}
	w.Write(data)
	w.Close()
	return b.Bytes()
}

// samples returns contents of several kinds: text, noise, runs, long distances, nothing.
func samples() [][]byte {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 200_000)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	words := strings.Fields("if err != nil { return nil, fmt.Errorf( %w func (r *Reader) Read p []byte")
	var text bytes.Buffer
	for text.Len() < 700_000 {
		text.WriteString(words[r.IntN(len(words))])
		text.WriteByte(" \n\t"[r.IntN(3)])
	}
	far := bytes.Repeat(noise[:32<<10], 9) // matches of the longest distance
	var near bytes.Buffer                  // of all short distances
	for d := 1; d < 40; d++ {
		near.Write(bytes.Repeat(noise[100*d:100*d+d], 1+600/d))
	}
	few := make([]byte, 100_000) // two symbols
	for i := range few {
		few[i] = 'a' + byte(r.IntN(2))
	}
	skewed := make([]byte, 300_000) // codes of every length up to 15 bits
	for i := range skewed {
		skewed[i] = byte(min(255, int(r.ExpFloat64()*8)))
	}
	return [][]byte{
		nil, {0}, []byte("modmirror"), noise, text.Bytes(), make([]byte, 1_000_000), far, near.Bytes(), few, skewed,
		append(append(noise[:1000:1000], make([]byte, 300_000)...), noise...),
	}
}

// A field is a number in a stream: its value, and its width in bits. A Huffman code begins with its
// highest bit and has a negative width.
type field [2]int

// stream writes fields, from the lowest bit of each byte up, and more behind the last byte.
func stream(fields []field, more ...byte) []byte {
	var out []byte
	n := 0
	bit := func(v int) {
		if n%8 == 0 {
			out = append(out, 0)
		}
		out[n/8] |= byte(v&1) << (n % 8)
		n++
	}
	for _, f := range fields {
		for i := range f[1] {
			bit(f[0] >> i)
		}
		for i := range -f[1] {
			bit(f[0] >> (-f[1] - 1 - i))
		}
	}
	return append(out, more...)
}

// dynamic returns a dynamic block whose literals are a (code 0), the end (10) and length 3 (11),
// whose distances have codes of these lengths, and whose content is codes.
func dynamic(distances []int, codes ...field) []byte {
	f := []field{{1, 1}, {2, 2}, {258 - 257, 5}, {len(distances) - 1, 5}, {18 - 4, 4}}
	for _, symbol := range preOrder[:18] {
		f = append(f, field{map[uint8]int{0: 2, 1: 2, 2: 2, 18: 2}[symbol], 3})
	}
	zero, one, two, zeros := field{0, -2}, field{1, -2}, field{2, -2}, field{3, -2}
	f = append(f, []field{zeros, {97 - 11, 7}, one, zeros, {127, 7}, zeros, {9, 7}, two, two}...)
	for _, length := range distances {
		f = append(f, []field{zero, one, two}[length])
	}
	return stream(append(f, codes...))
}

// Codes in the blocks of dynamic.
var litA, theEnd, length3, bit0, bit1 = field{0, -1}, field{2, -2}, field{3, -2}, field{0, -1}, field{1, -1}

// byHand are streams with what no compressor writes, each with what it holds; with "!" it is
// corrupt.
var byHand = map[string]struct {
	stream []byte
	want   string
}{
	"block of kind 3":         {stream([]field{{1, 1}, {3, 2}}), "!"},
	"fixed, ends at once":     {stream([]field{{1, 1}, {1, 2}, {0, -7}}), ""},
	"fixed, more behind":      {stream([]field{{1, 1}, {1, 2}, {0, -7}}, 0xff, 0xff), ""},
	"two empty blocks":        {stream([]field{{0, 1}, {1, 2}, {0, -7}, {1, 1}, {1, 2}, {0, -7}}), ""},
	"stored, empty":           {[]byte{1, 0, 0, 0xff, 0xff}, ""},
	"stored":                  {[]byte{1, 3, 0, 0xfc, 0xff, 'a', 'b', 'c'}, "abc"},
	"stored, bad complement":  {[]byte{1, 3, 0, 0xfc, 0xfe, 'a', 'b', 'c'}, "!"},
	"stored, too short":       {[]byte{1, 4, 0, 0xfb, 0xff, 'a', 'b', 'c'}, "!"},
	"stored behind fixed":     {stream([]field{{0, 1}, {1, 2}, {0x91, -8}, {0, -7}, {1, 1}, {0, 2}}, 1, 0, 0xfe, 0xff, 'b'), "ab"},
	"distance before start":   {stream([]field{{1, 1}, {1, 2}, {0x91, -8}, {1, -7}, {1, -5}, {0, -7}}), "!"},
	"length symbol 286":       {stream([]field{{1, 1}, {1, 2}, {0x91, -8}, {0xc6, -8}, {0, -5}, {0, -7}}), "!"},
	"length 258 as 284":       {stream([]field{{1, 1}, {1, 2}, {0x91, -8}, {0xc4, -8}, {31, 5}, {0, -5}, {0, -7}}), strings.Repeat("a", 259)},
	"distance symbol 30":      {stream([]field{{1, 1}, {1, 2}, {0x91, -8}, {1, -7}, {30, -5}, {0, -7}}), "!"},
	"31 distances":            {dynamic(make([]int, 31), litA, theEnd), "!"},
	"one distance code":       {dynamic([]int{1}, litA, length3, bit0, theEnd), "aaaa"},
	"one, and the other used": {dynamic([]int{1}, litA, length3, bit1, theEnd), "!"},
	"no distance code":        {dynamic([]int{0}, litA, litA, theEnd), "aa"},
	"none, but it is used":    {dynamic([]int{0}, litA, length3, bit0, theEnd), "!"},
	"one code of two bits":    {dynamic([]int{2}, litA, theEnd), "!"},
	"three codes of one bit":  {dynamic([]int{1, 1, 1}, litA, theEnd), "!"},
	"incomplete code":         {dynamic([]int{1, 2}, litA, theEnd), "!"},
	"complete code":           {dynamic([]int{1, 2, 2}, litA, litA, length3, bit1, bit0, theEnd), "aaaaa"},
	"no codes for lengths":    {stream([]field{{1, 1}, {2, 2}, {0, 5}, {0, 5}, {0, 4}, {0, 12}, {0, 60}}), "!"},
	"it begins with a repeat": {stream([]field{{1, 1}, {2, 2}, {0, 5}, {0, 5}, {0, 4}, {1, 3}, {0, 9}, {0, -1}, {0, 60}}), "!"},
}

// TestByHand compares these streams whole, cut anywhere, and with any bit flipped.
func TestByHand(t *testing.T) {
	for name, x := range byHand {
		t.Run(name, func(t *testing.T) {
			got, err := drain(NewReader(bytes.NewReader(x.stream)), direct)
			if bad := x.want == "!"; bad != (err != nil) || !bad && string(got) != x.want {
				t.Errorf("%q, %v, want %q", got, err, x.want)
			}
			for cut := range len(x.stream) + 1 {
				compare(t, x.stream[:cut])
			}
			for bit := range 8 * len(x.stream) {
				flipped := bytes.Clone(x.stream)
				flipped[bit/8] ^= 1 << (bit % 8)
				compare(t, flipped)
			}
		})
	}
}

// TestSamples compares streams of every level of compress/flate, whole, cut and damaged.
func TestSamples(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for i, data := range samples() {
		for _, level := range []int{flate.HuffmanOnly, 0, 1, 6, 9} {
			stream := pack(t, data, level)
			got, err := drain(NewReader(bytes.NewReader(stream)), 256<<10)
			if err != nil || !bytes.Equal(got, data) {
				t.Fatalf("sample %d at level %d: %d of %d bytes, %v", i, level, len(got), len(data), err)
			}
			compare(t, stream)
			for range 10 {
				cut := bytes.Clone(stream[:r.IntN(len(stream))])
				compare(t, cut)
				damaged := bytes.Clone(stream)
				damaged[r.IntN(min(200, len(damaged)))] ^= 1 << r.IntN(8)
				compare(t, damaged)
			}
		}
	}
}

// TestBehind checks that bytes behind the stream do not matter, and that a Reader can be reset in
// any state.
func TestBehind(t *testing.T) {
	d := NewReader(nil)
	buf := make([]byte, direct)
	for _, data := range samples() {
		stream := append(pack(t, data, 6), 0xde, 0xad, 0xbe, 0xef)
		d.Reset(bytes.NewReader(stream))
		got, err := drain(d, len(buf))
		if err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
		}
		if n, err := d.Read(buf); n != 0 || err != io.EOF {
			t.Errorf("behind the end: %d, %v", n, err)
		}
		d.Reset(bytes.NewReader(stream[:len(stream)/2]))
		d.Read(buf)
		d.Read(buf[:10])
	}
}

// TestReadError passes on an error of the underlying reader.
func TestReadError(t *testing.T) {
	broken := errors.New("broken")
	stream := pack(t, samples()[4], 6)
	r := io.MultiReader(bytes.NewReader(stream[:len(stream)-9]), iotest.ErrReader(broken))
	if _, err := drain(NewReader(r), 256<<10); err != broken {
		t.Errorf("%v, want %v", err, broken)
	}
}

// TestAllocations checks that a Reader that is used again takes no memory.
func TestAllocations(t *testing.T) {
	stream := pack(t, samples()[4], 6)
	in, d, buf := bytes.NewReader(nil), NewReader(nil), make([]byte, 256<<10)
	if n := testing.AllocsPerRun(10, func() {
		in.Reset(stream)
		d.Reset(in)
		for {
			if _, err := d.Read(buf); err != nil {
				break
			}
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestZips compares files of the zips in the go command's module cache, which has those that
// modmirror is built from, or else of all zips below the folder INFLATE_ZIPS.
func TestZips(t *testing.T) {
	dir, left := os.Getenv("INFLATE_ZIPS"), int64(1)<<40
	if dir == "" {
		cache, err := exec.Command("go", "env", "GOMODCACHE").Output()
		if err != nil {
			t.Fatal(err)
		}
		dir, left = filepath.Join(strings.TrimSpace(string(cache)), "cache", "download"), 20<<20
	}
	files, buf := 0, make([]byte, 256<<10)
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if left < 0 {
			return fs.SkipAll
		}
		if err != nil || filepath.Ext(name) != ".zip" {
			return err
		}
		z, err := zip.OpenReader(name)
		if err != nil {
			return err
		}
		defer z.Close()
		for _, f := range z.File {
			if f.Method != zip.Deflate {
				continue
			}
			r, err := f.OpenRaw()
			if err != nil {
				return err
			}
			stream, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			want := sha256.New()
			_, wantErr := io.Copy(want, flate.NewReader(bytes.NewReader(stream)))
			got := sha256.New()
			n, err := io.CopyBuffer(struct{ io.Writer }{got}, struct{ io.Reader }{NewReader(bytes.NewReader(stream))}, buf)
			if err != nil || wantErr != nil || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
				t.Errorf("%s: %s: %v, compress/flate says %v", name, f.Name, err, wantErr)
			}
			files++
			left -= n
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Error("no file was compared")
	}
	t.Log(files, "files")
}

// FuzzStream compares streams of any bytes.
func FuzzStream(f *testing.F) {
	for _, x := range byHand {
		f.Add(x.stream)
	}
	for _, data := range samples() {
		data = data[:min(len(data), 3000)]
		for _, level := range []int{flate.HuffmanOnly, 0, 6} {
			f.Add(pack(f, data, level))
		}
	}
	f.Fuzz(compare)
}

// FuzzPacked compares streams of any contents, with a byte of the stream changed.
func FuzzPacked(f *testing.F) {
	for _, data := range samples() {
		f.Add(data[:min(len(data), 3000)], 6, uint16(1), 10, byte(0))
		f.Add(data[:min(len(data), 3000)], -2, uint16(40), 3, byte(1))
	}
	f.Fuzz(func(t *testing.T, data []byte, level int, times uint16, at int, change byte) {
		if level < -2 || level > 9 || len(data)*int(times) > 1<<20 {
			return
		}
		data = bytes.Repeat(data, int(times))
		stream := pack(t, data, level)
		if got, err := drain(NewReader(bytes.NewReader(stream)), 256<<10); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d of %d bytes, %v", len(got), len(data), err)
		}
		if at >= 0 && at < len(stream) {
			stream[at] ^= change
			compare(t, stream)
		}
	})
}
