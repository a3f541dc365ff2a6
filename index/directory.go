package index

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"sync/atomic"
)

// A directory answers the one query that serve asks for each file, from three tables: it knows the
// first key of each leaf of their b-trees, and so reads one page of the file for each row. SQLite
// reads a dozen, and database/sql and cgo take as long again.
//
// It reads pages as https://sqlite.org/fileformat.html has them. Rows must be in the order of their
// keys, as those of Writer are. Whatever else it meets, such as a row that is not there or that
// goes on in an overflow page, it leaves to SQLite. It trusts no number in a page. A directory does
// not change and is safe for concurrent use.
type directory struct {
	file    *os.File
	files   leaves // by path
	modules leaves // by path
	version leaves // by number of the module and version
}

const (
	// directoryAfter is how many queries make the directory worth its while. A start makes none,
	// nor does a command.
	directoryAfter = 500

	// maxLeaves bounds the first keys of a table in bytes. Three million files take 4 MiB. An index
	// that is larger has no directory.
	maxLeaves = 8 << 20

	// maxKept is how many leaves of modules, which are few, stay in memory: 4 MiB, for some 120,000
	// modules.
	maxKept = 1024
)

// Types of pages.
const (
	interiorTable = 5
	leafTable     = 13
)

const (
	// minLocal is what a cell has of its record at least, in bytes, when it has not all of it.
	minLocal = (pageSize-12)*32/255 - 23

	// maxLocal is the longest record in bytes that a cell has all of.
	maxLocal = pageSize - 35

	// maxDepth is more than the levels of any tree of MaxSize.
	maxDepth = 16
)

// leaves are the leaves of a table, in order.
type leaves struct {
	numbered bool // the key is a number and a text, not a text alone

	keys  []byte   // the first key of each leaf, one after the other
	ends  []uint32 // where in keys each key ends
	pages []uint32
	kept  []*page // the leaves themselves; nil unless they are few
}

// A page is a page of the file, a node of a b-tree.
type page [pageSize]byte

var pagePool = sync.Pool{New: func() any { return new(page) }}

// read reads page no. Page 1 has the schema, and is no page of a table.
func (p *page) read(file *os.File, no uint32) error {
	if no < 2 {
		return errPage
	}
	_, err := file.ReadAt(p[:], int64(no-1)*pageSize)
	return err
}

var (
	errPage = errors.New("not a page that a directory reads")
	errBig  = errors.New("too large for a directory")
)

// cells returns the number of cells of a page, and where the array of their offsets begins. ok is
// false when the page is not of a table, or has no room for so many.
func (p *page) cells() (n, array int, ok bool) {
	switch p[0] {
	case interiorTable:
		array = 12
	case leafTable:
		array = 8
	default:
		return 0, 0, false
	}
	n = int(binary.BigEndian.Uint16(p[3:]))
	return n, array, array+2*n <= pageSize
}

// cell returns the bytes from the beginning of cell i to the end of the page.
func (p *page) cell(array, i int) []byte {
	return p[min(int(binary.BigEndian.Uint16(p[array+2*i:])), pageSize):]
}

// varint returns the variable-length integer that b begins with, and its length, 0 when b is cut.
func varint(b []byte) (v uint64, n int) {
	for n < len(b) && n < 8 {
		c := b[n]
		v = v<<7 | uint64(c&0x7f)
		n++
		if c < 0x80 {
			return v, n
		}
	}
	if n == 8 && len(b) > 8 {
		return v<<8 | uint64(b[8]), 9
	}
	return 0, 0
}

// A record is the columns of a row. It may be cut at its end.
type record struct {
	types  []byte // of the columns that follow
	values []byte // of the columns that follow
}

// newRecord returns the record in a cell of a leaf, after the first column, which stands for the
// rowid.
func newRecord(cell []byte) (r record, rowid int64, ok bool) {
	size, n := varint(cell)
	if n == 0 {
		return r, 0, false
	}
	cell = cell[n:]
	id, n := varint(cell)
	if n == 0 {
		return r, 0, false
	}
	cell = cell[n:]
	if size > maxLocal {
		size = minLocal
	}
	if size > uint64(len(cell)) {
		return r, 0, false
	}
	cell = cell[:size]
	header, n := varint(cell)
	if n == 0 || header < uint64(n) || header > size {
		return r, 0, false
	}
	r = record{cell[n:header], cell[header:]}
	_, _, ok = r.next()
	return r, int64(id), ok
}

// next takes the next column. kind is its serial type.
func (r *record) next() (kind uint64, value []byte, ok bool) {
	kind, n := varint(r.types)
	if n == 0 {
		return 0, nil, false
	}
	r.types = r.types[n:]
	size := uint64(0)
	switch {
	case kind >= 12:
		size = (kind - 12) / 2
	case kind <= 4:
		size = kind
	case kind == 5:
		size = 6
	case kind <= 7:
		size = 8
	}
	if size > uint64(len(r.values)) {
		return 0, nil, false
	}
	value, r.values = r.values[:size], r.values[size:]
	return kind, value, true
}

// integer takes the next column, an integer.
func (r *record) integer() (v int64, ok bool) {
	kind, value, ok := r.next()
	switch {
	case !ok || kind == 0 || kind == 7 || kind > 9:
		return 0, false
	case kind >= 8:
		return int64(kind - 8), true
	}
	v = int64(int8(value[0]))
	for _, c := range value[1:] {
		v = v<<8 | int64(c)
	}
	return v, true
}

// text takes the next column, a text. value is in the page.
func (r *record) text() (value []byte, ok bool) {
	kind, value, ok := r.next()
	return value, ok && kind >= 13 && kind%2 == 1
}

// key takes the key of a row, and appends it to room.
func (l *leaves) key(r *record, room []byte) (key []byte, ok bool) {
	if l.numbered {
		n, ok := r.integer()
		if !ok || n < 0 {
			return nil, false
		}
		room = binary.BigEndian.AppendUint64(room, uint64(n))
	}
	text, ok := r.text()
	return append(room, text...), ok
}

// find returns the row with a key, in room or a page that is kept. rest are the columns after the
// key. ok is false when SQLite must be asked.
func (l *leaves) find(file *os.File, key []byte, room *page) (rest record, rowid int64, ok bool) {
	low, high := 0, len(l.ends) // the leaf before the first one that begins after key
	for low < high {
		middle := (low + high) / 2
		if bytes.Compare(l.first(middle), key) <= 0 {
			low = middle + 1
		} else {
			high = middle
		}
	}
	if low == 0 {
		return rest, 0, false
	}
	p := room
	if l.kept != nil {
		p = l.kept[low-1]
	} else if p.read(file, l.pages[low-1]) != nil {
		return rest, 0, false
	}
	n, array, ok := p.cells()
	if !ok || p[0] != leafTable {
		return rest, 0, false
	}
	number := uint64(0)
	if l.numbered {
		number, key = binary.BigEndian.Uint64(key), key[8:]
	}
	for low, high = 0, n; low < high; {
		middle := (low + high) / 2
		r, id, ok := newRecord(p.cell(array, middle))
		if !ok {
			return rest, 0, false
		}
		c := 0
		if l.numbered {
			n, ok := r.integer()
			if !ok || n < 0 {
				return rest, 0, false
			}
			c = cmp.Compare(uint64(n), number)
		}
		text, ok := r.text()
		if !ok {
			return rest, 0, false
		}
		switch c = cmp.Or(c, bytes.Compare(text, key)); {
		case c == 0:
			return r, id, true
		case c < 0:
			low = middle + 1
		default:
			high = middle
		}
	}
	return rest, 0, false
}

// first returns the first key of leaf i.
func (l *leaves) first(i int) []byte {
	begin := uint32(0)
	if i > 0 {
		begin = l.ends[i-1]
	}
	return l.keys[begin:l.ends[i]]
}

// A fileOf is the answer of Index.FileOf for a file that is there.
type fileOf struct {
	File
	time  string
	known bool
}

// fileOf is Index.FileOf. ok is false when SQLite must be asked.
func (d *directory) fileOf(path, module, version string) (f fileOf, ok bool) {
	room := pagePool.Get().(*page)
	defer pagePool.Put(room)
	var space [256]byte
	r, id, ok := d.files.find(d.file, append(space[:0], path...), room)
	if !ok || !f.scan(&r) {
		return f, false
	}
	f.ID, f.Path = id, path
	if _, id, ok = d.modules.find(d.file, append(space[:0], module...), room); !ok || id < 0 {
		return f, false
	}
	key := append(binary.BigEndian.AppendUint64(space[:0], uint64(id)), version...)
	if r, _, ok = d.version.find(d.file, key, room); !ok {
		return f, false
	}
	time, ok := r.text()
	f.time, f.known = string(time), true
	return f, ok
}

// scan reads a row of the table file, after its path.
func (f *fileOf) scan(r *record) (ok bool) {
	for _, number := range []*int64{&f.Bundle, &f.Offset, &f.Size} {
		if *number, ok = r.integer(); !ok {
			return false
		}
	}
	kind, sum, ok := r.next()
	return ok && kind == 12+2*uint64(len(f.SHA256)) && copy(f.SHA256[:], sum) == len(f.SHA256)
}

// A builder makes the directory of an index in the background, after some queries.
type builder struct {
	asked atomic.Int64
	built atomic.Pointer[directory]
	stop  atomic.Bool

	mu   sync.Mutex // held while stop is set or a build begins
	wait sync.WaitGroup
}

// directory returns the directory of x, nil while there is none.
func (x *Index) directory() *directory {
	b := &x.builder
	d := b.built.Load()
	if d != nil || b.asked.Add(1) != directoryAfter {
		return d
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.stop.Load() {
		b.wait.Go(func() {
			if roots, err := x.roots(context.Background()); err == nil {
				if d, err := readDirectory(x.file, roots, &b.stop); err == nil { // else SQLite answers alone
					b.built.Store(d)
				}
			}
		})
	}
	return nil
}

// close ends a build that is under way, and lets none begin.
func (b *builder) close() {
	b.mu.Lock()
	b.stop.Store(true)
	b.mu.Unlock()
	b.wait.Wait()
}

// roots returns the first pages of the tables file, module and version.
func (x *Index) roots(ctx context.Context) (roots [3]uint32, err error) {
	for i, table := range []string{"file", "module", "version"} {
		const query = "SELECT rootpage FROM sqlite_master WHERE type = 'table' AND name = ?"
		if err := x.db.QueryRowContext(ctx, query, table).Scan(&roots[i]); err != nil {
			return roots, err
		}
	}
	return roots, nil
}

// readDirectory reads the leaves of the tables file, module and version, whose first pages are
// roots: half a second for a million versions in the page cache. It ends early when stop is set.
func readDirectory(file *os.File, roots [3]uint32, stop *atomic.Bool) (*directory, error) {
	var header page
	if _, err := file.ReadAt(header[:100], 0); err != nil {
		return nil, err
	}
	if header[20] != 0 { // bytes that each page keeps for something else
		return nil, errPage
	}
	d := &directory{file: file, version: leaves{numbered: true}}
	for i, table := range []*leaves{&d.files, &d.modules, &d.version} {
		if err := table.read(file, roots[i], maxDepth, stop); err != nil {
			return nil, err
		}
	}
	return d, d.modules.keep(file)
}

// read reads the leaves below a page, in depth levels at most.
func (l *leaves) read(file *os.File, no uint32, depth int, stop *atomic.Bool) error {
	p := pagePool.Get().(*page)
	defer pagePool.Put(p)
	if err := p.read(file, no); err != nil {
		return err
	}
	n, array, ok := p.cells()
	switch {
	case !ok || depth == 0 || stop.Load():
		return errPage
	case p[0] == leafTable && n == 0: // only an empty table has one
		if depth < maxDepth {
			return errPage
		}
		return nil
	case p[0] == leafTable:
		return l.add(p, no, array)
	}
	for i := range n {
		cell := p.cell(array, i)
		if len(cell) < 4 {
			return errPage
		}
		if err := l.read(file, binary.BigEndian.Uint32(cell), depth-1, stop); err != nil {
			return err
		}
	}
	return l.read(file, binary.BigEndian.Uint32(p[8:]), depth-1, stop)
}

// add adds a leaf, whose first key must be after that of the leaf before.
func (l *leaves) add(p *page, no uint32, array int) error {
	r, _, ok := newRecord(p.cell(array, 0))
	if !ok {
		return errPage
	}
	before := len(l.keys)
	if l.keys, ok = l.key(&r, l.keys); !ok {
		return errPage
	}
	l.ends, l.pages = append(l.ends, uint32(len(l.keys))), append(l.pages, no)
	if i := len(l.ends) - 1; i > 0 && bytes.Compare(l.first(i-1), l.keys[before:]) >= 0 {
		return errPage
	}
	if len(l.keys)+8*len(l.ends) > maxLeaves {
		return errBig
	}
	return nil
}

// keep reads the leaves themselves, if they are few.
func (l *leaves) keep(file *os.File) error {
	if len(l.pages) > maxKept {
		return nil
	}
	l.kept = make([]*page, len(l.pages))
	for i, no := range l.pages {
		l.kept[i] = new(page)
		if err := l.kept[i].read(file, no); err != nil {
			return err
		}
	}
	return nil
}
