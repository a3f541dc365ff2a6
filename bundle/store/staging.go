package store

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/internal/safefile"
)

// A Staging is a folder in a store where the pieces of a bundle wait for one another.
type Staging struct {
	Dir  string
	base string // name of the bundle
}

// MustStage reports whether Stage must collect the pieces: some are missing, or others of the
// bundle wait in the store.
func (s *Store) MustStage(ctx context.Context, pieces []string) (bool, error) {
	base, _, _ := media.PieceOf(pieces[0])
	if left, err := filepath.Glob(filepath.Join(s.Dir, incomingDir, filepath.Base(base), "*.[0-9][0-9][0-9]")); err == nil && len(left) > 0 {
		return true, nil
	}
	missing, err := s.missingOf(ctx, base)
	return len(missing) > 0, err
}

// HasPieces returns an *AlreadyError, and removes waiting pieces, when the store has the bundle of
// the pieces. Without the first piece, whose manifest tells, it returns nil.
func (s *Store) HasPieces(ctx context.Context, pieces []string) error {
	base, n, _ := media.PieceOf(pieces[0])
	if n != 1 {
		return nil
	}
	m, err := media.OpenFile(pieces[0])
	if err != nil {
		return fmt.Errorf("%s: %w", pieces[0], err)
	}
	b, err := bundle.OpenFrontIn(ctx, pieces[0], firstPiece{m}, bundle.SignaturesFile(pieces[0]), s.Trust.Lenient())
	if err != nil {
		m.Close()
		return nil // reading all pieces says why
	}
	defer b.Close()
	have, err := s.lenient().open(ctx, nil)
	if err != nil {
		return err
	}
	defer have.Close()
	_, err = s.again(ctx, b, have.bundles)
	if _, ok := errors.AsType[*AlreadyError](err); ok {
		return cmp.Or(os.RemoveAll(filepath.Join(s.Dir, incomingDir, filepath.Base(base))), err)
	}
	return err
}

// missingOf returns the names of the missing pieces of a bundle: by the list beside them or,
// without one, by the manifest in the first piece.
func (s *Store) missingOf(ctx context.Context, base string) ([]string, error) {
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(filepath.Dir(base), filepath.Base(name)))
		return err == nil
	}
	list, err := media.ReadList(base + media.ListExt)
	if err != nil {
		return nil, err
	}
	if list != nil {
		return media.MissingPieces(filepath.Base(base), len(list), there), nil
	}
	first := media.FirstPiece(base)
	st, err := os.Stat(first)
	if errors.Is(err, fs.ErrNotExist) {
		return []string{filepath.Base(first)}, nil
	}
	if err != nil {
		return nil, err
	}
	if encrypted(first) { // only a list tells how many there are; decrypting notices a missing end
		return nil, nil
	}
	b, err := bundle.OpenFront(ctx, first, s.Trust)
	if missing, ok := errors.AsType[*media.MissingPieceError](err); ok {
		names := slices.Clone(missing.Names)
		for i := range names {
			names[i] = filepath.Base(names[i])
		}
		return names, nil
	}
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return media.MissingPieces(filepath.Base(base), media.PieceCount(b.Manifest.Size, st.Size()), there), nil
}

// A firstPiece is the first of several pieces, whose manifest is read without the others.
type firstPiece struct{ media.Media }

// CheckSize accepts any size.
func (firstPiece) CheckSize(int64) error { return nil }

// encrypted reports whether a file is encrypted with age.
func encrypted(file string) bool {
	f, err := os.Open(file)
	if err != nil {
		return false
	}
	defer f.Close()
	return media.IsAge(bufio.NewReader(f))
}

// Stage copies a piece into the store, and returns the names of the pieces that are still missing.
// When none is missing, First can be imported. The store must be locked.
func (s *Store) Stage(ctx context.Context, piece string) (*Staging, []string, error) {
	base, _, ok := media.PieceOf(piece)
	if !ok {
		return nil, nil, fmt.Errorf("%s: not the name of a piece", piece)
	}
	name := filepath.Base(base)
	st := &Staging{Dir: filepath.Join(s.Dir, incomingDir, name), base: name}
	if err := os.MkdirAll(st.Dir, 0o777); err != nil {
		return nil, nil, err
	}
	if err := safefile.Sweep(st.Dir); err != nil {
		return nil, nil, err
	}
	list, err := st.takeList(base + media.ListExt)
	if err != nil {
		return nil, nil, err
	}
	if sigs, _, err := bundle.ReadSignatures(base + media.SignaturesExt); err != nil {
		return nil, nil, err
	} else if sigs != nil {
		if err := safefile.Write(filepath.Join(st.Dir, name+media.SignaturesExt), sigs, 0o666); err != nil {
			return nil, nil, err
		}
	}
	to := filepath.Join(st.Dir, filepath.Base(piece))
	in, err := media.OpenBeside(piece)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", piece, err)
	}
	defer in.Close()
	want := list[filepath.Base(piece)]
	if list != nil && want == "" {
		return nil, nil, &bundle.NotVerifiedError{What: piece, Err: fmt.Errorf("the list of %s names no such piece", name)}
	}
	if same, err := staged(to, in); err != nil {
		return nil, nil, err
	} else if !same {
		out, err := safefile.Create(to, 0o666)
		if err != nil {
			return nil, nil, err
		}
		defer out.Discard()
		h := sha256.New()
		if _, err := io.Copy(io.MultiWriter(out, h), in); err != nil {
			return nil, nil, err
		}
		if got := hex.EncodeToString(h.Sum(nil)); want != "" && got != want {
			return nil, nil, media.NotListed(piece, got, want)
		}
		if err := out.Commit(); err != nil {
			return nil, nil, err
		}
	}
	missing, err := s.missingOf(ctx, filepath.Join(st.Dir, name))
	return st, missing, err
}

// staged reports whether the store has the piece already, byte for byte.
func staged(to string, in *os.File) (bool, error) {
	f, err := os.Open(to)
	if err != nil {
		return false, nil
	}
	defer f.Close()
	a, err := f.Stat()
	if err != nil {
		return false, err
	}
	b, err := in.Stat()
	if err != nil || a.Size() != b.Size() {
		return false, err
	}
	x, y := make([]byte, 256<<10), make([]byte, 256<<10)
	for at := int64(0); at < a.Size(); {
		n, err := f.ReadAt(x, at)
		if err != nil && err != io.EOF {
			return false, err
		}
		if _, err := in.ReadAt(y[:n], at); err != nil && err != io.EOF {
			return false, err
		}
		if n == 0 || !bytes.Equal(x[:n], y[:n]) {
			return false, nil
		}
		at += int64(n)
	}
	return true, nil
}

// takeList copies the list of pieces into the staging and returns it. A list that is there already
// must be the same.
func (st *Staging) takeList(file string) (map[string]string, error) {
	own := filepath.Join(st.Dir, st.base+media.ListExt)
	data, err := media.ReadBeside(file, media.MaxList)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err == nil { // only a list is copied
		if _, err := media.ParseList(file, data); err != nil {
			return nil, err
		}
	}
	old, oldErr := media.ReadBeside(own, media.MaxList)
	switch {
	case err == nil && oldErr == nil && !bytes.Equal(data, old):
		return nil, fmt.Errorf("%s is the list of another %s than the one whose pieces wait in %s: remove that folder to give those up", file, st.base, st.Dir)
	case err == nil && oldErr != nil:
		if err := safefile.Write(own, data, 0o666); err != nil {
			return nil, err
		}
	}
	return media.ReadList(own)
}

// MissingOf returns the names of the pieces that are still missing.
func (s *Store) MissingOf(ctx context.Context, st *Staging) ([]string, error) {
	return s.missingOf(ctx, filepath.Join(st.Dir, st.base))
}

// First returns the path of the first piece.
func (st *Staging) First() string { return filepath.Join(st.Dir, media.FirstPiece(st.base)) }

// Remove removes the staging.
func (st *Staging) Remove() error { return os.RemoveAll(st.Dir) }
