package review

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/inflate"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
)

// Sources are the files of a version in a bundle. Their h1 is that of the index.
type Sources struct {
	Mod module.Version

	archive *h1.Archive
	content zipContent
	files   map[string]*zip.File // by name in the module
}

// OpenSources opens the zip of a version and compares its h1 with the index. The error wraps
// proof.ErrMismatch when the zip is another. Cpu bounds the work on several cores. The caller
// closes the Sources.
func OpenSources(ctx context.Context, z Zips, cpu h1.Limiter, v index.Version) (*Sources, error) {
	return openSources(ctx, z, cpu, v, nil)
}

// openSources is OpenSources. Before the files are hashed, prepare, which may be nil, may have them
// shown to it: see h1.Archive.Look.
func openSources(
	ctx context.Context, z Zips, cpu h1.Limiter, v index.Version, prepare func(*h1.Archive),
) (*Sources, error) {
	content, err := z.open(ctx, v)
	if err != nil {
		return nil, err
	}
	s := &Sources{
		Mod: module.Version{Path: v.Path, Version: v.Version}, content: content, files: make(map[string]*zip.File),
	}
	if s.archive, err = h1.Open(ctx, content, content.size); err != nil {
		content.Close()
		return nil, s.damaged(err)
	}
	if prepare != nil {
		prepare(s.archive)
	}
	hash, err := s.archive.Hash(cpu, s.Mod)
	if err == nil && hash.H1 != v.H1 {
		err = fmt.Errorf("its h1 is %s, the index says %s: %w", hash.H1, v.H1, proof.ErrMismatch)
	}
	if err != nil {
		s.Close()
		return nil, s.damaged(err)
	}
	s.archive.Look = nil
	s.list()
	return s, nil
}

// SourcesOf returns the files of a zip that the caller opened, and whose h1 it compared. It is not
// to be closed.
func SourcesOf(m module.Version, a *h1.Archive) *Sources {
	s := &Sources{Mod: m, archive: a, files: make(map[string]*zip.File)}
	s.list()
	return s
}

// list lists the files of the zip.
func (s *Sources) list() {
	for _, file := range s.archive.File {
		s.files[strings.TrimPrefix(file.Name, s.Mod.String()+"/")] = file
	}
}

// zipFile returns what the index says about the zip of a version.
func zipFile(ctx context.Context, b *bundle.Bundle, v index.Version) (index.File, error) {
	path := modpath.Request{Kind: modpath.Zip, Path: v.Path, Version: v.Version}.String()
	f, ok, err := b.Index.File(ctx, path)
	if err == nil && !ok {
		err = errors.New("the index has no file " + path)
	}
	return f, err
}

// damaged returns an error that names the version, and wraps proof.ErrMismatch when the zip is at
// fault and not its medium.
func (s *Sources) damaged(err error) error {
	for _, bad := range []error{
		zip.ErrFormat, zip.ErrAlgorithm, zip.ErrChecksum, inflate.ErrCorrupt, io.ErrUnexpectedEOF,
	} {
		if errors.Is(err, bad) {
			return fmt.Errorf("%s: %w: %w", s.Mod, err, proof.ErrMismatch)
		}
	}
	return fmt.Errorf("%s: %w", s.Mod, err)
}

// Close gives buffers back. The Sources are not read afterwards.
func (s *Sources) Close() {
	s.archive.Close()
	s.content.Close()
}

// read returns the content of a file, which the zip says how long it is.
func (s *Sources) read(name string) ([]byte, error) {
	r, err := s.files[name].Open()
	if err != nil {
		return nil, s.damaged(err)
	}
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, s.damaged(err)
	}
	return data, nil
}

// sum returns the SHA-256 of a file.
func (s *Sources) sum(name string) (sum [sha256.Size]byte, err error) {
	r, err := s.files[name].Open()
	if err != nil {
		return sum, s.damaged(err)
	}
	defer r.Close()
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return sum, s.damaged(err)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}
