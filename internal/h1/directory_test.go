package h1

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"
)

// longDirectory returns a zip whose directory has an entry n times.
func longDirectory(t *testing.T, n int) []byte {
	t.Helper()
	data := makeZip(t, mod.String()+"/a")
	at := bytes.LastIndex(data, []byte("PK\x01\x02"))
	end := bytes.LastIndex(data, []byte("PK\x05\x06"))
	entry, record := data[at:end], bytes.Clone(data[end:])
	binary.LittleEndian.PutUint16(record[8:], uint16(n)) // archive/zip compares 16 bits
	binary.LittleEndian.PutUint16(record[10:], uint16(n))
	binary.LittleEndian.PutUint32(record[12:], uint32(n*len(entry)))
	return append(append(bytes.Clone(data[:at]), bytes.Repeat(entry, n)...), record...)
}

// TestDirectoryIsBounded opens zips with directories around the longest allowed length, and of ten
// times that.
func TestDirectoryIsBounded(t *testing.T) {
	entry := len(longDirectory(t, 2)) - len(longDirectory(t, 1))
	most := MaxDirectory / entry
	data := longDirectory(t, most)
	z, err := Open(t.Context(), bytes.NewReader(data), int64(len(data)))
	if err != nil || len(z.File) != most {
		t.Fatalf("a directory of %d bytes: %v", most*entry, err)
	}
	for _, times := range []int{2, 10} {
		data := longDirectory(t, times*most)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Open(t.Context(), bytes.NewReader(data), int64(len(data)))
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), "its directory has more than") {
			t.Errorf("a directory of %d bytes: %v", times*most*entry, err)
		}
		if mb := (after.TotalAlloc - before.TotalAlloc) >> 20; mb > 200 {
			t.Errorf("a directory of %d bytes took %d MiB", times*most*entry, mb)
		}
		if _, err := hash(data); err == nil || !strings.Contains(err.Error(), "its directory has more than") {
			t.Errorf("hash of a zip with a directory of %d bytes: %v", times*most*entry, err)
		}
	}
}
