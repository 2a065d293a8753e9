//go:build sops

// Decryption through SOPS's own library, with keys that Weir handed in and nothing else: no key of the environment, of a
// file or of an agent is ever looked for.
//
// Guarantees: errors hold no decrypted value and say what to do; SOPS's loggers, which would print some, are silent.
package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/getsops/sops/v3"
	"github.com/getsops/sops/v3/aes"
	"github.com/getsops/sops/v3/config"
	"github.com/getsops/sops/v3/keyservice"
	"github.com/getsops/sops/v3/logging"
	"github.com/getsops/sops/v3/stores/dotenv"
	"github.com/getsops/sops/v3/stores/ini"
	"github.com/getsops/sops/v3/stores/json"
	"github.com/getsops/sops/v3/stores/yaml"
)

const (
	// leastSecret is the length of the shortest decrypted text that is taken out of messages: taking out shorter ones would
	// leave no message readable, and they are no secrets.
	leastSecret = 4
	// maxRedacted bounds how many texts are kept for that; an encrypted file of the largest size has fewer values.
	maxRedacted = 100_000
)

func init() {
	for _, logger := range logging.Loggers {
		logger.SetOutput(io.Discard)
	}
	newDecrypter = func(keys *decryption) (decrypter, error) {
		service, err := newKeys(keys)
		if err != nil {
			return nil, err
		}
		return &sopsDecrypter{keys: service, texts: map[string]bool{}}, nil
	}
}

type sopsDecrypter struct {
	keys *keyService
	// texts are all that were decrypted.
	texts map[string]bool
}

func (d *sopsDecrypter) decrypt(content []byte, from, to format, whole bool) (plain []byte, err error) {
	defer func() {
		// Malformed input makes SOPS panic, and what it says then may hold anything.
		if recover() != nil {
			plain, err = nil, errors.New("it is not in the form that SOPS writes; encrypt it again")
		}
	}()
	tree, err := store(from).LoadEncryptedFile(content)
	if err != nil {
		return nil, errors.New("it cannot be read as a file that SOPS wrote; encrypt it again")
	}
	d.keys.refused = nil
	client := []keyservice.KeyServiceClient{keyservice.NewCustomLocalClient(d.keys)}
	key, err := tree.Metadata.GetDataKeyWithKeyServices(client, sops.DefaultDecryptionOrder)
	if err != nil {
		return nil, d.noKey(tree.Metadata)
	}
	noting := &notingCipher{cipher: aes.NewCipher(), note: d.note}
	mac, err := tree.Decrypt(key, noting)
	if err != nil {
		return nil, valueError(err)
	}
	if whole {
		if err := checkMAC(tree.Metadata, mac, key); err != nil {
			return nil, err
		}
	}
	plain, err = store(to).EmitPlainFile(tree.Branches)
	if err != nil {
		return nil, errors.New("what is decrypted cannot be written in the format that its name stands for; name it after its format")
	}
	return plain, nil
}

func checkMAC(metadata sops.Metadata, mac string, key []byte) error {
	stored, err := aes.NewCipher().Decrypt(metadata.MessageAuthenticationCode, key, metadata.LastModified.Format(time.RFC3339))
	if text, _ := stored.(string); err != nil || text != mac {
		return errors.New("its MAC does not match: it was changed after it was encrypted; edit it with `sops edit`, or encrypt it again")
	}
	return nil
}

// noKey says whose keys the file is encrypted for, which is no secret, and why none of ours fits.
func (d *sopsDecrypter) noKey(metadata sops.Metadata) error {
	var wanted []string
	for _, group := range metadata.KeyGroups {
		for _, key := range group {
			wanted = append(wanted, key.TypeToIdentifier()+" "+key.ToString())
		}
	}
	reasons := slices.Compact(slices.Sorted(slices.Values(d.keys.refused)))
	return fmt.Errorf("no key fits: it is encrypted for %s (%s); put the private key of one of them into the Secret that "+
		"spec.decryption.secretRef names", strings.Join(wanted, ", "), strings.Join(reasons, "; "))
}

// valueError tells what is wrong without the value that SOPS puts into its own message.
func valueError(err error) error {
	switch message := err.Error(); {
	case strings.Contains(message, "message authentication failed"):
		return errors.New("an encrypted value was changed or moved after it was encrypted; encrypt it again")
	case strings.Contains(message, "does not match sops' data format"), strings.Contains(message, "Expected encrypted value"):
		return errors.New("a value that should be encrypted is plain text; encrypt the file again, with an encrypted_regex such as " +
			"^(data|stringData)$ when kustomize changes the rest of the object")
	default:
		return errors.New("an encrypted value cannot be decrypted; encrypt it again")
	}
}

func (d *sopsDecrypter) note(value any) {
	text, isText := value.(string)
	if !isText || len(d.texts) > maxRedacted {
		return
	}
	pieces := append(strings.Fields(text), strings.Split(text, "\n")...)
	for _, piece := range append(pieces, text) {
		if piece = strings.TrimSpace(piece); len(piece) >= leastSecret {
			d.texts[piece] = true
		}
	}
}

func (d *sopsDecrypter) redact(message string) string {
	found := []string{}
	for text := range d.texts {
		if strings.Contains(message, text) {
			found = append(found, text)
		}
	}
	// The longest first, so that no part of a longer one is left.
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	for _, text := range found {
		message = strings.ReplaceAll(message, text, "<redacted>")
	}
	return message
}

// notingCipher tells of every value that it decrypts.
type notingCipher struct {
	cipher sops.Cipher
	note   func(any)
}

func (c *notingCipher) Encrypt(plain any, key []byte, path string) (string, error) {
	return c.cipher.Encrypt(plain, key, path)
}

func (c *notingCipher) Decrypt(text string, key []byte, path string) (any, error) {
	value, err := c.cipher.Decrypt(text, key, path)
	if err == nil {
		c.note(value)
	}
	return value, err
}

func store(f format) interface {
	sops.EncryptedFileLoader
	sops.PlainFileEmitter
} {
	switch f {
	case formatDotenv:
		return dotenv.NewStore(&config.DotenvStoreConfig{})
	case formatINI:
		return ini.NewStore(&config.INIStoreConfig{})
	case formatJSON:
		return json.NewStore(&config.JSONStoreConfig{})
	case formatYAML:
		return yaml.NewStore(&config.YAMLStoreConfig{})
	default:
		return json.NewBinaryStore(&config.JSONBinaryStoreConfig{})
	}
}
