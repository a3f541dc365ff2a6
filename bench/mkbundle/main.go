// Command mkbundle makes a bundle of synthetic modules, for measurements: many small ones, or few
// large ones.
//
//	mkbundle -n 50 -zip 400000000 -o big.tar -key KEYFILE
//
// No checksum database has the modules. Their zips are not compressed and have random bytes, the
// same in each run.
package main

import (
	"archive/zip"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/mod/module"
	"golang.org/x/sync/errgroup"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/h1"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/safefile"
)

var (
	n      = flag.Int("n", 1000, "module versions")
	size   = flag.Int64("zip", 2000, "bytes in each zip")
	output = flag.String("o", "bench.tar", "bundle to write")
	seq    = flag.Int64("sequence", 1, "sequence of the bundle")
	name   = flag.String("name", "bench", "name of the line")
	key    = flag.String("key", "", "file of the signing key, made when it is not there")
)

func main() {
	log.SetFlags(0)
	flag.Parse()
	if err := run(context.Background()); err != nil {
		log.Fatal("mkbundle: ", err)
	}
}

// run makes the bundle and prints the public key that it is signed with.
func run(ctx context.Context) error {
	tmp, err := os.MkdirTemp(filepath.Dir(*output), "mkbundle-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	k, err := trust.ReadKey(*key, nil)
	if os.IsNotExist(err) {
		k, err = trust.NewKey(*key, "bench", nil)
	}
	if err != nil {
		return err
	}
	c := &bundle.Contents{
		Name: *name, Sequence: *seq, Created: time.Unix(1700000000, 0), Versions: make([]bundle.Version, *n),
	}
	eg, egctx := errgroup.WithContext(ctx)
	eg.SetLimit(runtime.GOMAXPROCS(0))
	for i := range *n {
		eg.Go(func() (err error) {
			// Ten versions a module.
			m := module.Version{Path: fmt.Sprintf("bench.example/m%08d", i/10), Version: fmt.Sprintf("v1.0.%d", i%10)}
			c.Versions[i], err = makeVersion(egctx, tmp, m, i)
			return err
		})
	}
	if err := eg.Wait(); err != nil {
		return err
	}
	d, err := bundle.NewDraft(ctx, c, tmp)
	if err != nil {
		return err
	}
	out, err := safefile.Create(*output, 0o666)
	if err != nil {
		return err
	}
	defer out.Discard()
	if err := d.Write(ctx, out, k); err != nil {
		return err
	}
	fmt.Println(k.Verifier)
	return out.Commit()
}

// makeVersion makes a version of a module. It writes a large zip to a file in the folder tmp.
func makeVersion(ctx context.Context, tmp string, m module.Version, seed int) (v bundle.Version, err error) {
	path := func(kind modpath.Kind) string {
		return modpath.Request{Kind: kind, Path: m.Path, Version: m.Version}.String()
	}
	mod := []byte("module " + m.Path + "\n")
	v.GoMod = bundle.DataSource(path(modpath.Mod), mod)
	const created = "2020-01-02T03:04:05Z"
	v.Info = bundle.DataSource(path(modpath.Info), fmt.Appendf(nil, `{"Version":%q,"Time":%q}`, m.Version, created))
	v.Version = index.Version{
		Path: m.Path, Version: m.Version, Time: created, GoModH1: h1.GoMod(mod), ModSize: int64(len(mod)), Private: true,
	}
	var buf bytes.Buffer
	var zipped io.ReaderAt
	z := bundle.Source{Path: path(modpath.Zip)}
	if *size > 1<<20 {
		f, err := os.Create(filepath.Join(tmp, fmt.Sprint(seed)))
		if err != nil {
			return v, err
		}
		defer f.Close()
		z.File, zipped = f.Name(), f
		if z.Size, z.SHA256, err = writeZip(f, m, mod, seed); err != nil {
			return v, err
		}
	} else {
		if z.Size, z.SHA256, err = writeZip(&buf, m, mod, seed); err != nil {
			return v, err
		}
		z.Data = buf.Bytes()
		zipped = bytes.NewReader(z.Data)
	}
	sum, err := h1.Zip(ctx, make(h1.Limiter, 1), m, zipped, z.Size)
	v.Zip, v.ZipSize, v.H1 = &z, &z.Size, sum.H1
	return v, err
}

// writeZip writes the zip of a module: its go.mod and a file of random bytes.
func writeZip(to io.Writer, m module.Version, mod []byte, seed int) (n int64, sum [32]byte, err error) {
	h := sha256.New()
	count := &counter{w: io.MultiWriter(to, h)}
	w := bufio.NewWriterSize(count, 1<<20)
	z := zip.NewWriter(w)
	add := func(name string, r io.Reader) error {
		f, err := z.CreateHeader(&zip.FileHeader{Name: m.String() + "/" + name, Method: zip.Store})
		if err == nil {
			_, err = io.Copy(f, r)
		}
		return err
	}
	if err := add("go.mod", bytes.NewReader(mod)); err != nil {
		return 0, sum, err
	}
	noise := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	if err := add("noise.bin", io.LimitReader(noise, max(*size-500, 0))); err != nil {
		return 0, sum, err
	}
	if err := z.Close(); err != nil {
		return 0, sum, err
	}
	if err := w.Flush(); err != nil {
		return 0, sum, err
	}
	h.Sum(sum[:0])
	return count.n, sum, nil
}

// A counter counts the bytes that are written through it.
type counter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
