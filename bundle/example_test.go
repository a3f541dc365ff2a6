package bundle_test

import (
	"context"
	"fmt"
	"log"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/testbundle"
)

// Open a bundle that one of the trusted keys signed, verify all of it, and read a go.mod from it.
func Example() {
	t, remove := testbundle.Example()
	defer remove()
	tb := testbundle.Make(t, "../testdata/mod", nil)
	ctx := context.Background()

	keyring := trust.NewKeyring(tb.Key.Verifier)
	b, err := bundle.Open(ctx, tb.Path, keyring, "")
	if err != nil {
		log.Fatal(err)
	}
	defer b.Close()

	damaged := 0
	report := func(d bundle.Damage) { damaged++; fmt.Println(d.Path, d.Err) }
	if err := b.VerifyDeep(ctx, &bundle.Deep{DB: tb.DB}, nil, report); err != nil {
		log.Fatal(err)
	}
	fmt.Println(b.Manifest.Name, b.Manifest.Sequence, "damaged:", damaged)

	data, err := b.ReadFile(ctx, "example.com/text/@v/v1.0.0.mod", 1<<20)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s", data)
	// Output:
	// test 7 damaged: 0
	// module example.com/text
	//
	// go 1.20
}
