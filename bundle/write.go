package bundle

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/safefile"
)

// A Source is a file to be put into a bundle, from the file system or from memory.
type Source struct {
	Path   string   // in the GOPROXY tree
	Size   int64    // in bytes
	SHA256 [32]byte // compared when the file is written
	File   string   // path in the file system; "" for Data
	Data   []byte

	absent bool    // the content is in an earlier bundle of the line
	fresh  *Source // .info of the same version that this run fetched, when the line's is another
	of     string  // version whose .info this is, under another name
}

// DataSource returns the source of a file in memory.
func DataSource(path string, data []byte) Source {
	return Source{Path: path, Size: int64(len(data)), SHA256: sha256.Sum256(data), Data: data}
}

// FileSource returns the source of a file in the file system, which it hashes.
func FileSource(path, file string) (Source, error) {
	f, err := os.Open(file)
	if err != nil {
		return Source{}, err
	}
	defer f.Close()
	h := sha256.New()
	s := Source{Path: path, File: file}
	s.Size, err = io.Copy(h, f)
	h.Sum(s.SHA256[:0])
	return s, err
}

// A Version is a module version to be put into a bundle.
type Version struct {
	index.Version
	GoMod, Info Source
	Zip         *Source      // nil when only .mod and .info are carried
	Facts       []index.Fact // of the zip, when License is set
}

// Contents is what a bundle is made of. NewDraft adds lists, @latest answers, lookups and the
// README.
type Contents struct {
	Name     string
	Sequence int64
	Created  time.Time

	Versions     []Version // by path
	Missing      []index.Missing
	Queries      []index.Query
	Requirements []index.Requirement

	DB    string       // checksum database, "" for none
	Head  proof.Head   // under which all records were proven
	Heads []proof.Head // earlier ones that clients may remember, smallest first, which Head continues
	Tiles []Source

	Vulns      []Source // files of the vulnerability database
	Bootstraps []Source // modmirror and Go in one archive a platform, for hosts that have neither
	Reviews    []Source // documents about the bundle; a delta has none of earlier bundles

	// Base is the bundle that a delta follows, or its catalog; nil for a full bundle.
	Base *Bundle

	// Drop reports whether a version of the line leaves it, unless it is in Versions; nil for none.
	Drop func(path, version string) bool

	// Whole is the last bundle of the line that a full bundle begins again; nil for none.
	Whole *Bundle

	// DropUnused removes requirements and missing files of earlier projects from the line.
	DropUnused bool

	// Retracted returns why a version of the line is retracted, nil if it is not, and whether this
	// is known now. It may be nil.
	Retracted func(path, version string) (reason *string, known bool)

	// Dropped is set by NewDraft: the versions that left the line, as "path@version".
	Dropped []string
}

// Digest returns the SHA-256, in hex, over the contents but for Reviews. Of zips it covers the h1
// alone, and neither how they are compressed nor what their facts are.
func (c *Contents) Digest() (string, error) {
	type file struct {
		Path   string
		SHA256 [32]byte
	}
	files := func(list []Source) (out []file) {
		for _, s := range list {
			out = append(out, file{s.Path, s.SHA256})
		}
		return out
	}
	type version struct {
		index.Version
		GoMod, Info [32]byte
		Zip         bool
	}
	var versions []version
	for _, v := range c.Versions {
		x := version{v.Version, v.GoMod.SHA256, v.Info.SHA256, v.Zip != nil}
		x.ZipSize, x.License = nil, nil
		versions = append(versions, x)
	}
	var heads []string
	for _, h := range c.Heads {
		heads = append(heads, string(h.Note))
	}
	base := ""
	if c.Base != nil {
		base = c.Base.ID()
	}
	h := sha256.New()
	err := json.NewEncoder(h).Encode([]any{c.Name, c.Sequence, c.Created.UTC(), base, heads, versions, c.Missing, c.Queries, c.Requirements, c.DB, string(c.Head.Note), files(c.Tiles), files(c.Vulns), files(c.Bootstraps)})
	return hex.EncodeToString(h.Sum(nil)), err
}

// A Draft is a bundle that is complete but for its signature.
type Draft struct {
	Manifest Manifest

	index   string       // path of the index
	entries []Source     // the payload, in the order of the tar
	carried []index.File // files that earlier bundles of the line have
}

// NewDraft makes the index of a bundle, in the folder tmp. With c.Base it makes a delta, and adds
// the rest of the line to c. The caller closes the draft.
func NewDraft(ctx context.Context, c *Contents, tmp string) (*Draft, error) {
	d := &Draft{index: filepath.Join(tmp, indexName)}
	d.Manifest = Manifest{Name: c.Name, Sequence: c.Sequence, Created: c.Created.UTC().Truncate(time.Second)}
	if c.DB != "" {
		d.Manifest.DB, d.Manifest.Head = c.DB, c.Head.Tree
	}
	if c.Base != nil {
		if c.Name != c.Base.Manifest.Name || c.Sequence <= c.Base.Manifest.Sequence {
			return nil, fmt.Errorf("bundle %s of sequence %d cannot follow %s of sequence %d", c.Name, c.Sequence, c.Base.Manifest.Name, c.Base.Manifest.Sequence)
		}
		if err := c.merge(ctx); err != nil {
			return nil, fmt.Errorf("taking over the line of %s: %w", c.Base.path, err)
		}
		d.Manifest.Base = c.Base.ID()
	} else if c.Whole != nil {
		if err := c.mergeWhole(ctx); err != nil {
			return nil, fmt.Errorf("taking over the line of %s: %w", c.Whole.path, err)
		}
	}
	if err := d.make(ctx, c); err != nil {
		return nil, err
	}
	return d, nil
}

// AddReviews sets c.Reviews, of the contents that NewDraft made the draft of, and makes the draft
// anew. After an error the draft is good for nothing but Close.
func (d *Draft) AddReviews(ctx context.Context, c *Contents, documents []Source) error {
	c.Reviews = documents
	if err := d.Close(); err != nil {
		return err
	}
	return d.make(ctx, c)
}

// make makes the index of the draft, and what of its manifest depends on that.
func (d *Draft) make(ctx context.Context, c *Contents) error {
	d.entries, d.carried, d.Manifest.Counts = nil, nil, index.Counts{}
	end, err := d.writeIndex(ctx, c)
	if err != nil {
		return err
	}
	// An index that would be refused is refused here.
	x, err := index.Open(d.index)
	if err != nil {
		return err
	}
	if err := errors.Join(x.Check(ctx, d.Manifest.Head.N), x.Close()); err != nil {
		return fmt.Errorf("the index that was made is one that would be refused: %w", err)
	}
	src, err := FileSource(indexName, d.index)
	if err != nil {
		return err
	}
	d.Manifest.Index, d.Manifest.IndexSize = src.SHA256, src.Size
	d.Manifest.Size = payloadAt(src.Size) + end + endSize
	_, err = ParseManifest(d.Manifest.Text())
	return err
}

//go:embed README.txt
var readme string

// writeIndex writes the index and returns the size of the payload in bytes.
func (d *Draft) writeIndex(ctx context.Context, c *Contents) (end int64, err error) {
	entries, err := c.entries(ctx)
	if err != nil {
		return 0, err
	}
	w, err := index.Create(d.index)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			w.Discard()
		}
	}()
	numbers := make(map[int64]int64) // numbers of the line's bundles, by those in the base
	if c.Base != nil {
		for _, x := range c.Base.line {
			old := x.ID
			if x.Digest == "" {
				x.Digest, x.Payload = c.Base.ID(), c.Base.payload
			}
			numbers[old] = w.Bundle(x)
		}
	}
	own := w.Bundle(index.Bundle{Name: c.Name, Sequence: c.Sequence})
	if err := d.place(ctx, c.Base, entries, numbers); err != nil {
		return 0, err
	}
	if c.DB != "" {
		for _, h := range append(slices.Clone(c.Heads), c.Head) {
			w.Head(index.Head{Size: h.N, Hash: h.Hash.String(), Note: string(h.Note)})
		}
	}
	counts := &d.Manifest.Counts
	var mod int64
	for i, v := range c.Versions {
		if i == 0 || v.Path != c.Versions[i-1].Path {
			mod = w.Module(v.Path, v.Private, v.Deprecated, v.Latest)
			counts.Modules++
		}
		number := w.Version(mod, v.Version)
		for _, f := range v.Facts {
			w.Fact(number, f)
		}
		if v.Zip != nil {
			counts.Versions++
		} else {
			counts.ModOnly++
		}
		if v.Private {
			counts.Private++
		}
	}
	offsets := make(map[string]int64, len(d.entries))
	for _, s := range d.entries {
		offsets[s.Path] = end + headerSize(s.Path)
		end += entrySize(s.Path, s.Size)
	}
	sorted := slices.Clone(d.carried)
	for _, s := range d.entries {
		sorted = append(sorted, index.File{Path: s.Path, Bundle: own, Offset: offsets[s.Path], Size: s.Size, SHA256: s.SHA256})
	}
	slices.SortFunc(sorted, func(a, b index.File) int { return cmp.Compare(a.Path, b.Path) })
	for _, f := range sorted {
		w.File(f)
	}
	counts.Files = int64(len(sorted))
	for _, m := range c.Missing {
		w.Missing(m)
	}
	counts.Missing = int64(len(c.Missing))
	for _, q := range c.Queries {
		w.Query(q)
	}
	for _, r := range c.Requirements {
		w.Requirement(r)
	}
	return end, w.Close()
}

// A ChangedError reports a file that changed after it was verified.
type ChangedError struct{ File string }

// Error names the file.
func (e *ChangedError) Error() string {
	return e.File + ": the file changed since it was verified"
}

// Write writes the bundle, signed, to w. A file whose SHA-256 is not that of its source is a
// *ChangedError.
func (d *Draft) Write(ctx context.Context, w io.Writer, key *trust.Key) error {
	manifest, err := d.Manifest.Sign(key.Signer)
	if err != nil {
		return err
	}
	src, err := FileSource(indexName, d.index)
	if err != nil {
		return err
	}
	list := append([]Source{DataSource(manifestName, manifest), src}, d.entries...)
	if f, ok := w.(*safefile.File); ok {
		return writeParts(ctx, f, list)
	}
	buf := make([]byte, partSize)
	for _, s := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeEntry(w, s, buf); err != nil {
			return err
		}
	}
	_, err = w.Write(make([]byte, endSize))
	return err
}

// partSize is how many bytes of files that are neighbors are read, hashed and written at a time.
const partSize = 256 << 10

// writeParts writes a bundle into a file on several cores. Each reads, hashes and writes files of
// its own: handing the bytes from one core to another costs as much as hashing them.
func writeParts(ctx context.Context, f *safefile.File, list []Source) error {
	var mu sync.Mutex
	var at int64
	next := func() (from int64, part []Source) {
		mu.Lock()
		defer mu.Unlock()
		from = at
		n := 0
		for n < len(list) && at-from < partSize {
			at += entrySize(list[n].Path, list[n].Size)
			n++
		}
		part, list = list[:n], list[n:]
		return from, part
	}
	eg, ctx := errgroup.WithContext(ctx)
	for range min(runtime.GOMAXPROCS(0), maxWorkers) {
		eg.Go(func() error {
			buf, out := make([]byte, partSize), bufio.NewWriterSize(nil, partSize)
			for from, part := next(); len(part) > 0; from, part = next() {
				out.Reset(io.NewOffsetWriter(f, from))
				for _, s := range part {
					if err := ctx.Err(); err != nil {
						return err
					}
					if err := writeEntry(out, s, buf); err != nil {
						return err
					}
				}
				if err := out.Flush(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	_, err := f.WriteAt(make([]byte, endSize), at)
	return err
}

// writeEntry writes the header, content and padding of a file.
func writeEntry(w io.Writer, s Source, buf []byte) error {
	if _, err := w.Write(Header(s.Path, s.Size)); err != nil {
		return err
	}
	var r io.Reader = bytes.NewReader(s.Data)
	if s.File != "" {
		f, err := os.Open(s.File)
		if err != nil {
			return err
		}
		defer f.Close()
		r = f
	}
	h := sha256.New()
	// The file may have grown: no more than the header says is written.
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, io.TeeReader(io.LimitReader(r, s.Size), h), buf)
	if err != nil {
		return err
	}
	if n != s.Size || [32]byte(h.Sum(nil)) != s.SHA256 {
		return &ChangedError{cmp.Or(s.File, s.Path)}
	}
	_, err = w.Write(make([]byte, padding(s.Size)))
	return err
}

// Resign replaces the manifest of the bundle in f by m, signed with key alone.
func Resign(f io.WriterAt, m Manifest, key *trust.Key) error {
	data, err := m.Sign(key.Signer)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, manifestAt)
	return err
}

// Close removes the draft's index.
func (d *Draft) Close() error {
	if err := os.Remove(d.index); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
