package assemble

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"filippo.io/age"
	"github.com/dustin/go-humanize/english"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/media"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/hint"
	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/mirror"
)

// AgeExt ends the name of an encrypted bundle.
const AgeExt = ".age"

// chooseSequence sets the sequence number of the bundle.
func (r *Run) chooseSequence() (err error) {
	r.sequence = r.o.Sequence
	if r.sequence < 0 {
		return hint.Usagef("--sequence must be positive")
	}
	if r.sequence == 0 {
		if r.sequence, err = r.bases.sequence(r.created.Unix()); err != nil {
			return err
		}
	}
	if own := r.bases.own; own != nil && r.sequence <= own.Manifest.Sequence {
		return hint.Usagef("--sequence %d: that of the base is %d", r.sequence, own.Manifest.Sequence)
	}
	return nil
}

// chooseNames sets the name of the line and that of the file. Each may follow from the other, from
// the base or from the sources.
func (r *Run) chooseNames() (err error) {
	ext := r.o.Package.ext()
	r.name, r.output, r.named = r.o.Name, r.o.Output, r.o.Name != ""
	if own := r.bases.own; own != nil {
		r.name = own.Manifest.Name
		if r.output == "" {
			r.output = fmt.Sprintf("%s-%d.tar", r.name, r.sequence) + ext
		}
		return nil
	}
	src := r.o.Sources
	if len(src.List)+len(src.Bootstraps) == 0 && src.VulnDB == "" {
		return errors.New("nothing to do: the sources name no module, and head lines need a --base")
	}
	if r.name == "" {
		r.name = nameOfFile(r.output, ext)
	}
	if r.name == "" {
		if r.name, err = nameOfSources(src); err != nil {
			return err
		}
	}
	if err := bundle.CheckName(r.name); err != nil {
		return hint.Usagef("%v (set one with --name)", err)
	}
	if r.output == "" {
		r.output = r.name + ".tar" + ext
	}
	return nil
}

// nameOfFile returns the name of the line that the name of a bundle's file suggests, "" for none.
func nameOfFile(file, ext string) string {
	if file == "" || file == "-" {
		return ""
	}
	return strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ext), ".tar")
}

// nameOfSources returns the name of a line for sources: the last element of the first module's
// path, or the folder of the first workspace.
func nameOfSources(src *mirror.Job) (string, error) {
	if len(src.List) == 0 {
		switch {
		case len(src.Bootstraps) > 0:
			return "self", nil
		case src.VulnDB != "":
			return "vulndb", nil
		}
		return "bundle", nil
	}
	switch first := src.List[0]; {
	case first.Mod != nil:
		prefix, _, _ := module.SplitPathVersion(first.Mod.Module.Mod.Path)
		return path.Base(prefix), nil
	case first.Work != nil:
		dir, err := filepath.Abs(first.Dir)
		return filepath.Base(dir), err
	}
	return "bundle", nil
}

// checkOutput checks that bundle and lock can be written without harm to a file that the run reads
// or that modmirror did not make.
func (r *Run) checkOutput() error {
	g, src := r.o.Guard, r.o.Sources
	g.Reads(src.Files...)
	if !strings.Contains(src.VulnDB, "://") {
		g.Reads(src.VulnDB)
	}
	for _, s := range src.Bootstraps {
		g.Reads(s.File)
	}
	for _, b := range r.o.Bases {
		g.Reads(append(media.Pieces(b), b)...)
	}
	if r.o.Lock != "" {
		if same, err := samePath(r.o.Lock, r.output); err != nil {
			return err
		} else if same {
			return hint.Usagef("%s cannot be the lock and the bundle", r.o.Lock)
		}
		if r.lock == nil { // else it was read, and is not written
			if err := g.Check(r.o.Lock, nil); err != nil {
				return err
			}
		}
		g.Reads(r.o.Lock)
	}
	switch {
	case r.o.Package.Piece > 0:
		return CheckPieces(r.output)
	case len(r.o.Package.Recipients) > 0: // nobody can tell of which line an encrypted bundle is
		if err := g.Check(r.output, nil); err != nil {
			return err
		}
		return CheckNoSignatures(r.output)
	}
	return g.CheckBundle(r.output, r.name, r.o.Keys)
}

// samePath reports whether two names are of the same file, which need not exist.
func samePath(a, b string) (bool, error) {
	x, err1 := filepath.Abs(a)
	y, err2 := filepath.Abs(b)
	return x == y, errors.Join(err1, err2)
}

// A Guard decides whether a command may write a file. A command replaces what it made itself, never
// what it reads, and anything else only with Overwrite. docs/operations.md has the table.
type Guard struct {
	Overwrite bool // replace plain files that modmirror did not make

	sources []string // that the command reads, and never replaces; "" and "-" are none
}

// Reads adds files, and folders with all that is in them, that the command reads or will have
// written before.
func (g *Guard) Reads(files ...string) { g.sources = append(g.sources, files...) }

// isSource reports whether name, which need not exist, is one of the sources or in one.
func (g *Guard) isSource(name string) (bool, error) {
	abs, err := filepath.Abs(name)
	if err != nil {
		return false, err
	}
	st, _ := os.Stat(name)
	for _, s := range g.sources {
		if s == "" || s == "-" {
			continue
		}
		src, err := filepath.Abs(s)
		if err != nil {
			return false, err
		}
		there, _ := os.Stat(s)
		switch {
		case src == abs, st != nil && there != nil && os.SameFile(st, there):
			return true, nil
		case st != nil && there != nil && there.IsDir() && isBelow(abs, there):
			return true, nil
		}
	}
	return false, nil
}

// isBelow reports whether an absolute path is below a folder.
func isBelow(abs string, folder os.FileInfo) bool {
	for dir := filepath.Dir(abs); dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		if st, err := os.Stat(dir); err == nil && os.SameFile(st, folder) {
			return true
		}
	}
	return false
}

// Check returns a *hint.UsageError unless the command may write name. It may when name does not
// exist, or is a regular file that is no source and for which made returns nil: made returns an
// error that says why the command did not make the file. It may be nil when the command cannot
// tell. Check leaves nothing behind.
func (g *Guard) Check(name string, made func(name string) error) error {
	if name == "-" {
		return nil
	}
	if is, err := g.isSource(name); err != nil {
		return err
	} else if is {
		return hint.Usagef("this command reads %s, so it cannot replace it: name another file", name)
	}
	st, err := os.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return CheckFolder(name)
	case err != nil:
		return fmt.Errorf("looking at %s: %w", name, err)
	case st.IsDir():
		return hint.Usagef("%s is a folder: name a file in it", name)
	case st.Mode()&fs.ModeSymlink != 0:
		to, _ := os.Readlink(name)
		return hint.Usagef("%s is a link to %s: name the file itself", name, to)
	case !st.Mode().IsRegular():
		return hint.Usagef("%s is not a regular file", name)
	}
	if !g.Overwrite {
		err := errors.New("it is a file that modmirror did not make")
		if made != nil {
			err = made(name)
		}
		if err != nil {
			return hint.Add(hint.Usagef("%s is there already and stays as it is: %v", name, err),
				"name another file; or --overwrite replaces it")
		}
	}
	return CheckFolder(name)
}

// CheckBundle checks that a bundle of a line may be written to name, which may be a bundle of that
// line, signed by one of keys.
func (g *Guard) CheckBundle(name, line string, keys func() ([]string, error)) error {
	if name == "-" {
		return nil
	}
	if err := g.Check(name, func(name string) error { return CheckLine(name, line, keys) }); err != nil {
		return err
	}
	return CheckNoSignatures(name)
}

// CheckLine returns an error unless a file is a bundle of a line, signed by one of keys, which are
// as in trust.Key.Verifier.
func CheckLine(name, line string, keys func() ([]string, error)) error {
	trusted, err := keys()
	if err != nil {
		return err
	}
	found, err := bundle.LineOf(name, trust.NewKeyring(trusted...))
	switch {
	case err != nil:
		return fmt.Errorf("it is not a bundle of the line %s: %w", line, err)
	case found != line:
		return fmt.Errorf("it is a bundle of the line %s, not of %s", found, line)
	}
	return nil
}

// CheckFolder checks, before hours of work, that a file can be made beside name.
func CheckFolder(name string) error {
	dir := filepath.Dir(name)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return hint.Add(hint.Usagef("output folder %s does not exist", dir), "mkdir -p %s", dir)
	}
	f, err := safefile.Create(name, 0o666)
	if err != nil {
		return fmt.Errorf("cannot write to the folder of %s: %w", name, errors.Unwrap(err))
	}
	f.Discard()
	return nil
}

// CheckNoSignatures checks that no file has the name of the signatures of a new bundle.
func CheckNoSignatures(name string) error {
	if _, err := os.Lstat(name + ".sig"); err == nil {
		return hint.Usagef("%s.sig exists, with signatures of an older bundle or of something else: remove it first", name)
	}
	return nil
}

// CheckPieces checks that a bundle can be written in pieces. It accepts no earlier pieces of that
// name, since those could be mixed up with the new ones.
func CheckPieces(base string) error {
	if err := media.CheckNoPieces(base); err != nil {
		return hint.Add(hint.Usagef("%v", err), "remove the old pieces and their list, or name others with -o")
	}
	if err := CheckNoSignatures(base); err != nil {
		return err
	}
	return CheckFolder(base)
}

// A Packaging says how the bytes of a bundle are written. The zero value writes them as they are.
type Packaging struct {
	Piece      int64           // bytes of a piece; 0 for one file
	Recipients []age.Recipient // to whom the whole is encrypted; none for no encryption
}

// Plain reports whether the bytes are written as they are, into one file.
func (p Packaging) Plain() bool { return p.Piece == 0 && len(p.Recipients) == 0 }

// ext returns what the name of the file ends in, behind .tar.
func (p Packaging) ext() string {
	if len(p.Recipients) > 0 {
		return AgeExt
	}
	return ""
}

// A Sink takes the bytes of a bundle. The caller calls Commit after the last one, and Discard in
// any case.
type Sink struct {
	io.Writer
	Name    string                 // for messages
	Commit  func() (string, error) // makes what was written visible, and returns its name for people
	Discard func()                 // removes what was written, unless it was committed
}

// Open begins to write a file, - for stdout.
func (p Packaging) Open(name string, stdout io.Writer) (*Sink, error) {
	s, err := p.open(name, stdout)
	if err != nil || len(p.Recipients) == 0 {
		return s, err
	}
	w, err := age.Encrypt(s.Writer, p.Recipients...)
	if err != nil {
		s.Discard()
		return nil, err
	}
	s.Writer = w
	commit := s.Commit
	s.Commit = func() (string, error) {
		if err := w.Close(); err != nil {
			return "", err
		}
		return commit()
	}
	return s, nil
}

// open is Open without encryption.
func (p Packaging) open(name string, stdout io.Writer) (*Sink, error) {
	switch {
	case name == "-" && p.Piece > 0:
		return nil, hint.Usagef("--split writes files: name them with -o")
	case name == "-":
		return &Sink{stdout, "stdout", func() (string, error) { return "stdout", nil }, func() {}}, nil
	case p.Piece > 0:
		v, err := media.NewVolumes(name, p.Piece)
		if err != nil {
			return nil, err
		}
		return &Sink{v, name, func() (string, error) {
			where := fmt.Sprintf("%s.001 and so on, %s, and their list %[1]s.sha256", name, count(v.Pieces(), "piece"))
			return where, v.Commit()
		}, v.Discard}, nil
	}
	f, err := safefile.Create(name, 0o666)
	if err != nil {
		return nil, err
	}
	return &Sink{f, name, func() (string, error) { return name, f.Commit() }, f.Discard}, nil
}

// Copy copies r to w until its end or until ctx is done. It calls add with the number of bytes of
// each step.
func Copy(ctx context.Context, w io.Writer, r io.Reader, add func(n int64)) error {
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buf)
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		add(int64(n))
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// count returns a number with its noun: 1 file, 2 files.
func count(n int, noun string) string {
	return fmt.Sprintf("%d %s", n, english.PluralWord(n, noun, ""))
}
