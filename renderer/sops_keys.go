//go:build sops

// The key service of one build: SOPS asks it to decrypt the data key of a file with one of the master keys that the file
// names.
//
// Guarantees: only what Weir handed in is used; a key that cannot be read is an error that names it and holds none of it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/getsops/sops/v3/age"
	"github.com/getsops/sops/v3/keyservice"
)

// maxDataKeyBytes bounds a decrypted data key: it has 32 bytes, or 33 as one share of several.
const maxDataKeyBytes = 1 << 10

type keyService struct {
	identities age.ParsedIdentities
	ring       openpgp.EntityList
	clouds     clouds
	// refused says why keys did not fit, for the message about all of them.
	refused []string
}

func newKeys(keys *decryption) (*keyService, error) {
	service := &keyService{}
	for _, key := range keys.Age {
		if service.identities.Import(key.Text) != nil {
			return nil, fmt.Errorf("'%s' of the decryption Secret holds no age identities; it takes what age-keygen writes", key.Name)
		}
	}
	for _, key := range keys.PGP {
		ring, err := openpgp.ReadArmoredKeyRing(strings.NewReader(key.Text))
		if err != nil {
			return nil, fmt.Errorf("'%s' of the decryption Secret holds no OpenPGP key; it takes what `gpg --export-secret-keys "+
				"--armor` writes", key.Name)
		}
		for _, entity := range ring {
			if entity.PrivateKey == nil {
				return nil, fmt.Errorf("'%s' of the decryption Secret holds a public key only; export the private one", key.Name)
			}
			if entity.PrivateKey.Encrypted {
				return nil, fmt.Errorf("the key in '%s' of the decryption Secret has a passphrase; export one without", key.Name)
			}
		}
		service.ring = append(service.ring, ring...)
	}
	var err error
	service.clouds, err = newClouds(keys)
	return service, err
}

// Decrypt answers SOPS. What it fails with is noted, because SOPS's own report of all keys is of many lines.
func (s *keyService) Decrypt(ctx context.Context, request *keyservice.DecryptRequest) (*keyservice.DecryptResponse, error) {
	var plain []byte
	var err error
	switch key := request.Key.KeyType.(type) {
	case *keyservice.Key_AgeKey:
		plain, err = s.age(key.AgeKey, request.Ciphertext)
	case *keyservice.Key_PgpKey:
		plain, err = s.pgp(request.Ciphertext)
	default:
		plain, err = s.clouds.decrypt(ctx, request.Key, request.Ciphertext)
	}
	if err != nil {
		s.refused = append(s.refused, err.Error())
		return nil, err
	}
	return &keyservice.DecryptResponse{Plaintext: plain}, nil
}

// Encrypt is for those who write files.
func (s *keyService) Encrypt(context.Context, *keyservice.EncryptRequest) (*keyservice.EncryptResponse, error) {
	return nil, errors.New("a render worker encrypts nothing")
}

func (s *keyService) age(key *keyservice.AgeKey, text []byte) ([]byte, error) {
	if len(s.identities) == 0 {
		// SOPS would look for some elsewhere.
		return nil, errors.New("there is no age identity, no key that ends in .agekey")
	}
	master := age.MasterKey{Recipient: key.Recipient, EncryptedKey: string(text)}
	s.identities.ApplyToMasterKey(&master)
	plain, err := master.Decrypt()
	if err != nil {
		return nil, errors.New("none of the age identities is its recipient")
	}
	return plain, nil
}

// pgp does what SOPS's own type does with the key ring of a user, which here is no file.
func (s *keyService) pgp(text []byte) ([]byte, error) {
	if len(s.ring) == 0 {
		return nil, errors.New("there is no OpenPGP key, no key that ends in .asc")
	}
	block, err := armor.Decode(strings.NewReader(string(text)))
	if err != nil {
		return nil, errors.New("its OpenPGP message is damaged")
	}
	message, err := openpgp.ReadMessage(block.Body, s.ring, nil, nil)
	if err != nil {
		return nil, errors.New("none of the OpenPGP keys is its recipient")
	}
	plain, err := io.ReadAll(io.LimitReader(message.UnverifiedBody, maxDataKeyBytes))
	if err != nil {
		return nil, errors.New("its OpenPGP message is damaged")
	}
	return plain, nil
}
