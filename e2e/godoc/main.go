// Godoc compares the pages of packages with what "go doc -all" prints of them: each line of go doc,
// and each example in the test files, must be on the page.
//
//	godoc URL PACKAGE...
//
// It runs in a module that requires the packages' modules at the versions that the pages show.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/doc"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"unicode"

	"golang.org/x/net/html"
)

func main() {
	bad, lines, examples := 0, 0, 0
	for _, pkg := range os.Args[2:] {
		page, err := pageText(os.Args[1] + "/" + pkg)
		if err != nil {
			fmt.Println(pkg, err)
			bad++
			continue
		}
		missing, n := compare(page, pkg)
		lines += n
		more, found := examplesOf(page, pkg)
		examples += found
		missing = append(missing, more...)
		for _, line := range missing[:min(len(missing), 10)] {
			fmt.Printf("%s: not on the page: %s\n", pkg, line)
		}
		bad += len(missing)
	}
	fmt.Printf("%d packages, %d lines of go doc -all and %d examples, %d not on their pages\n",
		len(os.Args)-2, lines, examples, bad)
	if bad > 0 || lines == 0 || examples == 0 {
		os.Exit(1)
	}
}

// squeeze returns a text without white space.
func squeeze(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, s)
}

// pageText returns the text of a page without white space.
func pageText(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", url, resp.Status)
	}
	var text strings.Builder
	z := html.NewTokenizer(resp.Body)
	for {
		switch z.Next() {
		case html.ErrorToken:
			if z.Err() != io.EOF {
				return "", z.Err()
			}
			return squeeze(text.String()), nil
		case html.TextToken:
			text.WriteString(z.Token().Data)
		}
	}
}

// run returns what a command prints.
func run(name string, args ...string) ([]byte, error) {
	out, err := exec.Command(name, args...).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, exit.Stderr)
	}
	return out, err
}

var (
	// linkTarget is a line at the end of a doc comment that says where a link leads: it is in an
	// attribute of the page.
	linkTarget = regexp.MustCompile(`^\s*\[[^\]]+\]: \S+$`)

	// mark is before an element of a list, or a heading.
	mark = regexp.MustCompile(`^\s*(-|\d+\.|#) `)

	// section is a heading of go doc.
	section = regexp.MustCompile(`^(CONSTANTS|VARIABLES|FUNCTIONS|TYPES)$`)

	// unexported is how go doc and the printer say that there are more members.
	unexported = regexp.MustCompile(`// Has unexported (fields|methods)\.`)
)

// compare returns the lines of go doc that are not on a page, and how many lines there are.
func compare(page, pkg string) (missing []string, lines int) {
	out, err := run("go", "doc", "-all", pkg)
	if err != nil {
		return []string{err.Error()}, 0
	}
	for i, line := range strings.Split(string(out), "\n") {
		line = mark.ReplaceAllString(line, "")
		if i == 0 || section.MatchString(line) || linkTarget.MatchString(line) || unexported.MatchString(line) {
			continue
		}
		if text := squeeze(line); text != "" {
			lines++
			if !strings.Contains(page, text) {
				missing = append(missing, line)
			}
		}
	}
	return missing, lines
}

// examplesOf returns the examples in the test files of a package whose code or output is not on its
// page, and how many there are.
func examplesOf(page, pkg string) (missing []string, found int) {
	dir, err := run("go", "list", "-f", "{{.Dir}}", pkg)
	if err != nil {
		return []string{err.Error()}, 0
	}
	list, err := run("go", "list", "-f", `{{join .TestGoFiles "\n"}}{{"\n"}}{{join .XTestGoFiles "\n"}}`, pkg)
	if err != nil {
		return []string{err.Error()}, 0
	}
	for name := range strings.FieldsSeq(string(list)) {
		data, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), name))
		if err != nil {
			return []string{err.Error()}, found
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, name, data, parser.ParseComments)
		if err != nil {
			return []string{err.Error()}, found
		}
		for _, e := range doc.Examples(f) {
			// An example of what is not exported, or not there, is on no page.
			if of, _, _ := strings.Cut(e.Name, "_"); of != "" {
				if _, err := run("go", "doc", pkg, of); err != nil || !token.IsExported(of) {
					continue
				}
			}
			found++
			for line := range bytes.Lines(data[fset.Position(e.Code.Pos()).Offset+1 : fset.Position(e.Code.End()).Offset-1]) {
				text := squeeze(string(line))
				if strings.HasPrefix(strings.ToLower(text), "//output:") || strings.HasPrefix(strings.ToLower(text), "//unorderedoutput:") {
					break
				}
				if !strings.Contains(page, text) {
					missing = append(missing, "Example"+e.Name+": "+string(line))
				}
			}
			for line := range strings.Lines(e.Output) {
				if !strings.Contains(page, squeeze(line)) {
					missing = append(missing, "Example"+e.Name+", output: "+line)
				}
			}
		}
	}
	return missing, found
}
