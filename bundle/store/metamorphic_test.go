package store_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/safefile"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// A carried is a bundle that was made, as the model of TestStoreMetamorphic knows it.
type carried struct {
	tb     *testbundle.TB
	number int    // its sequence
	base   int    // the sequence of the bundle before it, 0 for a full one
	text   string // of its vulndb/index/db.json, by which it is known
	signed bool   // by the approver too
}

// A modelLine is what the model knows of a line: what was made outside, and what the store must
// have.
type modelLine struct {
	name  string
	made  []*carried
	store map[int]*carried // by sequence
	seen  int              // the newest sequence that was accepted
}

func (l *modelLine) newest() int {
	n := 0
	for s := range l.store {
		n = max(n, s)
	}
	return n
}

// accepts says whether the store takes a bundle now: one that goes on with the line, or one that
// another is made of and that is gone, as after a prune.
func (l *modelLine) accepts(c *carried) bool {
	newest := l.newest()
	for _, n := range l.store {
		for n.base != 0 {
			base := n.base
			i := slices.IndexFunc(l.made, func(x *carried) bool { return x.number == base })
			if n = l.made[i]; base == c.number && l.store[base] == nil {
				return true
			}
		}
	}
	return c.number > l.seen && c.number > newest && (c.base == 0 || l.store[c.base] != nil && c.base == newest)
}

// seeds are those with which the test failed before.
var seeds = []uint64{1, 2, 3}

// TestStoreMetamorphic does to a store what people do, in any order: bundles and deltas are made,
// carried in, carried in again and in the wrong order, cut and damaged on the way, signed by
// others, pruned, and the server is started again. A model says what must be served after each
// step. $METAMORPHIC is how many steps, and perhaps the seed: "1000" or "1000 42".
func TestStoreMetamorphic(t *testing.T) {
	steps, all := 60, seeds
	if f := strings.Fields(os.Getenv("METAMORPHIC")); len(f) > 0 {
		var err error
		if steps, err = strconv.Atoi(f[0]); err != nil {
			t.Fatal(err)
		}
		all = append(all, uint64(time.Now().UnixNano()))
		if len(f) > 1 {
			n, err := strconv.ParseUint(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			all = []uint64{n}
		}
		steps /= len(all)
	}
	for _, seed := range all {
		t.Run(fmt.Sprint(seed), func(t *testing.T) { metamorphic(t, seed, steps) })
	}
}

func metamorphic(t *testing.T, seed uint64, steps int) {
	r := rand.New(rand.NewPCG(seed, 0))
	root := testbundle.Make(t, modfiles, testbundle.WithoutLarge)
	approver, err := trust.EphemeralKey("approver")
	if err != nil {
		t.Fatal(err)
	}
	both := trust.NewKeyring(root.Key.Verifier, approver.Verifier)
	s := newStore(t, both)
	lines := []*modelLine{{name: "test", store: make(map[int]*carried)}, {name: "other", store: make(map[int]*carried)}}
	counts := make(map[string]int)
	serial := 0
	for step := range steps {
		l := lines[r.IntN(len(lines))]
		var did string
		fail := func(format string, args ...any) {
			t.Helper()
			t.Fatalf("seed %d, step %d, %s of %s: %s", seed, step, did, l.name, fmt.Sprintf(format, args...))
		}
		pick := func() *carried { // mostly one of the last
			return l.made[max(0, len(l.made)-1-r.IntN(4)*r.IntN(2))]
		}
		op := r.IntN(100)
		switch {
		case len(l.made) == 0 || op < 8:
			did = "a full bundle"
			serial++
			c := &carried{number: 10 * serial, text: fmt.Sprintf(`{"modified":%d}`, serial)}
			c.tb = root.Variant(t, func(x *bundle.Contents) {
				x.Name, x.Sequence = l.name, int64(c.number)
				x.Vulns = []bundle.Source{bundle.DataSource("vulndb/index/db.json", []byte(c.text))}
			})
			c.tb.Trusted = both
			l.made = append(l.made, c)
		case op < 35:
			did = "a delta"
			serial++
			base := l.made[len(l.made)-1]
			c := &carried{number: 10 * serial, base: base.number, text: fmt.Sprintf(`{"modified":%d}`, serial)}
			c.tb = next(t, base.tb, int64(c.number), func(x *bundle.Contents) {
				x.Vulns = []bundle.Source{bundle.DataSource("vulndb/index/db.json", []byte(c.text))}
			})
			l.made = append(l.made, c)
		case op < 65:
			did = "an import"
			c := pick()
			if i := slices.IndexFunc(l.made, l.accepts); i >= 0 && r.IntN(10) < 7 { // the next one, as it should be
				c = l.made[i]
			}
			ok := l.accepts(c)
			err := take(t, s, c.tb, nil)
			_, already := errors.AsType[*store.AlreadyError](err)
			switch {
			case l.store[c.number] != nil && !already:
				fail("%d is there, and import says %v", c.number, err)
			case l.store[c.number] == nil && (err == nil) != ok:
				fail("%d after %d, on %d, seen %d: %v", c.number, l.newest(), c.base, l.seen, err)
			}
			if err == nil {
				l.store[c.number], l.seen = c, max(l.seen, c.number)
				did = "an import that is taken"
			}
		case op < 75:
			did = "a broken import"
			c := pick()
			data := testbundle.Read(t, c.tb.Path)
			if r.IntN(2) == 0 {
				data = data[:r.IntN(len(data))]
			} else {
				data[r.IntN(len(data)-20000)+20000] ^= 1 << r.IntN(8)
			}
			bad := *c.tb
			bad.Path = filepath.Join(t.TempDir(), "bad.tar")
			testbundle.WriteFile(t, bad.Path, data)
			err := take(t, s, &bad, nil)
			if _, already := errors.AsType[*store.AlreadyError](err); err == nil || already && l.store[c.number] == nil {
				fail("%v", err)
			}
		case op < 80:
			did = "a kill"
			if err := os.MkdirAll(s.Dir, 0o777); err != nil {
				fail("%v", err)
			}
			testbundle.WriteFile(t, filepath.Join(s.Dir, safefile.TempPrefix+"LEFT"), []byte("half a bundle"))
			s = reopened(t, s, both, stateOf(s))
		case op < 88:
			did = "a signature"
			c := pick()
			if c.signed {
				continue
			}
			if _, err := bundle.Sign(c.tb.Path, both, approver); err != nil {
				fail("%v", err)
			}
			c.signed = true
		case op < 94:
			did = "a prune"
			keep := 1 + r.IntN(2)
			if l.newest() == 0 {
				continue
			}
			unlock, err := s.Lock(ctx, nil)
			if err != nil {
				fail("%v", err)
			}
			_, err = s.Prune(ctx, keep, false)
			unlock()
			if err != nil {
				fail("%v", err)
			}
			for _, l := range lines { // of all
				for len(l.store) > keep {
					oldest := 0
					for n := range l.store {
						if oldest == 0 || n < oldest {
							oldest = n
						}
					}
					delete(l.store, oldest)
				}
			}
		default:
			did = "a restart"
			s = reopened(t, s, both, stateOf(s))
		}
		counts[did]++
		if os.Getenv("METAMORPHIC_TRACE") != "" {
			t.Logf("%d: %s of %s: %v, seen %d", step, did, l.name, slices.Sorted(maps.Keys(l.store)), l.seen)
		}

		// What is served is what the model says.
		v, err := s.View(ctx, func(file string, err error) { fail("%s is not served: %v", file, err) })
		if (errors.Is(err, store.ErrEmpty) || errors.Is(err, os.ErrNotExist)) && lines[0].newest()+lines[1].newest() == 0 {
			continue
		}
		if err != nil {
			fail("the view: %v", err)
		}
		if len(v.Skipped) > 0 {
			fail("passed over: %v", v.Skipped)
		}
		served := make(map[string]*bundle.Bundle)
		for _, b := range v.Lines {
			served[b.Manifest.Name] = b
		}
		for _, l := range lines {
			b, n := served[l.name], l.newest()
			if n == 0 && b == nil {
				continue
			}
			if n == 0 || b == nil || b.Manifest.Sequence != int64(n) {
				fail("%d of %s is to be served, and %+v is", n, l.name, b)
			}
			for path, want := range map[string]string{"vulndb/index/db.json": l.store[n].text, "example.com/hello/@v/v1.1.0.mod": "module example.com/hello"} {
				if data, err := b.ReadFile(ctx, path, 1<<20); err != nil || !strings.HasPrefix(string(data), want) {
					fail("%s of %s: %q, %v", path, l.name, data, err)
				}
			}
		}
		v.Close()
		if left, _ := filepath.Glob(filepath.Join(s.Dir, safefile.TempPrefix+"*")); did != "a kill" && strings.HasPrefix(did, "an import that") && len(left) > 0 {
			fail("left behind: %v", left)
		}
	}
	t.Logf("seed %d: %v", seed, counts)
}
