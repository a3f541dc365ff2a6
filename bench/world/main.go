// Command world is a synthetic upstream of any size: a module proxy with a checksum database of its
// own, which answers late (package late). It is the same in each run, but for the database's key.
//
//	world -modules 20000 -depth 10 -addr 127.0.0.1:8083 -project DIR
//
// The modules lie in levels, as many as -depth says. Each has five versions, and each version
// requires up to three modules of the next level, such that a project that needs all versions of
// the first level has all versions of all modules in its module graph. Loading it takes a round
// trip for each level and five go.mod files a module, of which MVS selects one. All go lines are
// 1.16: such graphs are not pruned. world writes that project's go.mod to a folder, and the
// database's public key to a file GOSUMDB in it.
package main

import (
	"flag"
	"log"
	"net/http"
	"os"
	"path/filepath"

	"github.com/modmirror/modmirror/bench/late"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("world: ")
	addr := flag.String("addr", "127.0.0.1:8083", "address")
	modules := flag.Int("modules", 1000, "number of modules")
	depth := flag.Int("depth", 10, "levels of the module graph")
	project := flag.String("project", "", "folder for the project")
	flag.Parse()
	if *project == "" {
		log.Fatal("-project is missing: the folder to which the project's go.mod is written")
	}
	w, err := newWorld(*modules, *depth)
	if err != nil {
		log.Fatal(err)
	}
	if err := w.writeProject(*project); err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe(*addr, late.New(w)))
}

// writeProject writes the project's go.mod and the database's key to a folder.
func (w *world) writeProject(dir string) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), w.project(), 0o666); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "GOSUMDB"), []byte(w.key+"\n"), 0o666)
}
