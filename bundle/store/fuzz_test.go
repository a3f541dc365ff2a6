package store

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"testing"

	"github.com/modmirror/modmirror/bundle"
)

// FuzzPack looks contents up in packs that may be anything: each that is found lies in the file.
func FuzzPack(f *testing.F) {
	name := filepath.Join(f.TempDir(), "seed.pack")
	w, err := newPack(name)
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{"one", "two", "three"} {
		if err := w.add(sha256.Sum256([]byte(text)), int64(len(text)), bytes.NewReader([]byte(text)), make([]byte, 10)); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.commit(); err != nil {
		f.Fatal(err)
	}
	seed, err := os.ReadFile(name)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed, []byte("two"))
	f.Add([]byte(packMagic), []byte{})
	f.Add(append(bytes.Repeat([]byte{0xff}, 16), packMagic...), []byte("x"))
	file := filepath.Join(f.TempDir(), "x.pack")
	f.Fuzz(func(t *testing.T, data, content []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := openPackFile(file)
		if err != nil {
			return
		}
		defer p.media.Close()
		if _, ok, err := p.Find(sha256.Sum256(content)); ok && err != nil {
			t.Error("found, with an error")
		}
	})
}

// FuzzState reads what is remembered: it is believed whole or not at all.
func FuzzState(f *testing.F) {
	f.Add([]byte(`{"lines":{"team":{"sequence":7,"id":"` + hashText("x") + `","head":{"size":1,"hash":"x"}}},"served":{}}`))
	f.Add([]byte(`{"lines":{"../x":{}},"served":null}`))
	f.Add([]byte("null"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, stateName), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := ReadState(dir)
		if err != nil {
			return
		}
		if s.Lines == nil || s.Served == nil {
			t.Error("a part of the state is not there")
		}
		for name, seen := range s.Lines {
			if bundle.CheckName(name) != nil || seen.Sequence < 0 {
				t.Errorf("line %q, sequence %d", name, seen.Sequence)
			}
		}
	})
}
