package vectors

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// Module and Version are the module version that the zips of vectors are of.
const (
	Module  = "corp.example/vector"
	Version = "v1.0.0"
)

// A Zip is what an upstream has of a module version.
type Zip struct{ Zip, Mod, Info []byte }

// MakeZip makes the zip of a recipe. Its lines, one after the other; names are below
// MODULE@VERSION/ unless they begin with a slash, which is cut off:
//
//	file NAME [TEXT]         TEXT is quoted, or zeros N
//	many N [NAME]            files NAME0, NAME1, …, which are empty
//	mode NAME MODE           the Unix mode of a file, octal, from here on
//	size NAME N              the directory says that it has N bytes
//	local NAME OTHER         its local header has another name
//	mod TEXT, info TEXT      what is beside the zip; else the go.mod in it, or one that is made up
func MakeZip(recipe []string) (*Zip, error) {
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	modes, sizes := make(map[string]fs.FileMode), make(map[string]uint64)
	locals := make(map[string]string)
	for _, line := range recipe { // what is said about a file comes before it is written
		f := strings.Fields(line)
		switch {
		case len(f) == 3 && f[0] == "mode":
			n, err := strconv.ParseUint(f[2], 8, 32)
			if err != nil {
				return nil, err
			}
			modes[f[1]] = fs.FileMode(n & 0o777)
			if n&0o170000 == 0o120000 {
				modes[f[1]] |= fs.ModeSymlink
			}
		case len(f) == 3 && f[0] == "size":
			n, err := strconv.ParseUint(f[2], 10, 64)
			if err != nil {
				return nil, err
			}
			sizes[f[1]] = n
		case len(f) == 3 && f[0] == "local":
			locals[f[1]] = f[2]
		}
	}
	full := func(name string) string {
		if cut, ok := strings.CutPrefix(name, "/"); ok {
			return cut
		}
		return Module + "@" + Version + "/" + name
	}
	z := &Zip{Mod: []byte("module " + Module + "\n"), Info: []byte(`{"Version":"` + Version + `","Time":"2020-01-02T03:04:05Z"}`)}
	put := func(name, text string) error {
		h := &zip.FileHeader{Name: full(name), Method: zip.Deflate}
		if mode, ok := modes[name]; ok {
			h.SetMode(mode)
		}
		var content io.Reader = strings.NewReader(text)
		if n, ok := strings.CutPrefix(text, "zeros "); ok {
			size, err := strconv.ParseInt(n, 10, 64)
			if err != nil {
				return err
			}
			content = io.LimitReader(zeros{}, size)
		}
		if size, lies := sizes[name]; lies { // stored, so that the sizes can say what they like
			data := []byte(text)
			h.Method, h.CRC32, h.CompressedSize64, h.UncompressedSize64 = zip.Store, crc32.ChecksumIEEE(data), uint64(len(data)), size
			to, err := w.CreateRaw(h)
			if err == nil {
				_, err = to.Write(data)
			}
			return err
		}
		to, err := w.CreateHeader(h)
		if err == nil {
			_, err = io.Copy(to, content)
		}
		if name == "go.mod" && err == nil {
			z.Mod = []byte(text)
		}
		return err
	}
	for _, line := range recipe {
		verb, rest, _ := strings.Cut(line, " ")
		name, text, _ := strings.Cut(rest, " ")
		if verb == "file" && strings.HasPrefix(name, `"`) {
			var err error
			if name, err = strconv.Unquote(name); err != nil {
				return nil, err
			}
		}
		if verb == "file" && strings.HasPrefix(text, `"`) {
			var err error
			if text, err = strconv.Unquote(text); err != nil {
				return nil, err
			}
		}
		var err error
		switch verb {
		case "", "mode", "size", "local":
		case "file":
			err = put(name, text)
		case "many":
			var n int
			if n, err = strconv.Atoi(name); err == nil {
				for i := range n {
					if err = put(text+strconv.Itoa(i), ""); err != nil {
						break
					}
				}
			}
		case "mod":
			var s string
			s, err = strconv.Unquote(rest)
			z.Mod = []byte(s)
		case "info":
			var s string
			s, err = strconv.Unquote(rest)
			z.Info = []byte(s)
		default:
			err = fmt.Errorf("unknown line")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	z.Zip = out.Bytes()
	for name, other := range locals {
		if err := relabel(z.Zip, full(name), full(other)); err != nil {
			return nil, err
		}
	}
	return z, nil
}

// relabel changes a name in its local header, and not in the directory.
func relabel(data []byte, name, other string) error {
	at := bytes.Index(data, []byte(name))
	if len(name) != len(other) || at < 30 || binary.LittleEndian.Uint32(data[at-30:]) != 0x04034b50 {
		return fmt.Errorf("%s and %s: want two names of one length, the first of which is there", name, other)
	}
	copy(data[at:], other)
	return nil
}

// zeros reads zero bytes.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
