package assemble

import (
	"slices"
	"strings"
	"testing"
)

func TestDropCheck(t *testing.T) {
	for _, ps := range []patterns{nil, {"example.com/*", "a.example@v1.0.0", "unused"}} {
		if err := ps.check(); err != nil {
			t.Errorf("%q: %v", ps, err)
		}
	}
	for _, bad := range []string{"", "[", "@v1.0.0"} {
		if err := (patterns{"good.example", bad}).check(); !isUsage(err, "want a module path or a pattern as in GOPRIVATE") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestDropMatch(t *testing.T) {
	for _, test := range []struct {
		patterns string // with blanks between
		mod      string
		want     bool
	}{
		{"", "example.com/a@v1.0.0", false},
		{"example.com", "example.com/a@v1.0.0", true},
		{"example.com", "example.common/a@v1.0.0", false},
		{"example.com/*", "example.com/a/b@v1.0.0", true},
		{"example.com/a@v1.0.0", "example.com/a@v1.0.0", true},
		{"example.com/a@v1.0.0", "example.com/a@v1.0.1", false},
		{"example.com/a@v1.0.0", "example.com/a/b@v1.0.0", true},
		{"other.example example.com/a", "example.com/a@v1.0.0", true},
		{"other.example unused", "example.com/a@v1.0.0", true},
		{"unused@v1.0.0", "example.com/a@v1.0.0", false},
	} {
		path, version, _ := strings.Cut(test.mod, "@")
		if got := patterns(strings.Fields(test.patterns)).match(path, version); got != test.want {
			t.Errorf("--drop %s: %s leaves the line: %v, want %v", test.patterns, test.mod, got, test.want)
		}
	}
}

func TestDrop(t *testing.T) {
	w := newWorld(t)
	w.bundle("team.tar", nil, "example.com/text@v1.1.0", "example.com/UpperCase@v1.0.0", "example.com/old@v0.1.0")
	for _, test := range []struct {
		drop []string
		left []string // what leaves the line
		said []string
	}{
		{nil, nil, nil},
		{[]string{"example.com/old"}, []string{"example.com/old@v0.1.0"}, []string{"1 version left the line: example.com/old@v0.1.0"}},
		{[]string{"unused"}, []string{"example.com/UpperCase@v1.0.0", "example.com/old@v0.1.0"}, []string{"2 versions left the line: "}},
		{[]string{"example.com/text"}, nil, []string{"what --drop example.com/text matches is carried, since the sources need it"}},
		{[]string{"example.com/text@v1.0.0", "corp.example"}, nil,
			[]string{"--drop example.com/text@v1.0.0 matches nothing in the line", "--drop corp.example matches nothing in the line"}},
	} {
		for _, full := range []bool{false, true} {
			name := "team-" + strings.NewReplacer("/", "_", "@", "_").Replace(strings.Join(test.drop, "-")) + ".tar"
			if full {
				name = "full-" + name
			}
			r := w.bundle(name, func(o *Options) {
				o.Bases, o.Drop, o.Full = []string{w.path("team.tar")}, test.drop, full
			}, "example.com/text@v1.1.0")
			want := slices.DeleteFunc(w.versions("team.tar"), func(v string) bool { return slices.Contains(test.left, v) })
			if got := w.versions(name); !slices.Equal(got, want) {
				t.Errorf("--drop %q, full %v: the line has %q, want %q", test.drop, full, got, want)
			}
			if full { // which never had what is dropped, and cannot tell
				continue
			}
			for _, text := range test.said {
				if !r.has(text) {
					t.Errorf("--drop %q, full %v: said %q, want %q", test.drop, full, r.said, text)
				}
			}
			if test.said == nil && (r.has("left the line") || r.has("--drop")) {
				t.Errorf("without --drop, said %q", r.said)
			}
		}
	}
}
