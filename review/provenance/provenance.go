// Package provenance says in the words of in-toto and SLSA how a bundle was made: of which inputs,
// by which modmirror, from which upstreams, under which policy. The statement is in the bundle, so
// it names the bundle's files by their hash, and not the bundle by its id. The key that signs the
// bundle signs the statement too, as tools that know nothing of bundles can check.
//
// Its form is that of https://github.com/in-toto/attestation/tree/main/spec/v1, its predicate that
// of https://slsa.dev/provenance/v1, and its envelope DSSE
// (https://github.com/secure-systems-lab/dsse).
package provenance

import (
	"bytes"
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	slsa "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"github.com/secure-systems-lab/go-securesystemslib/dsse"
	"golang.org/x/mod/sumdb/note"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/modmirror/modmirror/bundle"
	"github.com/modmirror/modmirror/bundle/trust"
	"github.com/modmirror/modmirror/index"
	"github.com/modmirror/modmirror/internal/modpath"
)

const (
	payloadType   = "application/vnd.in-toto+json"
	predicateType = "https://slsa.dev/provenance/v1"
	builder       = "https://github.com/modmirror/modmirror"

	// buildType says what the parameters mean.
	buildType = "https://github.com/modmirror/modmirror/blob/main/docs/review.md#provenance"

	// dirHash is in-toto's name of what bundle.Bundle.TreeHash returns.
	dirHash = "dirHash"

	// maxSize bounds a statement in bytes. A source takes some 100.
	maxSize = 4 << 20
)

// Inputs are what a bundle was made of.
type Inputs struct {
	Tree      [32]byte        // hash of the files, as of bundle.Draft.TreeHash
	Sources   []string        // what was asked for: modules, or module@query
	Files     []File          // that say what is needed: go.mod, go.sum, lists
	Policy    []string        // its lines
	Upstreams []string        // URLs without credentials
	VulnDB    time.Time       // when the carried vulnerability database was changed; zero without one
	Verdict   string          // of the report, in one sentence
	Documents []bundle.Source // beside the statement
	Version   string          // of modmirror
	Go        string          // with which that was built
}

// A File is a file that was read.
type File struct {
	Name   string // without its folder
	SHA256 [32]byte
}

// A Statement is what a bundle says about how it was made.
type Statement struct {
	UntrustedSigner string `json:"untrustedSigner,omitempty"` // who signed it, if that key is not trusted; the rest is empty

	Signer    string   `json:"signer,omitempty"` // name+hash of the trusted key that signed it
	Version   string   `json:"version,omitempty"`
	Sources   []string `json:"sources,omitempty"`
	Upstreams []string `json:"upstreams,omitempty"`
	Policy    []string `json:"policy,omitempty"` // lines
	Verdict   string   `json:"verdict,omitempty"`
}

// Make returns the statement about a draft with a manifest, signed. The index in the manifest does
// not count.
func Make(ctx context.Context, m *bundle.Manifest, in *Inputs, key *trust.Key) ([]byte, error) {
	predicate, err := in.predicate(m)
	if err != nil {
		return nil, err
	}
	s := &intoto.Statement{
		Type:          intoto.StatementTypeUri,
		Subject:       []*intoto.ResourceDescriptor{resource(m.Name, dirHash, in.Tree)},
		PredicateType: predicateType,
		Predicate:     predicate,
	}
	if err := s.Validate(); err != nil {
		return nil, err
	}
	payload, err := encode(s)
	if err != nil {
		return nil, err
	}
	signer, err := dsse.NewEnvelopeSigner(noteKey{signer: key.Signer})
	if err != nil {
		return nil, err
	}
	envelope, err := signer.SignPayload(ctx, payloadType, payload)
	if err != nil {
		return nil, fmt.Errorf("signing the provenance: %w", err)
	}
	line, err := json.Marshal(envelope)
	if len(line) >= maxSize {
		return nil, fmt.Errorf("the provenance has more than %d bytes: name fewer sources", maxSize)
	}
	return append(line, '\n'), err
}

// predicate returns how a bundle was made, for its manifest but for the index.
func (in *Inputs) predicate(m *bundle.Manifest) (*structpb.Struct, error) {
	external, err := structpb.NewStruct(map[string]any{
		"name": m.Name, "sources": list(in.Sources), "policy": list(in.Policy),
	})
	if err != nil {
		return nil, err
	}
	parameters := map[string]any{
		"created": m.Created.Format(time.RFC3339), "sequence": strconv.FormatInt(m.Sequence, 10), // as JSON has no int64
		"verdict": in.Verdict,
	}
	if m.Base != "" {
		parameters["base"] = m.Base
	}
	if m.DB != "" {
		parameters["sumdb"] = map[string]any{
			"name": m.DB, "size": strconv.FormatInt(m.Head.N, 10), "hash": m.Head.Hash.String(),
		}
	}
	if !in.VulnDB.IsZero() {
		parameters["vulndb"] = in.VulnDB.UTC().Format(time.RFC3339)
	}
	internal, err := structpb.NewStruct(parameters)
	if err != nil {
		return nil, err
	}
	p := &slsa.Provenance{
		BuildDefinition: &slsa.BuildDefinition{
			BuildType: buildType, ExternalParameters: external, InternalParameters: internal,
		},
		RunDetails: &slsa.RunDetails{
			Builder:  &slsa.Builder{Id: builder, Version: map[string]string{"modmirror": in.Version, "go": in.Go}},
			Metadata: &slsa.BuildMetadata{StartedOn: timestamppb.New(m.Created)},
		},
	}
	depends := &p.BuildDefinition.ResolvedDependencies
	for _, f := range in.Files {
		*depends = append(*depends, resource(f.Name, sha256Name, f.SHA256))
	}
	for _, u := range in.Upstreams {
		*depends = append(*depends, &intoto.ResourceDescriptor{Name: upstreamName, Uri: u})
	}
	for _, d := range in.Documents {
		p.RunDetails.Byproducts = append(p.RunDetails.Byproducts, resource(d.Path, sha256Name, d.SHA256))
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	data, err := encode(p)
	if err != nil {
		return nil, err
	}
	out := new(structpb.Struct)
	return out, protojson.Unmarshal(data, out)
}

// Names in a statement.
const (
	sha256Name   = "sha256"
	upstreamName = "upstream"
)

// resource names something by a hash.
func resource(name, algorithm string, sum [32]byte) *intoto.ResourceDescriptor {
	name = strings.ToValidUTF8(name, "\ufffd")
	return &intoto.ResourceDescriptor{Name: name, Digest: map[string]string{algorithm: hex.EncodeToString(sum[:])}}
}

// list returns texts as structpb takes them.
func list(texts []string) []any {
	out := make([]any, 0, len(texts))
	for _, s := range texts {
		out = append(out, strings.ToValidUTF8(s, "\ufffd"))
	}
	return out
}

// encode returns the JSON of a message, always the same: protojson adds spaces as it likes.
func encode(m proto.Message) ([]byte, error) {
	data, err := protojson.Marshal(m)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	err = json.Compact(&out, data)
	return out.Bytes(), err
}

// Read returns the statement in a bundle, nil when it has none. Of one that a key has signed that
// keyring does not trust it returns the name of the key alone: the bundle's own signatures cover
// the bytes, and a trusted key may be that of an approver. The error is a *bundle.NotVerifiedError
// when a trusted key has not signed it or not the bundle, and when it is not about the files of the
// bundle.
func Read(ctx context.Context, b *bundle.Bundle, keyring *trust.Keyring) (*Statement, error) {
	path := modpath.ReviewFile(modpath.Provenance)
	data, err := b.ReadFile(ctx, path, maxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	bad := func(err error) error { return &bundle.NotVerifiedError{What: path, Err: err} }
	e := new(dsse.Envelope)
	if err := json.Unmarshal(data, e); err != nil {
		return nil, bad(errors.New("it is no envelope of DSSE"))
	}
	n, err := trust.OpenUnverified(append(bytes.TrimRight(b.SignedManifest(), "\n"), '\n'))
	if err != nil {
		return nil, bad(err)
	}
	payload, err := open(ctx, e, slices.Concat(b.Signers, trust.Names(n.UnverifiedSigs)), keyring)
	if err != nil {
		return nil, bad(err)
	}
	if payload == nil {
		return &Statement{UntrustedSigner: index.VisibleLine(e.Signatures[0].KeyID)}, nil
	}
	s := new(intoto.Statement)
	if err := protojson.Unmarshal(payload, s); err != nil {
		return nil, bad(fmt.Errorf("its statement is not one of in-toto: %.200s", index.CleanText(err.Error())))
	}
	tree, err := b.TreeHash(ctx)
	if err != nil {
		return nil, err
	}
	subject, want := s.GetSubject(), hex.EncodeToString(tree[:])
	switch {
	case s.GetType() != intoto.StatementTypeUri || s.GetPredicateType() != predicateType:
		return nil, bad(errors.New("it is a statement of another kind"))
	case len(subject) != 1 || subject[0].GetName() != b.Manifest.Name || subject[0].GetDigest()[dirHash] != want:
		return nil, bad(errors.New("it is about other files than those of the bundle: ask the signer for a new one"))
	}
	out, err := statement(s.GetPredicate())
	if err != nil {
		return nil, bad(err)
	}
	out.Signer = e.Signatures[0].KeyID
	return out, nil
}

// open verifies an envelope by the key that it names, which must be one of the signers of the
// bundle, whose names are known and not whether their signatures verify. It returns no payload when
// that key is not trusted here.
func open(ctx context.Context, e *dsse.Envelope, signers []string, keyring *trust.Keyring) ([]byte, error) {
	if e.PayloadType != payloadType || len(e.Signatures) != 1 {
		return nil, errors.New("want one signature of a statement of in-toto")
	}
	id := e.Signatures[0].KeyID
	var keys []dsse.Verifier
	for _, k := range keyring.Keys {
		if v, err := note.NewVerifier(k); err == nil && keyID(v) == id {
			keys = append(keys, noteKey{verifier: v})
		}
	}
	if !slices.Contains(signers, id) {
		return nil, fmt.Errorf("it names the key %.100q, which has not signed the bundle", id)
	}
	if len(keys) == 0 {
		return nil, nil
	}
	verifier, err := dsse.NewEnvelopeVerifier(keys...)
	if err != nil {
		return nil, err
	}
	_, payload, err := verifier.VerifyAndDecode(ctx, e)
	if err != nil {
		return nil, fmt.Errorf("the signature by %s does not verify", id)
	}
	return payload, nil
}

// statement takes out of a predicate what people are shown.
func statement(predicate *structpb.Struct) (*Statement, error) {
	data, err := protojson.Marshal(predicate)
	if err != nil {
		return nil, err
	}
	p := new(slsa.Provenance)
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(data, p); err != nil {
		return nil, errors.New("its predicate is not that of SLSA")
	}
	d := p.GetBuildDefinition()
	external, internal := d.GetExternalParameters().GetFields(), d.GetInternalParameters().GetFields()
	out := &Statement{
		Version: index.VisibleLine(p.GetRunDetails().GetBuilder().GetVersion()["modmirror"]),
		Sources: texts(external["sources"]), Policy: texts(external["policy"]),
		Verdict: index.VisibleLine(internal["verdict"].GetStringValue()), Upstreams: []string{},
	}
	for _, r := range d.GetResolvedDependencies() {
		if r.GetName() == upstreamName {
			out.Upstreams = append(out.Upstreams, index.VisibleLine(r.GetUri()))
		}
	}
	return out, nil
}

// texts returns the texts in a list.
func texts(v *structpb.Value) []string {
	out := []string{}
	for _, x := range v.GetListValue().GetValues() {
		out = append(out, index.VisibleLine(x.GetStringValue()))
	}
	return out
}

// A noteKey signs and verifies envelopes with a key of signed notes. Ed25519 keys of notes sign the
// bytes that they are given. Those of an envelope begin with "DSSEv1", those of a manifest do not:
// neither signature can pass for the other.
type noteKey struct {
	signer   note.Signer
	verifier note.Verifier
}

// Sign implements dsse.Signer.
func (k noteKey) Sign(_ context.Context, data []byte) ([]byte, error) { return k.signer.Sign(data) }

// KeyID implements dsse.Signer and dsse.Verifier: the name and hash of the key, as bundles have
// them.
func (k noteKey) KeyID() (string, error) {
	if k.verifier != nil {
		return keyID(k.verifier), nil
	}
	return keyID(k.signer), nil
}

func keyID(k interface {
	Name() string
	KeyHash() uint32
}) string {
	return fmt.Sprintf("%s+%08x", k.Name(), k.KeyHash())
}

// Verify implements dsse.Verifier.
func (k noteKey) Verify(_ context.Context, data, sig []byte) error {
	if !k.verifier.Verify(data, sig) {
		return errors.New("the signature does not verify")
	}
	return nil
}

// Public implements dsse.Verifier. Nobody asks for it: the key has an id.
func (k noteKey) Public() crypto.PublicKey { return nil }
