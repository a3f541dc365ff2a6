// Inflate compares decoders of DEFLATE on the files of real zips, on one core and in one run:
// internal/inflate, compress/flate, github.com/klauspost/compress and libdeflate.
//
// Usage: inflate [-rounds N] FOLDER, which has zips below it. It is a module of its own, because
// it needs libdeflate (apt install libdeflate-dev) and cgo.
package main

/*
#cgo LDFLAGS: -ldeflate
#include <libdeflate.h>
static int inflate(struct libdeflate_decompressor *d, const void *in, size_t n, void *out, size_t size) {
	return libdeflate_deflate_decompress(d, in, n, out, size, NULL);
}
*/
import "C"

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"path/filepath"
	"runtime"
	"slices"
	"time"
	"unsafe"

	kflate "github.com/klauspost/compress/flate"

	"github.com/modmirror/modmirror/internal/inflate"
)

// A stream is a file of a zip, packed.
type stream struct {
	packed []byte
	size   int // when it is unpacked
}

// most is how many bytes of unpacked files are taken.
const most = 600 << 20

// read returns the packed files of the zips below a folder.
func read(dir string) (list []stream, total int64, err error) {
	err = filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".zip" || total > most {
			return err
		}
		z, err := zip.OpenReader(name)
		if err != nil {
			return err
		}
		defer z.Close()
		for _, f := range z.File {
			if f.Method != zip.Deflate || f.UncompressedSize64 == 0 {
				continue
			}
			r, err := f.OpenRaw()
			if err != nil {
				return err
			}
			packed, err := io.ReadAll(r)
			if err != nil {
				return err
			}
			list = append(list, stream{packed, int(f.UncompressedSize64)})
			total += int64(f.UncompressedSize64)
		}
		return nil
	})
	return list, total, err
}

func main() {
	rounds := flag.Int("rounds", 7, "rounds; the median counts")
	flag.Parse()
	list, total, err := read(flag.Arg(0))
	if err != nil || len(list) == 0 {
		log.Fatalf("%d files to unpack, %v", len(list), err)
	}
	runtime.GOMAXPROCS(1)
	longest := 0
	for _, s := range list {
		longest = max(longest, s.size)
	}
	buf := make([]byte, longest)
	own := inflate.NewReader(nil)
	std, in := flate.NewReader(nil), bytes.NewReader(nil)
	klaus := kflate.NewReader(nil)
	lib := C.libdeflate_alloc_decompressor()
	part := make([]byte, 256<<10) // as internal/h1 reads
	drain := func(r io.Reader, size int) error {
		for n := 0; ; {
			m, err := r.Read(part)
			if n += m; err == io.EOF && n == size {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	ways := []struct {
		name string
		run  func(s stream, out []byte) error
	}{
		{"compress/flate", func(s stream, out []byte) error {
			in.Reset(s.packed)
			std.(flate.Resetter).Reset(in, nil)
			return drain(std, s.size)
		}},
		{"klauspost", func(s stream, out []byte) error {
			in.Reset(s.packed)
			klaus.(kflate.Resetter).Reset(in, nil)
			return drain(klaus, s.size)
		}},
		{"internal/inflate", func(s stream, out []byte) error {
			in.Reset(s.packed)
			own.Reset(in)
			return drain(own, s.size)
		}},
		{"libdeflate", func(s stream, out []byte) error {
			in, size := unsafe.Pointer(&s.packed[0]), C.size_t(len(s.packed))
			if c := C.inflate(lib, in, size, unsafe.Pointer(&out[0]), C.size_t(len(out))); c != 0 {
				return fmt.Errorf("libdeflate says %d", c)
			}
			return nil
		}},
		{"SHA-256", func(s stream, out []byte) error { sha256.Sum256(out); return nil }},
	}
	times := make([][]time.Duration, len(ways))
	for range *rounds {
		for i, w := range ways {
			start := time.Now()
			for _, s := range list {
				if err := w.run(s, buf[:s.size]); err != nil {
					log.Fatalf("%s: %v", w.name, err)
				}
			}
			times[i] = append(times[i], time.Since(start))
		}
	}
	fmt.Printf("%s: %d files, %.0f MB, median of %d rounds\n",
		runtime.Version(), len(list), float64(total)/1e6, *rounds)
	rate := func(i int) float64 {
		slices.Sort(times[i])
		return float64(total) / 1e6 / times[i][len(times[i])/2].Seconds()
	}
	for i, w := range ways {
		fmt.Printf("%-18s %6.0f MB/s  %.2f x compress/flate  %.2f x libdeflate\n",
			w.name, rate(i), rate(i)/rate(0), rate(i)/rate(3))
	}
}
