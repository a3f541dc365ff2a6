package review

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/modmirror/modmirror/index"
)

// maxDiff is the largest file in bytes of which DiffCode prints lines. Larger ones are generated.
const maxDiff = 1 << 20

// A CodeDiff counts the files of two versions that differ.
type CodeDiff struct {
	Added   int `json:"added"`
	Removed int `json:"removed"`
	Changed int `json:"changed"`
	Moved   int `json:"moved"`
}

// A FileDiff is how a file of two versions differs, as index.Visible has it.
type FileDiff struct {
	Name string // in the new version, or in the old one if the file is gone
	// Text has unified lines for a text, and one line that says how other files differ: those that
	// are large, or that have another name alone.
	Text string
}

// DiffCode calls each with how the files of two versions differ, by name. It ends with the first
// error of each.
func DiffCode(ctx context.Context, old, now *Sources, each func(FileDiff) error) (CodeDiff, error) {
	d := &codeDiff{ctx: ctx, old: old, now: now}
	if err := d.findMoved(); err != nil {
		return d.CodeDiff, err
	}
	names := slices.Collect(maps.Keys(old.files))
	for name := range now.files {
		if old.files[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		text, err := d.file(name)
		if err == nil && text != "" {
			err = each(FileDiff{index.Visible(name), text})
		}
		if err != nil {
			return d.CodeDiff, err
		}
	}
	return d.CodeDiff, nil
}

type codeDiff struct {
	CodeDiff
	ctx      context.Context
	old, now *Sources
	from     map[string]string // new names of moved files, and their old ones
	gone     map[string]bool   // old names of moved files
}

// findMoved finds files that are gone under one name and are there under another.
func (d *codeDiff) findMoved() error {
	d.from, d.gone = make(map[string]string), make(map[string]bool)
	removed := make(map[[sha256.Size]byte][]string)
	sizes := make(map[uint64]bool) // of removed files
	for _, name := range slices.Sorted(maps.Keys(d.old.files)) {
		if d.now.files[name] != nil {
			continue
		}
		if d.ctx.Err() != nil {
			return context.Cause(d.ctx)
		}
		sum, err := d.old.sum(name)
		if err != nil {
			return err
		}
		removed[sum] = append(removed[sum], name)
		sizes[d.old.files[name].UncompressedSize64] = true
	}
	for _, name := range slices.Sorted(maps.Keys(d.now.files)) {
		size := d.now.files[name].UncompressedSize64
		if d.old.files[name] != nil || size == 0 || !sizes[size] {
			continue
		}
		sum, err := d.now.sum(name)
		if err != nil {
			return err
		}
		if list := removed[sum]; len(list) > 0 {
			d.from[name], d.gone[list[0]] = list[0], true
			removed[sum] = list[1:]
		}
	}
	return nil
}

// file returns how a file differs, "" if it does not.
func (d *codeDiff) file(name string) (string, error) {
	if d.ctx.Err() != nil {
		return "", context.Cause(d.ctx)
	}
	a, b := d.old.files[name], d.now.files[name]
	switch {
	case d.gone[name]:
		return "", nil
	case d.from[name] != "":
		d.Moved++
		return fmt.Sprintf("moved %s to %s\n", index.Visible(d.from[name]), index.Visible(name)), nil
	case a != nil && b != nil:
		same, err := sameFile(d.old, d.now, name)
		if err != nil || same {
			return "", err
		}
		d.Changed++
	case a != nil:
		d.Removed++
	default:
		d.Added++
	}
	return d.unified(name)
}

// unified returns the lines that differ in a file.
func (d *codeDiff) unified(name string) (string, error) {
	var sizes [2]uint64
	var content [2][]byte
	titles := [2]string{"/dev/null", "/dev/null"}
	for i, s := range []*Sources{d.old, d.now} {
		f := s.files[name]
		if f == nil {
			continue
		}
		titles[i], sizes[i] = s.Mod.String()+"/"+name, f.UncompressedSize64
		if sizes[i] > maxDiff {
			continue
		}
		var err error
		if content[i], err = s.read(name); err != nil {
			return "", err
		}
	}
	if sizes[0] > maxDiff || sizes[1] > maxDiff || !isText(content[0]) || !isText(content[1]) {
		return fmt.Sprintf("%s: %d → %d bytes, not text or larger than 1 MiB\n",
			index.Visible(name), sizes[0], sizes[1]), nil
	}
	text := diff.Diff(titles[0], content[0], titles[1], content[1])
	if text == nil {
		return fmt.Sprintf("%s: empty, on one side alone\n", index.Visible(name)), nil
	}
	return index.Visible(string(text)), nil
}

// sameFile reports whether two versions have the same content of a file, which is in both.
func sameFile(old, now *Sources, name string) (bool, error) {
	a, b := old.files[name], now.files[name]
	if a.UncompressedSize64 != b.UncompressedSize64 || a.CRC32 != b.CRC32 {
		return false, nil
	}
	before, err := old.sum(name)
	if err != nil {
		return false, err
	}
	after, err := now.sum(name)
	return before == after, err
}

// isText reports whether a file has lines for people.
func isText(data []byte) bool {
	return utf8.Valid(data) && !bytes.ContainsRune(data, 0)
}
