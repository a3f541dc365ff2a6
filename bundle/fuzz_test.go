package bundle

import (
	"bytes"
	"crypto/sha256"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
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
		p, err := openPack(file)
		if err != nil {
			return
		}
		defer p.medium.Close()
		if _, ok, err := p.find(sha256.Sum256(content)); ok && err != nil {
			t.Error("found, with an error")
		}
	})
}

// FuzzPieceList reads lists of pieces: what one names has a name that stays where it is.
func FuzzPieceList(f *testing.F) {
	sum := "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	f.Add([]byte("# team.tar in 2 pieces\n" + sum + "  team.tar.001\n" + sum + "  team.tar.002\n"))
	f.Add([]byte(sum + "  ../x.001\n"))
	f.Add([]byte(sum + "  ...001\n\x00"))
	file := filepath.Join(f.TempDir(), "team.tar.sha256")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		list, err := readList(file)
		if err != nil {
			return
		}
		for name := range list {
			if filepath.Base(name) != name || name == "" || name[0] == '.' {
				t.Errorf("a piece is called %q", name)
			}
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
			if CheckName(name) != nil || seen.Sequence < 0 {
				t.Errorf("line %q, sequence %d", name, seen.Sequence)
			}
		}
	})
}

// FuzzTrust reads trust files: each key that is taken is one that verifies, and the file can be
// added to and taken from.
func FuzzTrust(f *testing.F) {
	key, err := EphemeralKey("seed")
	if err != nil {
		f.Fatal(err)
	}
	f.Add("# a comment\n" + key.Verifier + "\n\n")
	f.Add(key.Verifier + " # a comment behind it\n")
	f.Add("\ufeff" + key.Verifier + "\r\n")
	file := filepath.Join(f.TempDir(), "trusted")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		trust, err := ReadTrust(file)
		if err != nil {
			return
		}
		before := len(trust.Keys)
		if _, err := trust.Add(key.Verifier); err != nil {
			t.Fatal(err)
		}
		again, err := ReadTrust(file)
		if err != nil || !slices.Equal(again.Keys, trust.Keys) {
			t.Fatalf("%d keys, then %d, then %v (%v)", before, len(trust.Keys), again, err)
		}
		for _, k := range again.Keys {
			if _, err := note.NewVerifier(k); err != nil {
				t.Errorf("%q is trusted: %v", k, err)
			}
		}
	})
}

// FuzzKeyFile reads key files: what is taken for a key signs what its public part verifies, and no
// error has the private part.
func FuzzKeyFile(f *testing.F) {
	file := filepath.Join(f.TempDir(), "key")
	if _, err := NewKey(file, "seed", nil); err != nil {
		f.Fatal(err)
	}
	seed, err := os.ReadFile(file)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add(bytes.ReplaceAll(seed, []byte("# public"), []byte("# other")))
	f.Add([]byte("PRIVATE+KEY+seed+00000000+AAAA\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		k, err := ReadKey(file, func() ([]byte, error) { return []byte("x"), nil })
		if err != nil {
			if strings.Contains(err.Error(), "PRIVATE") {
				t.Errorf("the error has the key: %v", err)
			}
			return
		}
		v, err := note.NewVerifier(k.Verifier)
		if err != nil {
			t.Fatal(err)
		}
		sig, err := k.Signer.Sign([]byte("text"))
		if err != nil || !v.Verify([]byte("text"), sig) {
			t.Errorf("it does not sign what it verifies: %v", err)
		}
	})
}
