package mirror_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/modmirror/modmirror/internal/proof"
	"github.com/modmirror/modmirror/internal/testproxy"
	"github.com/modmirror/modmirror/mirror"
	"github.com/modmirror/modmirror/mirror/sources"
	"github.com/modmirror/modmirror/mirror/upstream"
)

// Sync resolves the sources, and brings the verified files of their closure into a directory.
func ExampleMirror_Sync() {
	ctx := context.Background()
	up, err := testproxy.New("../testdata/mod") // a proxy with a checksum database
	if err != nil {
		log.Fatal(err)
	}
	defer up.Close()
	dir, err := os.MkdirTemp("", "mirror")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	client, err := upstream.New(up.URL, "off", mirror.DefaultParallel) // GOPROXY and GOAUTH
	if err != nil {
		log.Fatal(err)
	}
	db, err := proof.ParseGOSUMDB(up.GOSUMDB)
	if err != nil {
		log.Fatal(err)
	}
	m, err := mirror.Open(ctx, mirror.Config{Dir: dir, Upstream: client, DB: db})
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()

	src, err := sources.Parse([]string{"example.com/hello@latest"}, strings.NewReader(""))
	if err != nil {
		log.Fatal(err)
	}
	closure, err := m.Sync(ctx, &mirror.Job{Sources: *src})
	if err != nil {
		log.Fatal(err)
	}
	for _, q := range closure.Queries {
		fmt.Printf("%s@%s is %s\n", q.Path, q.Query, q.Version)
	}
	for _, v := range closure.Versions {
		fmt.Println(v.Mod, v.H1)
	}
	for _, miss := range closure.Missing {
		fmt.Println("missing:", miss.What, "of", miss.Mod, miss.Chain)
	}
	fmt.Println("every record proven:", closure.Head.N > 0)
	// Output:
	// example.com/hello@latest is v1.1.0
	// example.com/check@v1.0.0 h1:75PGteE29fY+Q3I0QzRdTg6GeYjz1t0GkMXu+f6R2ZE=
	// example.com/diff@v1.0.0 h1:Agp646e2+SiAiX6ABs6PCnCisKDIwjsfT/bIL1XfZ0I=
	// example.com/hello@v1.1.0 h1:fnmEZmXFtmDi7dA0r/xt3BwafQpZ5yenoI8ilvmP3j8=
	// example.com/text@v1.1.0 h1:i5rgaCEOgBZp3jVakzurVJMM/p57YDtbjLW0rQAF128=
	// every record proven: true
}
