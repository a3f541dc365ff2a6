package provenance_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/internal/modpath"
	"github.com/modmirror/modmirror/internal/testbundle"
	"github.com/modmirror/modmirror/review/provenance"
)

var inputs = &provenance.Inputs{
	Sources: []string{"example.com/app", "example.com/text@latest\x1b[2J"}, Policy: []string{"vulns none"},
	Files:     []provenance.File{{Name: "example.com/app/go.mod", SHA256: [32]byte{1}}},
	Upstreams: []string{"https://proxy.example.com"}, Verdict: "Nothing\nto see.", Version: "v1.2.3", Go: "go1.26.8",
}

// makeStatement returns the statement about a bundle by a key.
func makeStatement(t *testing.T, b *testbundle.TB, key *trust.Key) []byte {
	t.Helper()
	in := *inputs
	var err error
	if in.Tree, err = b.Draft.TreeHash(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, err := provenance.Make(t.Context(), &b.Draft.Manifest, &in, key)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// read returns what Read says of a bundle like b that has a statement.
func read(t *testing.T, b *testbundle.TB, keyring *trust.Keyring, statement []byte) (*provenance.Statement, error) {
	t.Helper()
	v := b.Variant(t, func(c *bundle.Contents) {
		c.Reviews = []bundle.Source{bundle.DataSource(modpath.ReviewFile(modpath.Provenance), statement)}
	})
	opened, err := bundle.Open(t.Context(), v.Path, b.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	return provenance.Read(t.Context(), opened, keyring)
}

func TestRead(t *testing.T) {
	b := testbundle.Make(t, "../../testdata/mod", nil)
	statement := makeStatement(t, b, b.Key)
	if again := makeStatement(t, b, b.Key); string(again) != string(statement) {
		t.Error("the same inputs make another statement")
	}
	got, err := read(t, b, b.Trusted, statement)
	if err != nil {
		t.Fatal(err)
	}
	want := &provenance.Statement{
		Signer: keyName(b.Key), Version: "v1.2.3",
		Sources:   []string{"example.com/app", "example.com/text@latest⟨U+001B⟩[2J"},
		Upstreams: []string{"https://proxy.example.com"}, Policy: []string{"vulns none"}, Verdict: "Nothing to see.",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}

	// Who trusts an approver alone is told whose statement it is, and no more.
	approver := ephemeral(t, "approver")
	got, err = read(t, b, trust.NewKeyring(approver.Verifier), statement)
	if diff := cmp.Diff(&provenance.Statement{UntrustedSigner: keyName(b.Key)}, got); err != nil || diff != "" {
		t.Error(err, diff)
	}

	opened, err := bundle.Open(t.Context(), b.Path, b.Trusted, "")
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	if got, err := provenance.Read(t.Context(), opened, b.Trusted); got != nil || err != nil {
		t.Error("a bundle without a statement:", got, err)
	}
}

func TestRefused(t *testing.T) {
	b := testbundle.Make(t, "../../testdata/mod", nil)
	other := testbundle.Make(t, "../../testdata/mod", func(c *bundle.Contents) { c.Missing = nil })
	other = other.Variant(t, func(c *bundle.Contents) { c.Versions = c.Versions[1:] })
	good := makeStatement(t, b, b.Key)
	sibling := ephemeral(t, "sibling") // trusted, and has not signed the bundle
	keyring := trust.NewKeyring(append(slices.Clone(b.Trusted.Keys), sibling.Verifier)...)

	payload := func(change func(map[string]any)) []byte { // signed by the right key
		e := envelope(t, good)
		data, err := base64.StdEncoding.DecodeString(e.Payload)
		if err != nil {
			t.Fatal(err)
		}
		var s map[string]any
		if err := json.Unmarshal(data, &s); err != nil {
			t.Fatal(err)
		}
		change(s)
		if data, err = json.Marshal(s); err != nil {
			t.Fatal(err)
		}
		return sign(t, b.Key, e.PayloadType, data)
	}
	edit := func(change func(*dsse.Envelope)) []byte {
		e := envelope(t, good)
		change(e)
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for name, test := range map[string]struct {
		statement []byte
		want      string
	}{
		"other files":      {makeStatement(t, other, b.Key), "it is about other files"},
		"another signer":   {makeStatement(t, b, sibling), "has not signed the bundle"},
		"a name of nobody": {edit(func(e *dsse.Envelope) { e.Signatures[0].KeyID = "ceo@corp+deadbeef" }), "has not signed the bundle"},
		"no name":          {edit(func(e *dsse.Envelope) { e.Signatures[0].KeyID = "" }), "has not signed the bundle"},
		"no envelope":      {[]byte("hello"), "no envelope"},
		"null":             {[]byte("null"), "want one signature"},
		"no signature":     {edit(func(e *dsse.Envelope) { e.Signatures = nil }), "want one signature"},
		"two signatures":   {edit(func(e *dsse.Envelope) { e.Signatures = append(e.Signatures, e.Signatures...) }), "want one signature"},
		"other payload":    {edit(func(e *dsse.Envelope) { e.Payload = base64.StdEncoding.EncodeToString([]byte("{}")) }), "the signature by"},
		"another type":     {edit(func(e *dsse.Envelope) { e.PayloadType = "text/plain" }), "want one signature"},
		"signed as text":   {sign(t, b.Key, "text/plain", []byte("{}")), "want one signature"},
		"not JSON":         {sign(t, b.Key, "application/vnd.in-toto+json", []byte("hello")), "not one of in-toto"},
		"another kind":     {payload(func(s map[string]any) { s["predicateType"] = "https://example.com/v1" }), "another kind"},
		"version 0.1":      {payload(func(s map[string]any) { s["_type"] = "https://in-toto.io/Statement/v0.1" }), "another kind"},
		"two subjects":     {payload(func(s map[string]any) { s["subject"] = append(s["subject"].([]any), s["subject"].([]any)...) }), "about other files"},
		"of another line":  {payload(func(s map[string]any) { s["subject"].([]any)[0].(map[string]any)["name"] = "else" }), "about other files"},
		"no subject":       {payload(func(s map[string]any) { delete(s, "subject") }), "about other files"},
		"a text for parts": {payload(func(s map[string]any) { s["predicate"] = map[string]any{"buildDefinition": "x"} }), "not that of SLSA"},
	} {
		got, err := read(t, b, keyring, test.statement)
		if bad, ok := errors.AsType[*bundle.NotVerifiedError](err); !ok || !strings.Contains(bad.Error(), test.want) {
			t.Errorf("%s: %+v, %v, want %q", name, got, err, test.want)
		}
	}

	// What a signed statement lacks is empty, and no reason to panic.
	empty := payload(func(s map[string]any) { s["predicate"] = map[string]any{} })
	if got, err := read(t, b, keyring, empty); err != nil || got.Verdict != "" || len(got.Sources) > 0 {
		t.Errorf("an empty predicate: %+v, %v", got, err)
	}
	long := append([]byte(nil), good...)
	long = append(long, make([]byte, 4<<20)...)
	if _, err := read(t, b, keyring, long); !testbundle.Refused(err) {
		t.Error("a statement of 4 MiB:", err)
	}
}

func ephemeral(t *testing.T, name string) *trust.Key {
	t.Helper()
	key, err := trust.EphemeralKey(name)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// keyName returns name+hash of a key.
func keyName(k *trust.Key) string {
	return strings.Join(strings.SplitN(k.Verifier, "+", 3)[:2], "+")
}

func envelope(t *testing.T, data []byte) *dsse.Envelope {
	t.Helper()
	e := new(dsse.Envelope)
	if err := json.Unmarshal(data, e); err != nil {
		t.Fatal(err)
	}
	return e
}

// sign returns an envelope of any payload.
func sign(t *testing.T, key *trust.Key, payloadType string, payload []byte) []byte {
	t.Helper()
	s, err := dsse.NewEnvelopeSigner(signer{key})
	if err != nil {
		t.Fatal(err)
	}
	e, err := s.SignPayload(t.Context(), payloadType, payload)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

type signer struct{ key *trust.Key }

func (s signer) Sign(_ context.Context, data []byte) ([]byte, error) { return s.key.Signer.Sign(data) }
func (s signer) KeyID() (string, error)                              { return keyName(s.key), nil }
