// Package selftar writes and checks the bootstrap tar: Go and modmirror for a host that has
// neither.
//
// The tar holds go/…, the files of a Go toolchain's module zip as the go command lays them out, in
// the order of the zip, and then modmirror or modmirror.exe. The layout follows
// cmd/go/internal/toolchain/select.go Exec: files in bin and pkg/tool are executable, and the zip
// calls go.mod files _go.mod. The first part is a function of the zip, for which the checksum
// database vouches. So everyone with the zip can check that the tar has that Go.
package selftar

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/module"
)

// modTime is the time of all files, so that it does not change the bytes.
var modTime = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Write writes the tar to w. z is the zip of toolchain tool, and exe is modmirror for its platform.
func Write(ctx context.Context, w io.Writer, z *zip.Reader, tool module.Version, exe *io.SectionReader) error {
	t := tar.NewWriter(w)
	if err := writeGo(ctx, t, z, tool); err != nil {
		return err
	}
	if err := add(t, exeName(tool), true, exe.Size(), exe); err != nil {
		return err
	}
	return t.Close()
}

func exeName(tool module.Version) string {
	if strings.Contains(tool.Version, ".windows-") {
		return "modmirror.exe"
	}
	return "modmirror"
}

func add(t *tar.Writer, name string, executable bool, size int64, from io.Reader) error {
	h := &tar.Header{Name: name, Mode: 0o644, Size: size, ModTime: modTime}
	if executable {
		h.Mode = 0o755
	}
	if err := t.WriteHeader(h); err != nil {
		return err
	}
	_, err := io.Copy(t, from)
	return err
}

func writeGo(ctx context.Context, t *tar.Writer, z *zip.Reader, tool module.Version) error {
	prefix := tool.String() + "/"
	for _, e := range z.File {
		name, ok := strings.CutPrefix(e.Name, prefix)
		if !ok || !filepath.IsLocal(filepath.FromSlash(name)) || strings.HasSuffix(name, "/") {
			continue
		}
		dir, base := path.Split(name)
		runner, _ := path.Match("go_?*_?*_exec", base)
		executable := dir == "bin/" || strings.HasPrefix(dir, "pkg/tool/") || strings.HasPrefix(dir, "lib/") && runner
		if base == "_go.mod" {
			name = dir + "go.mod"
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		from, err := e.Open()
		if err != nil {
			return err
		}
		err = add(t, "go/"+name, executable, int64(e.UncompressedSize64), from)
		from.Close()
		if err != nil {
			return err
		}
	}
	return t.Flush()
}

var errOther = errors.New("not the Go of this toolchain")

// Check checks that Write would write this tar for z and some modmirror.
func Check(ctx context.Context, r io.Reader, z *zip.Reader, tool module.Version) error {
	if err := writeGo(ctx, tar.NewWriter(&comparer{r: r}), z, tool); err != nil {
		return err
	}
	t := tar.NewReader(r)
	h, err := t.Next()
	if err != nil {
		return fmt.Errorf("behind its Go: %w", err)
	}
	if want := exeName(tool); h.Name != want || h.Typeflag != tar.TypeReg || h.Mode != 0o755 || h.Uid != 0 {
		return fmt.Errorf("behind its Go is %.100q, not %s", h.Name, want)
	}
	if h, err := t.Next(); err != io.EOF {
		if err == nil {
			err = fmt.Errorf("%.100q", h.Name)
		}
		return fmt.Errorf("behind modmirror is something: %w", err)
	}
	rest, err := io.ReadAll(io.LimitReader(r, 1)) // the reader stops at the end blocks, so check what follows
	if err == nil && len(rest) > 0 {
		err = errors.New("something is behind its end")
	}
	return err
}

// A comparer is a writer that compares what is written with r.
type comparer struct {
	r   io.Reader
	buf []byte
}

func (c *comparer) Write(p []byte) (int, error) {
	if cap(c.buf) < len(p) {
		c.buf = make([]byte, len(p))
	}
	got := c.buf[:len(p)]
	if _, err := io.ReadFull(c.r, got); err != nil {
		return 0, errors.Join(errOther, err)
	}
	if !bytes.Equal(got, p) {
		return 0, errOther
	}
	return len(p), nil
}
