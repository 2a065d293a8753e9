//go:build sops

// What SOPS's own library encrypts is decrypted; keys are made for each test.
package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	filippo "filippo.io/age"
	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/hcvault"
	"github.com/getsops/sops/v3/keys"
	"github.com/getsops/sops/v3/pgp"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	"github.com/getsops/sops/v3/stores/json"
	"github.com/getsops/sops/v3/stores/yaml"
)

const password = "correct-horse-battery"

// ageKey is an identity as age-keygen writes it, and a key of SOPS that encrypts for it.
func ageKey(t *testing.T) (string, keys.MasterKey) {
	t.Helper()
	identity, err := filippo.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	key, err := age.MasterKeyFromRecipient(identity.Recipient().String())
	if err != nil {
		t.Fatal(err)
	}
	return identity.String() + "\n", key
}

// pgpKey is an armored private key, and a key of SOPS that encrypts for it.
func pgpKey(t *testing.T) (string, keys.MasterKey) {
	t.Helper()
	entity, err := openpgp.NewEntity("test", "", "test@example.com", nil)
	if err != nil {
		t.Fatal(err)
	}
	ring := filepath.Join(t.TempDir(), "pubring.gpg")
	file, err := os.Create(ring)
	if err != nil {
		t.Fatal(err)
	}
	if err := entity.Serialize(file); err != nil {
		t.Fatal(err)
	}
	file.Close()
	key := pgp.NewMasterKeyFromFingerprint(fmt.Sprintf("%X", entity.PrimaryKey.Fingerprint))
	pgp.PubRing(ring).ApplyToMasterKey(key)
	return armored(t, entity), key
}

func armored(t *testing.T, entity *openpgp.Entity) string {
	t.Helper()
	var text bytes.Buffer
	w, err := armor.Encode(&text, openpgp.PrivateKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := entity.SerializePrivate(w, nil); err != nil {
		t.Fatal(err)
	}
	w.Close()
	return text.String()
}

// encrypted does what `sops encrypt` does.
func encrypted(t *testing.T, f format, text, regex string, key keys.MasterKey) string {
	t.Helper()
	var one interface {
		sops.PlainFileLoader
		sops.EncryptedFileEmitter
	}
	switch f {
	case formatDotenv:
		one = dotenv.NewStore(&config.DotenvStoreConfig{})
	case formatINI:
		one = ini.NewStore(&config.INIStoreConfig{})
	case formatJSON:
		one = json.NewStore(&config.JSONStoreConfig{})
	case formatYAML:
		one = yaml.NewStore(&config.YAMLStoreConfig{})
	default:
		one = json.NewBinaryStore(&config.JSONBinaryStoreConfig{})
	}
	branches, err := one.LoadPlainFile([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	tree := sops.Tree{Branches: branches, Metadata: sops.Metadata{
		KeyGroups: []sops.KeyGroup{{key}}, EncryptedRegex: regex, Version: "3.13.3",
	}}
	dataKey := make([]byte, 32)
	if _, err := rand.Read(dataKey); err != nil {
		t.Fatal(err)
	}
	if err := key.Encrypt(dataKey); err != nil {
		t.Fatal(err)
	}
	cipher := aes.NewCipher()
	mac, err := tree.Encrypt(dataKey, cipher)
	if err != nil {
		t.Fatal(err)
	}
	tree.Metadata.LastModified = time.Now().UTC()
	tree.Metadata.MessageAuthenticationCode, err = cipher.Encrypt(mac, dataKey, tree.Metadata.LastModified.Format(time.RFC3339))
	if err != nil {
		t.Fatal(err)
	}
	out, err := one.EmitEncryptedFile(tree)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

const secretText = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: whole\nstringData:\n  password: " + password + "\n"

const dataOnly = "^(data|stringData)$"

func plainValue(t *testing.T, object map[string]any, key string) string {
	t.Helper()
	text, _ := dig(object, "data", key).(string)
	plain, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(plain)
}

func TestSopsSecretsAreDecryptedWithEitherKindOfKey(t *testing.T) {
	for _, kind := range []string{"age", "pgp"} {
		t.Run(kind, func(t *testing.T) {
			text, key := ageKey(t)
			keys := &decryption{Age: []namedKey{{Name: "a.agekey", Text: text}}}
			if kind == "pgp" {
				text, key = pgpKey(t)
				keys = &decryption{PGP: []namedKey{{Name: "a.asc", Text: text}}}
			}
			files := tree{
				"app/kustomization.yaml": "resources: [whole.yaml]\nnamespace: shop\ncommonAnnotations: {a: b}\n",
				"app/whole.yaml":         encrypted(t, formatYAML, secretText, dataOnly, key),
			}
			r := start(t)
			d := r.must(files, buildRequest{Path: "app", Decrypt: keys})
			object := r.object(d, "Secret", "whole")
			equal(t, "plain", dig(object, "stringData", "password"), password)
			equal(t, "metadata", dig(object, "sops"), nil)
			equal(t, "namespace", dig(object, "metadata", "namespace"), "shop")
		})
	}
}

func TestSopsFilesOfGeneratorsAndPatchesAreDecryptedInEveryFormat(t *testing.T) {
	text, key := ageKey(t)
	files := tree{
		"app/kustomization.yaml": "resources: [../base]\npatches: [{path: patch.yaml}]\n",
		"app/patch.yaml": encrypted(t, formatYAML, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: plain\ndata:\n  more: "+
			password+"\n", dataOnly, key),
		"base/kustomization.yaml": "resources: [plain.yaml]\ngeneratorOptions: {disableNameSuffixHash: true}\n" +
			"secretGenerator:\n- name: files\n  files: [a.yaml, a.json, a.bin, a.ini, renamed.json=other, plain.txt]\n" +
			"- name: env\n  envs: [a.env]\n",
		"base/plain.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: plain\n",
		"base/a.yaml":     encrypted(t, formatYAML, "password: "+password+"\n", "", key),
		"base/a.json":     encrypted(t, formatJSON, `{"password": "`+password+`"}`, "", key),
		"base/a.bin":      encrypted(t, formatBinary, "raw "+password, "", key),
		"base/a.ini":      encrypted(t, formatINI, "[main]\npassword = "+password+"\n", "", key),
		"base/other":      encrypted(t, formatJSON, `{"password": "`+password+`"}`, "", key),
		"base/plain.txt":  "not encrypted",
		"base/a.env":      encrypted(t, formatDotenv, "PASSWORD="+password+"\n", "", key),
	}
	r := start(t)
	d := r.must(files, buildRequest{Path: "app", Decrypt: &decryption{Age: []namedKey{{Name: "a.agekey", Text: text}}}})
	object := r.object(d, "Secret", "files")
	for name, want := range map[string]string{"a.yaml": "password: " + password + "\n", "a.bin": "raw " + password, "plain.txt": "not encrypted"} {
		equal(t, name, plainValue(t, object, name), want)
	}
	for _, name := range []string{"a.json", "a.ini", "renamed.json"} {
		if got := plainValue(t, object, name); !strings.Contains(got, password) || strings.Contains(got, "sops") {
			t.Errorf("%s: %s", name, got)
		}
	}
	equal(t, "env", plainValue(t, r.object(d, "Secret", "env"), "PASSWORD"), password)
	equal(t, "patch", dig(r.object(d, "ConfigMap", "plain"), "data", "more"), password)
}

func TestEncryptedValuesOfASecretAreDecryptedUnlessItSaysOtherwise(t *testing.T) {
	text, key := ageKey(t)
	inner := encrypted(t, formatJSON, `{"auth": "`+password+`"}`, "", key)
	secret := func(name, marker string) string {
		return "apiVersion: v1\nkind: Secret\nmetadata:\n  name: " + name + "\n  annotations: {" + marker + "}\ndata:\n  .dockerconfigjson: " +
			base64.StdEncoding.EncodeToString([]byte(inner)) + "\n"
	}
	files := tree{"app/a.yaml": secret("open", ""), "app/b.yaml": secret("closed", decryptMarker+": Disabled")}
	r := start(t)
	d := r.must(files, buildRequest{Path: "app", Decrypt: &decryption{Age: []namedKey{{Name: "a.agekey", Text: text}}}})
	if got := plainValue(t, r.object(d, "Secret", "open"), ".dockerconfigjson"); !strings.Contains(got, password) {
		t.Error(got)
	}
	equal(t, "marked", plainValue(t, r.object(d, "Secret", "closed"), ".dockerconfigjson"), inner)
}

func TestDecryptionThatFailsSaysWhichFileAndWhatToDo(t *testing.T) {
	text, key := ageKey(t)
	otherText, _ := ageKey(t)
	pgpText, _ := pgpKey(t)
	own := &decryption{Age: []namedKey{{Name: "a.agekey", Text: text}}}
	whole := encrypted(t, formatYAML, secretText, dataOnly, key)
	generator := "secretGenerator: [{name: x, files: [a.yaml]}]\n"
	file := encrypted(t, formatYAML, "password: "+password+"\nopen_unencrypted: x\n", "", key)
	file = strings.Replace(file, "open_unencrypted: x", "open_unencrypted: y", 1)
	for _, c := range []struct {
		name    string
		files   tree
		keys    *decryption
		at      string
		message string
	}{
		{"no decryption", tree{"app/a.yaml": whole}, nil, "app/a.yaml", "is SOPS encrypted, configuring decryption is required"},
		{"no key", tree{"app/a.yaml": whole}, &decryption{}, "app/a.yaml", "there is no age identity"},
		{"wrong key", tree{"app/a.yaml": whole}, &decryption{Age: []namedKey{{Text: otherText}}}, "app/a.yaml",
			"decryption failed for 'Secret/whole': no key fits: it is encrypted for age " + key.ToString()},
		{"another kind of key", tree{"app/a.yaml": whole}, &decryption{PGP: []namedKey{{Text: pgpText}}}, "app/a.yaml", "no key fits"},
		{"changed", tree{"app/kustomization.yaml": generator, "app/a.yaml": file}, own, "app/a.yaml",
			"cannot decrypt this file: its MAC does not match: it was changed after it was encrypted"},
		{"value changed", tree{"app/a.yaml": strings.Replace(whole, "GCM,data:", "GCM,data:AAAA", 1)}, own, "app/a.yaml", "decryption failed for 'Secret/whole': "},
		{"no age key", tree{}, &decryption{Age: []namedKey{{Name: "x.agekey", Text: "hunter2hunter2"}}}, "", "'x.agekey' of the decryption Secret"},
		{"no pgp key", tree{}, &decryption{PGP: []namedKey{{Name: "x.asc", Text: "hunter2hunter2"}}}, "", "'x.asc' of the decryption Secret"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.files["app/other.yaml"] = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other}\n"
			_, f := start(t).build(c.files, buildRequest{Path: "app", Decrypt: c.keys})
			if f == nil || f.Code != codeInvalid || f.Path != c.at || !strings.Contains(f.Message, c.message) {
				t.Fatalf("failure: %+v", f)
			}
			if strings.Contains(f.Message, password) || strings.Contains(f.Message, "hunter2") || strings.Contains(f.Message, "SECRET-KEY") {
				t.Errorf("it says too much: %s", f.Message)
			}
		})
	}
}

func TestWhatSopsDecryptedIsInNoMessage(t *testing.T) {
	text, key := ageKey(t)
	files := tree{
		"app/kustomization.yaml": "secretGenerator: [{name: x, envs: [a.env]}]\n",
		// Kustomize quotes the whole line that it cannot take.
		"app/a.env":  encrypted(t, formatDotenv, "GOOD="+password+"\n", "", key),
		"app/b.yaml": encrypted(t, formatYAML, strings.Replace(secretText, "password: ", "password: ${bad-", 1), dataOnly, key),
	}
	r := start(t)
	_, f := r.build(files, buildRequest{
		Path: "app", Decrypt: &decryption{Age: []namedKey{{Text: text}}},
		Patches: []patch{{Patch: "not a patch: " + password}},
	})
	if f == nil || strings.Contains(f.Message, password) {
		t.Errorf("failure: %+v", f)
	}
	files["app/kustomization.yaml"] = "resources: [b.yaml]\n"
	_, f = r.build(files, buildRequest{
		Path: "app", Decrypt: &decryption{Age: []namedKey{{Text: text}}},
		Substitute: &substitution{Strict: true, Always: true},
	})
	if f == nil || strings.Contains(f.Message, password) {
		t.Errorf("failure: %+v", f)
	}
}

func TestSopsAsksVaultWithTheTokenOfTheSecret(t *testing.T) {
	var dataKey string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		switch {
		case request.Header.Get("X-Vault-Token") != "good":
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"errors": ["permission denied"]}`)
		case strings.HasPrefix(request.URL.Path, "/v1/sops/encrypt/"):
			dataKey = strings.Split(string(body), `"`)[3]
			fmt.Fprint(w, `{"data": {"ciphertext": "vault:v1:abc"}}`)
		default:
			fmt.Fprintf(w, `{"data": {"plaintext": "%s"}}`, dataKey)
		}
	}))
	defer server.Close()
	client := hcvault.NewHTTPClient(server.Client())
	transport := http.DefaultTransport
	http.DefaultTransport = server.Client().Transport
	defer func() { http.DefaultTransport = transport }()
	key := hcvault.NewMasterKey(server.URL, "sops", "key")
	client.ApplyToMasterKey(key)
	hcvault.Token("good").ApplyToMasterKey(key)
	files := tree{"app/a.yaml": encrypted(t, formatYAML, secretText, dataOnly, key)}
	r := start(t)
	d := r.must(files, buildRequest{Path: "app", Decrypt: &decryption{Vault: "good\n"}})
	equal(t, "plain", dig(r.object(d, "Secret", "whole"), "stringData", "password"), password)
	for token, want := range map[string]string{"bad": "Vault refused: ", "": "there are no credentials for Vault, no key 'sops.vault-token'"} {
		_, f := r.build(files, buildRequest{Path: "app", Decrypt: &decryption{Vault: token}})
		if f == nil || !strings.Contains(f.Message, want) {
			t.Errorf("failure: %+v", f)
		}
	}
}

func TestSopsLogsInAtVaultWhereThatIsAllowed(t *testing.T) {
	// Each ciphertext is told apart by its number.
	var dataKeys []string
	logins := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		switch {
		case request.URL.Path == "/v1/ns1/auth/kubernetes/login":
			logins++
			if string(body) != `{"jwt":"made for vault","role":"shop_deployer"}` {
				w.WriteHeader(http.StatusBadRequest)
				fmt.Fprint(w, `{"errors": ["invalid role or token"]}`)
				return
			}
			fmt.Fprint(w, `{"auth": {"client_token": "good"}}`)
		case request.Header.Get("X-Vault-Token") != "good":
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"errors": ["permission denied"]}`)
		case strings.HasPrefix(request.URL.Path, "/v1/sops/encrypt/"):
			fmt.Fprintf(w, `{"data": {"ciphertext": "vault:v1:%d"}}`, len(dataKeys))
			dataKeys = append(dataKeys, strings.Split(string(body), `"`)[3])
		default:
			var number int
			fmt.Sscanf(strings.Split(string(body), `"`)[3], "vault:v1:%d", &number)
			fmt.Fprintf(w, `{"data": {"plaintext": "%s"}}`, dataKeys[number])
		}
	}))
	defer server.Close()
	transport := http.DefaultTransport
	http.DefaultTransport = server.Client().Transport
	defer func() { http.DefaultTransport = transport }()
	key := hcvault.NewMasterKey(server.URL, "sops", "key")
	hcvault.NewHTTPClient(server.Client()).ApplyToMasterKey(key)
	hcvault.Token("good").ApplyToMasterKey(key)
	files := tree{
		"app/a.yaml": encrypted(t, formatYAML, secretText, dataOnly, key),
		"app/b.yaml": encrypted(t, formatYAML, strings.Replace(secretText, "name: whole", "name: second", 1), dataOnly, key),
	}
	r := start(t)
	login := vaultLogin{Address: server.URL + "/", Path: "ns1/auth/kubernetes/login", Role: "shop_deployer", Token: "made for vault"}
	d := r.must(files, buildRequest{Path: "app", Decrypt: &decryption{VaultLogins: []vaultLogin{login}}})
	equal(t, "plain", dig(r.object(d, "Secret", "whole"), "stringData", "password"), password)
	equal(t, "logins", logins, 1)

	refused := login
	refused.Token = "made for another"
	elsewhere := login
	elsewhere.Address = "http://127.0.0.1:1"
	for want, login := range map[string]vaultLogin{
		"Vault refused the login of role 'shop_deployer' at " + server.URL + ": invalid role or token": refused,
		"there are no credentials for Vault, no key 'sops.vault-token'":                                elsewhere,
	} {
		_, f := r.build(files, buildRequest{Path: "app", Decrypt: &decryption{VaultLogins: []vaultLogin{login}}})
		if f == nil || !strings.Contains(f.Message, want) || strings.Contains(f.Message, "made for") {
			t.Errorf("failure: %+v", f)
		}
	}
}
