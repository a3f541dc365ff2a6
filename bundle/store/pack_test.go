package store

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/modmirror/modmirror/bundle/media"
)

// TestPackTable has footers that lie about the table: none is a pack.
func TestPackTable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.pack")
	record := bytes.Repeat([]byte{7}, packRecord)
	for _, test := range []struct {
		count, table uint64
		ok           bool
	}{
		{1, 10, true},
		{0, 10, false},
		{2, 10, false},
		{1, 9, false},
		{1, 11, false},
		{1 << 63, 10, false},
		{1<<63 - 1, 10, false},
		{1, 1 << 63, false},
		{0, uint64(10 + packRecord), true},
	} {
		data := append([]byte("0123456789"), record...)
		data = binary.BigEndian.AppendUint64(data, test.count)
		data = binary.BigEndian.AppendUint64(data, test.table)
		if err := os.WriteFile(file, append(data, packMagic...), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := openPackFile(file)
		if err == nil {
			p.media.Close()
		}
		if (err == nil) != test.ok {
			t.Errorf("%d contents, table at %d: %v", int64(test.count), int64(test.table), err)
		}
	}
}

// openPackFile opens the pack in a file.
func openPackFile(file string) (*pack, error) {
	m, err := media.OpenFile(file)
	if err != nil {
		return nil, err
	}
	return openPack(m)
}
