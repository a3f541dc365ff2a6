package facts

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/modmirror/modmirror/index"
)

// Version names what a Scanner finds. It changes when the facts of a zip change, so that zips that
// were scanned before are scanned again.
const Version = "facts-1"

// Valid reports whether the facts, read from a file, are some that an index may have.
func (f *Facts) Valid() bool {
	rows := f.Rows()
	type key struct{ kind, file string }
	seen := make(map[key]bool)
	for i := range rows {
		k := key{rows[i].Kind, rows[i].File}
		if rows[i].Check() != nil || seen[k] {
			return false
		}
		seen[k] = true
	}
	return len(rows) <= index.MaxFacts && index.CheckLicense(f.License) == nil
}

// maxName is how long the visible name of a file may be in bytes.
const maxName = 1024

// shown returns a text of the zip for one line. Names that are too long are told apart by a hash.
func shown(s string) string {
	out := strings.NewReplacer("\n", " ", "\t", " ").Replace(index.Visible(s))
	if len(out) <= maxName {
		return out
	}
	return strings.ToValidUTF8(out[:maxName], "") + fmt.Sprintf("… (SHA-256 %x)", sha256.Sum256([]byte(s)))
}

// Rows returns the facts as the index of a bundle has them, beside the license.
func (f *Facts) Rows() (list []index.Fact) {
	for _, l := range f.Licenses {
		list = append(list, index.Fact{
			Kind: index.LicenseFact, File: shown(l.File), Files: 1, Detail: strings.Join(l.IDs, and),
			Coverage: &l.Coverage,
		})
	}
	for _, u := range f.Uses {
		list = append(list, index.Fact{
			Kind: string(u.Kind), File: shown(u.File), Files: int64(u.Files), Detail: shown(u.Detail),
		})
	}
	return list
}

// FromRows is the reverse of Rows. Kinds that this modmirror does not know are kept.
func FromRows(license string, rows []index.Fact) Facts {
	f := Facts{License: license}
	for _, r := range rows {
		if r.Kind != index.LicenseFact {
			f.Uses = append(f.Uses, Use{Kind: Kind(r.Kind), File: r.File, Files: int(r.Files), Detail: r.Detail})
			continue
		}
		l := License{File: r.File}
		if r.Detail != "" {
			l.IDs = strings.Split(r.Detail, and)
		}
		if r.Coverage != nil {
			l.Coverage = *r.Coverage
		}
		f.Licenses = append(f.Licenses, l)
	}
	return f
}
