package e2e

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/openvex/go-vex/pkg/vex"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// moduleDir returns the folder of a module in the module cache.
func moduleDir(t *testing.T, path string) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", path)
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	var m struct{ Dir string }
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", path, err, out)
	}
	return m.Dir
}

// validator returns the validator of a published JSON schema. Others are found by their addresses.
func validator(t *testing.T, file string, others map[string]string) *jsonschema.Schema {
	t.Helper()
	c := jsonschema.NewCompiler()
	for address, file := range others {
		data, err := os.ReadFile(file)
		if err == nil {
			err = c.AddResource(address, parsed(t, string(data)))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	s, err := c.Compile(file)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// parsed returns JSON as validators want it.
func parsed(t *testing.T, text string) any {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v: %.1000s", err, text)
	}
	return doc
}

// sarifSchema returns the schema of SARIF 2.1.0, which a library has as a constant that it does not
// export.
func sarifSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	name := filepath.Join(moduleDir(t, "github.com/owenrumney/go-sarif/v3@v3.3.1"), "pkg", "report", "v210", "sarif", "schema.go")
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	text := ""
	ast.Inspect(file, func(n ast.Node) bool {
		if v, ok := n.(*ast.ValueSpec); ok && v.Names[0].Name == "schema" {
			text, err = strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("sarif.json", parsed(t, text)); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("sarif.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestFormats makes a bundle of real modules, and validates what sbom and vulns print against the
// schemas that are published: CycloneDX's and SARIF's are in modules of libraries, SPDX's in that of
// syft.
func TestFormats(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	write := func(name, text string) {
		name = filepath.Join(m.dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	write("db/index/db.json", `{"modified":"2026-01-01T00:00:00Z"}`)
	write("db/index/modules.json", `[{"path":"github.com/spf13/pflag","vulns":[{"id":"GO-0000-0001"}]},{"path":"stdlib","vulns":[{"id":"GO-0000-0001"}]}]`)
	write("db/index/vulns.json", `[{"id":"GO-0000-0001","modified":"2026-01-01T00:00:00Z"}]`)
	write("db/ID/GO-0000-0001.json", `{"schema_version":"1.3.1","id":"GO-0000-0001","modified":"2026-01-01T00:00:00Z","summary":"An example","aliases":["CVE-0000-0001"],
		"affected":[{"package":{"name":"github.com/spf13/pflag"},"ranges":[{"type":"SEMVER","events":[{"introduced":"0"},{"fixed":"1.99.0"}]}],
		"ecosystem_specific":{"imports":[{"path":"github.com/spf13/pflag"}]}}],"database_specific":{"url":"https://example.com/GO-0000-0001"}}`)
	m.must("modmirror", "sync", "-q", "--name", "team", "--vulndb=db", "--review", "-o", "team.tar", "github.com/spf13/cobra@v1.8.1")
	carried := func(name string) string { // a document in the bundle
		return m.must("tar", "xOf", "team.tar", "review/"+name)
	}

	cyclone := filepath.Join(moduleDir(t, "github.com/CycloneDX/cyclonedx-go@v0.12.0"), "schema")
	schemas := map[string]*jsonschema.Schema{
		"cyclonedx": validator(t, filepath.Join(cyclone, "bom-1.6.schema.json"), map[string]string{
			"http://cyclonedx.org/schema/spdx.schema.json":     filepath.Join(cyclone, "spdx.schema.json"),
			"http://cyclonedx.org/schema/jsf-0.82.schema.json": filepath.Join(cyclone, "jsf-0.82.schemax.json"),
		}),
		"spdx": validator(t, filepath.Join(moduleDir(t, "github.com/anchore/syft@v1.40.0"), "schema", "spdx-json", "spdx-schema-2.3.json"), nil),
	}
	for format, schema := range schemas {
		text := m.must("modmirror", "sbom", "--licenses", "--format", format, "team.tar")
		if again := m.must("modmirror", "sbom", "--licenses", "--format", format, "team.tar"); again != text {
			t.Errorf("%s: the same bundle makes other bytes", format)
		}
		doc := parsed(t, text)
		if err := schema.Validate(doc); err != nil {
			t.Errorf("%s: %v", format, err)
		}
		if n := strings.Count(text, `"pkg:golang/github.com/spf13/pflag@`); n < 1 {
			t.Errorf("%s: pflag is there %d times:\n%s", format, n, text)
		}
		if n := strings.Count(text, `"BSD-3-Clause"`); n < 1 { // pflag's
			t.Errorf("%s: no license:\n%s", format, text)
		}
		if err := schema.Validate(parsed(t, carried("sbom."+format+".json"))); err != nil {
			t.Errorf("%s in the bundle: %v", format, err)
		}
		// A schema that refuses nothing would show nothing.
		doc.(map[string]any)["specVersion"], doc.(map[string]any)["spdxVersion"] = 1, 1
		if schema.Validate(doc) == nil {
			t.Errorf("%s: the schema lets anything pass", format)
		}
	}

	log := m.must("modmirror", "vulns", "--sarif", "team.tar")
	if err := sarifSchema(t).Validate(parsed(t, log)); err != nil {
		t.Errorf("SARIF: %v", err)
	}
	if !strings.Contains(log, `"ruleId": "GO-0000-0001"`) {
		t.Errorf("SARIF: no results: %s", log)
	}

	for _, text := range []string{m.must("modmirror", "vulns", "--openvex", "team.tar"), carried("vulns.openvex.json")} {
		doc, err := vex.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range doc.Statements {
			if err := s.Validate(); err != nil {
				t.Error(err)
			}
		}
		if s := doc.StatementsByVulnerability("CVE-0000-0001"); len(s) == 0 || s[0].Status != vex.StatusAffected {
			t.Errorf("OpenVEX: %+v", doc)
		}
	}
}
