// Where a build meets what is encrypted with SOPS: files that generators and patches read, before kustomize sees them, and
// objects, after kustomize is done with them. sops.go decrypts; it is linked into the decrypting worker only, because SOPS's
// library brings the SDKs of every cloud along.
//
// Guarantees: an encrypted Secret never leaves the worker as if it were an ordinary one; no message holds a decrypted value.
package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"path"
	"strings"

	"sigs.k8s.io/kustomize/api/resource"
	"sigs.k8s.io/kustomize/api/types"
	"sigs.k8s.io/yaml"
)

const (
	// decryptMarker as a label or annotation with the value "disabled" exempts an object.
	decryptMarker = "kustomize.toolkit.fluxcd.io/decrypt"
	// maxEncryptedBytes bounds one encrypted file; Flux's bound.
	maxEncryptedBytes = 5 << 20
)

// decryption is what Weir hands in from the Secret that spec.decryption names. Each list has one text for a key of the
// Secret, whose name is kept for messages.
type decryption struct {
	// Age has files of age identities (*.agekey).
	Age []namedKey `json:"age,omitempty"`
	// PGP has armored private keys (*.asc).
	PGP []namedKey `json:"pgp,omitempty"`
	// The rest are credentials of key management services: sops.vault-token, sops.aws-kms, sops.azure-kv, sops.gcp-kms.
	Vault string `json:"vault,omitempty"`
	AWS   string `json:"aws,omitempty"`
	Azure string `json:"azure,omitempty"`
	GCP   string `json:"gcp,omitempty"`
	// VaultLogins are the instances of Vault at which the worker may log in where there is no token.
	VaultLogins []vaultLogin `json:"vaultLogins,omitempty"`
}

// vaultLogin has the token of a service account that one instance of Vault takes, and no other.
type vaultLogin struct {
	Address string `json:"address"`
	Path    string `json:"path"`
	Role    string `json:"role"`
	Token   string `json:"token"`
}

type namedKey struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// format is one of those that SOPS writes.
type format int

const (
	formatBinary format = iota
	formatDotenv
	formatINI
	formatJSON
	formatYAML
)

// markers are in every file that SOPS wrote in that format. A binary file is an envelope in JSON.
var markers = map[format][]byte{
	formatBinary: []byte(`"mac": "ENC[`),
	formatDotenv: []byte(`sops_mac=ENC[`),
	formatINI:    []byte(`[sops]`),
	formatJSON:   []byte(`"mac": "ENC[`),
	formatYAML:   []byte(`mac: ENC[`),
}

// decrypter has the keys of one build.
type decrypter interface {
	// decrypt returns the content in plain, in the other format. With whole it also checks that nothing around the encrypted
	// values was changed since SOPS wrote the file.
	decrypt(content []byte, from, to format, whole bool) ([]byte, error)
	// redact takes everything that was decrypted out of a message.
	redact(message string) string
}

// newDecrypter is set in the decrypting worker.
var newDecrypter func(*decryption) (decrypter, error)

// secrets decrypts for one build; nil when the Kustomization asks for no decryption.
type secrets struct {
	session   *session
	decrypter decrypter
}

func newSecrets(s *session, keys *decryption) (*secrets, error) {
	if keys == nil {
		return nil, nil
	}
	if newDecrypter == nil {
		return nil, &failure{Code: codeInvalid, Message: "this render worker cannot decrypt; Weir asks another program for that"}
	}
	d, err := newDecrypter(keys)
	if err != nil {
		return nil, &failure{Code: codeInvalid, Message: err.Error()}
	}
	return &secrets{session: s, decrypter: d}, nil
}

// redact cleans what the failure says.
func (x *secrets) redact(f *failure) *failure {
	if x == nil || f == nil {
		return f
	}
	f.Message = x.decrypter.redact(f.Message)
	return f
}

// sources puts plain files in the place of encrypted ones that this kustomization generates Secrets from or patches with.
func (x *secrets) sources(file string, content []byte) error {
	if x == nil {
		return nil
	}
	var k types.Kustomization
	if yaml.Unmarshal(content, &k) != nil {
		return nil // kustomize says what is wrong with it
	}
	dir := path.Dir(file)
	for _, generator := range k.SecretGenerator {
		for _, source := range generator.FileSources {
			key, name, named := strings.Cut(source, "=")
			if !named {
				name = key
			}
			if err := x.source(path.Join(dir, name), formatOf(key)); err != nil {
				return err
			}
		}
		for _, name := range generator.EnvSources {
			in := formatOf(name)
			if in == formatBinary {
				in = formatDotenv
			}
			if err := x.source(path.Join(dir, name), in); err != nil {
				return err
			}
		}
	}
	for _, p := range k.Patches {
		if p.Path == "" || strings.Contains(p.Path, "://") {
			continue
		}
		if err := x.source(path.Join(dir, p.Path), formatOf(p.Path)); err != nil {
			return err
		}
	}
	return nil
}

func (x *secrets) source(p string, in format) error {
	if p == ".." || strings.HasPrefix(p, "../") || path.IsAbs(p) {
		return nil // kustomize refuses it
	}
	content, kind, err := x.session.read(p)
	if err != nil || kind != kindFile || !bytes.Contains(content, markers[in]) || x.session.pinned(p) {
		return err
	}
	plain, err := x.decrypt(content, in, in, true)
	if err != nil {
		return x.session.fail(&failure{Code: codeInvalid, Path: p, Message: "cannot decrypt this file: " + err.Error()})
	}
	x.session.pin(p, plain)
	return nil
}

// object decrypts an object that SOPS encrypted as a whole, or the values of a Secret that are files that it encrypted.
func (x *secrets) object(res *resource.Resource) error {
	if x == nil || exempt(res) {
		return nil
	}
	switch {
	case isEncrypted(res):
		text, err := res.MarshalJSON()
		if err != nil {
			return err
		}
		// The rest of the object is no longer what SOPS saw: kustomize has put labels, names and more into it.
		plain, err := x.decrypt(text, formatJSON, formatJSON, false)
		if err != nil {
			return fmt.Errorf("decryption failed for '%s': %w", nameOf(res), err)
		}
		if res.UnmarshalJSON(plain) != nil {
			return fmt.Errorf("decryption failed for '%s': it is no Kubernetes object any more", nameOf(res))
		}
	case res.GetKind() == "Secret":
		return x.values(res)
	}
	return nil
}

func (x *secrets) values(res *resource.Resource) error {
	data := res.GetDataMap()
	changed := false
	for key, value := range data {
		content, err := base64.StdEncoding.DecodeString(value)
		if err != nil {
			continue // the API server says so
		}
		in, found := detect(content)
		if !found {
			continue
		}
		plain, err := x.decrypt(content, in, formatOf(key), true)
		if err != nil {
			return fmt.Errorf("decryption failed for '%s': its '%s': %w", nameOf(res), key, err)
		}
		data[key], changed = base64.StdEncoding.EncodeToString(plain), true
	}
	if changed {
		res.SetDataMap(data)
	}
	return nil
}

func (x *secrets) decrypt(content []byte, from, to format, whole bool) ([]byte, error) {
	if len(content) > maxEncryptedBytes {
		return nil, fmt.Errorf("too large: more than %d bytes of encrypted text", maxEncryptedBytes)
	}
	return x.decrypter.decrypt(content, from, to, whole)
}

// stillEncrypted is for what no key was given for: such a Secret must not be stored as it is.
func stillEncrypted(res *resource.Resource) error {
	if res.GetKind() != "Secret" || res.GetApiVersion() != "v1" || res.Field("sops").IsNilOrEmpty() {
		return nil
	}
	return fmt.Errorf("%s is SOPS encrypted, configuring decryption is required for this secret to be reconciled: "+
		"set spec.decryption of the Kustomization", nameOf(res))
}

func exempt(res *resource.Resource) bool {
	return strings.EqualFold(res.GetLabels()[decryptMarker], "disabled") ||
		strings.EqualFold(res.GetAnnotations()[decryptMarker], "disabled")
}

func isEncrypted(res *resource.Resource) bool {
	field := res.Field("sops")
	return !field.IsNilOrEmpty() && !field.Value.Field("mac").IsNilOrEmpty()
}

// detect tells which format a value is encrypted in.
func detect(content []byte) (format, bool) {
	for _, one := range []format{formatDotenv, formatINI, formatJSON, formatYAML} {
		if bytes.Contains(content, markers[one]) {
			return one, true
		}
	}
	return formatBinary, false
}

// formatOf tells by the name of a file or key what SOPS takes it for.
func formatOf(name string) format {
	switch {
	case strings.HasSuffix(name, ".dockerconfigjson"), strings.HasSuffix(name, ".json"):
		return formatJSON
	case strings.HasSuffix(name, ".yaml"), strings.HasSuffix(name, ".yml"):
		return formatYAML
	case strings.HasSuffix(name, ".env"):
		return formatDotenv
	case strings.HasSuffix(name, ".ini"):
		return formatINI
	default:
		return formatBinary
	}
}
