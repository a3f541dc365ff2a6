package mirror

import (
	"archive/zip"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/klauspost/compress/flate"
	"golang.org/x/mod/module"
	modzip "golang.org/x/mod/zip"

	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/mirror/upstream"
	"github.com/modmirror/modmirror/review/facts"
)

// zip gets the zip of a version, checks that it is a module zip, and hashes it. A zip in the mirror
// directory was checked when it came in.
func (f *fetcher) zip(ctx context.Context, m module.Version) (*staged, error) {
	rel := versionFile(modpath.Zip, m.Path, m.Version)
	have, err := f.haveZip(rel)
	if err != nil {
		return nil, err
	}
	fits := have != nil && have.packed == f.repacked(m)
	if fits && have.facts == nil && m.Path != modpath.Toolchain {
		have, err = f.scan(ctx, m, have)
	}
	if err != nil || fits && have != nil {
		return have, err
	}
	if err := f.open.acquire(ctx); err != nil {
		return nil, err
	}
	defer f.open.release()
	temp, err := f.dir.create(rel)
	if err != nil {
		return nil, err
	}
	s := &staged{File: File{Path: rel}, temp: temp}
	if !f.oldZip(ctx, m, s, have) && !f.cachedZip(ctx, m, s) {
		if err = f.download(ctx, m, rel, temp.File); err == nil {
			err = f.hashZip(ctx, m, s.temp.File, s)
		}
	}
	if err == nil && f.repacked(m) {
		var packed *staged
		if packed, err = f.repack(ctx, m, s); err == nil {
			s, temp = packed, packed.temp
		}
	}
	if err == nil {
		err = temp.FinishNoSync()
	}
	if err == nil && have != nil { // without its hashes, the old zip does not count until the new one has its name
		err = os.Remove(f.dir.Path(hashesFile(rel)))
	}
	if err != nil {
		if errors.Is(err, proof.ErrMismatch) {
			err = f.reject(s, err)
		}
		temp.Discard()
		return nil, err
	}
	return s, nil
}

// oldZip takes the zip of a private module from the mirror directory when it is not packed in the
// form of repack yet and still has the hashes that it was verified with.
func (f *fetcher) oldZip(ctx context.Context, m module.Version, s, have *staged) bool {
	if have == nil || have.packed || copyFile(s.temp.File, f.dir.Path(s.Path)) != nil || f.hashZip(ctx, m, s.temp.File, s) != nil {
		return false
	}
	return s.h1 == have.h1 && s.SHA256 == have.SHA256
}

// cachedZip takes the zip from the go command's module cache when it has the hash that the go
// command computed, and the checksum database does not have another.
func (f *fetcher) cachedZip(ctx context.Context, m module.Version, s *staged) bool {
	if f.modCache == "" || restart(s.temp.File) != nil || copyFile(s.temp.File, f.cachePath(s.Path)) != nil {
		return false
	}
	if f.hashZip(ctx, m, s.temp.File, s) != nil || !f.sameAsCached(s.Path, s.h1) {
		return false
	}
	if r, ok := f.record(ctx, m); ok && r.H1 != s.h1 {
		return false
	}
	f.reused.Add(1)
	return true
}

func (f *fetcher) download(ctx context.Context, m module.Version, rel string, to *os.File) error {
	if err := f.net.acquire(ctx); err != nil {
		return err
	}
	defer f.net.release()
	if err := restart(to); err != nil {
		return err
	}
	return f.source(m).Download(ctx, rel, to, modzip.MaxZipFile, f.count)
}

// restart empties a temporary file.
func restart(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.Seek(0, io.SeekStart)
	return err
}

// sameAsCached reports whether the go command computed this hash when it cached the zip.
func (f *fetcher) sameAsCached(rel, hash string) bool {
	data, err := os.ReadFile(strings.TrimSuffix(f.cachePath(rel), ".zip") + ".ziphash")
	return err == nil && string(bytes.TrimSpace(data)) == hash
}

func copyFile(to *os.File, from string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	_, err = io.Copy(to, src)
	return err
}

// haveZip returns the zip that is in the mirror directory with its hashes, or nil.
func (f *fetcher) haveZip(rel string) (*staged, error) {
	st, err := os.Stat(f.dir.Path(rel))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data, ok, err := f.dir.read(hashesFile(rel))
	if err != nil || !ok {
		return nil, err
	}
	s := &staged{File: File{Path: rel, Size: st.Size()}}
	hashes, rest, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(hashes)
	if len(fields) != 2 && len(fields) != 3 {
		return nil, nil // it is fetched again
	}
	b, err := hex.DecodeString(fields[1])
	if err != nil || len(b) != len(s.SHA256) || !proof.IsH1(fields[0]) {
		return nil, nil
	}
	s.h1, s.SHA256, s.packed = fields[0], [32]byte(b), len(fields) == 3 && fields[2] == packing
	if found, ok := strings.CutPrefix(rest, facts.Version+" "); ok {
		f := new(facts.Facts)
		if json.Unmarshal([]byte(found), f) == nil && f.Valid() {
			s.facts = f
		}
	}
	return s, nil
}

// writeHashes writes the hashes of a zip, and its facts, beside it.
func (f *fetcher) writeHashes(s *staged) error {
	text := fmt.Appendf(nil, "%s %x", s.h1, s.SHA256)
	if s.packed {
		text = append(text, " "+packing...)
	}
	text = append(text, '\n')
	if s.facts != nil {
		found, err := json.Marshal(s.facts)
		if err != nil {
			return err
		}
		text = fmt.Appendf(text, "%s %s\n", facts.Version, found)
	}
	return f.dir.write(hashesFile(s.Path), text)
}

// scan finds the facts of a zip of the mirror directory that an older modmirror fetched. It returns
// nil when the zip changed; the caller fetches it again.
func (f *fetcher) scan(ctx context.Context, m module.Version, have *staged) (*staged, error) {
	if err := f.open.acquire(ctx); err != nil {
		return nil, err
	}
	defer f.open.release()
	zip, err := os.Open(f.dir.Path(have.Path))
	if err != nil {
		return nil, err
	}
	defer zip.Close()
	again := &staged{File: File{Path: have.Path}}
	err = f.hashZip(ctx, m, zip, again)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil || again.h1 != have.h1 || again.SHA256 != have.SHA256 {
		return nil, nil
	}
	have.facts, have.scanned = again.facts, true
	return have, nil
}

// zipSize returns how many bytes the zip of a version has, or -1 when that is not known.
func (f *fetcher) zipSize(ctx context.Context, m module.Version) (int64, error) {
	if _, err := f.stagedMod(ctx, m); err != nil {
		return -1, err
	}
	if up, ok := f.source(m).(*upstream.Client); ok {
		return up.Size(ctx, versionFile(modpath.Zip, m.Path, m.Version))
	}
	return -1, nil
}

// hashesFile returns the GOPROXY path of the file with the hashes of a zip.
func hashesFile(zip string) string { return strings.TrimSuffix(zip, ".zip") + hashesExt }

// hashesExt ends the names of files with the hashes of a zip. A zip without them is fetched again,
// and hashes beside another zip would be wrong, so a zip gets its name first.
const hashesExt = ".hashes"

func isZip(rel string) bool { return strings.HasSuffix(rel, ".zip") }

// zipOfHashes is the reverse of hashesFile.
func zipOfHashes(rel string) string { return strings.TrimSuffix(rel, hashesExt) + ".zip" }

// hashZip checks the zip in a file by the rules of module zips (https://go.dev/ref/mod#zip-files)
// and enters its size, hashes and facts into s.
func (f *fetcher) hashZip(ctx context.Context, m module.Version, file *os.File, s *staged) error {
	scan, err := f.readZip(ctx, m, file, s)
	if err == nil && scan != nil {
		found := scan.Facts() // may wait, and others read zips meanwhile
		s.facts = &found
	}
	return err
}

// readZip hashes a zip. The caller gets the facts from the scanner, which is nil for a toolchain.
func (f *fetcher) readZip(
	ctx context.Context, m module.Version, file *os.File, s *staged,
) (scan *facts.Scanner, err error) {
	if err := f.zips.acquire(ctx); err != nil {
		return nil, err
	}
	defer f.zips.release()
	if s.Size, err = file.Seek(0, io.SeekEnd); err != nil {
		return nil, err
	}
	archive, err := h1.Open(ctx, file, s.Size) // comes first, because CheckZip reads a directory of any length
	if err != nil {
		return nil, badZip(ctx, m, err)
	}
	defer archive.Close()
	cf, err := modzip.CheckZip(m, file.Name())
	if err == nil {
		err = cf.Err()
	}
	if err != nil {
		return nil, badZip(ctx, m, err)
	}
	sum := sha256.New()
	if _, err = io.Copy(sum, io.NewSectionReader(file, 0, s.Size)); err != nil {
		return nil, err
	}
	sum.Sum(s.SHA256[:0])
	if m.Path != modpath.Toolchain {
		scan = facts.Look(archive, m)
	}
	z, err := archive.Hash(f.cpu, m)
	if err != nil {
		return nil, badZip(ctx, m, err)
	}
	s.h1 = z.H1
	if z.GoMod != nil {
		s.goModH1 = h1.GoMod(z.GoMod)
	}
	f.hashNanos.Add(int64(z.Busy))
	return scan, nil
}

// badZip returns the error about a zip that is not a module zip. It returns err itself after an
// error of the disk or an interruption.
func badZip(ctx context.Context, m module.Version, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%s: not a module zip: %w: %w", m, err, proof.ErrMismatch)
}

// packing names the form that repack gives zips. It changes when the bytes change.
const packing = "packed-1"

// packingLevel is the compression level of repack, the same as the go command's.
const packingLevel = 6

// repack packs the zip of a private module (one of GONOSUMDB, GONOPROXY or GOPRIVATE) in
// modmirror's own form. Go commands and proxies pack the same files differently, depending on their
// release: compress/flate of Go 1.27 writes other bytes than that of Go 1.26. The same sources must
// make the same bundle everywhere. The h1 does not change. Zips of public modules keep the form
// that their proxy has.
func (f *fetcher) repack(ctx context.Context, m module.Version, s *staged) (*staged, error) {
	defer s.temp.Discard()
	temp, err := f.dir.create(s.Path)
	if err != nil {
		return nil, err
	}
	out := &staged{File: File{Path: s.Path}, temp: temp, packed: true}
	if err = repack(ctx, temp.File, s.temp.File, s.Size); err == nil {
		err = f.hashZip(ctx, m, out.temp.File, out)
	}
	if err == nil && out.h1 != s.h1 {
		err = fmt.Errorf("%s: packing it again changed its hash from %s to %s: %w", m, s.h1, out.h1, proof.ErrMismatch)
	}
	if err != nil {
		temp.Discard()
		return nil, err
	}
	return out, nil
}

// repack writes the files of a checked zip to another zip: sorted by name, without times,
// compressed by one compressor. The compressor is a library and not the standard library's, so that
// it does not change with the Go release.
func repack(ctx context.Context, to *os.File, from io.ReaderAt, size int64) error {
	r, err := zip.NewReader(from, size)
	if err != nil {
		return err
	}
	files := slices.Clone(r.File)
	slices.SortFunc(files, func(a, b *zip.File) int { return cmp.Compare(a.Name, b.Name) })
	w := zip.NewWriter(to)
	var packer *flate.Writer // shared, because a compressor takes a megabyte and a zip may have 100,000 files
	w.RegisterCompressor(zip.Deflate, func(w io.Writer) (_ io.WriteCloser, err error) {
		if packer != nil {
			packer.Reset(w)
		} else if packer, err = flate.NewWriter(w, packingLevel); err != nil {
			return nil, err
		}
		return packer, nil
	})
	buf := make([]byte, 64<<10)
	for _, file := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		dst, err := w.CreateHeader(&zip.FileHeader{Name: file.Name, Method: zip.Deflate})
		if err != nil {
			return err
		}
		if err := copyWhole(dst, file, buf); err != nil {
			return fmt.Errorf("%s: %w", file.Name, err)
		}
	}
	return w.Close()
}

// copyWhole copies a file of a zip in steps of one length, so that the compressor's output does not
// depend on how the file was packed.
func copyWhole(dst io.Writer, file *zip.File, buf []byte) error {
	src, err := file.Open()
	if err != nil {
		return err
	}
	defer src.Close()
	for {
		n, err := io.ReadFull(src, buf)
		if _, werr := dst.Write(buf[:n]); werr != nil {
			return werr
		}
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return nil
		default:
			return err
		}
	}
}
