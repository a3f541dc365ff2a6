package modgraph_test

import (
	"context"
	"fmt"
	"log"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"

	"github.com/modmirror/modmirror/mirror/modgraph"
)

// A closure of a project, whose modules are in memory.
func ExampleClosure_AddProject() {
	mods := map[module.Version]string{
		{Path: "example.com/a", Version: "v1.0.0"}: "module example.com/a\n\ngo 1.20\n\nrequire example.com/b v1.1.0\n",
		{Path: "example.com/b", Version: "v1.0.0"}: "module example.com/b\n\ngo 1.20\n",
		{Path: "example.com/b", Version: "v1.1.0"}: "module example.com/b\n\ngo 1.20\n",
	}
	c := &modgraph.Closure{Loader: &modgraph.Loader{
		Read: func(_ context.Context, m module.Version) (*modgraph.GoMod, error) {
			f, err := modfile.ParseLax(m.String(), []byte(mods[m]), nil)
			if err != nil {
				return nil, err
			}
			return modgraph.Summarize(f), nil
		},
	}}
	main, err := modfile.Parse("go.mod", []byte("module example.com/main\n\ngo 1.20\n\nrequire (\n\texample.com/a v1.0.0\n\texample.com/b v1.0.0\n)\n"), nil)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.AddProject(context.Background(), modgraph.Project{Name: ".", Mod: main}); err != nil {
		log.Fatal(err)
	}
	for _, w := range c.Versions() {
		fmt.Println(w.Mod, "zip:", w.Zip, w.Chain)
	}
	// Output:
	// example.com/a@v1.0.0 zip: true [. example.com/main example.com/a@v1.0.0]
	// example.com/b@v1.0.0 zip: false [. example.com/main example.com/b@v1.0.0]
	// example.com/b@v1.1.0 zip: true [. example.com/main example.com/a@v1.0.0 example.com/b@v1.1.0]
}
