package facts

import (
	"bytes"
	"crypto/sha256"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/google/licensecheck"
)

const (
	// maxLicense is how many bytes of a license file are read. The longest license that
	// licensecheck knows has 50 KB.
	maxLicense = 256 << 10

	// maxLicenses is how many license files of a zip are read: those in the root first, then by
	// name. A zip may have a million files of that name.
	maxLicenses = 64

	// minCoverage is the share of a license file in percent that must be known text, as pkg.go.dev
	// has it: a license with other terms added is not that license.
	minCoverage = 75
)

// A License is a license file.
type License struct {
	File     string   `json:"file"`
	IDs      []string `json:"ids,omitempty"` // SPDX identifiers of what it contains, sorted; none when it is not known
	Coverage float64  `json:"coverage"`      // share of its text that is known, in percent
}

// reLicense matches names of license files: LICENSE, COPYING.txt, LICENSE-MIT, UNLICENSE, …
var reLicense = regexp.MustCompile(`(?i)^(un)?licen[cs]e([-._ ].*)?$|^copying([-._ ].*)?$` +
	`|^[a-z0-9]+[-_.]licen[cs]e(\.(md|markdown|rst|txt))?$`)

// isLicense reports whether a file has the name of a license file.
func isLicense(name string) bool {
	base := path.Base(name)
	switch path.Ext(base) {
	case ".go", ".s", ".c", ".h", ".js", ".json", ".yaml", ".yml", ".py", ".sh", ".tmpl", ".html", ".svg", ".png":
		return false
	}
	return reLicense.MatchString(base)
}

// licenseFiles chooses the license files that are read. all reports whether these are all that are in
// the root.
func licenseFiles(root string, names []string) (chosen map[string]bool, all bool) {
	var list []string
	for _, name := range names {
		if strings.HasPrefix(name, root) && isLicense(name) {
			list = append(list, name)
		}
	}
	inRoot := func(name string) bool { return !strings.Contains(name[len(root):], "/") }
	slices.SortFunc(list, func(a, b string) int {
		if inRoot(a) != inRoot(b) {
			if inRoot(a) {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	chosen = make(map[string]bool)
	for _, name := range list[:min(len(list), maxLicenses)] {
		chosen[name] = true
	}
	return chosen, len(list) <= maxLicenses || !inRoot(list[maxLicenses])
}

// addLicense reads a license file. A text that common licenses do not explain waits for Facts,
// which needs the scanner for all: whoever waits for that here would keep a core from other work.
func (f *file) addLicense(text []byte) {
	if f.size > maxLicense {
		f.known(f.name, License{})
		return
	}
	if l, ok := scanned.get(text); ok {
		f.known(f.name, l)
		return
	}
	if found := commonScanner().Scan(text); found.Percent >= commonCoverage {
		f.known(f.name, scanned.put(text, found))
		return
	}
	makeScanners()
	f.mu.Lock()
	room := f.waitingBytes+len(text) <= maxWaiting
	if room {
		f.waitingBytes += len(text)
		f.waiting = append(f.waiting, licenseText{f.name, bytes.Clone(text)})
	}
	f.mu.Unlock()
	if !room {
		f.known(f.name, rare(text))
	}
}

// A licenseText is a license file that is not known yet.
type licenseText struct {
	file string
	text []byte
}

// maxWaiting is how many bytes of texts of a zip wait.
const maxWaiting = 1 << 20

// scanned has what texts were found to be: half of all modules have the very same one.
var scanned = memo{found: make(map[[sha256.Size]byte]License)}

// A memo is safe for concurrent use.
type memo struct {
	mu    sync.Mutex
	found map[[sha256.Size]byte]License
}

// maxMemo bounds the texts of a memo.
const maxMemo = 1024

// get returns the license of a text, without a file.
func (m *memo) get(text []byte) (l License, ok bool) {
	sum := sha256.Sum256(text)
	m.mu.Lock()
	defer m.mu.Unlock()
	l, ok = m.found[sum]
	return l, ok
}

// put adds and returns the license of a text.
func (m *memo) put(text []byte, found licensecheck.Coverage) License {
	l := License{Coverage: min(float64(int(found.Percent*10))/10, 100)}
	if found.Percent >= minCoverage {
		for _, m := range found.Match {
			if id := SPDXID(m.ID); !slices.Contains(l.IDs, id) {
				l.IDs = append(l.IDs, id)
			}
		}
		slices.Sort(l.IDs)
	}
	sum := sha256.Sum256(text)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.found) < maxMemo {
		m.found[sum] = l
	}
	return l
}

// rare returns the license of a text that is none of the common ones alone.
func rare(text []byte) License {
	if l, ok := scanned.get(text); ok {
		return l
	}
	return scanned.put(text, scan(text))
}

// makeScanners begins to make the scanners that scan needs, beside other work.
var makeScanners = sync.OnceFunc(func() { go partScanners() })

// known adds a license file with what its text was found to be.
func (s *Scanner) known(file string, l License) {
	l.File = file
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read = append(s.read, l)
}

// common are the licenses of nearly all modules. The scanner for these takes 30 ms
// of one core to make.
var common = []string{
	"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MPL-2.0", "Unlicense", "Zlib",
}

// commonCoverage is the share of a text in percent from which common licenses are taken for all that
// it contains. Of 499 license files of a real project, 475 have it, and none has another license by
// the scanner for all. Terms that are added to a license are longer than the rest of such a text.
const commonCoverage = 95

// commonScanner returns the scanner for common licenses.
var commonScanner = sync.OnceValue(func() *licensecheck.Scanner {
	return newScanner(func(i int, l licensecheck.License) bool { return slices.Contains(common, l.ID) })
})

// newScanner returns a scanner for the licenses of licensecheck that wanted chooses.
func newScanner(wanted func(i int, l licensecheck.License) bool) *licensecheck.Scanner {
	var list []licensecheck.License
	for i, l := range licensecheck.BuiltinLicenses() {
		if wanted(i, l) {
			list = append(list, l)
		}
	}
	s, err := licensecheck.NewScanner(list)
	if err != nil { // they are built in
		panic(err)
	}
	return s
}

// parts is the number of scanners that know all licenses together. One for all takes 2 s of one
// core to make, since variants of one license multiply in it; 32 take 0.6 s.
const parts = 32

// partScanners returns scanners that know all licenses together.
var partScanners = sync.OnceValue(func() (list []*licensecheck.Scanner) {
	for part := range parts {
		list = append(list, newScanner(func(i int, _ licensecheck.License) bool { return i%parts == part }))
	}
	return list
})

// scan returns the licenses in a text: what the scanner for all would. It finds out which licenses
// are there at all, and makes a scanner for these.
func scan(text []byte) licensecheck.Coverage {
	var ids []string
	for _, s := range partScanners() {
		for _, m := range s.Scan(text).Match {
			ids = append(ids, m.ID)
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if !slices.ContainsFunc(ids, func(id string) bool { return !slices.Contains(common, id) }) {
		return commonScanner().Scan(text)
	}
	return newScanner(func(_ int, l licensecheck.License) bool { return slices.Contains(ids, l.ID) }).Scan(text)
}

// and stands between the identifiers of an SPDX expression.
const and = " AND "

// expression returns the SPDX expression of the license files in the root of the module. Licenses
// that may be chosen from look like licenses that all hold: AND promises nothing that is not so.
func expression(files []License) string {
	var ids []string
	root := false
	for _, l := range files {
		if strings.Contains(l.File, "/") {
			continue
		}
		if root = true; len(l.IDs) == 0 {
			return NoAssertion
		}
		ids = append(ids, l.IDs...)
	}
	if !root {
		return None
	}
	slices.Sort(ids)
	return strings.Join(slices.Compact(ids), and)
}

// notSPDX are the identifiers of licensecheck that SPDX does not have.
var notSPDX = map[string]bool{
	"Aladdin-9": true, "Anti996": true, "BSD-1-Clause-Clear": true, "BSD-3-Clause-NoTrademark": true,
	"CC-BY-NC-SA-3.0-US": true, "CommonsClause": true, "GPL-2.0-or-3.0": true, "GooglePatentClause": true,
	"GooglePatentsFile": true, "MIT-NoAd": true, "Prosperity-3.0.0": true,
}

// SPDXID returns the SPDX identifier of a license of licensecheck: LicenseRef-ID when there is none.
func SPDXID(id string) string {
	if notSPDX[id] {
		return "LicenseRef-" + id
	}
	return id
}

// KnownLicenses returns the SPDX identifiers that a license file can be known by.
func KnownLicenses() map[string]bool {
	known := make(map[string]bool)
	for _, l := range licensecheck.BuiltinLicenses() {
		known[SPDXID(l.ID)] = true
	}
	return known
}
