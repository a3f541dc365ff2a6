package store

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"sort"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/internal/safefile"
)

// A pack has contents of pruned bundles, by their SHA-256, that newer bundles still refer to.
// Nobody signs it: each content is verified by its hash in a signed index.
//
//	contents, one after another
//	table: SHA-256 and offset (8 bytes, big endian) of each, sorted by SHA-256
//	footer: number of contents and offset of the table (8 bytes each), packMagic
type pack struct {
	media media.Media
	table int64 // offset
	count int64 // of contents
}

const (
	packExt    = ".pack"
	packMagic  = "modmpack"
	packRecord = 32 + 8
	packFooter = 8 + 8 + len(packMagic)
)

// openPack opens a pack in m, which it closes on an error. The table is not verified: it only says
// where contents may be.
func openPack(m media.Media) (*pack, error) {
	p := &pack{media: m}
	footer := make([]byte, packFooter)
	_, err := m.ReadAt(context.Background(), footer, max(m.Size()-int64(packFooter), 0))
	p.count, p.table = int64(binary.BigEndian.Uint64(footer)), int64(binary.BigEndian.Uint64(footer[8:]))
	if err != nil || string(footer[16:]) != packMagic || p.count < 0 || p.table < 0 ||
		p.count > m.Size()/packRecord || p.table != m.Size()-int64(packFooter)-p.count*packRecord {
		m.Close()
		return nil, &bundle.NotVerifiedError{What: m.Name(), Err: errors.New("not a pack")}
	}
	return p, nil
}

// Find returns the place of the content with a SHA-256.
func (p *pack) Find(sum [32]byte) (place bundle.Place, ok bool, err error) {
	ctx := context.Background() // a local file
	record := make([]byte, packRecord)
	i := sort.Search(int(p.count), func(i int) bool {
		if err == nil {
			_, err = p.media.ReadAt(ctx, record, p.table+int64(i)*packRecord)
		}
		return err != nil || bytes.Compare(record[:32], sum[:]) >= 0
	})
	if err != nil || i == int(p.count) {
		return bundle.Place{}, false, err
	}
	if _, err := p.media.ReadAt(ctx, record, p.table+int64(i)*packRecord); err != nil || !bytes.Equal(record[:32], sum[:]) {
		return bundle.Place{}, false, err
	}
	return bundle.Place{Media: p.media, Offset: int64(binary.BigEndian.Uint64(record[32:]))}, true, nil
}

// A packWriter writes a pack.
type packWriter struct {
	f     *safefile.File
	w     *bufio.Writer
	at    int64 // offset of the next content
	table []packEntry
}

type packEntry struct {
	sum    [32]byte
	offset int64
}

// newPack begins to write a pack.
func newPack(path string) (*packWriter, error) {
	f, err := safefile.Create(path, 0o666)
	if err != nil {
		return nil, err
	}
	return &packWriter{f: f, w: bufio.NewWriterSize(f, 256<<10)}, nil
}

// add appends a content. The caller verifies it before commit.
func (p *packWriter) add(sum [32]byte, size int64, content io.Reader, buf []byte) error {
	n, err := io.CopyBuffer(struct{ io.Writer }{p.w}, content, buf)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	p.table = append(p.table, packEntry{sum, p.at})
	p.at += n
	return err
}

// commit writes the table and gives the pack its name.
func (p *packWriter) commit() error {
	slices.SortFunc(p.table, func(a, b packEntry) int {
		return cmp.Or(bytes.Compare(a.sum[:], b.sum[:]), cmp.Compare(a.offset, b.offset))
	})
	for _, e := range p.table {
		p.w.Write(e.sum[:])
		p.w.Write(binary.BigEndian.AppendUint64(nil, uint64(e.offset)))
	}
	p.w.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p.table))))
	p.w.Write(binary.BigEndian.AppendUint64(nil, uint64(p.at)))
	p.w.WriteString(packMagic)
	if err := p.w.Flush(); err != nil {
		return err
	}
	return p.f.Commit()
}

// discard removes the pack unless it was committed.
func (p *packWriter) discard() { p.f.Discard() }
