package index

import (
	"database/sql"
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

func TestCleanText(t *testing.T) {
	for in, want := range map[string]string{
		"plain, with\n\ttabs and ü → 世界":    "plain, with\n\ttabs and ü → 世界",
		"\x1b[31mred\x07\r":                 "[31mred",
		"a\u202eb\u200fc\u2066d\u061ce":     "abcde",
		"a\u0085b\u009bc\x7fd\x00e":         "abcde",
		"a\u2028b\u2029c":                   "abc",
		"bad \xff byte":                     "bad \ufffd byte",
		strings.Repeat("ü", MaxText):        strings.Repeat("ü", MaxText/2),
		"xy" + strings.Repeat("世", MaxText): "xy" + strings.Repeat("世", (MaxText-2)/3),
		"x" + strings.Repeat("ü", MaxText):  "x" + strings.Repeat("ü", MaxText/2-1),
	} {
		if got := CleanText(in); got != want || CleanText(got) != got {
			t.Errorf("CleanText(%.40q) = %.40q (%d bytes), want %.40q (%d bytes)", in, got, len(got), want, len(want))
		}
	}
}

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"plain, with\n\ttabs and ü → 世界":    "plain, with\n\ttabs and ü → 世界",
		"\x1b[31mred\x07\r":                 "⟨U+001B⟩[31mred⟨U+0007⟩⟨U+000D⟩",
		"if \u202e} begin\u2066 // x":       "if ⟨U+202E⟩} begin⟨U+2066⟩ // x",
		`written \u202e`:                    `written \u202e`,
		"zero\u200bwidth\u2060joiner\ufeff": "zero⟨U+200B⟩width⟨U+2060⟩joiner⟨U+FEFF⟩",
		"hangul \u3164\u115f\u1160\uffa0":   "hangul ⟨U+3164⟩⟨U+115F⟩⟨U+1160⟩⟨U+FFA0⟩",
		"selectors \ufe0f\U000e0100":        "selectors ⟨U+FE0F⟩⟨U+E0100⟩",
		"tags \U000e0041, no-break\u00a0":   "tags ⟨U+E0041⟩, no-break⟨U+00A0⟩",
		"bad \xff byte and a real \ufffd":   "bad ⟨0xff⟩ byte and a real \ufffd",
	} {
		if got := Visible(in); got != want {
			t.Errorf("Visible(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestTreeOfAnotherSize expects that the last head is that of the tree.
func TestTreeOfAnotherSize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.sqlite")
	write(t, path)
	x, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for size, ok := range map[int64]bool{100: true, 101: false, 99: false} {
		if err := x.Check(ctx, size); (err == nil) != ok {
			t.Errorf("a tree of %d: %v", size, err)
		}
	}
}

// TestHeadsAreBounded has more heads, and longer ones, than callers are to hold in memory.
func TestHeadsAreBounded(t *testing.T) {
	for _, test := range []struct {
		heads, note int
		ok          bool
	}{
		{maxHeads, 200, true},
		{maxHeads + 1, 200, false},
		{200, 64 << 10, true},
		{300, 64 << 10, false},
	} {
		path := filepath.Join(t.TempDir(), "index.sqlite")
		w, err := Create(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range test.heads {
			w.Head(Head{Size: int64(i + 1), Hash: strings.TrimPrefix(hash("head"), "h1:"), Note: strings.Repeat("n", test.note)})
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		x, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Check(ctx, int64(test.heads)); (err == nil) != test.ok || err != nil && !strings.Contains(err.Error(), "tree heads") {
			t.Errorf("%+v: %v", test, err)
		}
		x.Close()
	}
}

// TestCheckRows changes one row at a time. Check finds each value that modmirror does not write.
func TestCheckRows(t *testing.T) {
	for _, statement := range []string{
		"UPDATE version SET version = 'main' WHERE id = 1",
		"UPDATE module SET path = 'a b' WHERE id = 1",
		"UPDATE module SET path = 'example.com/v2' WHERE id = 1",
		"UPDATE module SET latest = 'v2.0.0' WHERE id = 1",
		"UPDATE module SET deprecated = char(27) WHERE id = 1",
		"UPDATE version SET license = char(8238) WHERE id = 1",
		"UPDATE version SET time = 'today' WHERE id = 1",
		"UPDATE version SET record = NULL WHERE id = 1",
		"UPDATE version SET record = 100 WHERE id = 1",
		"UPDATE version SET record = 1 WHERE id = 3",
		"UPDATE version SET h1 = 'h1:x' WHERE id = 1",
		"UPDATE version SET h1 = '' WHERE id = 3",
		"UPDATE version SET gomod_h1 = '' WHERE id = 1",
		"UPDATE version SET mod_size = -1 WHERE id = 1",
		"UPDATE version SET zip_size = 1 << 40 WHERE id = 1",
		"DELETE FROM version WHERE module = 2",
		"UPDATE head SET hash = 'x'",
		"UPDATE head SET size = 99",
		"UPDATE head SET note = char(27)",
		"INSERT INTO head (size, hash, note) SELECT 50, hash, note FROM head",
		"UPDATE missing SET what = 'else'",
		"UPDATE missing SET status = 1000",
		"UPDATE missing SET version = ''",
		"UPDATE missing SET chain = char(8232)",
		"UPDATE query SET query = 'a b'",
		"UPDATE requirement SET requires = ''",
		"UPDATE requirement SET version = 'ü'",
	} {
		path := filepath.Join(t.TempDir(), "x")
		write(t, path)
		db, err := sql.Open("sqlite3", path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
		db.Close()
		x, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := x.Check(ctx, 100); !errors.Is(err, ErrBad) {
			t.Errorf("%s: %v", statement, err)
		}
		x.Close()
	}
}
