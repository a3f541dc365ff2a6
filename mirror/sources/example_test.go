package sources_test

import (
	"fmt"
	"log"
	"strings"

	"github.com/modmirror/modmirror/mirror/sources"
)

func ExampleParse() {
	list := `
rsc.io/quote@latest
tool golang.org/x/tools/cmd/stringer@v0.30.0   # a command, with what installing it takes
deny example.com/internal/...
missing-ok example.com/gone@v1.0.0
`
	src, err := sources.Parse([]string{"-"}, strings.NewReader(list))
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range src.List {
		fmt.Println(s.Name)
	}
	fmt.Println(src.Denies("example.com/internal/x"))
	// Output:
	// stdin:2: rsc.io/quote@latest
	// stdin:3: golang.org/x/tools/cmd/stringer@v0.30.0
	// example.com/internal/...
}
