package store_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/store"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// Import a bundle into a store, read what the store serves, and see an older bundle refused.
func Example() {
	t, remove := testbundle.Example()
	defer remove()
	tb := testbundle.Make(t, "../../testdata/mod", testbundle.WithoutLarge)
	older := tb.Variant(t, func(c *bundle.Contents) { c.Sequence = 3 })
	ctx := context.Background()

	s, err := store.Open(t.TempDir(), tb.Trusted, t.TempDir())
	if err != nil {
		log.Fatal(err)
	}
	unlock, err := s.Lock(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer unlock()
	for _, path := range []string{tb.Path, older.Path} {
		f, err := os.Open(path)
		if err != nil {
			log.Fatal(err)
		}
		defer f.Close()
		m, err := s.Import(ctx, path, f, &store.Import{DB: tb.DB, Report: func(d bundle.Damage) { fmt.Println(d) }})
		if _, back := errors.AsType[*bundle.RollbackError](err); back {
			fmt.Println("refused: it is older")
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("imported", m.Name, m.Sequence)
	}

	v, err := s.View(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer v.Close()
	list, err := v.ReadFile(ctx, "example.com/text/@v/list", 1<<10)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s", v.Title(), list)
	// Output:
	// imported test 7
	// refused: it is older
	// bundle test of 2023-11-14: v1.1.0
}
