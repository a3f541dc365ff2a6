package web

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/modmirror/modmirror/review"
)

var update = flag.Bool("update", false, "write templates/openapi.json")

// answers are the pages with the types of their JSON. A row that is missing here is missing in the
// description.
var answers = []struct {
	path, summary string
	params        []string
	data          any
}{
	{"/", "What is served, and the settings of a client", nil, startPage{}},
	{"/search", "Packages that have all words of q, the best first", []string{"q"}, searchPage{}},
	{"/modules", "All modules", nil, []carried{}},
	{"/licenses", "The licenses of all versions that are carried", nil, []licensed{}},
	{"/vulns", "The known vulnerabilities of what is carried", nil, review.Vulns{}},
	{"/wants", "What clients asked for and what is missing", nil, []Want{}},
	{"/{path}", "A module, a package, or a folder: PATH, PATH@VERSION, MODULE@VERSION/PATH", []string{"tab", "from", "GOOS", "GOARCH"}, unit{}},
	{"/src/{path}", "A file: MODULE@VERSION/FILE", nil, sourcePage{}},
}

// schema returns the JSON schema of a type, as encoding/json writes it.
func schema(t reflect.Type) map[string]any {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return map[string]any{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Pointer:
		s := schema(t.Elem())
		if name, ok := s["type"].(string); ok {
			s["type"] = []string{name, "null"}
		}
		return s
	}
	switch t.Kind() {
	case reflect.String:
		return map[string]any{"type": "string"}
	case reflect.Bool:
		return map[string]any{"type": "boolean"}
	case reflect.Int, reflect.Int64:
		return map[string]any{"type": "integer"}
	case reflect.Float64:
		return map[string]any{"type": "number"}
	case reflect.Slice:
		return map[string]any{"type": []string{"array", "null"}, "items": schema(t.Elem())}
	case reflect.Array:
		return map[string]any{"type": "array", "items": schema(t.Elem()), "minItems": t.Len(), "maxItems": t.Len()}
	case reflect.Map:
		return map[string]any{"type": []string{"object", "null"}, "additionalProperties": schema(t.Elem())}
	case reflect.Struct:
		properties, required := make(map[string]any), []string{}
		fields(t, properties, &required)
		return map[string]any{"type": "object", "properties": properties, "required": required, "additionalProperties": false}
	}
	panic("no schema of " + t.String())
}

func fields(t reflect.Type, properties map[string]any, required *[]string) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case tag == "-":
		case f.Anonymous && tag == "":
			fields(f.Type, properties, required)
		case !f.IsExported():
		default:
			if tag == "" {
				tag = f.Name
			}
			properties[tag] = schema(f.Type)
			if !strings.Contains(options, "omitempty") {
				*required = append(*required, tag)
			}
		}
	}
}

// TestOpenAPI compares the description with the types. The test of pages in e2e compares it with
// answers.
func TestOpenAPI(t *testing.T) {
	paths := make(map[string]any)
	for _, a := range answers {
		params := []any{}
		add := func(name, in string) {
			params = append(params, map[string]any{"name": name, "in": in, "required": in == "path", "schema": map[string]any{"type": "string"}})
		}
		if strings.Contains(a.path, "{path}") {
			add("path", "path")
		}
		for _, p := range a.params {
			add(p, "query")
		}
		paths[a.path] = map[string]any{"get": map[string]any{
			"summary": a.summary, "parameters": params,
			"responses": map[string]any{
				"200": map[string]any{"description": "found", "content": map[string]any{"application/json": map[string]any{"schema": schema(reflect.TypeOf(a.data))}}},
				"404": map[string]any{"description": "not carried: error says what, hints how to have it carried"},
			},
		}}
	}
	want, err := json.MarshalIndent(map[string]any{
		"openapi": "3.1.0",
		"info": map[string]any{
			"title": "modmirror", "version": "1",
			"description": "The pages of a server as JSON: with the header Accept: application/json, or with .json behind a path that is not of a file.",
		},
		"paths": paths,
	}, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, '\n')
	const file = "templates/openapi.json"
	if *update {
		if err := os.WriteFile(file, want, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the types are (%v): go test ./serve/web -run TestOpenAPI -update", file, err)
	}
}
