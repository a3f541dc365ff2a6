package review

import (
	"encoding/hex"
	"io"
	"slices"
	"strconv"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
	"github.com/google/uuid"

	"github.com/modmirror/modmirror/internal/modpath"
)

// cycloneDXVersion is the version of the specification that CycloneDX follows.
const cycloneDXVersion = cdx.SpecVersion1_6

// WriteCycloneDX writes CycloneDX as JSON.
func (inv *Inventory) WriteCycloneDX(w io.Writer) error {
	enc := cdx.NewBOMEncoder(w, cdx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	return enc.EncodeVersion(inv.CycloneDX(), cycloneDXVersion)
}

// CycloneDX returns the inventory as a bill of materials (https://cyclonedx.org). Names of
// properties begin with "modmirror:". The same inventory makes the same document: its serial number
// is made of the bundle's id, of a draft of the hash of its files, and its time is that of the
// bundle.
func (inv *Inventory) CycloneDX() *cdx.BOM {
	m := inv.Subject.Manifest
	bom := cdx.NewBOM()
	id := uuid.NewSHA1(uuid.NameSpaceURL, []byte("modmirror:"+inv.Subject.name()+":"+inv.Source))
	bom.SerialNumber = "urn:uuid:" + id.String()
	about := []cdx.Property{{Name: "modmirror:bundle:sequence", Value: strconv.FormatInt(m.Sequence, 10)}}
	if id := inv.Subject.ID(); id != "" {
		about = slices.Insert(about, 0, cdx.Property{Name: "modmirror:bundle:id", Value: id})
	} else {
		tree := hex.EncodeToString(inv.Subject.tree[:])
		about = append(about, cdx.Property{Name: "modmirror:bundle:tree", Value: tree})
	}
	for _, s := range inv.Subject.Signers() {
		about = append(about, cdx.Property{Name: "modmirror:bundle:signer", Value: s})
	}
	if m.DB != "" {
		about = append(about, cdx.Property{Name: "modmirror:sumdb", Value: m.DB})
	}
	root := cdx.Component{
		BOMRef: "bundle", Type: cdx.ComponentTypeApplication, Name: m.Name, Version: strconv.FormatInt(m.Sequence, 10),
		Properties: &about,
	}
	if inv.Source != "" {
		root.BOMRef, root.Name, root.Version = "source", inv.Source, ""
	}
	bom.Metadata = &cdx.Metadata{
		Timestamp: m.Created.UTC().Format(time.RFC3339), Component: &root,
		Tools: &cdx.ToolsChoice{Components: &[]cdx.Component{{Type: cdx.ComponentTypeApplication, Name: "modmirror"}}},
	}
	components := make([]cdx.Component, 0, len(inv.Components))
	dependencies := []cdx.Dependency{{Ref: root.BOMRef, Dependencies: inv.purls(inv.Direct)}}
	for i := range inv.Components {
		c := &inv.Components[i]
		components = append(components, c.cycloneDX())
		dependencies = append(dependencies, cdx.Dependency{Ref: c.PURL(), Dependencies: inv.purls(c.Requires)})
	}
	aggregate := cdx.CompositionAggregateComplete
	if !inv.Complete {
		aggregate = cdx.CompositionAggregateIncomplete
	}
	bom.Components, bom.Dependencies = &components, &dependencies
	bom.Compositions = &[]cdx.Composition{{
		Aggregate: aggregate, Assemblies: &[]cdx.BOMReference{cdx.BOMReference(root.BOMRef)},
	}}
	return bom
}

// purls returns the package URLs of components.
func (inv *Inventory) purls(places []int) *[]string {
	if len(places) == 0 {
		return nil
	}
	list := make([]string, 0, len(places))
	for _, i := range places {
		list = append(list, inv.Components[i].PURL())
	}
	return &list
}

// cycloneDX returns the component. The hash is that of the zip as the bundle carries it.
func (c *Component) cycloneDX() cdx.Component {
	purl := c.PURL()
	properties := []cdx.Property{{Name: "modmirror:h1", Value: c.H1}, {Name: "modmirror:gomod-h1", Value: c.GoModH1}}
	add := func(name, value string) {
		properties = append(properties, cdx.Property{Name: "modmirror:" + name, Value: value})
	}
	if c.Record != nil {
		add("sumdb:record", strconv.FormatInt(*c.Record, 10))
	}
	if c.Private {
		add("private", "true")
	}
	if c.Retracted != nil {
		add("retracted", *c.Retracted)
	}
	if c.Deprecated != "" {
		add("deprecated", c.Deprecated)
	}
	out := cdx.Component{
		BOMRef: purl, Type: cdx.ComponentTypeLibrary, Name: c.Path, Version: c.Version.Version, PackageURL: purl,
		Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(c.SHA256[:])}},
		Properties: &properties,
	}
	if c.Path == modpath.Toolchain {
		out.Type = cdx.ComponentTypeApplication
	}
	if l := c.license(); l != "" {
		out.Licenses = &cdx.Licenses{{Expression: l}}
	}
	return out
}
