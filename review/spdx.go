package review

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	spdx "github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// noAssertion says in an SPDX document that something is not known.
const noAssertion = "NOASSERTION"

// reNotID matches what an SPDX identifier may not have.
var reNotID = regexp.MustCompile(`[^A-Za-z0-9.]+`)

// WriteSPDX writes SPDX as JSON.
func (inv *Inventory) WriteSPDX(w io.Writer) error {
	return json.Write(inv.SPDX(), w, json.Indent("  "), json.EscapeHTML(false))
}

// SPDX returns the inventory as a document of SPDX 2.3 (https://spdx.github.io/spdx-spec/v2.3). The
// same inventory makes the same document.
func (inv *Inventory) SPDX() *spdx.Document {
	m := inv.Subject.Manifest
	name := cmp.Or(inv.Source, m.Name)
	doc := &spdx.Document{
		SPDXVersion: spdx.Version, DataLicense: spdx.DataLicense, SPDXIdentifier: "DOCUMENT", DocumentName: name,
		DocumentNamespace: "https://spdx.org/spdxdocs/" + reNotID.ReplaceAllString(name, "-") + "-" + inv.Subject.name(),
		CreationInfo: &spdx.CreationInfo{
			Created:  m.Created.UTC().Format(time.RFC3339),
			Creators: []common.Creator{{CreatorType: "Tool", Creator: "modmirror"}},
		},
	}
	root := &spdx.Package{
		PackageName: name, PackageSPDXIdentifier: "Root", PackageDownloadLocation: noAssertion,
		PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion, PackageCopyrightText: noAssertion,
		PackageSourceInfo:     fmt.Sprintf("modmirror bundle %s, sequence %d", m.Name, m.Sequence),
		PrimaryPackagePurpose: "APPLICATION",
	}
	if id := inv.Subject.ID(); id != "" {
		root.PackageSourceInfo += fmt.Sprintf(", id %s, signed by %s", id, strings.Join(inv.Subject.Signers(), ", "))
	}
	if inv.Source == "" {
		root.PackageVersion = strconv.FormatInt(m.Sequence, 10)
	}
	doc.Packages = append(doc.Packages, root)
	relate := func(from common.ElementID, kind string, to common.ElementID) {
		doc.Relationships = append(doc.Relationships, &spdx.Relationship{
			RefA: common.MakeDocElementID("", string(from)), RefB: common.MakeDocElementID("", string(to)),
			Relationship: kind,
		})
	}
	relate(doc.SPDXIdentifier, common.TypeRelationshipDescribe, root.PackageSPDXIdentifier)
	if !inv.Complete {
		root.PackageComment = "something is missing here: modmirror list --missing and modmirror sbom say what"
	}
	ids := make([]common.ElementID, len(inv.Components))
	for i := range inv.Components {
		c := &inv.Components[i]
		name := reNotID.ReplaceAllString(c.Path+"-"+c.Version.Version, "-")
		ids[i] = common.ElementID(fmt.Sprintf("Package-%d-%s", i+1, name)) // names alone may be equal
		doc.Packages = append(doc.Packages, c.spdx(ids[i], m.DB))
		relate(root.PackageSPDXIdentifier, common.TypeRelationshipContains, ids[i])
	}
	for _, i := range inv.Direct {
		relate(root.PackageSPDXIdentifier, common.TypeRelationshipDependsOn, ids[i])
	}
	for i := range inv.Components {
		for _, to := range inv.Components[i].Requires {
			relate(ids[i], common.TypeRelationshipDependsOn, ids[to])
		}
	}
	doc.OtherLicenses = inv.otherLicenses()
	return doc
}

// otherLicenses returns the licenses of components that SPDX has no identifier for.
func (inv *Inventory) otherLicenses() (list []*spdx.OtherLicense) {
	known := make(map[string]bool)
	for i := range inv.Components {
		for id := range strings.SplitSeq(inv.Components[i].license(), " AND ") {
			known[id] = known[id] || strings.HasPrefix(id, "LicenseRef-")
		}
	}
	for _, id := range slices.Sorted(maps.Keys(known)) {
		if known[id] {
			list = append(list, &spdx.OtherLicense{
				LicenseIdentifier: id, LicenseName: strings.TrimPrefix(id, "LicenseRef-"),
				ExtractedText: "the text is in the license file of the module",
			})
		}
	}
	return list
}

// spdx returns the component. The checksum is that of the zip as the bundle carries it.
func (c *Component) spdx(id common.ElementID, db string) *spdx.Package {
	source := "zip with the go.sum hash " + c.H1
	if c.Record != nil {
		source += fmt.Sprintf(", record %d of %s", *c.Record, db)
	}
	p := &spdx.Package{
		PackageName: c.Path, PackageSPDXIdentifier: id, PackageVersion: c.Version.Version,
		PackageDownloadLocation: noAssertion, PackageLicenseConcluded: noAssertion, PackageLicenseDeclared: noAssertion,
		PackageCopyrightText: noAssertion, PackageSourceInfo: source, PrimaryPackagePurpose: "LIBRARY",
		PackageChecksums: []common.Checksum{{Algorithm: common.SHA256, Value: hex.EncodeToString(c.SHA256[:])}},
		PackageExternalReferences: []*spdx.PackageExternalReference{{
			Category: common.CategoryPackageManager, RefType: common.TypePackageManagerPURL, Locator: c.PURL(),
		}},
	}
	if c.License != nil {
		p.PackageLicenseDeclared = *c.License // perhaps NONE or NOASSERTION
	}
	return p
}
