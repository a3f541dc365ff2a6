// Command bare serves the small files of a tree from memory with nothing but net/http: the fastest
// server to compare with.
//
//	bare -addr 127.0.0.1:8081 TREE|TAR
package main

import (
	"archive/tar"
	"bufio"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"os"
	"path/filepath"
)

// maxFile is the largest file in bytes that is served.
const maxFile = 64 << 10

func main() {
	addr := flag.String("addr", "127.0.0.1:8081", "address")
	flag.Parse()
	files := make(map[string][]byte)
	root := flag.Arg(0)
	var err error
	if st, statErr := os.Stat(root); statErr == nil && !st.IsDir() {
		err = readTar(root, files)
	} else {
		err = readTree(root, files)
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready")
	log.Fatal(http.ListenAndServe(*addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(data)))
		w.Write(data)
	})))
}

// readTar reads the files of a tar, by their URL paths.
func readTar(name string, files map[string][]byte) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for r := tar.NewReader(bufio.NewReaderSize(f, 1<<20)); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Size > maxFile {
			continue
		}
		if files["/"+h.Name], err = io.ReadAll(r); err != nil {
			return err
		}
	}
}

// readTree reads the files below a folder, by their URL paths.
func readTree(root string, files map[string][]byte) error {
	return filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if st, err := d.Info(); err != nil || st.Size() > maxFile {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		files["/"+filepath.ToSlash(rel)], err = os.ReadFile(name)
		return err
	})
}
