package vectors

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// Where the parts of a bundle are.
const (
	block    = 512
	noteAt   = block
	headerAt = noteAt + bundle.ManifestSize // of the index
	indexAt  = headerAt + block
)

// A Maker makes bundles by recipes, each from a copy of one that is good.
type Maker struct {
	tb    *testbundle.TB
	other *testbundle.TB // of the same line, made later
	good  []byte
	keys  map[string]*trust.Key
	at    map[string]int // where the header, content and padding of a file begin
}

// NewMaker makes the bundle that the others are made from. modfiles is the folder testdata/mod.
func NewMaker(t testing.TB, modfiles string) *Maker {
	t.Helper()
	m := &Maker{tb: testbundle.Make(t, modfiles, testbundle.WithoutLarge), keys: make(map[string]*trust.Key), at: make(map[string]int)}
	m.other = &testbundle.TB{Contents: m.tb.Contents, Key: m.tb.Key, Trusted: m.tb.Trusted}
	later := *m.tb.Contents
	later.Sequence++
	m.other.Contents = &later
	m.other.Write(t)
	var err error
	if m.good, err = os.ReadFile(m.tb.Path); err != nil {
		t.Fatal(err)
	}
	m.keys["tester"] = m.tb.Key
	names := []string{"second", "third", "stranger"}
	for i := range 15 {
		names = append(names, fmt.Sprint("other", i))
	}
	for _, name := range names {
		if m.keys[name], err = trust.EphemeralKey(name); err != nil {
			t.Fatal(err)
		}
	}
	if m.keys["impostor"], err = trust.EphemeralKey("tester"); err != nil { // the same name, another key
		t.Fatal(err)
	}
	m.keys["alias"] = testbundle.Renamed(t, m.keys["second"], "alias") // the same key, another name
	b, err := bundle.Open(context.Background(), m.tb.Path, m.tb.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	payload := indexAt + int(m.tb.Draft.Manifest.IndexSize) + pad(int(m.tb.Draft.Manifest.IndexSize))
	for f, err := range b.Index.Files(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		at := payload + int(f.Offset)
		m.at["content:"+f.Path] = at
		m.at["header:"+f.Path] = at - len(bundle.Header(f.Path, f.Size))
		m.at["padding:"+f.Path] = at + int(f.Size)
	}
	m.at["end"], m.at["header:index.sqlite"], m.at["note"], m.at["index"] = len(m.good)-2*block, headerAt, noteAt, indexAt
	return m
}

// Keys returns the verifier keys of names.
func (m *Maker) Keys(names ...string) (list []string) {
	for _, n := range names {
		list = append(list, m.keys[n].Verifier)
	}
	return list
}

func pad(n int) int { return -n & (block - 1) }

// MakeAll makes the bundles of a vector: one for each recipe between lines of ---, or, when there
// is {N} in it, one for each multiple of 512 in the file.
func (m *Maker) MakeAll(dir string, v *Vector) (all [][]byte, err error) {
	for text := range strings.SplitSeq(strings.Join(v.Recipe, "\n"), "\n---\n") {
		for n := 0; n < len(m.good); n += block {
			data, err := m.Make(dir, strings.Split(strings.ReplaceAll(text, "{N}", fmt.Sprint(n)), "\n"))
			if err != nil {
				return nil, fmt.Errorf("%s: %w", v.Name, err)
			}
			all = append(all, data)
			if !strings.Contains(text, "{N}") {
				break
			}
		}
	}
	return all, nil
}

// Make makes the bundle of a recipe, in the folder dir. The lines of a recipe, one after the other:
//
//	sql STATEMENTS               what a thief of the key does to the index, who then signs it
//	index set|cut|replace …      the same, of its bytes
//	manifest OLD => NEW          of the signed text, which is signed again
//	say FIELD VALUE|+N|-N        a number in it, which is signed again
//	sign NAME …                  by these keys instead
//	note OLD => NEW              of the note, after it was signed; SIG is the line of the first signature
//	swap note|index              that of the next bundle of the line
//	set PLACE BYTES              PLACE is a number or a name, perhaps with +N or -N; BYTES are "text" or hex
//	flip PLACE                   one bit
//	insert PLACE BYTES
//	checksum PLACE               of a tar header, made right again
//	cut N                        the file to its first bytes, or by its last ones when N is negative
//	append BYTES|itself          behind its end
//	gzip
//	resize                       sign the size that the file has now
func (m *Maker) Make(dir string, recipe []string) ([]byte, error) {
	s := &state{m: m, dir: dir, data: bytes.Clone(m.good), manifest: m.tb.Draft.Manifest, signers: []string{"tester"}}
	for _, line := range recipe {
		if line == "" || line[0] == '#' {
			continue
		}
		if err := s.step(line); err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	return s.data, nil
}

// A state is a bundle that is being made.
type state struct {
	m        *Maker
	dir      string
	data     []byte
	manifest bundle.Manifest
	shift    int                 // how far what is behind the index moved
	text     func(string) string // what is done to the text before it is signed; nil for nothing
	signers  []string
}

func (s *state) step(line string) error {
	verb, rest, _ := strings.Cut(line, " ")
	switch verb {
	case "sql":
		return s.reindex(func(b []byte) ([]byte, error) { return testbundle.SQL(s.dir, b, rest) })
	case "index":
		return s.reindex(func(b []byte) ([]byte, error) { return editBytes(b, rest) })
	case "say":
		return s.say(rest)
	case "manifest":
		old, new, err := change(rest)
		if err != nil {
			return err
		}
		s.text = func(text string) string { return strings.Replace(text, old, new, 1) }
		return s.sign()
	case "sign":
		s.signers = strings.Fields(rest)
		return s.sign()
	case "note":
		return s.note(rest)
	case "swap":
		other, err := os.ReadFile(s.m.other.Path)
		if err != nil {
			return err
		}
		switch from, to := indexAt, indexAt+int(s.manifest.IndexSize); {
		case len(other) != len(s.data):
			return fmt.Errorf("the next bundle has another size")
		case rest == "note":
			copy(s.data[:headerAt], other)
		default:
			copy(s.data[from:to], other[from:to])
		}
		return nil
	case "set", "insert":
		place, value, _ := strings.Cut(rest, " ")
		at, err := s.place(place)
		if err != nil {
			return err
		}
		data, err := parseBytes(value)
		if err != nil {
			return err
		}
		if verb == "insert" {
			s.data = slices.Insert(s.data, at, data...)
		} else if copy(s.data[at:], data) < len(data) {
			return fmt.Errorf("past the end")
		}
		return nil
	case "flip":
		at, err := s.place(rest)
		if err == nil {
			s.data[at] ^= 1
		}
		return err
	case "checksum":
		at, err := s.place(rest)
		if err != nil {
			return err
		}
		checksum(s.data[at : at+block])
		return nil
	case "cut":
		n, err := strconv.Atoi(rest)
		if n < 0 {
			n += len(s.data)
		}
		s.data = s.data[:n]
		return err
	case "append":
		if rest == "itself" {
			s.data = append(s.data, s.data...)
			return nil
		}
		data, err := parseBytes(rest)
		s.data = append(s.data, data...)
		return err
	case "gzip":
		var out bytes.Buffer
		z := gzip.NewWriter(&out)
		z.Write(s.data)
		err := z.Close()
		s.data = out.Bytes()
		return err
	case "resize":
		s.manifest.Size = int64(len(s.data))
		return s.sign()
	}
	return fmt.Errorf("unknown step")
}

// say changes a number in the manifest.
func (s *state) say(rest string) error {
	field, value, _ := strings.Cut(rest, " ")
	m := &s.manifest
	p := map[string]*int64{"size": &m.Size, "indexsize": &m.IndexSize, "head": &m.Head.N, "modules": &m.Counts.Modules, "versions": &m.Counts.Versions,
		"modonly": &m.Counts.ModOnly, "private": &m.Counts.Private, "files": &m.Counts.Files, "missing": &m.Counts.Missing}[field]
	n, err := strconv.ParseInt(value, 10, 64)
	switch {
	case p == nil:
		return fmt.Errorf("no field %q", field)
	case err != nil:
		return err
	case value[0] == '+' || value[0] == '-':
		*p += n
	default:
		*p = n
	}
	return s.sign()
}

// sign signs the manifest, and puts it into its place.
func (s *state) sign() error {
	text := s.manifest.Text()
	if s.text != nil {
		text = s.text(text)
	}
	var signers []note.Signer
	for _, n := range s.signers {
		k := s.m.keys[n]
		if k == nil {
			return fmt.Errorf("no key %q", n)
		}
		signers = append(signers, k.Signer)
	}
	msg, err := note.Sign(&note.Note{Text: text}, signers...)
	if err != nil {
		return err
	}
	return s.putNote(msg)
}

func (s *state) putNote(msg []byte) error {
	if len(msg) > bundle.ManifestSize {
		return fmt.Errorf("the note has %d bytes", len(msg))
	}
	for i := copy(s.data[noteAt:headerAt], msg); i < bundle.ManifestSize; i++ {
		s.data[noteAt+i] = '\n'
	}
	return nil
}

// note edits the note as it is.
func (s *state) note(rest string) error {
	msg := string(bytes.TrimRight(s.data[noteAt:headerAt], "\n")) + "\n"
	sig := msg[strings.Index(msg, "\n\n")+2:]
	sig, _, _ = strings.Cut(sig, "\n")
	b64 := sig[strings.LastIndexByte(sig, ' ')+1:]
	const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	// A signature is 68 bytes: the last character before the = has two bits that do not count.
	loose := b64[:len(b64)-2] + digits[strings.IndexByte(digits, b64[len(b64)-2])^1:][:1] + "="
	bad := b64[:40] + digits[strings.IndexByte(digits, b64[40])^1:][:1] + b64[41:]
	rest = strings.NewReplacer("SIGS100", strings.TrimSuffix(strings.Repeat(sig+"\\n", 100), "\\n"), "SIG", sig,
		"LOOSE", loose, "BAD", bad, "B64", b64).Replace(rest)
	if rest == "crlf" {
		return s.putNote([]byte(strings.ReplaceAll(msg, "\n", "\r\n")))
	}
	old, new, err := change(rest)
	if err != nil {
		return err
	}
	if !strings.Contains(msg, old) {
		return fmt.Errorf("the note has no %q", old)
	}
	return s.putNote([]byte(strings.Replace(msg, old, new, 1)))
}

// reindex changes the index and signs what is then.
func (s *state) reindex(edit func([]byte) ([]byte, error)) error {
	size := int(s.manifest.IndexSize)
	idx, err := edit(bytes.Clone(s.data[indexAt : indexAt+size]))
	if err != nil {
		return err
	}
	s.shift += len(idx) + pad(len(idx)) - size - pad(size)
	behind := bytes.Clone(s.data[indexAt+size+pad(size):])
	s.manifest.Index, s.manifest.IndexSize = sha256.Sum256(idx), int64(len(idx))
	s.data = append(s.data[:headerAt], bundle.Header("index.sqlite", int64(len(idx)))...)
	s.data = append(s.data, idx...)
	s.data = append(s.data, make([]byte, pad(len(idx)))...)
	s.data = append(s.data, behind...)
	s.manifest.Size = int64(len(s.data))
	return s.sign()
}

// editBytes changes the bytes of an index.
func editBytes(b []byte, rest string) ([]byte, error) {
	verb, rest, _ := strings.Cut(rest, " ")
	switch verb {
	case "is":
		return parseBytes(rest)
	case "set":
		place, value, _ := strings.Cut(rest, " ")
		at, err := strconv.Atoi(place)
		if err != nil {
			return nil, err
		}
		data, err := parseBytes(value)
		copy(b[at:], data)
		return b, err
	case "clear":
		var from, to int
		_, err := fmt.Sscan(rest, &from, &to)
		if err == nil {
			clear(b[from:to])
		}
		return b, err
	case "cut":
		n, err := strconv.Atoi(rest)
		return b[:len(b)-n], err
	case "replace":
		old, new, err := change(rest)
		if err == nil && (len(old) != len(new) || !bytes.Contains(b, []byte(old))) {
			err = fmt.Errorf("want two texts of one length, the first of which is there")
		}
		return bytes.ReplaceAll(b, []byte(old), []byte(new)), err
	case "loop":
		return testbundle.Loop(b), nil
	}
	return nil, fmt.Errorf("unknown edit")
}

// checksum makes the checksum of a tar header right.
func checksum(h []byte) {
	copy(h[148:], "        ")
	sum := 0
	for _, b := range h[:block] {
		sum += int(b)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
}

// place returns the offset that a text names.
func (s *state) place(text string) (int, error) {
	name, plus := text, 0
	if i := strings.LastIndexAny(text, "+-"); i > 0 {
		if n, err := strconv.Atoi(text[i:]); err == nil {
			name, plus = text[:i], n
		}
	}
	at, err := strconv.Atoi(name)
	if err != nil {
		var ok bool
		if at, ok = s.m.at[name]; !ok {
			return 0, fmt.Errorf("no place %q", name)
		}
		if at > indexAt {
			at += s.shift
		}
	}
	if at += plus; at < 0 || at > len(s.data) {
		return 0, fmt.Errorf("%d is not in the file", at)
	}
	return at, nil
}

// change parses OLD => NEW.
func change(text string) (old, new string, err error) {
	old, new, ok := strings.Cut(text, " => ")
	if !ok {
		return "", "", fmt.Errorf("want OLD => NEW")
	}
	unescape := strings.NewReplacer(`\n`, "\n", `\x01`, "\x01", `\ufeff`, "\ufeff").Replace
	return unescape(old), unescape(new), nil
}

// parseBytes parses "text", hex digits, zeros N or pax KEY=VALUE: a header and its record.
func parseBytes(text string) ([]byte, error) {
	if strings.HasPrefix(text, `"`) {
		s, err := strconv.Unquote(text)
		return []byte(s), err
	}
	if n, ok := strings.CutPrefix(text, "zeros "); ok {
		size, err := strconv.Atoi(n)
		return make([]byte, size), err
	}
	if record, ok := strings.CutPrefix(text, "pax "); ok {
		typ, record, _ := strings.Cut(record, " ")
		line := record + "\n"
		for n := len(line) + 2; ; n++ {
			if s := fmt.Sprintf("%d %s", n, line); len(s) == n {
				line = s
				break
			}
		}
		h := bundle.Header("././@PaxHeader", int64(len(line)))
		h[156] = typ[0]
		checksum(h)
		return append(append(h, line...), make([]byte, pad(len(line)))...), nil
	}
	return hex.DecodeString(text)
}
